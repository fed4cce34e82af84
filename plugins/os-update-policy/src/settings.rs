//! What the operator sets; `settings.schema.json` describes it.

use std::collections::BTreeMap;

use jiff::ToSpan;
use jiff::civil::{Date, DateTime, Time};
use russet_plugin::Error;
use russet_plugin::condition::Condition;
use russet_plugin::os::{Family, Version};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// The settings.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub(crate) targets: BTreeMap<Family, Target>,
    pub(crate) rings: Vec<Ring>,
    pub(crate) details_url: Option<String>,
}

/// The version that a family of devices has to have.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    pub(crate) version: Version,
    #[serde(default)]
    pub(crate) build: Option<String>,
    pub(crate) released: Date,
}

/// Devices that have the same time for an update.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ring {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) when: Condition,
    pub(crate) after_days: i32,
    #[serde(default = "noon", deserialize_with = "time")]
    pub(crate) at: Time,
    #[serde(default)]
    pub(crate) settings: Option<Map<String, Value>>,
}

impl Ring {
    /// When the devices of the ring install by themselves, in their own time.
    pub(crate) fn deadline(&self, released: Date) -> Result<DateTime, Error> {
        let day = released.checked_add(self.after_days.days()).map_err(Error::new)?;
        Ok(day.to_datetime(self.at))
    }
}

fn noon() -> Time {
    Time::constant(12, 0, 0, 0)
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}
