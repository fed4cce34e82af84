//! What a device and an administrator were told, so that it can be compared with what the server kept.
//!
//! Something that was asked for and not answered may have happened or not: both are right, until something that was asked
//! for later is answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A value that a device gives to the server, again and again.
#[derive(Clone, Debug)]
pub struct Register<T> {
    acknowledged: Option<T>,
    /// Sent since, and not acknowledged.
    attempted: Vec<T>,
    changes: u64,
}

impl<T> Default for Register<T> {
    fn default() -> Self {
        Self {
            acknowledged: None,
            attempted: Vec::new(),
            changes: 0,
        }
    }
}

impl<T: PartialEq + Clone> Register<T> {
    /// It is about to be sent.
    pub fn attempt(&mut self, value: T) {
        self.attempted.push(value);
        self.changes += 1;
    }

    /// The server said yes to the value that was attempted last.
    pub fn acknowledge(&mut self) {
        let last = self.attempted.pop();
        self.attempted.clear();
        self.acknowledged = last.or(self.acknowledged.take());
        self.changes += 1;
    }

    /// The server said no to the value that was attempted last.
    pub fn refuse(&mut self) {
        self.attempted.pop();
        self.changes += 1;
    }

    /// Whether the server may have this.
    pub fn may_be(&self, value: Option<&T>) -> bool {
        match value {
            None => self.acknowledged.is_none(),
            Some(value) => self.acknowledged.as_ref() == Some(value) || self.attempted.contains(value),
        }
    }

    /// The value that the server said yes to last.
    pub fn acknowledged(&self) -> Option<&T> {
        self.acknowledged.as_ref()
    }

    /// How often it changed: one that stays the same while the tables are read is comparable with them.
    pub fn changes(&self) -> u64 {
        self.changes
    }
}

/// What one device was told.
#[derive(Clone, Debug, Default)]
pub struct DeviceJournal {
    /// Its enrollment was completed.
    pub enrolled: bool,
    /// Push token and magic.
    pub push: Register<(Vec<u8>, String)>,
    /// The bootstrap token.
    pub escrow: Register<Vec<u8>>,
}

/// A command that the server said was queued.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// `CommandUUID`, hyphenated and in lower case.
    pub uuid: String,
    /// The serial numbers of the devices that it is for.
    pub devices: Vec<String>,
    /// Somebody asked to take it back; whether that was answered does not matter.
    pub taken_back: bool,
}

/// What the administrators were told, by UUID; and what anybody complained of.
#[derive(Debug, Default)]
pub struct Books {
    accepted: Mutex<BTreeMap<String, Accepted>>,
    complaints: Mutex<BTreeSet<String>>,
}

impl Books {
    /// A command was queued.
    pub fn accept(&self, command: Accepted) {
        lock(&self.accepted).insert(command.uuid.clone(), command);
    }

    /// A command may be taken back from now on.
    pub fn take_back(&self, uuid: &str) {
        if let Some(command) = lock(&self.accepted).get_mut(uuid) {
            command.taken_back = true;
        }
    }

    /// The commands that were queued.
    pub fn accepted(&self) -> Vec<Accepted> {
        lock(&self.accepted).values().cloned().collect()
    }

    /// Whether somebody has begun to take a command back.
    pub fn is_taken_back(&self, uuid: &str) -> bool {
        lock(&self.accepted).get(uuid).is_some_and(|command| command.taken_back)
    }

    /// How many there are.
    pub fn accepted_count(&self) -> usize {
        lock(&self.accepted).len()
    }

    /// Something that must not happen did.
    pub fn complain(&self, what: impl Into<String>) {
        lock(&self.complaints).insert(what.into());
    }

    /// All that must not have happened.
    pub fn complaints(&self) -> Vec<String> {
        lock(&self.complaints).iter().cloned().collect()
    }
}

/// Locks; a task that panicked while it held the lock shows by itself.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::Register;

    #[test]
    fn what_was_not_answered_may_be_or_not_until_something_later_was() {
        let mut register = Register::default();
        assert!(register.may_be(None));
        register.attempt(1);
        assert!(register.may_be(None) && register.may_be(Some(&1)));
        register.acknowledge();
        assert!(!register.may_be(None) && register.may_be(Some(&1)));
        register.attempt(2);
        register.attempt(3);
        assert!([1, 2, 3].iter().all(|value| register.may_be(Some(value))));
        register.acknowledge();
        assert!(register.may_be(Some(&3)) && !register.may_be(Some(&1)) && !register.may_be(Some(&2)));
    }
}
