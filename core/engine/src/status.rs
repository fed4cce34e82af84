//! What a status report of declarative management changes of what is known.
//!
//! Nothing a device sends here is ever an error: what cannot be kept is a problem, which is stored and shown. A device
//! repeats a refused report for ever.

use std::collections::BTreeMap;

use russet_protocol::ddm::StatusReport;
use serde_json::{Map, Value as Json, json};

use crate::declarations::DECLARATION_STATES;

/// Status items that are objects. (Any other object is a part of the names of several items.)
const OBJECTS: [&str; 5] = [
    "management.client-capabilities",
    "softwareupdate.failure-reason",
    "softwareupdate.install-reason",
    "softwareupdate.pending-version",
    "test.dictionary-value",
];

/// The most items of a device.
const MAX_ITEMS: usize = 2000;

/// The longest name of an item, in bytes.
const MAX_NAME: usize = 256;

/// The largest value, in bytes of JSON.
const MAX_VALUE: usize = 1 << 20;

/// What a report changes.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Changes {
    pub(crate) set: Vec<(String, Json)>,
    pub(crate) removed: Vec<String>,
    pub(crate) problems: Vec<String>,
}

impl Changes {
    /// What this report changes of what is known of the device.
    pub(crate) fn of(report: StatusReport, known: &BTreeMap<String, Json>) -> Self {
        let mut changes = Self {
            problems: report.problems,
            ..Self::default()
        };
        for error in report.errors {
            let reasons = error.reasons.iter().map(|reason| reason.code.as_str());
            let reasons: Vec<_> = reasons.collect();
            changes.problems.push(format!(
                "the device could not report {}: {}",
                error.status_item,
                reasons.join(", ")
            ));
        }
        let mut reported = BTreeMap::new();
        flatten(None, report.status_items, &mut reported);
        let mut count = known.len();
        for (name, value) in reported.clone() {
            if name.len() > MAX_NAME || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                let problem = "the name of a status item is too long or not printable".to_owned();
                changes.problems.push(problem);
                continue;
            }
            let before = known.get(&name);
            let value = merge(&name, before, value, report.full_report);
            if before == Some(&value) {
                continue;
            }
            if value.to_string().len() > MAX_VALUE {
                changes.problems.push(format!("{name} has more than {MAX_VALUE} bytes"));
                continue;
            }
            if before.is_none() {
                if count >= MAX_ITEMS {
                    changes
                        .problems
                        .push(format!("the device has more than {MAX_ITEMS} status items"));
                    break;
                }
                count += 1;
            }
            changes.set.push((name, value));
        }
        if report.full_report {
            let gone = known.keys().filter(|name| !reported.contains_key(*name));
            changes.removed = gone.cloned().collect();
        }
        changes
    }

    /// Whether there is nothing to store.
    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.removed.is_empty() && self.problems.is_empty()
    }

    /// What observers are told: the names of the items, and what is new of declarations. `None` if nothing changed.
    pub(crate) fn told(&self, known: &BTreeMap<String, Json>) -> Option<Json> {
        if self.set.is_empty() && self.removed.is_empty() {
            return None;
        }
        let names = self.set.iter().map(|(name, _)| name).chain(&self.removed);
        let names: Vec<_> = names.take(MAX_TOLD).collect();
        let lists = self.set.iter().filter(|(name, _)| name.starts_with(DECLARATION_STATES));
        let declarations: Vec<_> = lists
            .flat_map(|(name, list)| {
                let before = known.get(name).and_then(Json::as_array);
                let states = list.as_array().into_iter().flatten();
                states.filter(move |state| !before.is_some_and(|before| before.contains(state)))
            })
            .take(MAX_TOLD)
            .collect();
        Some(json!({ "items": names, "declarations": declarations }))
    }
}

/// The most items and declarations that an event names.
const MAX_TOLD: usize = 200;

/// Takes nested objects apart into items by their full names.
fn flatten(above: Option<&str>, object: Map<String, Json>, items: &mut BTreeMap<String, Json>) {
    for (key, value) in object {
        let name = above.map_or_else(|| key.clone(), |above| format!("{above}.{key}"));
        match value {
            // JSON is at most 128 levels deep when it reads at all.
            Json::Object(inner) if !OBJECTS.contains(&name.as_str()) => flatten(Some(&name), inner, items),
            value => {
                items.insert(name, value);
            }
        }
    }
}

/// The new value of an item. A list whose elements have identifiers comes in part: elements that are not in it stay, those
/// that say `_removed` go. A full report has all of it, and so have the lists of declarations always.
fn merge(name: &str, before: Option<&Json>, value: Json, full: bool) -> Json {
    let Json::Array(reported) = value else { return value };
    let identifier = |element: &Json| element.get("identifier").and_then(Json::as_str).map(str::to_owned);
    let keyed: Option<Vec<String>> = reported.iter().map(identifier).collect();
    let Some(keyed) = keyed else {
        return Json::Array(reported);
    };
    let whole = full || name.starts_with(DECLARATION_STATES);
    let own = before.and_then(Json::as_array).filter(|_| !whole).into_iter().flatten();
    let mut elements: BTreeMap<String, Json> = own
        .filter_map(|element| Some((identifier(element)?, element.clone())))
        .collect();
    for (identifier, element) in keyed.into_iter().zip(reported) {
        if element.get("_removed").and_then(Json::as_bool) == Some(true) {
            elements.remove(&identifier);
        } else {
            elements.insert(identifier, element);
        }
    }
    Json::Array(elements.into_values().collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn report(items: Json, full: bool) -> StatusReport {
        let report = json!({ "StatusItems": items, "Errors": [], "FullReport": full });
        StatusReport::decode(report.to_string().as_bytes(), 4 << 20).unwrap()
    }

    fn known(items: &[(&str, Json)]) -> BTreeMap<String, Json> {
        items
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect()
    }

    #[test]
    fn only_what_changed_is_written() {
        let before = known(&[("device.operating-system.version", json!("27.0"))]);
        let same = report(json!({"device": {"operating-system": {"version": "27.0"}}}), false);
        assert!(Changes::of(same, &before).is_empty());
        let new = report(json!({"device": {"operating-system": {"version": "27.1"}}}), false);
        let changes = Changes::of(new, &before);
        assert_eq!(
            changes.set,
            [("device.operating-system.version".to_owned(), json!("27.1"))]
        );
        assert_eq!(
            changes.told(&before).unwrap()["items"],
            json!(["device.operating-system.version"])
        );
    }

    #[test]
    fn lists_come_in_part_and_elements_are_taken_away_by_name() {
        let before = known(&[("mdm.app", json!([{"identifier": "a", "n": 1}, {"identifier": "b"}]))]);
        let part = report(
            json!({"mdm": {"app": [{"identifier": "b", "_removed": true}, {"identifier": "c"}]}}),
            false,
        );
        let changes = Changes::of(part, &before);
        assert_eq!(
            changes.set,
            [(
                "mdm.app".to_owned(),
                json!([{"identifier": "a", "n": 1}, {"identifier": "c"}])
            )]
        );
        let whole = report(json!({"mdm": {"app": [{"identifier": "c"}]}}), true);
        let changes = Changes::of(whole, &before);
        assert_eq!(changes.set, [("mdm.app".to_owned(), json!([{"identifier": "c"}]))]);
    }

    #[test]
    fn a_full_report_ends_what_it_does_not_name() {
        let before = known(&[("passcode.is-present", json!(true)), ("mdm.app", json!([]))]);
        let changes = Changes::of(report(json!({"mdm": {"app": []}}), true), &before);
        assert_eq!(changes.removed, ["passcode.is-present"]);
        assert!(changes.set.is_empty());
    }

    #[test]
    fn an_item_that_is_an_object_stays_one() {
        let pending = json!({"os-version": "27.2", "build-version": "27C1"});
        let changes = Changes::of(
            report(json!({"softwareupdate": {"pending-version": pending}}), false),
            &known(&[]),
        );
        assert_eq!(changes.set, [("softwareupdate.pending-version".to_owned(), pending)]);
    }

    #[test]
    fn what_cannot_be_kept_is_a_problem_and_the_rest_is_kept() {
        let name = "n".repeat(MAX_NAME + 1);
        let large = "x".repeat(MAX_VALUE);
        let items = json!({ name: 1, "large": {"item": large}, "good": {"item": 1} });
        let changes = Changes::of(report(items, false), &known(&[]));
        assert_eq!(changes.set, [("good.item".to_owned(), json!(1))]);
        assert_eq!(changes.problems.len(), 2, "{:?}", changes.problems);
    }
}
