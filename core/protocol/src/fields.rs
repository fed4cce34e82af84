//! Reading typed fields out of a message's dictionary, taking them so that secrets are moved and not copied.

use plist::{Dictionary, Value};

use crate::secret::{SecretBytes, SecretString};

/// Why a field of a message cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The key is required and absent.
    #[error("{key} is missing")]
    Missing {
        /// The key as on the wire.
        key: &'static str,
    },
    /// The value has another type.
    #[error("{key} must be a {expected}")]
    WrongType {
        /// The key as on the wire.
        key: &'static str,
        /// The type that Apple's schema gives.
        expected: &'static str,
    },
}

/// The fields of one message that were not yet taken.
pub(crate) struct Fields(pub(crate) Dictionary);

impl Fields {
    fn take<T>(
        &mut self,
        key: &'static str,
        expected: &'static str,
        read: impl FnOnce(Value) -> Option<T>,
    ) -> Result<Option<T>, FieldError> {
        match self.0.remove(key) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or(FieldError::WrongType { key, expected }),
        }
    }

    pub(crate) fn string(&mut self, key: &'static str) -> Result<Option<String>, FieldError> {
        self.take(key, "string", Value::into_string)
    }

    pub(crate) fn boolean(&mut self, key: &'static str) -> Result<Option<bool>, FieldError> {
        self.take(key, "boolean", |value| value.as_boolean())
    }

    pub(crate) fn integer(&mut self, key: &'static str) -> Result<Option<i64>, FieldError> {
        self.take(key, "integer", |value| value.as_signed_integer())
    }

    pub(crate) fn data(&mut self, key: &'static str) -> Result<Option<Vec<u8>>, FieldError> {
        self.take(key, "data", Value::into_data)
    }

    pub(crate) fn strings(&mut self, key: &'static str) -> Result<Option<Vec<String>>, FieldError> {
        let read = |value: Value| value.into_array()?.into_iter().map(Value::into_string).collect();
        self.take(key, "list of strings", read)
    }

    pub(crate) fn dictionary(&mut self, key: &'static str) -> Result<Option<Dictionary>, FieldError> {
        self.take(key, "dictionary", Value::into_dictionary)
    }

    pub(crate) fn dictionaries(&mut self, key: &'static str) -> Result<Option<Vec<Dictionary>>, FieldError> {
        let read = |value: Value| value.into_array()?.into_iter().map(Value::into_dictionary).collect();
        self.take(key, "list of dictionaries", read)
    }

    pub(crate) fn secret_string(&mut self, key: &'static str) -> Result<Option<SecretString>, FieldError> {
        Ok(self.string(key)?.map(SecretString::from))
    }

    pub(crate) fn secret_data(&mut self, key: &'static str) -> Result<Option<SecretBytes>, FieldError> {
        Ok(self.data(key)?.map(SecretBytes::from))
    }
}

/// Turns an absent field into an error.
pub(crate) fn required<T>(key: &'static str, field: Option<T>) -> Result<T, FieldError> {
    field.ok_or(FieldError::Missing { key })
}

/// A name out of a message, made fit for an error text: short, and printable ASCII only.
pub(crate) fn printable(text: &str) -> String {
    const LONGEST: usize = 64;
    let mut shown: String = text
        .chars()
        .take(LONGEST)
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push_str("...");
    }
    shown
}
