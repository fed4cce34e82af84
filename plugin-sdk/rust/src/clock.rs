//! The server's clock.

use std::time::{Duration, SystemTime};

/// The present moment. (`SystemTime::now` panics inside WebAssembly.)
pub fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(now_ms())
}

/// Milliseconds since 1970-01-01T00:00:00Z.
#[cfg(target_family = "wasm")]
pub fn now_ms() -> u64 {
    crate::bindings::russet::plugin::clock::now_ms()
}

/// Milliseconds since 1970-01-01T00:00:00Z.
#[cfg(not(target_family = "wasm"))]
pub fn now_ms() -> u64 {
    crate::testing::now_ms()
}
