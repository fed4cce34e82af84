//! Packages: who made a plugin's file, and whether a tenant lets them.
//!
//! A package is one file: the component, with its manifest in a custom section, and after everything else one or more
//! custom sections `russet-signature`. A signature covers every byte before the first of them. This module makes keys and
//! signatures, reads them back, and holds what it reads against a tenant's list of publishers. It knows neither where
//! that list is kept nor what a component does.

mod format;
mod key;
mod sign;
mod trust;

pub use format::{FormatError, MAX_SIGNATURES, SIGNATURE_SECTION, without_signatures};
pub use key::{KeyError, KeyId, PublicKey, SigningKey};
pub use sign::{Package, Signature, sign};
pub use trust::{
    Accepted, MemoryTrust, PackageError, Past, Publisher, Signed, Trust, TrustPolicy, TrustStore, Unsigned, check,
    check_version,
};
