//! Apple Push Notification service, as far as device management needs it: the push certificate that Apple issues to an
//! MDM server, and a client that wakes devices over HTTP/2.
//!
//! An MDM push carries no content. It tells one device to poll, and APNs keeps only the newest one for a device that is
//! offline; sending the same push twice is therefore harmless, and the client makes use of that when a connection dies
//! while a push is on its way.
//!
//! What this crate deliberately does not know: where tokens and certificates are stored, which enrollment a token
//! belongs to, when a failed push is tried again, and anything of the MDM protocol beyond the push magic. Those are the
//! engine's.
//!
//! Invariants:
//!
//! - No private key, device token or push magic appears in a `Debug` text, an error or a log line.
//! - The cryptography provider is passed explicitly; the process-wide default of rustls is neither read nor set.
//! - One push is on the wire at most twice, and only if the first connection was lost before APNs answered.

mod alert;
mod certificate;
mod client;
mod connection;
mod endpoint;
mod error;
mod notification;

pub use certificate::{PushCertificate, PushCertificateError};
pub use client::{ClientOptions, PushClient};
pub use endpoint::{Endpoint, Roots, RootsError};
pub use error::{PushError, Reason, RetryReason, Scope};
pub use notification::{Delivered, Push};
