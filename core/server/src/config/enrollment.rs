//! How devices enroll.

use std::path::PathBuf;

use super::problems::{Problems, certificates, private_key};
use super::settings::{choice, settings};

settings! {
    /// How devices enroll. The push topic is not here: it is the one of the tenant's push certificate.
    pub struct Enrollment {
        /// The organisation, as devices show it.
        organization: String = "Russet".to_owned(),
        /// The identifier of the enrollment profile. Renewal only works while it stays the same.
        profile_identifier: String = "org.russet.enrollment".to_owned(),
        /// How profiles are signed: `own` (by an identity that the server issues itself), `files` (by
        /// `signer_certificate_file` and `signer_private_key_file`), or `none`.
        profile_signing: Signing = Signing::Own,
        /// A file with the certificate that signs profiles, followed by its issuers, in PEM.
        signer_certificate_file: Option<PathBuf> = None => "\"/etc/russet/signer.pem\"",
        /// A file with the private key that signs profiles, in PEM, not encrypted.
        signer_private_key_file: Option<PathBuf> = None => "\"/etc/russet/signer.key\"",
        /// Files with further certificates, in PEM, that devices have to trust to reach the server. Enrollment profiles
        /// carry them. The server's own authority is carried without being named if it issued the TLS certificate.
        trust_anchor_files: Vec<PathBuf> = Vec::new(),
        /// What the server may do on devices (`AccessRights` of the MDM payload), a sum of Apple's numbers; 8191 is
        /// everything. It can only shrink for a device that has enrolled.
        access_rights: u32 = 8191,
        /// Whether devices tell the server when the profile is removed.
        check_out_when_removed: bool = true,
        /// Whether devices sign each message (`Mdm-Signature`). Needed wherever a proxy ends TLS and does not pass on
        /// the devices' certificates.
        sign_message: bool = true,
        /// What happens when no plugin decides who may enroll: `deny` or `allow`.
        without_gate: WithoutGate = WithoutGate::Deny,
        /// How long the one-time password (SCEP challenge) in an enrollment profile is good for, in seconds.
        challenge_lifetime_seconds: u64 = 3600,
        /// How long the identity certificate of a device is valid, in days.
        identity_lifetime_days: u32 = 365,
        /// A file with the authorities, in PEM, that issue the certificates which Apple's devices sign automated
        /// enrollment requests with. Left out, automated device enrollment is off.
        device_ca_file: Option<PathBuf> = None => "\"/etc/russet/apple-device-ca.pem\"",
        /// Whether the signature of an automated enrollment request must lead to `device_ca_file`. Turn it off for tests
        /// only: without it everybody can pass as any device.
        verify_machine_info: bool = true,
        /// Whether to accept DES, SHA-1 and RSA keys of 1,024 bits, which only very old clients need.
        legacy_algorithms: bool = false,
        /// Whether network users of Macs (`UserAuthenticate`) are managed without asking for their password again. If not,
        /// they are told that this server does not manage them.
        network_users: bool = false,
        /// Whether a device that has enrolled is asked for its DeviceInformation at once.
        ask_device_information: bool = true,
        /// Whether a device that waits for its configuration in Setup Assistant is told to go on once it has enrolled.
        release_from_setup: bool = true,
    }
}

choice! {
    /// How profiles are signed.
    pub enum Signing {
        /// By an identity that the server issues itself.
        Own = "own",
        /// By the identity in `signer_certificate_file` and `signer_private_key_file`.
        Files = "files",
        /// Not at all.
        None = "none",
    }
}

choice! {
    /// What the absence of an enrollment gate means.
    pub enum WithoutGate {
        /// Nobody enrolls.
        Deny = "deny",
        /// Everybody enrolls.
        Allow = "allow",
    }
}

impl Enrollment {
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.not_empty("enrollment.organization", &self.organization);
        let identifier = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
        if self.profile_identifier.is_empty() || !self.profile_identifier.bytes().all(identifier) {
            problems.add(
                "enrollment.profile_identifier",
                "must be letters, digits, dots and hyphens, such as com.example.mdm.enrollment",
            );
        }
        self.check_signing(problems);
        self.check_access_rights(problems);
        for path in &self.trust_anchor_files {
            certificates("enrollment.trust_anchor_files", path, problems);
        }
        if let Some(path) = &self.device_ca_file {
            certificates("enrollment.device_ca_file", path, problems);
        }
        problems.range(
            "enrollment.challenge_lifetime_seconds",
            self.challenge_lifetime_seconds,
            60..=30 * 24 * 3600,
        );
        problems.range(
            "enrollment.identity_lifetime_days",
            self.identity_lifetime_days,
            1..=3650,
        );
    }

    fn check_signing(&self, problems: &mut Problems) {
        let files = [
            ("enrollment.signer_certificate_file", &self.signer_certificate_file),
            ("enrollment.signer_private_key_file", &self.signer_private_key_file),
        ];
        for (key, file) in files {
            match (self.profile_signing, file) {
                (Signing::Files, None) => {
                    problems.add(key, "is missing; enrollment.profile_signing = \"files\" needs it");
                }
                (Signing::Own | Signing::None, Some(_)) => {
                    problems.add(
                        key,
                        "is not used; set enrollment.profile_signing = \"files\" or remove it",
                    );
                }
                _ => {}
            }
        }
        if self.profile_signing == Signing::Files {
            if let Some(path) = &self.signer_certificate_file {
                certificates("enrollment.signer_certificate_file", path, problems);
            }
            if let Some(path) = &self.signer_private_key_file {
                private_key("enrollment.signer_private_key_file", path, problems);
            }
        }
    }

    /// Apple's rules (MDM payload, `AccessRights`): never 0, 2 needs 1, 128 needs 64.
    fn check_access_rights(&self, problems: &mut Problems) {
        let key = "enrollment.access_rights";
        problems.range(key, self.access_rights, 1..=8191);
        for (right, needs) in [(2, 1), (128, 64)] {
            if self.access_rights & right != 0 && self.access_rights & needs == 0 {
                problems.add(
                    key,
                    format!("holds {right}, which devices refuse without {needs}; add {needs}"),
                );
            }
        }
    }
}
