//! The server's random numbers, fit for keys.
//!
//! ```
//! let nonce = russet_plugin::random::bytes(16);
//! assert_eq!(nonce.len(), 16);
//! ```

#[cfg(target_family = "wasm")]
use crate::bindings::russet::plugin::random as backend;
#[cfg(not(target_family = "wasm"))]
use crate::testing::backend::random as backend;

/// The most bytes of one call.
const MOST: usize = 4096;

/// So many random bytes.
pub fn bytes(count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < count {
        let missing = (count - bytes.len()).min(MOST);
        bytes.extend(backend::bytes(u32::try_from(missing).unwrap_or_default()));
    }
    bytes.truncate(count);
    bytes
}

/// A random number.
pub fn u64() -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes(8));
    u64::from_le_bytes(number)
}
