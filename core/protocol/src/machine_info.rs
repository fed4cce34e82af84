//! Machine information: what a device tells before it has a management profile (automated and account-driven
//! enrollment).
//!
//! It arrives signed; the signature is checked elsewhere, before the content is trusted.

use plist::Dictionary;
use serde::Serialize;

use crate::codec::{self, DecodeError, Limits};
use crate::fields::{FieldError, Fields, required};
use crate::secret::SecretBytes;

/// Why a body is not machine information.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MachineInfoError {
    /// The body is not a property list.
    #[error(transparent)]
    Plist(#[from] DecodeError),
    /// A field is missing or has another type.
    #[error("the machine information cannot be read: {0}")]
    Field(#[from] FieldError),
}

/// What a device says about itself before it enrolls (Apple's schema: `other/machineinfo`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MachineInfo {
    /// The device's `UDID`. Absent in user enrollments.
    pub udid: Option<String>,
    /// The serial number. Absent in user enrollments.
    pub serial: Option<String>,
    /// The product, such as `iPhone16,1`.
    pub product: String,
    /// The build of the operating system.
    pub build_version: String,
    /// The version of the operating system. Absent before iOS 17 and macOS 14.
    pub os_version: Option<String>,
    /// The build of a background security improvement.
    pub supplemental_build_version: Option<String>,
    /// The version suffix of a background security improvement, such as `(a)`.
    pub supplemental_os_version_extra: Option<String>,
    /// The International Mobile Equipment Identity.
    pub imei: Option<String>,
    /// The Mobile Equipment Identifier.
    pub meid: Option<String>,
    /// The language chosen on the device, such as `en`.
    pub language: Option<String>,
    /// The device acts on [`crate::forbidden::Reason::SoftwareUpdateRequired`].
    pub can_request_software_update: bool,
    /// The device insists on an update before it enrolls (macOS 26.1).
    pub mandatory_software_update_required: bool,
    /// The device acts on a demand to set up Platform SSO first (macOS 26).
    pub can_request_psso_config: bool,
    /// What Apple's list of updates knows this device by.
    pub software_update_device_id: Option<String>,
    /// The token of a watch that enrolls.
    #[serde(skip)]
    pub pairing_token: Option<SecretBytes>,
}

impl MachineInfo {
    /// Reads machine information.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, MachineInfoError> {
        Ok(Self::from_dictionary(codec::decode(bytes, limits)?)?)
    }

    fn from_dictionary(dictionary: Dictionary) -> Result<Self, FieldError> {
        let mut fields = Fields(dictionary);
        Ok(Self {
            udid: fields.string("UDID")?,
            serial: fields.string("SERIAL")?,
            product: required("PRODUCT", fields.string("PRODUCT")?)?,
            build_version: required("VERSION", fields.string("VERSION")?)?,
            os_version: fields.string("OS_VERSION")?,
            supplemental_build_version: fields.string("SUPPLEMENTAL_BUILD_VERSION")?,
            supplemental_os_version_extra: fields.string("SUPPLEMENTAL_OS_VERSION_EXTRA")?,
            imei: fields.string("IMEI")?,
            meid: fields.string("MEID")?,
            language: fields.string("LANGUAGE")?,
            can_request_software_update: fields.boolean("MDM_CAN_REQUEST_SOFTWARE_UPDATE")?.unwrap_or(false),
            mandatory_software_update_required: fields.boolean("MANDATORY_SOFTWARE_UPDATE_REQUIRED")?.unwrap_or(false),
            can_request_psso_config: fields.boolean("MDM_CAN_REQUEST_PSSO_CONFIG")?.unwrap_or(false),
            software_update_device_id: fields.string("SOFTWARE_UPDATE_DEVICE_ID")?,
            pairing_token: fields.secret_data("PAIRING_TOKEN")?,
        })
    }
}
