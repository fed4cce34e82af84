//! `DeviceInformation`: the answer to each query, as far as the platform knows it.

use russet_protocol::plist::{Dictionary, Value};

use super::Executor;
use crate::device::answer::ReceivedCommand;

/// What a device answers when it is asked nothing in particular.
const DEFAULT_QUERIES: [&str; 8] = [
    "UDID",
    "DeviceName",
    "OSVersion",
    "BuildVersion",
    "ModelName",
    "Model",
    "ProductName",
    "SerialNumber",
];

impl Executor<'_> {
    /// Answers the queries; one that the platform does not know is left out, as a real device does.
    pub(super) fn device_information(&self, command: &ReceivedCommand) -> Dictionary {
        let queries = command.command.get("Queries").and_then(Value::as_array);
        let queries: Vec<&str> = match queries {
            Some(queries) => queries.iter().filter_map(Value::as_string).collect(),
            None => DEFAULT_QUERIES.to_vec(),
        };
        let responses: Dictionary = queries
            .into_iter()
            .filter_map(|query| Some((query.to_owned(), self.query(query)?)))
            .collect();
        Dictionary::from_iter([("QueryResponses", Value::Dictionary(responses))])
    }

    fn query(&self, query: &str) -> Option<Value> {
        let facts = &self.settings.facts;
        let mac = facts.platform.is_mac();
        let text = |text: &str| Some(Value::from(text));
        // A user enrollment hides what identifies the hardware.
        let hidden = self.settings.enrollment_id.is_some();
        let mac_only = |value: Value| mac.then_some(value);
        let mobile_only = |value: Value| (!mac).then_some(value);
        match query {
            "UDID" if !hidden => text(&facts.udid),
            "SerialNumber" if !hidden => text(&facts.serial_number),
            "IMEI" if !hidden => facts.imei.as_deref().map(Value::from),
            "MEID" if !hidden => facts.meid.as_deref().map(Value::from),
            "WiFiMAC" if !hidden => text(&facts.wifi_mac),
            "BluetoothMAC" if !hidden => text(&facts.bluetooth_mac),
            "ProvisioningUDID" if !hidden => mac_only(Value::from(facts.udid.as_str())),
            "DeviceName" => text(&facts.device_name),
            "OSVersion" => text(&facts.os_version),
            "BuildVersion" => text(&facts.build_version),
            "SupplementalBuildVersion" => text(&facts.build_version),
            "SupplementalOSVersionExtra" => text(""),
            "ModelName" => text(&facts.model_name),
            "Model" | "ModelNumber" => text(&facts.model),
            "ProductName" => text(&facts.product_name),
            "SoftwareUpdateDeviceID" => text(&facts.software_update_device_id),
            "HostName" | "LocalHostName" => mac_only(Value::from(facts.device_name.replace(' ', "-"))),
            "IsAppleSilicon" => mac_only(Value::Boolean(true)),
            "SupportsiOSAppInstalls" => mac_only(Value::Boolean(true)),
            "SystemIntegrityProtectionEnabled" => mac_only(Value::Boolean(true)),
            "PINRequiredForEraseDevice" | "PINRequiredForDeviceLock" => {
                mac_only(Value::Boolean(query == "PINRequiredForDeviceLock"))
            }
            "ActiveManagedUsers" => mac_only(Value::Array(Vec::new())),
            "AutoSetupAdminAccounts" => mac_only(Value::Array(Vec::new())),
            "DeviceCapacity" => Some(Value::Real(f64::from(facts.capacity_gb))),
            "AvailableDeviceCapacity" => Some(Value::Real(f64::from(facts.capacity_gb) * 0.75)),
            "BatteryLevel" => Some(Value::Real(0.8)),
            "HasBattery" => mac_only(Value::Boolean(true)),
            "CellularTechnology" => mobile_only(Value::from(if facts.imei.is_some() { 3 } else { 0 })),
            "ModemFirmwareVersion" => facts.imei.as_ref().map(|_| Value::from("2.10.02")),
            "IsSupervised" => Some(Value::Boolean(facts.supervised)),
            "IsMultiUser" => mobile_only(Value::Boolean(false)),
            "IsMDMLostModeEnabled" => mobile_only(Value::Boolean(false)),
            "IsCloudBackupEnabled" => mobile_only(Value::Boolean(false)),
            "IsNetworkTethered" | "IsRoaming" => mobile_only(Value::Boolean(false)),
            "IsDeviceLocatorServiceEnabled" | "IsActivationLockEnabled" => Some(Value::Boolean(false)),
            "IsActivationLockSupported" => Some(Value::Boolean(true)),
            "AwaitingConfiguration" => Some(Value::Boolean(self.state.awaiting_configuration)),
            "DiagnosticSubmissionEnabled" | "AppAnalyticsEnabled" => Some(Value::Boolean(false)),
            "TimeZone" => text("Europe/Berlin"),
            "PushToken" => Some(Value::Data(self.push_token.to_vec())),
            "MDMOptions" => Some(Value::Dictionary(Dictionary::new())),
            _ => None,
        }
    }
}
