//! Apple's device management wire formats as types: check-in and connect messages, commands, profiles, declarations,
//! status reports and refusal bodies, from and to property lists.
//!
//! Everything here is a pure function of bytes. This crate deliberately knows no I/O, no async, no SQL, no HTTP status
//! codes and no cryptography: signatures are checked before its decoders run and made after its encoders did. It is the
//! only crate that knows property lists; others reach the value types through [`plist`].
//!
//! Invariants:
//! - No input makes a decoder panic, recurse without bound, or allocate more than a small multiple of its size:
//!   [`codec`] scans every document before the parser sees it.
//! - No secret a message carries (push magic, push token, unlock and bootstrap tokens, PINs) shows in a `Debug` output
//!   or an error text.
//! - One place turns a message's identifiers into the name of an enrollment: [`EnrollmentKey`].

pub mod checkin;
pub mod codec;
pub mod command;
pub mod connect;
pub mod content_type;
pub mod ddm;
pub mod enrollment;
mod fields;
pub mod forbidden;
pub mod machine_info;
pub mod message;
pub mod profile;
pub mod push_certificate_request;
pub mod secret;

pub use checkin::{CheckIn, CheckInError};
pub use codec::{DecodeError, Limits};
pub use command::{Command, CommandError, Validated};
pub use connect::{ErrorChainItem, Report, ReportError, ReportStatus};
pub use enrollment::{Channel, EnrollmentKey, KeyError};
pub use fields::FieldError;
pub use machine_info::{MachineInfo, MachineInfoError};
pub use message::{DeviceMessage, MessageError, MessageKind};
pub use plist;
pub use push_certificate_request::PushCertificateRequest;
pub use secret::{SecretBytes, SecretString};
