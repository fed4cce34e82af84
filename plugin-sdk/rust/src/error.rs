//! Why a plugin could not decide.

use std::fmt;

/// A plugin's own failure: it could not decide. The host records the text and applies the hook's failure rule; the person
/// at the device never reads it. It must hold no secret.
///
/// ```
/// use russet_plugin::Error;
///
/// fn parse(text: &str) -> Result<u32, Error> {
///     text.parse().map_err(|e| Error::new(format_args!("`{text}` is no number: {e}")))
/// }
/// assert_eq!(parse("x").unwrap_err().to_string(), "`x` is no number: invalid digit found in string");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    /// Makes an error of anything that can be shown.
    pub fn new(message: impl fmt::Display) -> Self {
        Self(message.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<&str> for Error {
    fn from(message: &str) -> Self {
        Self(message.to_owned())
    }
}

impl From<String> for Error {
    fn from(message: String) -> Self {
        Self(message)
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::new(error)
    }
}
