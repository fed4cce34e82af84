//! What a profile says about itself, to check what an operator uploads before it is sent to a device.

use plist::{Dictionary, Value};

use crate::codec::{self, DecodeError, Limits};
use crate::fields::{FieldError, Fields, required};

/// Why a file is not a profile that can be looked into.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The profile is wrapped in a signature; inspect the content of that.
    #[error("the profile is signed; inspect what is inside the signature")]
    Signed,
    /// The file is not a property list.
    #[error(transparent)]
    Plist(#[from] DecodeError),
    /// A key of a profile is missing or has another type.
    #[error("the file is not a profile: {0}")]
    Field(#[from] FieldError),
    /// A property list of another kind.
    #[error("the file is not a profile: PayloadType must be Configuration")]
    PayloadType,
    /// A format of the future.
    #[error("the profile has the format {0}; only 1 is known")]
    PayloadVersion(i64),
}

/// What a profile says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// `PayloadIdentifier`: a profile with the same one is replaced.
    pub identifier: String,
    /// `PayloadUUID`.
    pub uuid: String,
    /// `PayloadType`: always `Configuration`.
    pub payload_type: String,
    /// `PayloadDisplayName`.
    pub display_name: Option<String>,
    /// `PayloadOrganization`.
    pub organization: Option<String>,
    /// `PayloadScope`: `System` or `User`.
    pub scope: Option<String>,
    /// The payloads are encrypted for one device, so there is no list of them.
    pub is_encrypted: bool,
    /// The payloads.
    pub payloads: Vec<PayloadSummary>,
}

/// One payload of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadSummary {
    /// `PayloadIdentifier`.
    pub identifier: String,
    /// `PayloadUUID`.
    pub uuid: String,
    /// `PayloadType`, such as `com.apple.wifi.managed`.
    pub payload_type: String,
}

impl Profile {
    /// Looks into an unsigned profile.
    pub fn inspect(bytes: &[u8], limits: &Limits) -> Result<Self, InspectError> {
        // A CMS message is a DER or BER sequence.
        if bytes.first() == Some(&0x30) {
            return Err(InspectError::Signed);
        }
        let mut fields = Fields(codec::decode(bytes, limits)?);
        let payload_type = required("PayloadType", fields.string("PayloadType")?)?;
        if payload_type != "Configuration" {
            return Err(InspectError::PayloadType);
        }
        match required("PayloadVersion", fields.integer("PayloadVersion")?)? {
            1 => {}
            other => return Err(InspectError::PayloadVersion(other)),
        }
        let is_encrypted = fields.boolean("IsEncrypted")?.unwrap_or(false);
        let payloads = match fields.dictionaries("PayloadContent")? {
            Some(payloads) => payloads
                .into_iter()
                .map(PayloadSummary::read)
                .collect::<Result<_, _>>()?,
            None if is_encrypted => Vec::new(),
            None => return Err(FieldError::Missing { key: "PayloadContent" }.into()),
        };
        Ok(Self {
            identifier: required("PayloadIdentifier", fields.string("PayloadIdentifier")?)?,
            uuid: required("PayloadUUID", fields.string("PayloadUUID")?)?,
            payload_type,
            display_name: fields.string("PayloadDisplayName")?,
            organization: fields.string("PayloadOrganization")?,
            scope: fields.string("PayloadScope")?,
            is_encrypted,
            payloads,
        })
    }
}

impl PayloadSummary {
    fn read(payload: Dictionary) -> Result<Self, FieldError> {
        let text = |key: &'static str| match payload.get(key) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(FieldError::WrongType {
                key,
                expected: "string",
            }),
            None => Err(FieldError::Missing { key }),
        };
        Ok(Self {
            identifier: text("PayloadIdentifier")?,
            uuid: text("PayloadUUID")?,
            payload_type: text("PayloadType")?,
        })
    }
}
