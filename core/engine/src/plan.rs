//! What a plan of declarations is made of: declarations that passed their checks, united from their sources.
//!
//! Nothing here asks anybody or stores anything.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use russet_hooks::PlannedDeclaration;
use russet_pki::fingerprint;
use russet_protocol::ddm::{DeclarationKind, EMPTY_DECLARATIONS_TOKEN};
use russet_store::{PlanItem, PlannedContent, SetDeclaration, StatusItem};
use serde_json::{Map, Value as Json, json};

/// The most declarations of a plan, and of a set.
pub(crate) const MAX_PLAN: usize = 1000;

/// The longest identifier, in bytes.
const MAX_IDENTIFIER: usize = 128;

/// The largest payload, in bytes of JSON.
const MAX_PAYLOAD: usize = 1 << 20;

/// The largest plan of one source, in bytes of JSON.
const MAX_SOURCE: usize = 8 << 20;

/// A declaration that passed its checks.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    identifier: String,
    kind: DeclarationKind,
    content: PlannedContent,
}

impl Checked {
    /// Checks a declaration of a set.
    pub(crate) fn of_set(declaration: &SetDeclaration) -> Result<Self, String> {
        Self::new(
            &declaration.identifier,
            &declaration.declaration_type,
            Json::Object(declaration.payload.clone()),
        )
    }

    fn of_plugin(declaration: &PlannedDeclaration) -> Result<Self, String> {
        let payload: Json = serde_json::from_str(&declaration.payload).map_err(|_| {
            let identifier = shown(&declaration.identifier);
            format!("the payload of {identifier} is not JSON")
        })?;
        Self::new(&declaration.identifier, &declaration.declaration_type, payload)
    }

    fn new(identifier: &str, declaration_type: &str, mut payload: Json) -> Result<Self, String> {
        if identifier.is_empty()
            || identifier.len() > MAX_IDENTIFIER
            || !identifier.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(format!(
                "an identifier has 1 to {MAX_IDENTIFIER} printable ASCII characters and no spaces"
            ));
        }
        let kind = DeclarationKind::of_type(declaration_type)
            .filter(|_| declaration_type.len() <= MAX_IDENTIFIER)
            .ok_or_else(|| {
                format!(
                    "the type of {identifier} must begin with com.apple.activation., com.apple.asset., \
                     com.apple.configuration. or com.apple.management."
                )
            })?;
        if !payload.is_object() {
            return Err(format!("the payload of {identifier} is not a JSON object"));
        }
        payload.sort_all_objects();
        let text = payload.to_string();
        if text.len() > MAX_PAYLOAD {
            return Err(format!("the payload of {identifier} has more than {MAX_PAYLOAD} bytes"));
        }
        let whole = json!([identifier, declaration_type, payload]).to_string();
        Ok(Self {
            identifier: identifier.to_owned(),
            kind,
            content: PlannedContent {
                server_token: hex::encode(fingerprint::sha256(whole.as_bytes())),
                declaration_type: declaration_type.to_owned(),
                payload: text,
            },
        })
    }
}

/// An identifier that was not checked, for a message.
fn shown(identifier: &str) -> String {
    identifier
        .chars()
        .take(MAX_IDENTIFIER)
        .filter(|c| !c.is_control())
        .collect()
}

/// Checks what a planner planned.
pub(crate) fn checked_plan(plan: &[PlannedDeclaration]) -> Result<Vec<Checked>, String> {
    if plan.len() > MAX_PLAN {
        return Err(format!("it planned more than {MAX_PLAN} declarations"));
    }
    let mut seen = BTreeSet::new();
    let mut size = 0;
    let mut checked = Vec::with_capacity(plan.len());
    for declaration in plan {
        let declaration = Checked::of_plugin(declaration)?;
        size += declaration.content.payload.len();
        if !seen.insert(declaration.identifier.clone()) {
            return Err(format!("it planned {} twice", declaration.identifier));
        }
        checked.push(declaration);
    }
    if size > MAX_SOURCE {
        return Err(format!("its plan has more than {MAX_SOURCE} bytes"));
    }
    Ok(checked)
}

/// Unites sources, in the order of precedence.
#[derive(Default)]
pub(crate) struct Union {
    pub(crate) items: Vec<PlanItem>,
    pub(crate) contents: HashMap<String, PlannedContent>,
    identifiers: BTreeSet<String>,
}

impl Union {
    pub(crate) fn add(&mut self, source: String, declarations: Vec<Checked>) {
        for declaration in declarations {
            let token = declaration.content.server_token.clone();
            self.item(source.clone(), declaration.identifier, declaration.kind, token.clone());
            self.contents.entry(token).or_insert(declaration.content);
        }
    }

    pub(crate) fn item(&mut self, source: String, identifier: String, kind: DeclarationKind, server_token: String) {
        self.items.push(PlanItem {
            source,
            kept_out: !self.identifiers.insert(identifier.clone()),
            identifier,
            kind,
            server_token,
        });
    }

    /// Covers what a device gets, and with the tokens of the declarations their contents.
    pub(crate) fn token(&self) -> String {
        let had = self.items.iter().filter(|item| !item.kept_out);
        let lines: BTreeMap<&str, &str> = had
            .map(|item| (item.identifier.as_str(), item.server_token.as_str()))
            .collect();
        if lines.is_empty() {
            return EMPTY_DECLARATIONS_TOKEN.to_owned();
        }
        let text = json!(lines).to_string();
        hex::encode(fingerprint::sha256(text.as_bytes()))
    }
}

/// Status items as planners see them: each by its name, and the objects that are made of several.
pub(crate) fn status(items: &[StatusItem]) -> BTreeMap<String, String> {
    let mut objects: BTreeMap<String, Map<String, Json>> = BTreeMap::new();
    for item in items {
        let mut name = item.item.as_str();
        let mut value = item.value.clone();
        // No status item has a name of one part.
        while let Some((parent, key)) = name.rsplit_once('.').filter(|(parent, _)| parent.contains('.')) {
            let object = objects.entry(parent.to_owned()).or_default();
            match (object.get_mut(key), value) {
                (Some(Json::Object(own)), Json::Object(more)) => own.extend(more),
                (_, value) => {
                    object.insert(key.to_owned(), value);
                }
            }
            value = Json::Object(object.clone());
            name = parent;
        }
    }
    let mut all: BTreeMap<String, String> = objects
        .into_iter()
        .map(|(name, object)| (name, Json::Object(object).to_string()))
        .collect();
    all.extend(items.iter().map(|item| (item.item.clone(), item.value.to_string())));
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use jiff::Timestamp;

    use super::*;

    fn planned(identifier: &str, payload: &str) -> PlannedDeclaration {
        PlannedDeclaration {
            identifier: identifier.into(),
            declaration_type: "com.apple.configuration.passcode.settings".into(),
            payload: payload.into(),
        }
    }

    #[test]
    fn a_token_covers_the_content_and_not_its_spelling() {
        let token = |payload: &str| Checked::of_plugin(&planned("a", payload)).unwrap().content.server_token;
        assert_eq!(
            token(r#"{"a":1,"b":{"d":1,"c":2}}"#),
            token(r#" { "b": {"c":2,"d":1}, "a":1 }"#)
        );
        assert_ne!(token(r#"{"a":1}"#), token(r#"{"a":2}"#));
    }

    #[test]
    fn a_plan_that_devices_could_not_use_is_refused_whole() {
        for (plan, problem) in [
            (vec![planned("a", "{}"), planned("a", "{}")], "it planned a twice"),
            (vec![planned("a", "[]")], "the payload of a is not a JSON object"),
            (vec![planned("a", "{")], "the payload of a is not JSON"),
            (
                vec![planned("a b", "{}")],
                "an identifier has 1 to 128 printable ASCII characters and no spaces",
            ),
        ] {
            assert_eq!(checked_plan(&plan).unwrap_err(), problem);
        }
        let mut odd = planned("a", "{}");
        odd.declaration_type = "com.example.configuration.x".into();
        assert!(
            checked_plan(&[odd])
                .unwrap_err()
                .starts_with("the type of a must begin with")
        );
    }

    #[test]
    fn the_first_source_of_an_identifier_stays() {
        let mut union = Union::default();
        let checked = |payload: &str| vec![Checked::of_plugin(&planned("a", payload)).unwrap()];
        union.add("set:one".into(), checked("{}"));
        let token = union.token();
        union.add("planner:two".into(), checked(r#"{"other":true}"#));
        let kept_out: Vec<_> = union.items.iter().map(|item| item.kept_out).collect();
        assert_eq!(kept_out, [false, true]);
        assert_eq!(union.token(), token, "what is kept out changes nothing for the device");
    }

    #[test]
    fn status_items_are_found_alone_and_as_the_objects_that_they_make() {
        let item = |name: &str, value: Json| StatusItem {
            item: name.into(),
            value,
            reported_at: Timestamp::UNIX_EPOCH,
        };
        let status = status(&[
            item("device.operating-system.version", json!("27.1")),
            item("device.operating-system.family", json!("macOS")),
            item("passcode.is-present", json!(true)),
        ]);
        assert_eq!(status["device.operating-system.version"], "\"27.1\"");
        assert_eq!(
            status["device.operating-system"],
            r#"{"family":"macOS","version":"27.1"}"#
        );
        assert_eq!(status.get("device"), None);
        assert_eq!(status["passcode.is-present"], "true");
    }
}
