//! How a device gets its identity: SCEP (RFC 8894) over HTTP, as the profile's payload says.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use jiff::{SignedDuration, Timestamp};
use russet_pki::ca::self_signed;
use russet_pki::cms::{ContentCipher, Signer};
use russet_pki::csr::CertificateRequest;
use russet_pki::key::{KeyKind, PrivateKey};
use russet_pki::name::Name;
use russet_pki::scep::client::{self, ClientError, Exchange, Outcome};
use russet_pki::scep::{FailInfo, PKI_MESSAGE_TYPE};
use russet_pki::{Certificate, ObjectIdentifier, fingerprint, oid};
use russet_protocol::SecretString;

use super::error::{DeviceError, Step};
use super::facts::DeviceFacts;
use super::identity::Identity;
use super::profile::ScepSettings;
use super::transport::{self, Outgoing, RawResponse};

/// How long the certificate is valid that a device makes for itself to sign its request with.
const SELF_SIGNED_LIFETIME: SignedDuration = SignedDuration::from_hours(24 * 7);

/// How SCEP operations are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScepMethod {
    /// By `POST` when the server's capabilities say that it can, by `GET` otherwise.
    #[default]
    AsServerSays,
    /// By `POST`.
    Post,
    /// By `GET`, with the message in the query.
    Get,
}

/// Why SCEP gave no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScepFailure {
    /// The server refused the request.
    #[error("SCEP refused the request: {}", text.as_deref().unwrap_or("no reason given"))]
    Refused {
        /// The reason's number, when it is a known one.
        fail_info: Option<FailInfo>,
        /// The reason as text, when the server sends one.
        text: Option<String>,
    },
    /// The server wants to be asked again later.
    #[error("SCEP keeps the request pending")]
    Pending,
    /// The authority is not the one that the profile names.
    #[error("no SCEP authority has the CAFingerprint of the profile")]
    Fingerprint,
    /// The server gave no certificate that a request can be encrypted for.
    #[error("SCEP has no RSA certificate to encrypt the request for")]
    NoAuthority,
    /// The profile asks for a subject that cannot be written.
    #[error("the SCEP payload's subject has the unknown attribute {0}")]
    Subject(String),
    /// The profile asks for a key that no device makes.
    #[error("the SCEP payload asks for a key of {0} bits; use 2048, 3072 or 4096")]
    KeySize(u32),
    /// A message could not be made or read.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// What a SCEP server says about itself.
#[derive(Debug, Clone)]
pub struct ScepServer {
    /// The capabilities, one word each.
    pub capabilities: Vec<String>,
    /// The certificates of the authority and, where there is one, its registration authority.
    pub authorities: Vec<Certificate>,
}

impl ScepServer {
    /// Whether the server says that it can do this.
    pub fn can(&self, capability: &str) -> bool {
        let standard = "SCEPStandard";
        self.capabilities
            .iter()
            .any(|own| own.eq_ignore_ascii_case(capability) || own.eq_ignore_ascii_case(standard))
    }

    fn cipher(&self) -> ContentCipher {
        if self.can("AES") {
            ContentCipher::Aes128Cbc
        } else {
            ContentCipher::TripleDesCbc
        }
    }
}

/// One device's view of a SCEP service.
pub(crate) struct ScepClient<'a> {
    pub(crate) http: &'a reqwest::Client,
    pub(crate) scep: &'a ScepSettings,
    pub(crate) facts: &'a DeviceFacts,
    pub(crate) method: ScepMethod,
    pub(crate) key_kind: Option<KeyKind>,
}

impl ScepClient<'_> {
    /// `GetCACaps` and `GetCACert`, with the check of the fingerprint.
    pub(crate) async fn describe(&self) -> Result<ScepServer, DeviceError> {
        let step = Step::ScepCapabilities;
        let capabilities = self
            .get(step, "GetCACaps", self.scep.name.as_deref())
            .await?
            .accepted(step)?;
        let step = Step::ScepCaCertificate;
        let certificates = self
            .get(step, "GetCACert", self.scep.name.as_deref())
            .await?
            .accepted(step)?;
        let content_type = certificates.content_type().unwrap_or_default();
        let authorities =
            client::parse_ca_certificates(content_type, &certificates.body).map_err(ScepFailure::Client)?;
        if let Some(wanted) = &self.scep.ca_fingerprint
            && !authorities.iter().any(|authority| has_fingerprint(authority, wanted))
        {
            return Err(ScepFailure::Fingerprint.into());
        }
        Ok(ScepServer {
            capabilities: capabilities.text().split_whitespace().map(str::to_owned).collect(),
            authorities,
        })
    }

    /// Gets a first identity: a new key, a request with the profile's challenge, signed by a certificate of its own.
    pub(crate) async fn enroll(&self) -> Result<Identity, DeviceError> {
        let server = self.describe().await?;
        let key = self.new_key().await?;
        let (subject, challenge) = (self.subject()?, self.scep.challenge.as_ref());
        let request = request(&subject, challenge, &key)?;
        // The reply is encrypted for the signer's certificate, which needs RSA, whatever the key to certify is.
        let signer_key = match key.kind() {
            KeyKind::P256 | KeyKind::P384 => generate(KeyKind::Rsa2048).await?,
            _ => key.clone(),
        };
        let certificate =
            self_signed(&subject, &signer_key, SELF_SIGNED_LIFETIME, Timestamp::now()).map_err(DeviceError::crypto)?;
        let signer = Signer::new(certificate, signer_key);
        let authority = client::encryption_certificate(&server.authorities).ok_or(ScepFailure::NoAuthority)?;
        let exchange = Exchange::enroll(&request, signer, authority, server.cipher()).map_err(ScepFailure::Client)?;
        self.operation(&server, &exchange, key).await
    }

    /// Gets the next identity: a new key, a request signed by the current identity.
    pub(crate) async fn renew(&self, current: &Identity) -> Result<Identity, DeviceError> {
        let server = self.describe().await?;
        let key = self.new_key().await?;
        let request = request(&self.subject()?, self.scep.challenge.as_ref(), &key)?;
        let authority = client::encryption_certificate(&server.authorities).ok_or(ScepFailure::NoAuthority)?;
        let exchange =
            Exchange::renew(&request, current.signer(), authority, server.cipher()).map_err(ScepFailure::Client)?;
        self.operation(&server, &exchange, key).await
    }

    async fn operation(
        &self,
        server: &ScepServer,
        exchange: &Exchange,
        key: PrivateKey,
    ) -> Result<Identity, DeviceError> {
        let step = Step::ScepOperation;
        let post = match self.method {
            ScepMethod::AsServerSays => server.can("POSTPKIOperation"),
            ScepMethod::Post => true,
            ScepMethod::Get => false,
        };
        let response = if post {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(PKI_MESSAGE_TYPE));
            let request = Outgoing {
                step,
                method: Method::POST,
                url: &operation_url(&self.scep.url, "PKIOperation", None),
                headers,
                body: Bytes::copy_from_slice(exchange.message()),
            };
            transport::send(self.http, request).await?
        } else {
            let message = BASE64.encode(exchange.message());
            self.get(step, "PKIOperation", Some(&message)).await?
        };
        let reply = response.accepted(step)?;
        match exchange
            .read(&reply.body, &server.authorities)
            .map_err(ScepFailure::Client)?
        {
            Outcome::Issued { certificate, .. } => Ok(Identity::new(certificate, key)),
            Outcome::Refused { fail_info, text } => Err(ScepFailure::Refused { fail_info, text }.into()),
            Outcome::Pending => Err(ScepFailure::Pending.into()),
        }
    }

    async fn get(&self, step: Step, operation: &str, message: Option<&str>) -> Result<RawResponse, DeviceError> {
        let request = Outgoing {
            step,
            method: Method::GET,
            url: &operation_url(&self.scep.url, operation, message),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        };
        transport::send(self.http, request).await
    }

    async fn new_key(&self) -> Result<PrivateKey, DeviceError> {
        let kind = match (self.key_kind, self.scep.key_size) {
            (Some(kind), _) => kind,
            (None, 2048) => KeyKind::Rsa2048,
            (None, 3072) => KeyKind::Rsa3072,
            (None, 4096) => KeyKind::Rsa4096,
            (None, other) => return Err(ScepFailure::KeySize(other).into()),
        };
        generate(kind).await
    }

    /// The subject of the profile, with the variables filled in that Apple's profiles know.
    fn subject(&self) -> Result<Name, DeviceError> {
        let facts = self.facts;
        self.scep.subject.iter().try_fold(Name::new(), |name, (kind, value)| {
            let attribute = attribute(kind).ok_or_else(|| ScepFailure::Subject(kind.clone()))?;
            let value = value
                .replace("%SerialNumber%", &facts.serial_number)
                .replace("%HardwareUUID%", &facts.udid)
                .replace("%ComputerName%", &facts.device_name);
            Ok(name.with(attribute, value))
        })
    }
}

fn request(
    subject: &Name,
    challenge: Option<&SecretString>,
    key: &PrivateKey,
) -> Result<CertificateRequest, DeviceError> {
    CertificateRequest::build(subject, challenge.map(SecretString::expose), key).map_err(DeviceError::crypto)
}

/// Generates a key where it does not hold up the other devices of the process.
async fn generate(kind: KeyKind) -> Result<PrivateKey, DeviceError> {
    tokio::task::spawn_blocking(move || PrivateKey::generate(kind))
        .await
        .map_err(DeviceError::crypto)?
        .map_err(DeviceError::crypto)
}

/// The subject attribute of a short name or a dotted number.
fn attribute(kind: &str) -> Option<ObjectIdentifier> {
    Some(match kind {
        "CN" => oid::COMMON_NAME,
        "O" => oid::ORGANIZATION,
        "OU" => oid::ORGANIZATIONAL_UNIT,
        "C" => oid::COUNTRY,
        "L" => oid::LOCALITY,
        "ST" => oid::STATE,
        dotted => ObjectIdentifier::new(dotted).ok()?,
    })
}

/// Whether the certificate's SHA-1 or SHA-256 is the wanted one; which, its length tells. MD5, which Apple's schema also
/// allows, never matches: a simulated device does not vouch by it.
fn has_fingerprint(certificate: &Certificate, wanted: &[u8]) -> bool {
    match wanted.len() {
        20 => fingerprint::sha1(certificate.der()).as_slice() == wanted,
        32 => certificate.sha256().as_slice() == wanted,
        _ => false,
    }
}

/// The address of an operation; the payload's address may have a query of its own.
fn operation_url(base: &str, operation: &str, message: Option<&str>) -> String {
    let separator = if base.contains('?') { '&' } else { '?' };
    let mut url = format!("{base}{separator}operation={operation}");
    if let Some(message) = message {
        url.push_str("&message=");
        for byte in message.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => url.push(char::from(byte)),
                other => url.push_str(&format!("%{other:02X}")),
            }
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_escaped_in_the_query() {
        assert_eq!(
            operation_url("https://mdm.example.com/scep", "PKIOperation", Some("a+/=")),
            "https://mdm.example.com/scep?operation=PKIOperation&message=a%2B%2F%3D"
        );
        assert_eq!(
            operation_url("https://mdm.example.com/scep?ca=1", "GetCACaps", None),
            "https://mdm.example.com/scep?ca=1&operation=GetCACaps"
        );
    }

    #[test]
    fn subjects_take_short_names_and_numbers() {
        assert_eq!(attribute("CN"), Some(oid::COMMON_NAME));
        assert_eq!(attribute("2.5.4.5"), Some(oid::SERIAL_NUMBER));
        assert_eq!(attribute("nonsense"), None);
    }
}
