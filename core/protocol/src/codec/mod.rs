//! Property lists in and out, with limits on what is read.
//!
//! A device's body is hostile until proved otherwise: arrays nested 180 KB deep overflow the stack of the usual parser
//! and abort the process, a binary property list of some hundred bytes expands to gigabytes, and entities multiply
//! text. So [`decode`] first runs a scan that neither recurses nor allocates by the input's word, and only then the
//! parser.
//!
//! What is accepted is what Apple's own writer produces and a little more: XML in UTF-8, comments, CDATA sections. What
//! two readers could understand differently (duplicate keys, several root values, prefixed element names) is refused.

mod json;
mod scan;
mod write;

use std::io::Cursor;

use plist::{Dictionary, Value};

pub use json::{FromJsonError, from_json, to_json};
pub use write::{encode, encode_value};

/// How much of a document is read before it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The greatest size of the document in bytes. Default: 4 MiB.
    pub max_bytes: usize,
    /// How deep arrays and dictionaries may nest. Default: 32; Apple's own messages stay below 10.
    pub max_depth: usize,
    /// How many elements (values and keys) there may be. Default: 100,000; an application list of a full iPad has about
    /// 10,000.
    pub max_elements: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 4 * 1024 * 1024,
            max_depth: 32,
            max_elements: 100_000,
        }
    }
}

/// Why a document is not a property list this crate reads. Texts name positions, never content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There are no bytes.
    #[error("the body is empty; send a property list in XML")]
    Empty,
    /// The document is larger than [`Limits::max_bytes`].
    #[error("the property list is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A binary property list, which expands without bound and which no device sends.
    #[error("the property list is binary; send it as XML")]
    Binary,
    /// Not XML in UTF-8.
    #[error("the body is not XML in UTF-8")]
    NotXml,
    /// The document type declaration has an internal subset, where entities and worse are declared.
    #[error("the property list declares its own document type; remove the internal subset (offset {offset})")]
    InternalDtd {
        /// Where, in bytes from the start.
        offset: u64,
    },
    /// A reference to an entity other than the five of XML itself.
    #[error("the property list uses an entity that XML does not define (offset {offset})")]
    Entity {
        /// Where, in bytes from the start.
        offset: u64,
    },
    /// Arrays and dictionaries nest deeper than [`Limits::max_depth`].
    #[error("the property list nests deeper than {limit} levels")]
    TooDeep {
        /// The limit in levels.
        limit: usize,
    },
    /// There are more elements than [`Limits::max_elements`].
    #[error("the property list has more than {limit} elements")]
    TooManyElements {
        /// The limit.
        limit: usize,
    },
    /// A dictionary has the same key twice, which readers resolve differently.
    #[error("a dictionary has the same key twice (offset {offset})")]
    DuplicateKey {
        /// Where the second one is, in bytes from the start.
        offset: u64,
    },
    /// Not well-formed XML, or not the structure of a property list.
    #[error("the property list is malformed: {reason} (offset {offset})")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
        /// Where, in bytes from the start.
        offset: u64,
    },
    /// A number, date or base64 text that does not parse.
    #[error("the property list has a value that does not parse: {detail}")]
    InvalidValue {
        /// The parser's words: a kind and a position.
        detail: String,
    },
    /// The root is not a dictionary.
    #[error("the property list is not a dictionary")]
    NotDictionary,
}

impl DecodeError {
    /// Whether a limit was exceeded, as opposed to the document being wrong.
    pub fn is_limit(&self) -> bool {
        matches!(
            self,
            Self::TooLarge { .. } | Self::TooDeep { .. } | Self::TooManyElements { .. }
        )
    }
}

/// Reads a property list whose root is a dictionary, as all of Apple's messages are.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Dictionary, DecodeError> {
    match decode_value(bytes, limits)? {
        Value::Dictionary(dictionary) => Ok(dictionary),
        _ => Err(DecodeError::NotDictionary),
    }
}

/// Reads a property list of any root.
pub fn decode_value(bytes: &[u8], limits: &Limits) -> Result<Value, DecodeError> {
    let text = scan::scan(bytes, limits)?;
    Value::from_reader_xml(Cursor::new(text.as_bytes())).map_err(|error| DecodeError::InvalidValue {
        detail: error.to_string(),
    })
}
