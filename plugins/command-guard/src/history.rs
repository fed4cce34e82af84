//! How often a rule was reached: the times of the last commands, kept in the plugin's store.

use std::time::Duration;

use russet_plugin::{Error, clock, kv};

use crate::settings::Rate;

/// How often the times are read again when another call was faster.
const TRIES: u32 = 16;

/// Notes one more, and tells whether that is more than the rate allows. What is refused is noted as well: who goes on trying
/// stays refused.
pub(crate) fn exceeded(rule: usize, rate: Rate) -> Result<bool, Error> {
    let key = format!("history/{rule}");
    let window = rate.minutes * 60_000;
    let now = clock::now_ms();
    for _ in 0..TRIES {
        let entry = kv::get(&key)?;
        let version = entry.as_ref().map(|entry| entry.version);
        let mut times: Vec<u64> = match entry {
            Some(entry) => serde_json::from_slice(&entry.value)?,
            None => Vec::new(),
        };
        times.retain(|time| time.saturating_add(window) > now);
        let exceeded = times.len() >= rate.count;
        times.push(now);
        // Older ones than the last so many change nothing.
        let surplus = times.len().saturating_sub(rate.count);
        times.drain(..surplus);
        let lifetime = Some(Duration::from_millis(window));
        if kv::compare_and_set(&key, version, &serde_json::to_vec(&times)?, lifetime)? {
            return Ok(exceeded);
        }
    }
    Err(Error::new("too many commands are handed in at the same time"))
}
