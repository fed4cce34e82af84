//! A component file and its digest.

use std::fmt;
use std::sync::Arc;

/// The SHA-256 of a component file, in hexadecimal.
pub fn component_digest(component: &[u8]) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, component))
}

/// A component file, with its manifest, and its digest. Clones share the bytes.
#[derive(Clone)]
pub struct ComponentFile {
    bytes: Arc<[u8]>,
    digest: Arc<str>,
}

impl ComponentFile {
    /// Computes the digest, which takes a millisecond for two megabytes: a large file belongs on a thread that may block.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        let digest = component_digest(&bytes);
        Self::known(bytes, &digest)
    }

    /// A file whose digest was computed before.
    pub(crate) fn known(bytes: Arc<[u8]>, digest: &str) -> Self {
        Self {
            bytes,
            digest: digest.into(),
        }
    }

    /// What is in it.
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// See [`component_digest`].
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

impl From<Vec<u8>> for ComponentFile {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl From<Arc<[u8]>> for ComponentFile {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self::new(bytes)
    }
}

impl fmt::Debug for ComponentFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComponentFile")
            .field("size", &self.bytes.len())
            .field("digest", &self.digest)
            .finish()
    }
}
