//! Conditions on a device and its person, as operators write them in settings.
//!
//! An object whose members must all hold; `all`, `any` and `not` combine:
//!
//! ```
//! use russet_plugin::condition::{Condition, Facts};
//! use russet_plugin::Device;
//!
//! let managers_macs: Condition = serde_json::from_value(serde_json::json!({
//!     "family": ["Mac"],
//!     "any": [{"group": ["managers"]}, {"attribute": {"role": ["manager*"]}}],
//!     "not": {"serial": ["C02TEST*"]},
//! })).unwrap();
//! let mac = Device::builder().product_name("Mac15,3").serial_number("C02XK1").attribute("role", "manager-2").build();
//! assert!(managers_macs.holds(&Facts::of(&mac, None)));
//! ```
//!
//! What is not known matches nothing: a condition on the serial number does not hold for a device that has told none.
//! With `not` around it, it holds.

use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::os::{Family, Version};
use crate::{Device, Person};

/// JSON Schema (2020-12) of a condition: an object with `$defs`, of which `condition` is the one to refer to. A plugin whose
/// settings hold conditions copies these definitions into its schema of settings, which has to stand for itself.
pub const JSON_SCHEMA: &str = include_str!("condition.schema.json");

/// A condition. Without members it always holds.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Condition {
    /// The serial number is one of these.
    pub serial: Option<Vec<Pattern>>,
    /// The product type, such as `Mac15,3`, is one of these.
    pub product: Option<Vec<Pattern>>,
    /// The product is of one of these families.
    pub family: Option<Vec<Family>>,
    /// The operating system is this version or a later one.
    pub os_at_least: Option<Version>,
    /// The operating system is older than this version.
    pub os_below: Option<Version>,
    /// Each of these attributes of the enrollment has one of the values.
    pub attribute: Option<BTreeMap<String, Vec<Pattern>>>,
    /// The person is known, or is not.
    pub signed_in: Option<bool>,
    /// The person's user name is one of these.
    pub user: Option<Vec<Pattern>>,
    /// The person belongs to one of these groups.
    pub group: Option<Vec<Pattern>>,
    /// Each of these attributes of the person has one of the values.
    pub person_attribute: Option<BTreeMap<String, Vec<Pattern>>>,
    /// All of these hold.
    pub all: Option<Vec<Condition>>,
    /// One of these holds.
    pub any: Option<Vec<Condition>>,
    /// This does not hold.
    pub not: Option<Box<Condition>>,
}

/// What conditions are about. Facts are read from the host when a condition asks for them.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    device: Option<&'a Device>,
    person: Option<&'a Person>,
}

impl<'a> Facts<'a> {
    /// The facts of a device and its person.
    pub fn of(device: &'a Device, person: Option<&'a Person>) -> Self {
        Self {
            device: Some(device),
            person,
        }
    }

    /// The facts of whatever is known.
    pub fn known(device: Option<&'a Device>, person: Option<&'a Person>) -> Self {
        Self { device, person }
    }
}

impl Condition {
    /// Whether the condition holds.
    pub fn holds(&self, facts: &Facts<'_>) -> bool {
        let Facts { device, person } = *facts;
        let version = || device.and_then(Device::os_version).as_deref().and_then(Version::parse);
        met(&self.serial, |serials| {
            one(serials, device.and_then(Device::serial_number))
        }) && met(&self.product, |products| {
            one(products, device.and_then(Device::product_name))
        }) && met(&self.family, |families| {
            let family = device.and_then(Device::product_name).as_deref().and_then(Family::of);
            family.is_some_and(|family| families.contains(&family))
        }) && met(&self.os_at_least, |least| {
            version().is_some_and(|version| version >= *least)
        }) && met(&self.os_below, |limit| {
            version().is_some_and(|version| version < *limit)
        }) && met(&self.attribute, |wanted| {
            wanted
                .iter()
                .all(|(name, values)| one(values, device.and_then(|device| device.attribute(name))))
        }) && met(&self.signed_in, |wanted| person.is_some() == *wanted)
            && met(&self.user, |users| one(users, person.map(Person::user_name)))
            && met(&self.group, |groups| {
                person.is_some_and(|person| person.groups().iter().any(|group| matches(groups, group)))
            })
            && met(&self.person_attribute, |wanted| {
                wanted.iter().all(|(name, values)| {
                    person.is_some_and(|person| person.attribute(name).iter().any(|value| matches(values, value)))
                })
            })
            && met(&self.all, |all| all.iter().all(|condition| condition.holds(facts)))
            && met(&self.any, |any| any.iter().any(|condition| condition.holds(facts)))
            && met(&self.not, |not| !not.holds(facts))
    }

    /// Whether it can be told without a device: nothing in it asks for one.
    pub fn is_about_people_only(&self) -> bool {
        let nested = self.all.iter().chain(&self.any).flatten();
        self.serial.is_none()
            && self.product.is_none()
            && self.family.is_none()
            && self.os_at_least.is_none()
            && self.os_below.is_none()
            && self.attribute.is_none()
            && nested.chain(self.not.as_deref()).all(Self::is_about_people_only)
    }
}

/// A condition that is not set holds.
fn met<T>(condition: &Option<T>, holds: impl FnOnce(&T) -> bool) -> bool {
    condition.as_ref().is_none_or(holds)
}

fn one(patterns: &[Pattern], value: Option<String>) -> bool {
    value.is_some_and(|value| matches(patterns, &value))
}

fn matches(patterns: &[Pattern], value: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(value))
}

/// Text to compare with, without regard to ASCII case; `*` stands for any text, at any place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// A pattern; `None` for the empty text, which is more often a slip than meant.
    pub fn new(text: &str) -> Option<Self> {
        (!text.trim().is_empty()).then(|| Self(text.to_owned()))
    }

    /// Whether a value fits. Takes time by the length of the value times that of the pattern at the most, and no memory:
    /// gates compare every serial number with every pattern.
    pub fn matches(&self, value: &str) -> bool {
        let (pattern, value) = (self.0.as_bytes(), value.as_bytes());
        let (mut at, mut read) = (0, 0);
        // The last star, and how much of the value it has taken.
        let mut star: Option<(usize, usize)> = None;
        while read < value.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    star = Some((at, read));
                    at += 1;
                }
                Some(byte) if byte.eq_ignore_ascii_case(&value[read]) => {
                    at += 1;
                    read += 1;
                }
                _ => {
                    let Some((place, taken)) = star else { return false };
                    star = Some((place, taken + 1));
                    at = place + 1;
                    read = taken + 1;
                }
            }
        }
        pattern[at..].iter().all(|byte| *byte == b'*')
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).ok_or_else(|| D::Error::custom("an empty pattern; `*` matches everything"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;

    fn condition(json: Value) -> Condition {
        serde_json::from_value(json).unwrap()
    }

    fn mac() -> Device {
        Device::builder()
            .serial_number("C02XK1A2")
            .product_name("Mac15,3")
            .os_version("27.1")
            .attribute("site", "Zurich")
            .build()
    }

    fn anna() -> Person {
        Person::builder("uid=anna", "anna")
            .group("staff")
            .group("Mac Admins")
            .attribute("department", "IT")
            .build()
    }

    #[test]
    fn each_member_is_a_condition_of_its_own() {
        let (mac, anna) = (mac(), anna());
        let facts = Facts::of(&mac, Some(&anna));
        let cases = [
            (json!({}), true),
            (json!({"serial": ["F4*", "c02x*"]}), true),
            (json!({"serial": ["C02"]}), false),
            (json!({"product": ["Mac*"]}), true),
            (json!({"family": ["iPhone", "Mac"]}), true),
            (json!({"family": ["iPad"]}), false),
            (json!({"os_at_least": "27.1"}), true),
            (json!({"os_at_least": "27.1.1"}), false),
            (json!({"os_below": "27.1"}), false),
            (json!({"os_below": "28"}), true),
            (json!({"attribute": {"site": ["zur*"]}}), true),
            (json!({"attribute": {"site": ["*"], "floor": ["*"]}}), false),
            (json!({"signed_in": true}), true),
            (json!({"signed_in": false}), false),
            (json!({"user": ["anna"]}), true),
            (json!({"group": ["mac admins"]}), true),
            (json!({"group": ["managers"]}), false),
            (json!({"person_attribute": {"department": ["IT", "HR"]}}), true),
            (json!({"family": ["Mac"], "group": ["managers"]}), false),
            (json!({"any": [{"family": ["iPad"]}, {"group": ["staff"]}]}), true),
            (json!({"any": []}), false),
            (json!({"all": [{"family": ["Mac"]}, {"group": ["staff"]}]}), true),
            (json!({"not": {"group": ["staff"]}}), false),
        ];
        for (json, holds) in cases {
            assert_eq!(condition(json.clone()).holds(&facts), holds, "{json}");
        }
    }

    #[test]
    fn what_is_not_known_matches_nothing() {
        let facts = Facts::known(None, None);
        for json in [
            json!({"serial": ["*"]}),
            json!({"os_below": "99"}),
            json!({"group": ["*"]}),
            json!({"signed_in": true}),
        ] {
            assert!(!condition(json.clone()).holds(&facts), "{json}");
            assert!(condition(json!({"not": json})).holds(&facts));
        }
    }

    #[test]
    fn slips_are_errors_and_not_rules_that_never_hold() {
        for json in [
            json!({"serials": ["C02*"]}),
            json!({"serial": [""]}),
            json!({"os_below": "soon"}),
            json!({"family": ["Toaster"]}),
        ] {
            assert!(serde_json::from_value::<Condition>(json.clone()).is_err(), "{json}");
        }
    }

    #[test]
    fn stars_stand_for_any_text() {
        let cases = [
            ("*", "", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "acb", false),
            ("*b*", "abc", true),
            ("a*b*a", "aba", true),
            ("a*a", "a", false),
            ("abc", "ABC", true),
            ("ü*", "übung", true),
            ("*ü", "menü", true),
            ("a**b", "axb", true),
            ("*a*b*c*", "xxaxxbxxcxx", true),
            ("*a*b*c*", "xxaxxcxxbxx", false),
            ("C02*", "c0", false),
        ];
        for (pattern, value, fits) in cases {
            assert_eq!(Pattern::new(pattern).unwrap().matches(value), fits, "{pattern} {value}");
        }
    }

    #[test]
    fn conditions_on_people_are_told_from_those_on_devices() {
        assert!(condition(json!({"group": ["a"], "not": {"user": ["b"]}})).is_about_people_only());
        assert!(!condition(json!({"group": ["a"], "not": {"serial": ["b"]}})).is_about_people_only());
        assert!(!condition(json!({"any": [{"os_below": "27"}]})).is_about_people_only());
    }
}
