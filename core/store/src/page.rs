//! Cursors: lists are read a page at a time, by row id, so that a page costs the same at any depth.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// The most rows that one page holds, whatever the caller asks for.
pub const MAX_PAGE: u32 = 1000;

/// Where the next page of a list starts. Opaque to callers: print it, parse it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(pub(crate) i64);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Cursor {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The rows of this page.
    pub items: Vec<T>,
    /// Where the next page starts; `None` when this was the last.
    pub next: Option<Cursor>,
}

/// The number of rows to ask the database for: one more than the page, to know whether another page follows.
pub(crate) fn probe(limit: u32) -> i64 {
    i64::from(limit.clamp(1, MAX_PAGE)) + 1
}

impl<T> Page<T> {
    /// Cuts the probing row off and remembers the last kept one.
    pub(crate) fn cut(mut items: Vec<T>, limit: u32, id: impl Fn(&T) -> i64) -> Self {
        let limit = limit.clamp(1, MAX_PAGE) as usize;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more {
            items.last().map(|last| Cursor(id(last)))
        } else {
            None
        };
        Self { items, next }
    }
}
