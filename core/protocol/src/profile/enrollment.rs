//! The enrollment profile: how a device gets its identity (SCEP), which authorities it trusts, and where it reports
//! (the MDM payload). Apple's schema: `com.apple.security.scep`, `com.apple.security.root`, `com.apple.mdm`.

use plist::{Dictionary, Value};

use super::payload_uuid;
use crate::codec;
use crate::secret::SecretString;

/// Why an enrollment profile cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// A field that must have a value is empty.
    #[error("{field} is empty")]
    Empty {
        /// The field.
        field: &'static str,
    },
    /// A URL of the wrong scheme.
    #[error("{field} must begin with {scheme}")]
    Scheme {
        /// The field.
        field: &'static str,
        /// The scheme, or the choice of them.
        scheme: &'static str,
    },
    /// The topic is not one of device management.
    #[error("the topic must begin with com.apple.mgmt.; take it from the push certificate")]
    Topic,
    /// The access rights are zero or have unknown bits.
    #[error("the access rights must be between 1 and 8191, not {0}")]
    AccessRightsRange(u32),
    /// One right needs another.
    #[error("access right {right} needs access right {needs}")]
    AccessRightsDependency {
        /// The right that was given.
        right: u32,
        /// The right that it needs.
        needs: u32,
    },
    /// Access rights are missing where the device needs them.
    #[error("access rights are needed unless the enrollment mode is BYOD")]
    AccessRightsMissing,
    /// An account-driven enrollment needs mode and account.
    #[error("an account-driven enrollment needs both the enrollment mode and the managed Apple account")]
    AccountDriven,
    /// A key size that devices do not make.
    #[error("the key size must be 1024, 2048 or 4096, not {0}")]
    KeySize(u32),
    /// A key usage beyond the two bits.
    #[error("the key usage must be 1 (signing), 4 (encryption), 5 (both) or 0, not {0}")]
    KeyUsage(u32),
    /// A fingerprint of the wrong length.
    #[error("the fingerprint of the authority must be SHA-1 (20 bytes) or MD5 (16 bytes), not {0} bytes")]
    Fingerprint(usize),
}

/// What the server may do on a device: bits of Apple's `AccessRights`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AccessRights(u32);

impl AccessRights {
    /// Every right.
    pub const ALL: Self = Self(8191);

    /// Checks the bits: never none, no unknown ones, 2 (install profiles) only with 1 (inspect profiles), and 128
    /// (install provisioning profiles) only with 64 (inspect them). An update of the profile may drop rights, never
    /// add.
    pub fn new(bits: u32) -> Result<Self, ProfileError> {
        if bits == 0 || bits > Self::ALL.0 {
            return Err(ProfileError::AccessRightsRange(bits));
        }
        for (right, needs) in [(2, 1), (128, 64)] {
            if bits & right != 0 && bits & needs == 0 {
                return Err(ProfileError::AccessRightsDependency { right, needs });
            }
        }
        Ok(Self(bits))
    }

    /// The bits.
    pub fn bits(self) -> u32 {
        self.0
    }
}

/// The profile that enrolls a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrollmentProfile {
    /// The profile's `PayloadIdentifier`: a profile with the same one replaces this.
    pub identifier: String,
    /// The name shown for the profile.
    pub display_name: String,
    /// What the profile says it is for.
    pub description: Option<String>,
    /// The organization shown for the profile.
    pub organization: Option<String>,
    /// What the UUID of the identity depends on beside the identifier. The same text for the same request keeps a
    /// second download the same; another makes the device get a new identity, which is how one is renewed.
    pub identity_seed: String,
    /// How the device gets its identity.
    pub scep: ScepPayload,
    /// Where the device reports.
    pub mdm: MdmPayload,
    /// Certificates of authorities that the device shall trust, in DER: the server's own, where no public one signed
    /// it.
    pub trust_anchors: Vec<Vec<u8>>,
}

/// The SCEP payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScepPayload {
    /// The SCEP server.
    pub url: String,
    /// The name of the authority, for servers with several.
    pub ca_name: Option<String>,
    /// The one-time challenge.
    pub challenge: Option<SecretString>,
    /// The subject's parts in order: (`O`, `Example`), (`CN`, `device`), or a dotted OID instead of the short name.
    pub subject: Vec<(String, String)>,
    /// The size of the RSA key in bits; 2048 unless there is a reason.
    pub key_size: u32,
    /// What the key may do: 1 signing, 4 encryption, 5 both.
    pub key_usage: u32,
    /// SHA-1 or MD5 of the authority's certificate, for a server without TLS.
    pub ca_fingerprint: Option<Vec<u8>>,
    /// How often to ask again while the request is pending.
    pub retries: Option<u32>,
    /// Seconds between two such attempts.
    pub retry_delay: Option<u32>,
    /// On a Mac: the private key can leave the keychain. `Some(false)` is the safe choice.
    pub key_is_extractable: Option<bool>,
}

impl ScepPayload {
    /// A payload with an RSA key of 2048 bits that signs and encrypts and cannot be exported.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ca_name: None,
            challenge: None,
            subject: Vec::new(),
            key_size: 2048,
            key_usage: 5,
            ca_fingerprint: None,
            retries: None,
            retry_delay: None,
            key_is_extractable: Some(false),
        }
    }
}

/// Something the server can do, in `ServerCapabilities`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServerCapability {
    /// Connections of users as well as devices. An update of the profile can neither add nor remove this one.
    PerUserConnections,
    /// Keeping bootstrap tokens.
    BootstrapToken,
    /// Answering `GetToken`.
    Token,
}

impl ServerCapability {
    /// The capability on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PerUserConnections => "com.apple.mdm.per-user-connections",
            Self::BootstrapToken => "com.apple.mdm.bootstraptoken",
            Self::Token => "com.apple.mdm.token",
        }
    }
}

/// How an account-driven enrollment treats the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EnrollmentMode {
    /// The person's own device (user enrollment).
    Byod,
    /// The organization's device (device enrollment).
    Adde,
}

impl EnrollmentMode {
    /// The mode on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Byod => "BYOD",
            Self::Adde => "ADDE",
        }
    }
}

/// The MDM payload. Topic, URLs, account and mode cannot change in an update of the profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MdmPayload {
    /// Where the device fetches commands.
    pub server_url: String,
    /// Where the device checks in; the server URL when `None`.
    pub check_in_url: Option<String>,
    /// The topic of the push certificate.
    pub topic: String,
    /// Every message carries a signature in a header.
    pub sign_message: bool,
    /// What the server may do; `None` for a person's own device only, which ignores it.
    pub access_rights: Option<AccessRights>,
    /// The device says when the profile is removed.
    pub check_out_when_removed: bool,
    /// What the server can do.
    pub server_capabilities: Vec<ServerCapability>,
    /// The account of an account-driven enrollment.
    pub assigned_managed_apple_id: Option<String>,
    /// The mode of an account-driven enrollment.
    pub enrollment_mode: Option<EnrollmentMode>,
    /// On a Mac: ask the user to let the bootstrap token authorise updates and kernel extensions.
    pub prompt_for_bootstrap_token: bool,
}

impl MdmPayload {
    /// A payload with all access rights, signed messages, check-out, user connections and bootstrap tokens.
    pub fn new(server_url: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            server_url: server_url.into(),
            check_in_url: None,
            topic: topic.into(),
            sign_message: true,
            access_rights: Some(AccessRights::ALL),
            check_out_when_removed: true,
            server_capabilities: vec![ServerCapability::PerUserConnections, ServerCapability::BootstrapToken],
            assigned_managed_apple_id: None,
            enrollment_mode: None,
            prompt_for_bootstrap_token: false,
        }
    }
}

impl EnrollmentProfile {
    /// The profile as a property list, unsigned.
    ///
    /// # Errors
    /// [`ProfileError`] for what a device would refuse.
    pub fn to_plist(&self) -> Result<Vec<u8>, ProfileError> {
        self.validate()?;
        let mut payloads = Vec::new();
        for (index, certificate) in self.trust_anchors.iter().enumerate() {
            let identifier = format!("{}.anchor.{index}", self.identifier);
            let uuid = self.uuid(&[b"anchor", certificate]);
            let mut payload = common("com.apple.security.root", &identifier, &uuid, "Trusted authority");
            payload.insert("PayloadContent".to_owned(), Value::Data(certificate.clone()));
            payloads.push(Value::Dictionary(payload));
        }
        let identity_uuid = self.uuid(&[b"scep", self.identity_seed.as_bytes()]);
        payloads.push(Value::Dictionary(self.scep_payload(&identity_uuid)));
        payloads.push(Value::Dictionary(self.mdm_payload(&identity_uuid)));

        let mut profile = common(
            "Configuration",
            &self.identifier,
            &self.uuid(&[b"profile"]),
            &self.display_name,
        );
        insert_text(&mut profile, "PayloadDescription", self.description.as_deref());
        insert_text(&mut profile, "PayloadOrganization", self.organization.as_deref());
        // What a Mac needs to install the identity where its management daemon finds it.
        insert_text(&mut profile, "PayloadScope", Some("System"));
        profile.insert("PayloadContent".to_owned(), Value::Array(payloads));
        Ok(codec::encode(&profile))
    }

    fn uuid(&self, parts: &[&[u8]]) -> String {
        let mut all = vec![self.identifier.as_bytes()];
        all.extend_from_slice(parts);
        payload_uuid(&all).to_string().to_uppercase()
    }

    fn scep_payload(&self, uuid: &str) -> Dictionary {
        let scep = &self.scep;
        let mut content = Dictionary::new();
        insert_text(&mut content, "URL", Some(&scep.url));
        insert_text(&mut content, "Name", scep.ca_name.as_deref());
        insert_text(
            &mut content,
            "Challenge",
            scep.challenge.as_ref().map(SecretString::expose),
        );
        if !scep.subject.is_empty() {
            // One set of one pair for each part of the name.
            let part = |(name, value): &(String, String)| {
                let pair = Value::Array(vec![Value::from(name.as_str()), Value::from(value.as_str())]);
                Value::Array(vec![pair])
            };
            content.insert(
                "Subject".to_owned(),
                Value::Array(scep.subject.iter().map(part).collect()),
            );
        }
        content.insert("Keysize".to_owned(), Value::from(scep.key_size));
        insert_text(&mut content, "Key Type", Some("RSA"));
        content.insert("Key Usage".to_owned(), Value::from(scep.key_usage));
        if let Some(fingerprint) = &scep.ca_fingerprint {
            content.insert("CAFingerprint".to_owned(), Value::Data(fingerprint.clone()));
        }
        if let Some(retries) = scep.retries {
            content.insert("Retries".to_owned(), Value::from(retries));
        }
        if let Some(delay) = scep.retry_delay {
            content.insert("RetryDelay".to_owned(), Value::from(delay));
        }
        if let Some(extractable) = scep.key_is_extractable {
            content.insert("KeyIsExtractable".to_owned(), Value::from(extractable));
        }
        let identifier = format!("{}.scep", self.identifier);
        let mut payload = common("com.apple.security.scep", &identifier, uuid, "Device identity");
        payload.insert("PayloadContent".to_owned(), Value::Dictionary(content));
        payload
    }

    fn mdm_payload(&self, identity_uuid: &str) -> Dictionary {
        let mdm = &self.mdm;
        let identifier = format!("{}.mdm", self.identifier);
        let mut payload = common("com.apple.mdm", &identifier, &self.uuid(&[b"mdm"]), "Device management");
        insert_text(&mut payload, "IdentityCertificateUUID", Some(identity_uuid));
        insert_text(&mut payload, "Topic", Some(&mdm.topic));
        insert_text(&mut payload, "ServerURL", Some(&mdm.server_url));
        insert_text(&mut payload, "CheckInURL", mdm.check_in_url.as_deref());
        payload.insert("SignMessage".to_owned(), Value::from(mdm.sign_message));
        if let Some(rights) = mdm.access_rights {
            payload.insert("AccessRights".to_owned(), Value::from(rights.bits()));
        }
        payload.insert(
            "CheckOutWhenRemoved".to_owned(),
            Value::from(mdm.check_out_when_removed),
        );
        if !mdm.server_capabilities.is_empty() {
            let mut capabilities = mdm.server_capabilities.clone();
            capabilities.sort_unstable();
            capabilities.dedup();
            let capabilities = capabilities
                .into_iter()
                .map(|capability| Value::from(capability.as_str()))
                .collect();
            payload.insert("ServerCapabilities".to_owned(), Value::Array(capabilities));
        }
        insert_text(
            &mut payload,
            "AssignedManagedAppleID",
            mdm.assigned_managed_apple_id.as_deref(),
        );
        insert_text(
            &mut payload,
            "EnrollmentMode",
            mdm.enrollment_mode.map(EnrollmentMode::as_str),
        );
        if mdm.prompt_for_bootstrap_token {
            payload.insert(
                "PromptUserToAllowBootstrapTokenForAuthentication".to_owned(),
                Value::from(true),
            );
        }
        payload
    }

    fn validate(&self) -> Result<(), ProfileError> {
        let (scep, mdm) = (&self.scep, &self.mdm);
        for (field, text) in [
            ("the identifier", &self.identifier),
            ("the display name", &self.display_name),
        ] {
            if text.is_empty() {
                return Err(ProfileError::Empty { field });
            }
        }
        let urls = [
            ("the server URL", Some(&mdm.server_url)),
            ("the check-in URL", mdm.check_in_url.as_ref()),
        ];
        for (field, url) in urls {
            if url.is_some_and(|url| !url.starts_with("https://")) {
                return Err(ProfileError::Scheme {
                    field,
                    scheme: "https://",
                });
            }
        }
        if !(scep.url.starts_with("https://") || scep.url.starts_with("http://")) {
            return Err(ProfileError::Scheme {
                field: "the SCEP URL",
                scheme: "https:// or http://",
            });
        }
        if !mdm.topic.starts_with("com.apple.mgmt.") {
            return Err(ProfileError::Topic);
        }
        if mdm.access_rights.is_none() && mdm.enrollment_mode != Some(EnrollmentMode::Byod) {
            return Err(ProfileError::AccessRightsMissing);
        }
        if mdm.enrollment_mode.is_some() != mdm.assigned_managed_apple_id.is_some() {
            return Err(ProfileError::AccountDriven);
        }
        if ![1024, 2048, 4096].contains(&scep.key_size) {
            return Err(ProfileError::KeySize(scep.key_size));
        }
        if ![0, 1, 4, 5].contains(&scep.key_usage) {
            return Err(ProfileError::KeyUsage(scep.key_usage));
        }
        match scep.ca_fingerprint.as_ref().map(Vec::len) {
            None | Some(16 | 20) => Ok(()),
            Some(length) => Err(ProfileError::Fingerprint(length)),
        }
    }
}

/// The keys that every payload has.
fn common(payload_type: &str, identifier: &str, uuid: &str, display_name: &str) -> Dictionary {
    Dictionary::from_iter([
        ("PayloadType", Value::from(payload_type)),
        ("PayloadVersion", Value::from(1)),
        ("PayloadIdentifier", Value::from(identifier)),
        ("PayloadUUID", Value::from(uuid)),
        ("PayloadDisplayName", Value::from(display_name)),
    ])
}

fn insert_text(to: &mut Dictionary, key: &str, text: Option<&str>) {
    if let Some(text) = text {
        to.insert(key.to_owned(), Value::from(text));
    }
}
