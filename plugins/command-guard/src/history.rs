//! How often a rule was reached: the times of the last commands, kept in the plugin's store.

use std::time::Duration;

use russet_plugin::{Error, clock, kv};

use crate::settings::Rate;

/// Notes one more, and tells whether that is more than the rate allows. What is refused is noted as well: who goes on trying
/// stays refused.
pub(crate) fn exceeded(rule: usize, rate: Rate) -> Result<bool, Error> {
    let window = rate.minutes * 60_000;
    let now = clock::now_ms();
    let lifetime = Some(Duration::from_millis(window));
    kv::change_json(&format!("history/{rule}"), lifetime, |times: Option<Vec<u64>>| {
        let mut times = times.unwrap_or_default();
        times.retain(|time| time.saturating_add(window) > now);
        let exceeded = times.len() >= rate.count;
        times.push(now);
        // Older ones than the last so many change nothing.
        let surplus = times.len().saturating_sub(rate.count);
        times.drain(..surplus);
        (Some(times), exceeded)
    })
}
