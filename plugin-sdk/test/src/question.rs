//! The input of a hook, of whichever, from JSON in which only what matters has to be written.

use std::sync::Arc;

use russet_hooks::{
    CommandRequest, DirectoryRequest, EnrollmentRequest, EscrowRequest, Event, HookInput, HookKind, PlanRequest,
    ScheduledRun, SignIn, TemplateRequest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::plain;

/// The input of a hook.
#[derive(Clone, Debug)]
pub enum Question {
    /// To a gate.
    Gate(EnrollmentRequest),
    /// To a directory.
    Directory(DirectoryRequest),
    /// To an escrow policy.
    Escrow(EscrowRequest),
    /// To a template engine.
    Template(TemplateRequest),
    /// To a command policy.
    Command(CommandRequest),
    /// To a planner.
    Plan(PlanRequest),
    /// To an observer.
    Event(Event),
    /// To scheduled work.
    Run(ScheduledRun),
}

/// An input that can not be read.
#[derive(Debug, thiserror::Error)]
#[error("not an input of the hook {hook}: {reason}; a whole one is {sample}")]
pub struct InputError {
    hook: HookKind,
    reason: String,
    sample: Value,
}

impl Question {
    /// Reads an input from JSON. What is left out is that of [`Question::sample`].
    ///
    /// # Errors
    ///
    /// If it does not fit the hook; the text shows an input that does.
    pub fn from_json(hook: HookKind, input: &Value) -> Result<Self, InputError> {
        let failed = |reason: String| InputError {
            hook,
            reason,
            sample: Self::sample(hook),
        };
        if hook == HookKind::Directory {
            return directory(input).map(Self::Directory).map_err(failed);
        }
        let sample = Self::sample(hook);
        check_keys(&sample, input, "").map_err(failed)?;
        let mut whole = sample;
        merge(&mut whole, input);
        // What the server writes as text that is JSON may be given as JSON.
        for name in ["command", "variables", "detail"] {
            textual(&mut whole, name);
        }
        if let Some(Value::Object(status)) = whole.get_mut("status") {
            for value in status.values_mut().filter(|value| !value.is_string()) {
                *value = Value::String(value.to_string());
            }
        }
        if hook == HookKind::CommandPolicy && input.get("command").is_none() {
            whole["command"] = Value::String(json!({"RequestType": whole["request_type"]}).to_string());
        }
        Self::whole(hook, whole).map_err(|error| failed(error.to_string()))
    }

    fn whole(hook: HookKind, input: Value) -> Result<Self, serde_json::Error> {
        fn read<T: DeserializeOwned>(input: Value) -> Result<T, serde_json::Error> {
            serde_json::from_value(input)
        }
        Ok(match hook {
            HookKind::EnrollmentGate => Self::Gate(read(input)?),
            HookKind::Directory => Self::Directory(read(input)?),
            HookKind::EscrowPolicy => Self::Escrow(read(input)?),
            HookKind::ProfileTemplate => Self::Template(read(input)?),
            HookKind::CommandPolicy => Self::Command(read(input)?),
            HookKind::DeclarationPlanner => Self::Plan(read(input)?),
            HookKind::Observer => Self::Event(read(input)?),
            HookKind::Scheduled => Self::Run(read(input)?),
        })
    }

    /// A whole input of a hook, as JSON.
    pub fn sample(hook: HookKind) -> Value {
        fn written<T: Serialize>(input: T) -> Value {
            // The inputs are plain data with texts for keys: writing them does not fail.
            serde_json::to_value(input).unwrap_or_default()
        }
        match hook {
            HookKind::EnrollmentGate => written(plain::enrollment()),
            HookKind::Directory => json!({"sign-in": {"user_name": "ada", "password": "secret"}}),
            HookKind::EscrowPolicy => written(plain::escrow()),
            HookKind::ProfileTemplate => written(plain::template("<plist version=\"1.0\"><dict/></plist>")),
            HookKind::CommandPolicy => written(plain::command("DeviceInformation")),
            HookKind::DeclarationPlanner => written(plain::plan()),
            HookKind::Observer => written(plain::event("enrollment.enrolled")),
            HookKind::Scheduled => written(plain::run("nightly")),
        }
    }

    /// The hook that is asked.
    pub fn hook(&self) -> HookKind {
        match self {
            Self::Gate(_) => HookKind::EnrollmentGate,
            Self::Directory(_) => HookKind::Directory,
            Self::Escrow(_) => HookKind::EscrowPolicy,
            Self::Template(_) => HookKind::ProfileTemplate,
            Self::Command(_) => HookKind::CommandPolicy,
            Self::Plan(_) => HookKind::DeclarationPlanner,
            Self::Event(_) => HookKind::Observer,
            Self::Run(_) => HookKind::Scheduled,
        }
    }
}

impl From<HookInput> for Question {
    fn from(input: HookInput) -> Self {
        match input {
            HookInput::EnrollmentGate(request) => Self::Gate(Arc::unwrap_or_clone(request)),
            HookInput::Directory(request) => Self::Directory(Arc::unwrap_or_clone(request)),
            HookInput::EscrowPolicy(request) => Self::Escrow(Arc::unwrap_or_clone(request)),
            HookInput::ProfileTemplate(request) => Self::Template(Arc::unwrap_or_clone(request)),
            HookInput::CommandPolicy(request) => Self::Command(Arc::unwrap_or_clone(request)),
            HookInput::DeclarationPlanner(request) => Self::Plan(Arc::unwrap_or_clone(request)),
            HookInput::Observer(event) => Self::Event(Arc::unwrap_or_clone(event)),
            HookInput::Scheduled(run) => Self::Run(Arc::unwrap_or_clone(run)),
        }
    }
}

impl From<Question> for HookInput {
    fn from(question: Question) -> Self {
        match question {
            Question::Gate(request) => Self::EnrollmentGate(Arc::new(request)),
            Question::Directory(request) => Self::Directory(Arc::new(request)),
            Question::Escrow(request) => Self::EscrowPolicy(Arc::new(request)),
            Question::Template(request) => Self::ProfileTemplate(Arc::new(request)),
            Question::Command(request) => Self::CommandPolicy(Arc::new(request)),
            Question::Plan(request) => Self::DeclarationPlanner(Arc::new(request)),
            Question::Event(event) => Self::Observer(Arc::new(event)),
            Question::Run(run) => Self::Scheduled(Arc::new(run)),
        }
    }
}

/// `{"find": "ada"}` or `{"sign-in": {"user_name": "ada", "password": "…"}}`.
fn directory(input: &Value) -> Result<DirectoryRequest, String> {
    if let Some(name) = input.get("find").and_then(Value::as_str) {
        return Ok(DirectoryRequest::Find(name.to_owned()));
    }
    let text = |name: &str| input["sign-in"][name].as_str().map(str::to_owned);
    match (text("user_name"), text("password")) {
        (Some(user_name), Some(password)) => Ok(DirectoryRequest::SignIn(SignIn {
            user_name,
            password: password.into(),
        })),
        _ => Err("neither `find` with a name nor `sign-in` with `user_name` and `password`".to_owned()),
    }
}

/// A key that the input has and the sample does not is a mistake, or it would be left out in silence.
fn check_keys(sample: &Value, input: &Value, path: &str) -> Result<(), String> {
    let Value::Object(input) = input else {
        return match path {
            "" => Err("no JSON object".to_owned()),
            _ => Ok(()),
        };
    };
    // What is absent in the sample, or free in its keys, is checked when it is read.
    let Value::Object(sample) = sample else {
        return Ok(());
    };
    for (name, value) in input {
        let place = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        match sample.get(name) {
            Some(known) => check_keys(known, value, &place)?,
            None if path.ends_with("attributes") || path == "status" => {}
            None => {
                let known: Vec<&str> = sample.keys().map(String::as_str).collect();
                return Err(format!("`{place}` is not known; known are {}", known.join(", ")));
            }
        }
    }
    Ok(())
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn textual(input: &mut Value, name: &str) {
    if let Some(value @ Value::Object(_)) = input.get_mut(name) {
        *value = Value::String(value.to_string());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn every_sample_is_an_input() {
        for hook in HookKind::ALL {
            let question = Question::from_json(hook, &Question::sample(hook)).unwrap();
            assert_eq!(question.hook(), hook);
        }
    }

    #[test]
    fn what_is_left_out_is_plain() {
        let input = json!({"device": {"serial_number": "C02", "attributes": {"site": "hq"}}});
        let Question::Gate(request) = Question::from_json(HookKind::EnrollmentGate, &input).unwrap() else {
            panic!("not a gate's");
        };
        assert_eq!(request.device.attributes["site"], "hq");
        assert_eq!(request.device.serial_number.as_deref(), Some("C02"));
        assert_eq!(request.stage, plain::enrollment().stage);
    }

    #[test]
    fn json_may_stand_where_text_with_json_is_meant() {
        let input = json!({"request_type": "EraseDevice", "command": {"RequestType": "EraseDevice", "PIN": "1"}});
        let Question::Command(request) = Question::from_json(HookKind::CommandPolicy, &input).unwrap() else {
            panic!("not a policy's");
        };
        assert_eq!(&*request.command, r#"{"PIN":"1","RequestType":"EraseDevice"}"#);
        let Question::Command(request) =
            Question::from_json(HookKind::CommandPolicy, &json!({"request_type": "EraseDevice"})).unwrap()
        else {
            panic!("not a policy's");
        };
        assert_eq!(&*request.command, r#"{"RequestType":"EraseDevice"}"#);
        let input = json!({"status": {"device.operating-system.version": "27.1", "x": {"a": 1}}});
        let Question::Plan(request) = Question::from_json(HookKind::DeclarationPlanner, &input).unwrap() else {
            panic!("not a planner's");
        };
        assert_eq!(request.status["x"], r#"{"a":1}"#);
    }

    #[test]
    fn mistakes_are_named() {
        let refused = |hook, input: Value| Question::from_json(hook, &input).unwrap_err().to_string();
        let error = refused(HookKind::EnrollmentGate, json!({"device": {"serial": "C02"}}));
        assert!(error.contains("`device.serial` is not known; known are "), "{error}");
        let error = refused(HookKind::EnrollmentGate, json!({"stage": "later"}));
        assert!(error.contains("unknown variant `later`"), "{error}");
        let error = refused(HookKind::Directory, json!({"look-up": "ada"}));
        assert!(error.contains("neither `find`"), "{error}");
        assert!(refused(HookKind::Scheduled, json!([])).contains("no JSON object"));
    }
}
