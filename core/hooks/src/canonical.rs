//! Canonical JSON of verdicts: what two revisions are compared by.

use aws_lc_rs::digest::{SHA256, digest as hash};
use serde::Serialize;
use serde_json::{Value, json};

/// The value as JSON. Equal verdicts give equal texts: their maps are sorted (`BTreeMap`), and their fields have an order.
pub(crate) fn canonical(value: &impl Serialize) -> String {
    // Verdicts have text for keys and nothing that refuses to be serialised, so the second case does not happen; it is
    // a text of its own, so that it could never pass for an equal verdict by being empty.
    serde_json::to_string(value).unwrap_or_else(|error| json!({ "not-serialisable": error.to_string() }).to_string())
}

/// What stands for a document that must not be copied into records.
pub(crate) fn digest(document: &[u8]) -> Value {
    json!({ "bytes": document.len(), "sha256": hex::encode(hash(&SHA256, document)) })
}
