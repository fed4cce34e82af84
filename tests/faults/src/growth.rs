//! Whether something grows without end: amounts that were read once a day, and what is wrong with them.
//!
//! Nothing is measured in time. The first third of the days is for filling up: until then, nothing is old enough to go. After
//! that, each amount has to stay about where it was in the second third, as the median has it; what grows by the day is more
//! than half as much again in the last one.
//!
//! What this deliberately does not know: what the amounts are of, but for how exact they are.

use std::collections::{BTreeMap, BTreeSet};

/// The rows of a table are called after it.
pub const ROWS: &str = "rows of ";
/// The bytes of the database: of its file, or of all its relations.
pub const DATABASE: &str = "database";
/// The bytes of SQLite's write-ahead log.
pub const LOG: &str = "write-ahead log";
/// The resident memory of the server, in bytes.
pub const MEMORY: &str = "memory";
/// How many files the server has open, connections included.
pub const FILES: &str = "open files";
/// How many threads it has.
pub const THREADS: &str = "threads";

const MIB: u64 = 1 << 20;

/// What there was after a day.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// The day, from 1.
    pub day: u64,
    /// How much of what.
    pub amounts: BTreeMap<String, u64>,
}

impl Sample {
    /// How much there was of something.
    pub fn amount(&self, what: &str) -> u64 {
        self.amounts.get(what).copied().unwrap_or_default()
    }

    /// How many rows all tables had.
    pub fn rows(&self) -> u64 {
        let tables = self.amounts.iter().filter(|(what, _)| what.starts_with(ROWS));
        tables.map(|(_, rows)| rows).sum()
    }
}

/// Something that is meant to grow.
#[derive(Clone, Copy, Debug)]
pub struct Growing {
    /// What.
    pub what: &'static str,
    /// The most that there may be.
    pub most: u64,
    /// Why it does.
    pub why: &'static str,
}

/// How much more than before is no growth: what comes and goes by chance, and in the steps in which it is taken.
fn play(what: &str) -> u64 {
    match what {
        DATABASE => MIB,
        LOG => 4 * MIB,
        MEMORY => 16 * MIB,
        FILES => 12,
        THREADS => 6,
        _ => 10,
    }
}

/// What grows that may not, a line each. Fewer than six days say nothing, which is a complaint too.
pub fn complaints(samples: &[Sample], growing: &[Growing]) -> Vec<String> {
    if samples.len() < 6 {
        return vec![format!("{} days are too few to tell", samples.len())];
    }
    let third = samples.len() / 3;
    let (second, last) = samples[third..].split_at(samples.len() - 2 * third);
    let names: BTreeSet<_> = samples.iter().flat_map(|sample| sample.amounts.keys()).collect();
    let mut found = Vec::new();
    for what in names {
        let (before, after) = (median(second, what), median(last, what));
        let most = samples
            .iter()
            .map(|sample| sample.amount(what))
            .max()
            .unwrap_or_default();
        match growing.iter().find(|growing| growing.what == what) {
            Some(growing) if most > growing.most => found.push(format!(
                "{what}: {most}, and at most {} were expected: {}",
                growing.most, growing.why
            )),
            Some(_) => {}
            None if after > before + before / 4 + play(what) => {
                let days: Vec<_> = samples.iter().map(|sample| sample.amount(what)).collect();
                found.push(format!(
                    "{what} grows: about {before} at first, then {after}; by days: {days:?}"
                ));
            }
            None => {}
        }
    }
    found
}

/// The amount in the middle: a day that is unlike the others does not count.
fn median(of: &[Sample], what: &str) -> u64 {
    let mut amounts: Vec<_> = of.iter().map(|sample| sample.amount(what)).collect();
    amounts.sort_unstable();
    amounts.get(amounts.len() / 2).copied().unwrap_or_default()
}

/// The days, a line each, for people; of many days some.
pub fn table(samples: &[Sample]) -> Vec<String> {
    const LINES: usize = 16;
    let head = "  day   rows   database KiB   log KiB   memory MiB   files   threads".to_owned();
    let step = samples.len().div_ceil(LINES).max(1);
    let shown = samples
        .iter()
        .enumerate()
        .filter(|(at, _)| (at + 1).is_multiple_of(step) || at + 1 == samples.len());
    let lines = shown.map(|(_, sample)| {
        let (rows, kib) = (sample.rows(), |what| sample.amount(what) >> 10);
        format!(
            "{:>5} {rows:>6} {:>14} {:>9} {:>12} {:>7} {:>9}",
            sample.day,
            kib(DATABASE),
            kib(LOG),
            sample.amount(MEMORY) / MIB,
            sample.amount(FILES),
            sample.amount(THREADS),
        )
    });
    std::iter::once(head).chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(count: u64, amount: impl Fn(u64) -> u64) -> Vec<Sample> {
        (1..=count)
            .map(|day| Sample {
                day,
                amounts: BTreeMap::from([("rows of events".to_owned(), amount(day))]),
            })
            .collect()
    }

    #[test]
    fn what_grows_by_the_day_is_found() {
        for (count, daily) in [(9, 50), (60, 2), (61, 2), (62, 2)] {
            let found = complaints(&days(count, |day| 500 + day * daily * count), &[]);
            assert!(
                found.len() == 1 && found[0].starts_with("rows of events grows"),
                "{found:?}"
            );
        }
        // One row a day, of nothing else.
        assert_eq!(complaints(&days(90, |day| day), &[]).len(), 1);
    }

    #[test]
    fn what_fills_up_and_stays_is_not() {
        let filling = |day: u64| day.min(3) * 400 + day % 2 * 40;
        assert_eq!(complaints(&days(9, filling), &[]), [""; 0]);
        assert_eq!(complaints(&days(9, |_| 0), &[]), [""; 0]);
    }

    #[test]
    fn one_day_that_is_unlike_the_others_is_no_growth() {
        let busy = |day: u64| if day == 8 { 900 } else { 30 };
        assert_eq!(complaints(&days(9, busy), &[]), [""; 0]);
    }

    #[test]
    fn a_leak_that_begins_late_is_found() {
        assert_eq!(complaints(&days(30, |day| 100 * day.saturating_sub(20)), &[]).len(), 1);
    }

    #[test]
    fn what_is_meant_to_grow_has_a_bound_of_its_own() {
        let growing = |most| Growing {
            what: "rows of events",
            most,
            why: "everybody wants them",
        };
        let leaking = days(30, |day| day * 100);
        assert_eq!(complaints(&leaking, &[growing(3_000)]), [""; 0]);
        let found = complaints(&leaking, &[growing(2_999)]);
        assert!(
            found.len() == 1 && found[0].contains("everybody wants them"),
            "{found:?}"
        );
    }

    #[test]
    fn a_few_days_say_nothing() {
        assert_eq!(complaints(&days(5, |_| 0), &[]).len(), 1);
    }

    #[test]
    fn the_last_day_is_always_shown() {
        for count in [1, 16, 17, 365] {
            let lines = table(&days(count, |day| day));
            let last = lines.last().unwrap();
            assert!(
                lines.len() <= 18 && last.trim_start().starts_with(&count.to_string()),
                "{lines:?}"
            );
        }
    }
}
