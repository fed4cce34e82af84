//! What of a tenant could not be loaded, and when it is tried again: a store that was away for a moment must not leave
//! hooks failing until somebody changes something.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::{LoadError, RevisionStoreError};

/// How long to wait before the first further try of what failed for a passing reason; twice as long after each.
const FIRST: Duration = Duration::from_secs(1);

/// The longest wait, and the one for what fails for a lasting reason.
const LONGEST: Duration = Duration::from_secs(60);

/// Why a revision could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// For the log and the administrator.
    pub(super) reason: String,
    passing: bool,
}

impl Problem {
    /// One that may be gone the next time although nobody changed anything.
    pub(super) fn passing(reason: impl ToString) -> Self {
        Self {
            reason: reason.to_string(),
            passing: true,
        }
    }

    /// One that stays, as far as one can tell.
    pub(super) fn lasting(reason: impl ToString) -> Self {
        Self {
            reason: reason.to_string(),
            passing: false,
        }
    }
}

impl From<RevisionStoreError> for Problem {
    fn from(error: RevisionStoreError) -> Self {
        match error {
            RevisionStoreError::Failed(_) => Self::passing(error),
            RevisionStoreError::NotFound(_) | RevisionStoreError::Quarantined => Self::lasting(error),
        }
    }
}

impl From<LoadError> for Problem {
    fn from(error: LoadError) -> Self {
        if error.is_passing() {
            Self::passing(error)
        } else {
            Self::lasting(error)
        }
    }
}

/// What could not be loaded the last time.
#[derive(Debug, Default)]
pub(super) struct Unloaded {
    /// By the number of the revision.
    problems: HashMap<i64, Problem>,
    wait: Duration,
    due: Option<Instant>,
}

impl Unloaded {
    /// Whether it is time for another try.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Whether this is what was wrong with a revision the last time too: it was told then.
    pub(super) fn is_known(&self, revision: i64, problem: &Problem) -> bool {
        self.problems.get(&revision) == Some(problem)
    }

    /// Whether a revision could not be loaded the last time.
    pub(super) fn has(&self, revision: i64) -> bool {
        self.problems.contains_key(&revision)
    }

    /// Takes over what a try that ended at `now` has left, and says when the next one is.
    pub(super) fn replace(&mut self, problems: HashMap<i64, Problem>, now: Instant) {
        let mut passing = problems.iter().filter(|(_, problem)| problem.passing).peekable();
        self.wait = if passing.peek().is_none() {
            LONGEST
        } else if passing.any(|(id, _)| !self.problems.get(id).is_some_and(|before| before.passing)) {
            FIRST
        } else {
            self.wait.saturating_mul(2).clamp(FIRST, LONGEST)
        };
        self.due = (!problems.is_empty()).then(|| now + self.wait);
        self.problems = problems;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// How long it waits after each of these tries.
    fn waits(unloaded: &mut Unloaded, tries: usize, problems: &[(i64, Problem)]) -> Vec<u64> {
        let now = Instant::now();
        (0..tries)
            .map(|_| {
                unloaded.replace(problems.iter().cloned().collect(), now);
                unloaded.due.unwrap().duration_since(now).as_secs()
            })
            .collect()
    }

    #[test]
    fn what_fails_for_a_passing_reason_is_tried_more_and_more_seldom() {
        let mut unloaded = Unloaded::default();
        let away = [(1, Problem::passing("the store is away"))];
        assert_eq!(waits(&mut unloaded, 8, &away), [1, 2, 4, 8, 16, 32, 60, 60]);
        // Another way of being away is no news.
        assert_eq!(waits(&mut unloaded, 1, &[(1, Problem::passing("busy"))]), [60]);
        // Another plugin that is hit does not wait for the first one's turn.
        let both = [away[0].clone(), (2, Problem::passing("busy"))];
        assert_eq!(waits(&mut unloaded, 2, &both), [1, 2]);
    }

    #[test]
    fn what_fails_for_a_lasting_reason_is_tried_seldom_from_the_start() {
        let damaged = (1, Problem::lasting("damaged"));
        let mut unloaded = Unloaded::default();
        assert_eq!(waits(&mut unloaded, 2, std::slice::from_ref(&damaged)), [60, 60]);
        assert_eq!(
            waits(&mut unloaded, 2, &[damaged, (2, Problem::passing("busy"))]),
            [1, 2]
        );
    }

    #[test]
    fn nothing_is_tried_again_that_is_loaded() {
        let (mut unloaded, now) = (Unloaded::default(), Instant::now());
        let late = now + LONGEST;
        assert!(!unloaded.is_due(late));
        unloaded.replace(HashMap::from([(1, Problem::passing("busy"))]), now);
        assert!(!unloaded.is_due(now) && unloaded.is_due(now + FIRST));
        unloaded.replace(HashMap::new(), now);
        assert!(!unloaded.is_due(late));
    }
}
