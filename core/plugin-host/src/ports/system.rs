//! The clock and the random numbers of the machine.

use jiff::Timestamp;

use super::{CallError, ClockPort, RandomPort};

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl ClockPort for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// The cryptographic random numbers of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl RandomPort for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), CallError> {
        aws_lc_rs::rand::fill(bytes).map_err(|_| CallError::Unavailable("no random numbers".to_owned()))
    }
}
