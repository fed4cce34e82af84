//! What administrators have to keep to beside being named: the hours, a second one who asks as well, and a rate.

use std::time::Duration;

use russet_plugin::escrow::Kind;
use russet_plugin::{Device, Error, clock, kv};
use serde::{Deserialize, Deserializer, Serialize};

const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;

/// The restrictions.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Restrictions {
    hours: Option<Hours>,
    four_eyes_minutes: Option<u64>,
    rate: Option<Rate>,
}

/// The hours of a day, and the days of a week.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hours {
    #[serde(deserialize_with = "minute_of_day")]
    from: u64,
    #[serde(deserialize_with = "minute_of_day")]
    to: u64,
    #[serde(default)]
    days: Vec<Day>,
    #[serde(default)]
    utc_offset_minutes: i64,
}

/// So many secrets of one administrator within so many minutes.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rate {
    count: usize,
    minutes: u64,
}

/// In the order of the days since 1970-01-01, which was a Thursday.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Day {
    Thursday,
    Friday,
    Saturday,
    Sunday,
    Monday,
    Tuesday,
    Wednesday,
}

/// Who asked for a secret, and who asked after them.
#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    by: String,
    seconded: bool,
}

impl Restrictions {
    /// Why an administrator does not get the secret of a device now.
    pub(crate) fn refuse(&self, name: &str, kind: &Kind, device: &Device) -> Result<Option<String>, Error> {
        if let Some(hours) = &self.hours
            && !hours.include(clock::now_ms())
        {
            return Ok(Some(
                "secrets are not released to administrators at this hour".to_owned(),
            ));
        }
        if let Some(minutes) = self.four_eyes_minutes
            && !seconded(name, kind, device, minutes)?
        {
            return Ok(Some(format!(
                "another administrator has to ask for it as well, within {minutes} minutes"
            )));
        }
        match self.rate {
            Some(rate) if exceeded(name, rate)? => Ok(Some(format!(
                "{name} had {} secrets within {} minutes",
                rate.count, rate.minutes
            ))),
            _ => Ok(None),
        }
    }
}

impl Hours {
    fn include(&self, now_ms: u64) -> bool {
        let offset = self.utc_offset_minutes.saturating_mul(MINUTE as i64);
        let local = now_ms.saturating_add_signed(offset);
        let minute = local % DAY / MINUTE;
        let in_time = if self.from <= self.to {
            (self.from..self.to).contains(&minute)
        } else {
            // Over midnight.
            minute >= self.from || minute < self.to
        };
        in_time && (self.days.is_empty() || self.days.iter().any(|day| *day as u64 == local / DAY % 7))
    }
}

/// Whether two administrators have asked for the secret. Who asks first is noted; anybody else seconds.
fn seconded(name: &str, kind: &Kind, device: &Device, minutes: u64) -> Result<bool, Error> {
    let enrollment = device
        .enrollment_id()
        .ok_or_else(|| Error::new("a secret of no enrollment cannot be asked for by two"))?;
    let key = format!("asked/{}/{enrollment}", kind.as_str());
    let lifetime = Some(Duration::from_millis(minutes.saturating_mul(MINUTE)));
    kv::change_json(&key, lifetime, |asked: Option<Asked>| match asked {
        Some(asked) if asked.seconded => (None, true),
        Some(asked) if asked.by == name => (None, false),
        Some(asked) => {
            let note = Asked {
                by: asked.by,
                seconded: true,
            };
            (Some(note), true)
        }
        None => {
            let note = Asked {
                by: name.to_owned(),
                seconded: false,
            };
            (Some(note), false)
        }
    })
}

/// Notes one more secret of an administrator, unless that is more than the rate allows.
fn exceeded(name: &str, rate: Rate) -> Result<bool, Error> {
    let window = rate.minutes.saturating_mul(MINUTE);
    let now = clock::now_ms();
    let lifetime = Some(Duration::from_millis(window));
    kv::change_json(&format!("rate/{name}"), lifetime, |times: Option<Vec<u64>>| {
        let mut times = times.unwrap_or_default();
        times.retain(|time| time.saturating_add(window) > now);
        if times.len() >= rate.count {
            return (None, true);
        }
        times.push(now);
        (Some(times), false)
    })
}

fn minute_of_day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed = text.split_once(':').and_then(|(hours, minutes)| {
        let (hours, minutes): (u64, u64) = (hours.parse().ok()?, minutes.parse().ok()?);
        (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
    });
    parsed.ok_or_else(|| serde::de::Error::custom(format_args!("`{text}` is no time such as 08:30")))
}
