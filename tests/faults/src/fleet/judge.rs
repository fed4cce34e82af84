//! How a failure is judged: what a server may answer, and what is a complaint.

use std::sync::atomic::Ordering;

use russet_simulator::device::DeviceError;

use super::{Fleet, Member};

/// What a server says of an identity whose time is not now.
const NOT_VALID_NOW: [&str; 3] = ["not valid at this time", "is not valid before", "expired at"];

impl Fleet {
    /// Looks at a failure: the server may be away, or say that it cannot at the moment; nothing else is right.
    pub(super) fn judge(&self, member: &Member, what: &str, error: &DeviceError) {
        let serial = member.serial();
        if let Some(reason) = member.device.unenrolled() {
            self.books
                .complain(format!("{serial} was thrown out at {what}: {reason}"));
        } else if error.status() == Some(503) {
            self.refused.send_modify(|count| *count += 1);
        } else if let Some(status) = error.status().filter(|status| *status != 429) {
            let said = error.with_causes();
            let of_another_time = NOT_VALID_NOW.iter().any(|words| said.contains(words));
            if !(of_another_time && self.clock_is_wrong.load(Ordering::SeqCst)) {
                self.books
                    .complain(format!("{serial} was answered {status} at {what}: {said}"));
            }
        }
    }

    pub(super) fn told<T>(&self, member: &Member, what: &str, result: Result<T, DeviceError>) -> bool {
        match result {
            Ok(_) => {
                self.done();
                true
            }
            Err(error) => {
                self.judge(member, what, &error);
                false
            }
        }
    }
}
