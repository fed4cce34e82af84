//! Simulated Apple devices that speak the real protocol over the network, and stand-ins of Apple's own services.
//!
//! For tests, demonstrations and load; a vendor tests its own server with the same pieces. Everything here is the other
//! side of the wire: it shares the formats and the cryptography (`russet-protocol`, `russet-pki`) with the server, and nothing
//! of what the server does with them.
//!
//! What this crate deliberately does not know: how the server stores, decides or configures anything.

pub mod apns;
pub mod device;

pub use device::SimulatedDevice;
