//! Simulated Apple devices that speak the real protocol over the network, and stand-ins of Apple's own services.
//!
//! For tests, demonstrations and load; a vendor tests its own server with the same pieces. Everything here is the other
//! side of the wire: it shares Apple's formats with the server, and none of the server's code, so that a mistake cannot
//! cancel itself out.
//!
//! What this crate deliberately does not know: how the server stores, decides or configures anything.

pub mod apns;
