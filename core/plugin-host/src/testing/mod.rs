//! What tests of this and other crates need: a real directory server. Behind the feature `testing`, and in no server.

mod slapd;

pub use slapd::{Slapd, SlapdError, SlapdOptions, Transport};
