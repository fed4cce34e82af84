//! What the operator sets; `settings.schema.json` describes it.

use russet_plugin::condition::{Condition, Pattern};
use serde::Deserialize;

/// The settings: rules, the first that fits decides.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub(crate) rules: Vec<Rule>,
}

/// What is to be done with commands that fit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    #[serde(default)]
    pub(crate) commands: Option<Vec<Pattern>>,
    #[serde(default)]
    pub(crate) destructive: Option<bool>,
    #[serde(default)]
    pub(crate) requesters: Option<Vec<Pattern>>,
    #[serde(default)]
    pub(crate) more_targets_than: Option<u32>,
    #[serde(default)]
    pub(crate) more_often_than: Option<Rate>,
    #[serde(default)]
    pub(crate) when: Condition,
    pub(crate) action: Action,
    #[serde(default)]
    pub(crate) reason: Option<String>,
    #[serde(default)]
    pub(crate) message: Option<String>,
}

/// So many within so many minutes.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rate {
    pub(crate) count: usize,
    pub(crate) minutes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    Allow,
    Hold,
    Deny,
}

impl Default for Settings {
    /// A mass erase is stopped, and a single one waits for a second administrator.
    fn default() -> Self {
        let pattern = |text: &str| Pattern::new(text).into_iter().collect::<Vec<_>>();
        let rule = |action, reason: &str, message: &str| Rule {
            commands: None,
            destructive: None,
            requesters: None,
            more_targets_than: None,
            more_often_than: None,
            when: Condition::default(),
            action,
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
        };
        Self {
            rules: vec![
                Rule {
                    destructive: Some(true),
                    more_often_than: Some(Rate { count: 10, minutes: 60 }),
                    ..rule(
                        Action::Deny,
                        "too-many-destructive",
                        "More than 10 commands that erase or lock devices were handed in within an hour.",
                    )
                },
                Rule {
                    commands: Some(pattern("EraseDevice")),
                    ..rule(
                        Action::Hold,
                        "erase-needs-approval",
                        "Erasing a device waits until another administrator approves.",
                    )
                },
            ],
        }
    }
}
