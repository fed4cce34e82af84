//! `SecurityInfo`: how well the device is protected.

use russet_protocol::plist::{Dictionary, Value};

use super::Executor;

impl Executor<'_> {
    pub(super) fn security_info(&self) -> Dictionary {
        let management = Dictionary::from_iter([
            ("EnrolledViaDEP", Value::Boolean(self.state.automated)),
            (
                "IsUserEnrollment",
                Value::Boolean(self.settings.enrollment_id.is_some()),
            ),
        ]);
        let info = if self.settings.facts.platform.is_mac() {
            self.mac_security(management)
        } else {
            Dictionary::from_iter([
                ("HardwareEncryptionCaps", Value::from(3)),
                ("PasscodePresent", Value::Boolean(true)),
                ("PasscodeCompliant", Value::Boolean(true)),
                ("PasscodeCompliantWithProfiles", Value::Boolean(true)),
                ("PasscodeLockGracePeriod", Value::from(0)),
                ("PasscodeLockGracePeriodEnforced", Value::from(0)),
                ("AutoLockTime", Value::from(120)),
                ("ManagementStatus", Value::Dictionary(management)),
            ])
        };
        Dictionary::from_iter([("SecurityInfo", Value::Dictionary(info))])
    }

    fn mac_security(&self, mut management: Dictionary) -> Dictionary {
        management.insert("UserApprovedEnrollment".to_owned(), Value::Boolean(true));
        management.insert(
            "IsActivationLockManageable".to_owned(),
            Value::Boolean(self.state.automated),
        );
        let firewall = Dictionary::from_iter([
            ("FirewallEnabled", Value::Boolean(true)),
            ("BlockAllIncoming", Value::Boolean(false)),
            ("StealthMode", Value::Boolean(false)),
            ("Applications", Value::Array(Vec::new())),
        ]);
        let secure_boot = Dictionary::from_iter([
            ("SecureBootLevel", Value::from("full")),
            ("ExternalBootLevel", Value::from("not supported")),
        ]);
        let bootstrap = if self.state.bootstrap_token.is_some() {
            "allowed"
        } else {
            "disallowed"
        };
        Dictionary::from_iter([
            ("FDE_Enabled", Value::Boolean(true)),
            ("FDE_HasPersonalRecoveryKey", Value::Boolean(true)),
            ("FDE_HasInstitutionalRecoveryKey", Value::Boolean(false)),
            ("SystemIntegrityProtectionEnabled", Value::Boolean(true)),
            ("AuthenticatedRootVolumeEnabled", Value::Boolean(true)),
            ("FirewallSettings", Value::Dictionary(firewall)),
            ("SecureBoot", Value::Dictionary(secure_boot)),
            ("RemoteDesktopEnabled", Value::Boolean(false)),
            ("IsRecoveryLockEnabled", Value::Boolean(false)),
            ("BootstrapTokenAllowedForAuthentication", Value::from(bootstrap)),
            ("BootstrapTokenRequiredForSoftwareUpdate", Value::Boolean(true)),
            ("BootstrapTokenRequiredForKernelExtensionApproval", Value::Boolean(true)),
            ("ManagementStatus", Value::Dictionary(management)),
        ])
    }
}
