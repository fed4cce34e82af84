//! What a revision would change: shown before it is granted, compared or put into use.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Grants, Manifest, StoredRevision};

/// What is on one list and not on the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListDiff {
    /// Only the new revision has it.
    pub added: BTreeSet<String>,
    /// Only the old one has it.
    pub removed: BTreeSet<String>,
    /// Both have it, and not the same. Never with a value: settings may hold secrets.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub changed: BTreeSet<String>,
}

/// What a revision changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionDiff {
    /// The version that it is compared with; absent for a first revision.
    pub from: Option<String>,
    /// Its own version.
    pub to: String,
    /// It is another component.
    pub component: bool,
    /// The hooks that it implements.
    pub hooks: ListDiff,
    /// What it asks for, effects apart.
    pub capabilities: ListDiff,
    /// The effects that it asks for.
    pub effects: ListDiff,
    /// The connections that it was granted, such as `ldap:corp`.
    pub connections: ListDiff,
    /// The limits of its own that it was granted, such as `cpu_ms=100`.
    #[serde(default)]
    pub limits: ListDiff,
    /// The kinds of events that it observes.
    pub events: ListDiff,
    /// Its schedules.
    pub schedules: ListDiff,
    /// The settings that its schema knows.
    pub settings_schema: ListDiff,
    /// Its settings.
    pub settings: ListDiff,
}

impl ListDiff {
    fn of(before: BTreeSet<String>, after: BTreeSet<String>) -> Self {
        Self {
            added: after.difference(&before).cloned().collect(),
            removed: before.difference(&after).cloned().collect(),
            changed: BTreeSet::new(),
        }
    }

    fn of_objects(before: Option<&Value>, after: Option<&Value>) -> Self {
        let keys = |value: Option<&Value>| -> BTreeSet<String> {
            value
                .and_then(Value::as_object)
                .map(|object| object.keys().cloned().collect())
                .unwrap_or_default()
        };
        let (old, new) = (keys(before), keys(after));
        let changed = old
            .intersection(&new)
            .filter(|key| before.and_then(|value| value.get(key)) != after.and_then(|value| value.get(key)))
            .cloned()
            .collect();
        Self {
            changed,
            ..Self::of(old, new)
        }
    }

    /// Whether both lists are the same.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// What of a revision is compared.
pub(super) struct Side<'a> {
    pub(super) version: &'a str,
    pub(super) digest: &'a str,
    pub(super) manifest: &'a Manifest,
    pub(super) settings: &'a Value,
    pub(super) grants: &'a Grants,
}

impl RevisionDiff {
    pub(super) fn between(before: Option<&Side<'_>>, after: &Side<'_>) -> Self {
        let list =
            |of: &dyn Fn(&Side<'_>) -> BTreeSet<String>| ListDiff::of(before.map(of).unwrap_or_default(), of(after));
        let is_effect = |name: &&String| name.starts_with("effects.");
        Self {
            from: before.map(|before| before.version.to_owned()),
            to: after.version.to_owned(),
            component: before.is_none_or(|before| before.digest != after.digest),
            hooks: list(&|side| {
                side.manifest
                    .hooks
                    .iter()
                    .map(|hook| hook.as_str().to_owned())
                    .collect()
            }),
            capabilities: list(&|side| {
                let asked = side.manifest.capabilities.iter();
                asked.filter(|name| !is_effect(name)).cloned().collect()
            }),
            effects: list(&|side| side.manifest.capabilities.iter().filter(is_effect).cloned().collect()),
            connections: list(&|side| connections(side.grants)),
            limits: list(&|side| limits(side.grants)),
            events: list(&|side| side.manifest.events.iter().cloned().collect()),
            schedules: list(&|side| {
                let schedules = side.manifest.schedules.iter();
                schedules
                    .map(|schedule| serde_json::to_string(schedule).unwrap_or_default())
                    .collect()
            }),
            settings_schema: ListDiff::of_objects(
                before.and_then(|before| properties(before.manifest)),
                properties(after.manifest),
            ),
            settings: ListDiff::of_objects(before.map(|before| before.settings), Some(after.settings)),
        }
    }

    /// Between two stored revisions, as far as they can be read.
    pub(super) fn of_stored(before: Option<&StoredRevision>, after: &StoredRevision) -> Option<Self> {
        fn read(revision: &StoredRevision) -> Option<(Manifest, Grants)> {
            Some((
                serde_json::from_value(revision.manifest.clone()).ok()?,
                serde_json::from_value(revision.grants.clone()).ok()?,
            ))
        }
        fn side<'a>(revision: &'a StoredRevision, (manifest, grants): &'a (Manifest, Grants)) -> Side<'a> {
            Side {
                version: &revision.version,
                digest: &revision.digest,
                manifest,
                settings: &revision.settings,
                grants,
            }
        }
        let after_read = read(after)?;
        let before_read = before.and_then(read);
        let before = before
            .zip(before_read.as_ref())
            .map(|(before, read)| side(before, read));
        Some(Self::between(before.as_ref(), &side(after, &after_read)))
    }
}

fn connections(grants: &Grants) -> BTreeSet<String> {
    let ldap = grants.connections.ldap.iter().map(|name| format!("ldap:{name}"));
    let http = grants.connections.http.iter().map(|name| format!("http:{name}"));
    ldap.chain(http).collect()
}

fn limits(grants: &Grants) -> BTreeSet<String> {
    let memory = grants.limits.memory_bytes.map(|bytes| format!("memory_bytes={bytes}"));
    let cpu = grants.limits.cpu_ms.map(|ms| format!("cpu_ms={ms}"));
    memory.into_iter().chain(cpu).collect()
}

fn properties(manifest: &Manifest) -> Option<&Value> {
    manifest.settings_schema.as_ref()?.get("properties")
}
