//! The server's clock.

use std::time::{Duration, SystemTime};

#[cfg(target_family = "wasm")]
use crate::bindings::russet::plugin::clock as backend;
#[cfg(not(target_family = "wasm"))]
use crate::testing::backend::clock as backend;

/// The present moment. (`SystemTime::now` panics inside WebAssembly.)
pub fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(now_ms())
}

/// Milliseconds since 1970-01-01T00:00:00Z.
pub fn now_ms() -> u64 {
    backend::now_ms()
}

/// A moment as the contract writes it: milliseconds since 1970-01-01T00:00:00Z, 0 for earlier ones.
pub(crate) fn millis(time: SystemTime) -> u64 {
    duration_ms(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

/// A span as the contract writes it.
pub(crate) fn duration_ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
