//! Configuration profiles as a device reads them: the signature, the payloads, and what an enrollment profile tells it
//! to do.

use jiff::Timestamp;
use russet_pki::cms::{self, CmsError};
use russet_pki::{Certificate, SignaturePolicy, TrustAnchors};
use russet_protocol::SecretString;
use russet_protocol::codec::{self, DecodeError, Limits};
use russet_protocol::plist::{Dictionary, Value};

/// Why a device does not take a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The signature does not hold.
    #[error("the profile's signature is wrong: {0}")]
    Signature(#[from] CmsError),
    /// The content is not a property list.
    #[error("the profile cannot be read: {0}")]
    Plist(#[from] DecodeError),
    /// A key is missing or has the wrong type.
    #[error("the profile's {payload} payload has no usable {key}")]
    Key {
        /// The type of the payload.
        payload: String,
        /// The key.
        key: &'static str,
    },
    /// An enrollment profile needs this payload.
    #[error("the enrollment profile has no {0} payload")]
    MissingPayload(&'static str),
    /// The MDM payload refers to an identity that is not in the profile.
    #[error("the MDM payload's IdentityCertificateUUID names no SCEP payload of the profile")]
    Identity,
}

/// Who vouches for a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProfileSignature {
    /// Nobody.
    None,
    /// The signature holds; `trusted` says whether the signer chains to a certificate that the device trusts, which is
    /// what a device shows as "verified".
    Signed {
        /// The signer.
        signer: Certificate,
        /// Whether the signer is trusted.
        trusted: bool,
    },
}

/// A profile as a device keeps it.
#[derive(Debug, Clone)]
pub struct InstalledProfile {
    /// The identifier; a profile with the same one replaces this.
    pub identifier: String,
    /// The UUID.
    pub uuid: String,
    /// The version of the format.
    pub version: i64,
    /// The name, for people.
    pub display_name: Option<String>,
    /// The organization, for people.
    pub organization: Option<String>,
    /// The description, for people.
    pub description: Option<String>,
    /// Whether the person at the device may not remove it.
    pub removal_disallowed: bool,
    /// Whether it came by the command channel.
    pub managed: bool,
    /// Who vouches for it.
    pub signature: ProfileSignature,
    /// The payloads.
    pub payloads: Vec<Dictionary>,
}

impl InstalledProfile {
    /// Reads a profile, signed or not. `anchors` are what the device trusts.
    ///
    /// # Errors
    /// [`ProfileError`]; a signature by an unknown signer is none, a signature that does not hold is.
    pub fn parse(bytes: &[u8], anchors: &TrustAnchors) -> Result<Self, ProfileError> {
        let (content, signature) = open(bytes, anchors)?;
        let profile = codec::decode(&content, &Limits::default())?;
        let payload = || "Configuration".to_owned();
        let text = |key: &str| profile.get(key).and_then(Value::as_string).map(str::to_owned);
        let needed = |key: &'static str| {
            text(key).ok_or_else(|| ProfileError::Key {
                payload: payload(),
                key,
            })
        };
        if text("PayloadType").as_deref() != Some("Configuration") {
            return Err(ProfileError::Key {
                payload: payload(),
                key: "PayloadType",
            });
        }
        let payloads = profile
            .get("PayloadContent")
            .and_then(Value::as_array)
            .ok_or_else(|| ProfileError::Key {
                payload: payload(),
                key: "PayloadContent",
            })?;
        Ok(Self {
            identifier: needed("PayloadIdentifier")?,
            uuid: needed("PayloadUUID")?,
            version: profile
                .get("PayloadVersion")
                .and_then(Value::as_signed_integer)
                .unwrap_or(1),
            display_name: text("PayloadDisplayName"),
            organization: text("PayloadOrganization"),
            description: text("PayloadDescription"),
            removal_disallowed: boolean(&profile, "PayloadRemovalDisallowed"),
            managed: false,
            signature,
            payloads: payloads.iter().filter_map(Value::as_dictionary).cloned().collect(),
        })
    }

    /// The payloads of one type.
    pub fn payloads_of<'a>(&'a self, payload_type: &'a str) -> impl Iterator<Item = &'a Dictionary> {
        self.payloads
            .iter()
            .filter(move |payload| payload.get("PayloadType").and_then(Value::as_string) == Some(payload_type))
    }
}

/// What the SCEP payload tells a device.
#[derive(Debug, Clone)]
pub struct ScepSettings {
    /// The UUID of the payload.
    pub payload_uuid: String,
    /// The address of the SCEP service.
    pub url: String,
    /// Which of the service's authorities.
    pub name: Option<String>,
    /// The one-time secret.
    pub challenge: Option<SecretString>,
    /// The subject to ask for, as pairs of attribute type and value in order.
    pub subject: Vec<(String, String)>,
    /// The size of the RSA key in bits.
    pub key_size: u32,
    /// The SHA-1 or SHA-256 of the authority's certificate that the device insists on.
    pub ca_fingerprint: Option<Vec<u8>>,
}

/// What the MDM payload tells a device.
#[derive(Debug, Clone)]
pub struct MdmSettings {
    /// Where reports go.
    pub server_url: String,
    /// Where check-in messages go, when not to `server_url`.
    pub check_in_url: Option<String>,
    /// The push topic.
    pub topic: String,
    /// Whether messages carry the `Mdm-Signature` header.
    pub sign_message: bool,
    /// What the server may do, as Apple's bits.
    pub access_rights: Option<i64>,
    /// What the server says it can do.
    pub server_capabilities: Vec<String>,
    /// Whether the device says goodbye.
    pub check_out_when_removed: bool,
}

impl MdmSettings {
    /// The address for check-in messages.
    pub fn check_in_url(&self) -> &str {
        self.check_in_url.as_deref().unwrap_or(&self.server_url)
    }

    /// Whether the server says that it can do this, such as `com.apple.mdm.bootstraptoken`.
    pub fn server_can(&self, capability: &str) -> bool {
        self.server_capabilities.iter().any(|own| own == capability)
    }
}

/// A profile that enrolls a device.
#[derive(Debug, Clone)]
pub struct EnrollmentProfile {
    /// The profile as such.
    pub profile: InstalledProfile,
    /// Where the identity comes from.
    pub scep: ScepSettings,
    /// Where management happens.
    pub mdm: MdmSettings,
    /// Certificates that the device trusts from now on, in DER.
    pub anchors: Vec<Vec<u8>>,
}

impl EnrollmentProfile {
    /// Reads an enrollment profile, signed or not.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn parse(bytes: &[u8], anchors: &TrustAnchors) -> Result<Self, ProfileError> {
        Self::from_profile(InstalledProfile::parse(bytes, anchors)?)
    }

    /// Finds the payloads of an enrollment in a profile.
    ///
    /// # Errors
    /// [`ProfileError`] when it has none, or they are incomplete.
    pub fn from_profile(profile: InstalledProfile) -> Result<Self, ProfileError> {
        let mdm = profile
            .payloads_of(MDM)
            .next()
            .ok_or(ProfileError::MissingPayload(MDM))?;
        let identity = string(mdm, MDM, "IdentityCertificateUUID")?;
        let scep = profile
            .payloads_of(SCEP)
            .find(|payload| payload.get("PayloadUUID").and_then(Value::as_string) == Some(&identity))
            .ok_or_else(|| match profile.payloads_of(SCEP).next() {
                Some(_) => ProfileError::Identity,
                None => ProfileError::MissingPayload(SCEP),
            })?;
        let scep = scep_settings(scep, identity)?;
        let mdm = mdm_settings(mdm)?;
        let anchors = [
            "com.apple.security.root",
            "com.apple.security.pem",
            "com.apple.security.pkcs1",
        ]
        .into_iter()
        .flat_map(|kind| profile.payloads_of(kind))
        .filter_map(|payload| payload.get("PayloadContent").and_then(Value::as_data))
        .filter_map(certificate_der)
        .collect();
        Ok(Self {
            scep,
            mdm,
            anchors,
            profile,
        })
    }
}

const MDM: &str = "com.apple.mdm";
const SCEP: &str = "com.apple.security.scep";

fn scep_settings(payload: &Dictionary, payload_uuid: String) -> Result<ScepSettings, ProfileError> {
    let content = payload
        .get("PayloadContent")
        .and_then(Value::as_dictionary)
        .ok_or_else(|| missing(SCEP, "PayloadContent"))?;
    let text = |key: &str| content.get(key).and_then(Value::as_string).map(str::to_owned);
    let subject = content
        .get("Subject")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let key_size = content
        .get("Keysize")
        .and_then(Value::as_unsigned_integer)
        .unwrap_or(1024);
    Ok(ScepSettings {
        payload_uuid,
        url: string(content, SCEP, "URL")?,
        name: text("Name"),
        challenge: text("Challenge").map(SecretString::new),
        subject: subject
            .iter()
            .filter_map(Value::as_array)
            .flatten()
            .filter_map(attribute)
            .collect(),
        key_size: u32::try_from(key_size).map_err(|_| missing(SCEP, "Keysize"))?,
        ca_fingerprint: content
            .get("CAFingerprint")
            .and_then(Value::as_data)
            .map(<[u8]>::to_vec),
    })
}

fn mdm_settings(payload: &Dictionary) -> Result<MdmSettings, ProfileError> {
    let capabilities = payload
        .get("ServerCapabilities")
        .and_then(Value::as_array)
        .map(Vec::as_slice);
    Ok(MdmSettings {
        server_url: string(payload, MDM, "ServerURL")?,
        check_in_url: payload.get("CheckInURL").and_then(Value::as_string).map(str::to_owned),
        topic: string(payload, MDM, "Topic")?,
        sign_message: boolean(payload, "SignMessage"),
        access_rights: payload.get("AccessRights").and_then(Value::as_signed_integer),
        server_capabilities: capabilities
            .unwrap_or_default()
            .iter()
            .filter_map(Value::as_string)
            .map(str::to_owned)
            .collect(),
        check_out_when_removed: boolean(payload, "CheckOutWhenRemoved"),
    })
}

/// One `[type, value]` pair of a subject.
fn attribute(pair: &Value) -> Option<(String, String)> {
    match pair.as_array()?.as_slice() {
        [kind, value] => Some((kind.as_string()?.to_owned(), value.as_string()?.to_owned())),
        _ => None,
    }
}

/// A certificate payload holds DER or PEM.
fn certificate_der(content: &[u8]) -> Option<Vec<u8>> {
    if let Ok(certificate) = Certificate::parse(content) {
        return Some(certificate.der().to_vec());
    }
    let certificate = Certificate::from_pem(std::str::from_utf8(content).ok()?).ok()?;
    Some(certificate.der().to_vec())
}

/// The property list in a profile, and who signed it.
fn open(bytes: &[u8], anchors: &TrustAnchors) -> Result<(Vec<u8>, ProfileSignature), ProfileError> {
    // A CMS message begins with a DER SEQUENCE; no XML does.
    if bytes.first() != Some(&0x30) {
        return Ok((bytes.to_vec(), ProfileSignature::None));
    }
    let (content, verified) = cms::verify_attached(bytes, &SignaturePolicy::strict())?;
    let trusted = anchors
        .verify_chain(&verified.signer, &verified.certificates, Timestamp::now())
        .is_ok();
    let signer = verified.signer;
    Ok((content, ProfileSignature::Signed { signer, trusted }))
}

fn string(payload: &Dictionary, kind: &str, key: &'static str) -> Result<String, ProfileError> {
    payload
        .get(key)
        .and_then(Value::as_string)
        .map(str::to_owned)
        .ok_or_else(|| missing(kind, key))
}

fn missing(kind: &str, key: &'static str) -> ProfileError {
    ProfileError::Key {
        payload: kind.to_owned(),
        key,
    }
}

fn boolean(payload: &Dictionary, key: &str) -> bool {
    payload.get(key).and_then(Value::as_boolean).unwrap_or(false)
}
