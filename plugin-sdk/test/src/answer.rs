//! Verdicts as JSON, for people and for comparisons of tests.

use russet_hooks::{
    CommandHook, CommandVerdict, DirectoryHook, EscrowHook, EscrowVerdict, GateHook, Hook, ObserverHook, PlannerHook,
    ScheduledHook, TemplateHook,
};
use serde_json::{Value, json};

/// A verdict as JSON: with all that is in it, unlike the one in decision records, which must hold no secret.
pub trait Shown: Hook {
    /// The verdict.
    fn shown(verdict: &Self::Verdict) -> Value;
}

fn plain(verdict: &impl serde::Serialize) -> Value {
    // Verdicts are plain data with texts for keys: writing them does not fail.
    serde_json::to_value(verdict).unwrap_or_default()
}

/// Bytes as text, if they are some.
fn text(bytes: &[u8]) -> Value {
    use base64::Engine as _;
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({"base64": base64::engine::general_purpose::STANDARD.encode(bytes)}),
    }
}

/// Text that is JSON, as that; other text as it is.
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

impl Shown for GateHook {
    fn shown(verdict: &Self::Verdict) -> Value {
        plain(verdict)
    }
}

impl Shown for DirectoryHook {
    fn shown(verdict: &Self::Verdict) -> Value {
        plain(verdict)
    }
}

impl Shown for EscrowHook {
    fn shown(verdict: &Self::Verdict) -> Value {
        match verdict {
            EscrowVerdict::Allow => json!("allow"),
            EscrowVerdict::AllowAs(secret) => json!({"allow-as": text(secret.expose())}),
            EscrowVerdict::Deny(reason) => json!({"deny": reason}),
        }
    }
}

impl Shown for TemplateHook {
    fn shown(verdict: &Self::Verdict) -> Value {
        json!({"rendered": text(&verdict.0)})
    }
}

impl Shown for CommandHook {
    fn shown(verdict: &Self::Verdict) -> Value {
        match verdict {
            CommandVerdict::Replace(command) => json!({"replace": parsed(command)}),
            other => plain(other),
        }
    }
}

impl Shown for PlannerHook {
    fn shown(verdict: &Self::Verdict) -> Value {
        verdict
            .iter()
            .map(|declaration| {
                json!({
                    "identifier": declaration.identifier,
                    "declaration_type": declaration.declaration_type,
                    "payload": parsed(&declaration.payload),
                })
            })
            .collect()
    }
}

impl Shown for ObserverHook {
    fn shown((): &()) -> Value {
        json!("observed")
    }
}

impl Shown for ScheduledHook {
    fn shown((): &()) -> Value {
        json!("ran")
    }
}

/// The short reason in a shown verdict, if it has one.
pub(crate) fn reason(shown: &Value) -> Option<&str> {
    let inner = shown.as_object().and_then(|verdict| verdict.values().next())?;
    match inner {
        Value::Object(explanation) => explanation.get("reason")?.as_str(),
        Value::String(reason) if shown.get("deny").is_some() => Some(reason),
        _ => None,
    }
}
