//! The names that Apple's schema gives: request types and DeviceInformation queries; and what is known of each.

/// The request types that devices of today take.
const REQUEST_TYPES: &[&str] = &[
    "AccountConfiguration",
    "ActivationLockBypassCode",
    "ActiveNSExtensions",
    "ApplyRedemptionCode",
    "CancelEnhancedLogCollection",
    "CertificateList",
    "ClearActivationLockBypassCode",
    "ClearPasscode",
    "ClearRestrictionsPassword",
    "ContentCachingInformation",
    "DeclarativeManagement",
    "DeleteUser",
    "DeviceConfigured",
    "DeviceInformation",
    "DeviceLocation",
    "DeviceLock",
    "DisableLostMode",
    "DisableRemoteDesktop",
    "EnableLostMode",
    "EnableRemoteDesktop",
    "EraseDevice",
    "InstallApplication",
    "InstallEnterpriseApplication",
    "InstallMedia",
    "InstallProfile",
    "InstallProvisioningProfile",
    "InstalledApplicationList",
    "InviteToProgram",
    "LOMDeviceRequest",
    "LOMSetupRequest",
    "LogOutUser",
    "ManagedApplicationAttributes",
    "ManagedApplicationConfiguration",
    "ManagedApplicationFeedback",
    "ManagedApplicationList",
    "ManagedMediaList",
    "NSExtensionMappings",
    "PlayLostModeSound",
    "ProfileList",
    "ProvisioningProfileList",
    "RefreshCellularPlans",
    "RemoveApplication",
    "RemoveMedia",
    "RemoveProfile",
    "RemoveProvisioningProfile",
    "RequestMirroring",
    "RequestUnlockToken",
    "RestartDevice",
    "Restrictions",
    "RotateFileVaultKey",
    "SecurityInfo",
    "SetAutoAdminPassword",
    "SetFirmwarePassword",
    "SetRecoveryLock",
    "Settings",
    "ShutDownDevice",
    "StopMirroring",
    "TriggerEnhancedLogCollection",
    "UnlockUserAccount",
    "UserConfigured",
    "UserList",
    "ValidateApplications",
    "VerifyFirmwarePassword",
    "VerifyRecoveryLock",
];

/// The software update commands that OS 27 removed.
const REMOVED_UPDATE_COMMANDS: &[&str] = &[
    "AvailableOSUpdates",
    "OSUpdateStatus",
    "ScheduleOSUpdate",
    "ScheduleOSUpdateScan",
];

/// The names that a DeviceInformation query can have.
const QUERIES: &[&str] = &[
    "AccessibilitySettings",
    "ActiveManagedUsers",
    "AppAnalyticsEnabled",
    "AutoSetupAdminAccounts",
    "AvailableDeviceCapacity",
    "AwaitingConfiguration",
    "BatteryLevel",
    "BluetoothMAC",
    "BuildVersion",
    "CarrierSettingsVersion",
    "CellularTechnology",
    "CurrentCarrierNetwork",
    "CurrentMCC",
    "CurrentMNC",
    "DataRoamingEnabled",
    "DeviceCapacity",
    "DeviceID",
    "DeviceName",
    "DevicePropertiesAttestation",
    "DiagnosticSubmissionEnabled",
    "EACSPreflight",
    "EASDeviceIdentifier",
    "EstimatedResidentUsers",
    "EthernetMAC",
    "HasBattery",
    "HostName",
    "ICCID",
    "IMEI",
    "IsActivationLockEnabled",
    "IsActivationLockSupported",
    "IsAppleSilicon",
    "IsCloudBackupEnabled",
    "IsDeviceLocatorServiceEnabled",
    "IsDoNotDisturbInEffect",
    "IsMDMLostModeEnabled",
    "IsMultiUser",
    "IsNetworkTethered",
    "IsRoaming",
    "IsSupervised",
    "LastCloudBackupDate",
    "LocalHostName",
    "MDMOptions",
    "MEID",
    "ManagedAppleIDDefaultDomains",
    "MaximumResidentUsers",
    "Model",
    "ModelName",
    "ModelNumber",
    "ModemFirmwareVersion",
    "OSVersion",
    "OnlineAuthenticationGracePeriod",
    "OrganizationInfo",
    "PINRequiredForDeviceLock",
    "PINRequiredForEraseDevice",
    "PersonalHotspotEnabled",
    "PhoneNumber",
    "ProductName",
    "ProvisioningUDID",
    "PushToken",
    "QuotaSize",
    "ResidentUsers",
    "SIMCarrierNetwork",
    "SerialNumber",
    "ServiceSubscriptions",
    "SkipLanguageAndLocaleSetupForNewUsers",
    "SubscriberCarrierNetwork",
    "SubscriberMCC",
    "SubscriberMNC",
    "SupplementalBuildVersion",
    "SupplementalOSVersionExtra",
    "SupportsLOMDevice",
    "SupportsiOSAppInstalls",
    "SystemIntegrityProtectionEnabled",
    "TemporarySessionOnly",
    "TemporarySessionTimeout",
    "TimeZone",
    "UDID",
    "UserSessionTimeout",
    "VoiceRoamingEnabled",
    "WiFiMAC",
    "iTunesStoreAccountHash",
    "iTunesStoreAccountIsActive",
];

/// The DeviceInformation queries that OS 27 removed.
const REMOVED_QUERIES: &[&str] = &["OSUpdateSettings", "SoftwareUpdateDeviceID", "SoftwareUpdateSettings"];

/// Commands that lose data, lock a person out or take a device out of service for good.
const DESTRUCTIVE: &[&str] = &[
    "ClearPasscode",
    "ClearRestrictionsPassword",
    "DeleteUser",
    "DeviceLock",
    "EnableLostMode",
    "EraseDevice",
    "RotateFileVaultKey",
    "SetAutoAdminPassword",
    "SetFirmwarePassword",
    "SetRecoveryLock",
    "ShutDownDevice",
];

/// Commands that ask and change nothing, when sent without parameters.
const QUERY_COMMANDS: &[&str] = &[
    "ActiveNSExtensions",
    "CertificateList",
    "ContentCachingInformation",
    "DeclarativeManagement",
    "InstalledApplicationList",
    "ManagedApplicationList",
    "ManagedMediaList",
    "NSExtensionMappings",
    "ProvisioningProfileList",
    "Restrictions",
    "UserList",
];

/// Whether the command cannot be undone.
pub(super) fn is_destructive(request_type: &str) -> bool {
    DESTRUCTIVE.contains(&request_type)
}

/// Whether the command, sent without parameters, only asks.
pub(super) fn is_query(request_type: &str) -> bool {
    QUERY_COMMANDS.contains(&request_type)
}

/// What to tell who sends a command that is not checked.
pub(super) fn raw_warning(request_type: &str) -> String {
    if REMOVED_UPDATE_COMMANDS.contains(&request_type) {
        return format!(
            "{request_type} was removed in OS 27: such devices refuse it; use a software update declaration instead"
        );
    }
    if REQUEST_TYPES.contains(&request_type) {
        return format!("{request_type} is passed on as it is: its keys are not checked");
    }
    match nearest(request_type, REQUEST_TYPES.iter().copied()) {
        Some(near) => format!("{request_type} is not a known request type and is passed on; did you mean {near}?"),
        None => format!("{request_type} is not a known request type and is passed on"),
    }
}

/// What to tell about a DeviceInformation query, if anything.
pub(super) fn query_warning(query: &str) -> Option<String> {
    if REMOVED_QUERIES.contains(&query) {
        return Some(format!(
            "the query {query} was removed in OS 27: such devices do not answer it"
        ));
    }
    if QUERIES.contains(&query) {
        return None;
    }
    let shown = crate::fields::printable(query);
    Some(match nearest(query, QUERIES.iter().copied()) {
        Some(near) => format!("the query {shown} is unknown; did you mean {near}?"),
        None => format!("the query {shown} is unknown"),
    })
}

/// The candidate that `name` is most likely a misspelling of.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Longer names are not misspelt, and the distance takes time by the product of the lengths.
    const LONGEST: usize = 64;
    if name.len() > LONGEST {
        return None;
    }
    let name = name.to_lowercase();
    candidates
        .map(|candidate| (distance(&name, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).clamp(1, 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.bytes().enumerate() {
            let substitution = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = substitution.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in [
            ("", "", 0),
            ("pin", "pin", 0),
            ("pin", "pim", 1),
            ("pin", "pn", 1),
            ("", "abc", 3),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }

    #[test]
    fn nearest_finds_misspellings_and_nothing_far() {
        assert_eq!(nearest("message", ["Message", "PIN"].into_iter()), Some("Message"));
        assert_eq!(
            nearest("PhoneNumbr", ["Message", "PhoneNumber"].into_iter()),
            Some("PhoneNumber")
        );
        assert_eq!(nearest("Colour", ["Message", "PhoneNumber", "PIN"].into_iter()), None);
        assert_eq!(nearest(&"x".repeat(100_000), ["Message"].into_iter()), None);
    }
}
