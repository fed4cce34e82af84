//! The HTTP surface of a Russet server: device endpoints, SCEP, the admin API, and the listener with TLS.
//!
//! This is the only crate that knows status codes. It turns requests into typed calls of the engine and the plugin
//! manager, and their outcomes into answers; it decides nothing. It knows neither SQL nor wasmtime.
//!
//! # Invariants
//!
//! - No device message is answered with 401: a device that reads 401 removes its profile.
//! - No body, token, credential or query string gets into the log.
//! - A certificate in a header counts only if it comes from a proxy that the operator trusts.
//! - No client can hold a connection for nothing: see [`ConnectionLimits`].
//!
//! # Embedding
//!
//! A vendor's server builds its router from the parts and puts the boundary around them:
//! `boundary(device_router(&api).merge(admin_router(&api)).merge(own_routes))`.

mod addresses;
mod admin;
mod api;
mod body;
mod boundary;
mod connection;
mod context;
mod counted;
mod device;
mod enroll;
mod failure;
mod health;
mod peer;
mod query;
mod scep;
mod serve;
mod settings;
mod tenant;
mod throttle;
mod tls;

pub use api::{Api, admin_router, device_router, router};
pub use boundary::boundary;
pub use counted::counted;
pub use peer::Peer;
pub use serve::{BindError, ConnectionLimits, Drained, Server, ServerSettings, Transport};
pub use settings::{AddressRange, HttpSettings, ProxySettings};
pub use throttle::RateLimits;
pub use tls::{Tls, TlsError};
