//! Whom and what a hook is asked about, and by whom.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A device, as far as it is known at the time of a call. Text is as the device reported it (Apple: `MachineInfo`,
/// `Authenticate`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    /// `UDID`; absent for user enrollments.
    pub udid: Option<String>,
    /// `SerialNumber` or `SERIAL`; absent for user enrollments.
    pub serial_number: Option<String>,
    /// `ProductName` or `PRODUCT`, such as `Mac15,3`.
    pub product_name: Option<String>,
    /// `Model`, such as `MR7K3`.
    pub model: Option<String>,
    /// `ModelName`, such as `MacBook Pro`.
    pub model_name: Option<String>,
    /// `DeviceName`: what its user calls it.
    pub device_name: Option<String>,
    /// `OSVersion` or `OS_VERSION`.
    pub os_version: Option<String>,
    /// `BuildVersion` or `VERSION`.
    pub build_version: Option<String>,
    /// `IMEI`.
    pub imei: Option<String>,
    /// `MEID`.
    pub meid: Option<String>,
    /// `LANGUAGE` of MachineInfo.
    pub language: Option<String>,
    /// The canonical key of the enrollment; absent before Authenticate.
    pub enrollment_id: Option<String>,
    /// The attributes kept for the enrollment.
    pub attributes: BTreeMap<String, String>,
}

impl Device {
    /// What names the device in a report: its serial number, else its UDID, else its enrollment.
    pub fn label(&self) -> &str {
        [&self.serial_number, &self.udid, &self.enrollment_id]
            .into_iter()
            .flatten()
            .next()
            .map_or("unknown device", |s| s)
    }
}

/// A person, as a directory gave it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Person {
    /// The directory's stable identifier, such as a distinguished name.
    pub id: String,
    /// The name that the person signs in with.
    pub user_name: String,
    /// The full name.
    pub full_name: Option<String>,
    /// The mail address.
    pub email: Option<String>,
    /// The names of the person's groups, sorted.
    pub groups: Vec<String>,
    /// Further attributes, each with its values.
    pub attributes: BTreeMap<String, Vec<String>>,
}

/// Who asks for something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Requester {
    /// The device, by check-in.
    Device,
    /// An administrator, by the name of the API token.
    Administrator(String),
    /// A plugin, by its name: its effect.
    Plugin(String),
    /// The server itself.
    Server,
}
