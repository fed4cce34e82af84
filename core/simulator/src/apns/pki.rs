//! The stand-in's certificate authorities: one for its own server certificate, one for push certificates.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use russet_protocol::{Limits, codec, plist};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// `userId` (RFC 4519 section 2.39): where a push certificate has its topic.
pub(super) const USER_ID: [u64; 7] = [0, 9, 2342, 19_200_300, 100, 1, 1];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
#[error("the push service's test certificates cannot be made or read")]
pub struct PkiError(#[from] rcgen::Error);

/// Why a vendor's signed request is refused.
#[derive(Debug, thiserror::Error)]
pub enum PushRequestError {
    /// A part of it is not what it has to be.
    #[error("the request is not {0}")]
    Form(&'static str),
    /// A part of it is not there.
    #[error("the request has no {0}")]
    Missing(&'static str),
    /// The vendor did not sign it.
    #[error("the signature is not that of the vendor's certificate")]
    Signature,
    /// The certificate cannot be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// A push certificate with its key. The key is for a stand-in only, but servers under test treat it as a secret.
#[derive(Clone)]
pub struct PushCertificatePem {
    /// The certificate as PEM.
    pub certificate: String,
    /// The private key (PKCS #8) as PEM.
    pub key: String,
}

impl fmt::Debug for PushCertificatePem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushCertificatePem")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// The certificate authorities of a stand-in of APNs.
pub struct ApnsPki {
    servers: Authority,
    clients: Authority,
}

impl fmt::Debug for ApnsPki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApnsPki").finish_non_exhaustive()
    }
}

struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl ApnsPki {
    /// New authorities, valid for ten years.
    ///
    /// # Errors
    ///
    /// If the certificate library fails.
    pub fn generate() -> Result<Self, PkiError> {
        Ok(Self {
            servers: Authority::generate("Push Service Stand-in Server CA")?,
            clients: Authority::generate("Push Service Stand-in Client CA")?,
        })
    }

    /// Reads what [`to_pem`](Self::to_pem) wrote.
    ///
    /// # Errors
    ///
    /// If the text is anything else.
    pub fn from_pem(pem: &str) -> Result<Self, PkiError> {
        let mut sections = pem.split_inclusive("-----END PRIVATE KEY-----");
        let mut next = || Authority::from_pem(sections.next().unwrap_or_default());
        Ok(Self {
            servers: next()?,
            clients: next()?,
        })
    }

    /// Both authorities with their keys, as PEM, so that push certificates stay good when the stand-in is started anew.
    pub fn to_pem(&self) -> String {
        [&self.servers, &self.clients]
            .map(|authority| format!("{}{}", authority.certificate, authority.issuer.key().serialize_pem()))
            .concat()
    }

    /// The root certificate that a push client must trust, as PEM.
    pub fn server_root_pem(&self) -> &str {
        &self.servers.certificate
    }

    /// Makes an MDM push certificate, valid from yesterday for a year.
    ///
    /// # Errors
    ///
    /// If the certificate library fails.
    pub fn issue_push_certificate(&self, topic: &str) -> Result<PushCertificatePem, PkiError> {
        let now = SystemTime::now();
        self.issue_push_certificate_valid(topic, now - DAY, now + 365 * DAY)
    }

    /// Makes an MDM push certificate for any time, for example one that has expired.
    ///
    /// # Errors
    ///
    /// If the certificate library fails.
    pub fn issue_push_certificate_valid(
        &self,
        topic: &str,
        not_before: SystemTime,
        not_after: SystemTime,
    ) -> Result<PushCertificatePem, PkiError> {
        let params = push_certificate(topic, not_before, not_after);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.clients.issuer)?;
        Ok(PushCertificatePem {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// Plays Apple's portal: takes what a vendor signed for a customer, checks the vendor's signature, and makes the push
    /// certificate (PEM) of the request's key, valid from yesterday for a year.
    ///
    /// # Errors
    ///
    /// The file is not a vendor's signed request, or the certificate library fails.
    pub fn answer_push_request(&self, signed_request: &str, topic: &str) -> Result<String, PushRequestError> {
        let plist = STANDARD
            .decode(signed_request.trim())
            .map_err(|_| PushRequestError::Form("base64"))?;
        let file = codec::decode(&plist, &Limits::default()).map_err(|_| PushRequestError::Form("a property list"))?;
        let text = |key: &'static str| {
            let value = file.get(key).and_then(plist::Value::as_string);
            value.ok_or(PushRequestError::Missing(key))
        };
        let binary = |key: &'static str| {
            STANDARD
                .decode(text(key)?)
                .map_err(|_| PushRequestError::Form("base64"))
        };
        let request = binary("PushCertRequestCSR")?;
        let chain = russet_pki::Certificate::chain_from_pem(text("PushCertCertificateChain")?)
            .map_err(|_| PushRequestError::Form("a chain of certificates"))?;
        let vendor = chain.first().ok_or(PushRequestError::Form("a chain of certificates"))?;
        vendor
            .public_key()
            .verify_rsa_sha256(&request, &binary("PushCertSignature")?)
            .map_err(|_| PushRequestError::Signature)?;

        let mut request =
            CertificateSigningRequestParams::from_der(&request.as_slice().into()).map_err(PkiError::from)?;
        let now = SystemTime::now();
        request.params = push_certificate(topic, now - DAY, now + 365 * DAY);
        let certificate = request.signed_by(&self.clients.issuer).map_err(PkiError::from)?;
        Ok(certificate.pem())
    }

    /// The root of push certificates.
    pub(super) fn client_root(&self) -> Result<CertificateDer<'static>, PkiError> {
        certificate_from_pem(&self.clients.certificate)
    }

    /// A server certificate for `host` and `address`, with its key.
    pub(super) fn issue_server_certificate(
        &self,
        host: &str,
        address: IpAddr,
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), PkiError> {
        let now = SystemTime::now();
        let mut params = leaf(ExtendedKeyUsagePurpose::ServerAuth, now - DAY, now + 365 * DAY);
        params.distinguished_name.push(DnType::CommonName, host);
        params.subject_alt_names = vec![SanType::DnsName(host.try_into()?), SanType::IpAddress(address)];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.servers.issuer)?;
        Ok((
            certificate.der().clone(),
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        ))
    }
}

impl Authority {
    fn generate(name: &str) -> Result<Self, PkiError> {
        let now = SystemTime::now();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = (now - DAY).into();
        params.not_after = (now + 3_650 * DAY).into();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self {
            certificate,
            issuer: Issuer::new(params, key),
        })
    }

    fn from_pem(pem: &str) -> Result<Self, PkiError> {
        let unreadable = |_| PkiError(rcgen::Error::CouldNotParseCertificate);
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(unreadable)?;
        let key = KeyPair::try_from(&key)?;
        let end = "-----END CERTIFICATE-----";
        let length = pem.find(end).ok_or(PkiError(rcgen::Error::CouldNotParseCertificate))? + end.len();
        let certificate = format!("{}\n", pem[..length].trim_start());
        let issuer = Issuer::from_ca_cert_pem(&certificate, key)?;
        Ok(Self { certificate, issuer })
    }
}

fn push_certificate(topic: &str, not_before: SystemTime, not_after: SystemTime) -> CertificateParams {
    let mut params = leaf(ExtendedKeyUsagePurpose::ClientAuth, not_before, not_after);
    params
        .distinguished_name
        .push(DnType::CustomDnType(USER_ID.to_vec()), topic);
    params
        .distinguished_name
        .push(DnType::CommonName, format!("APSP:{topic}"));
    params
}

fn leaf(usage: ExtendedKeyUsagePurpose, not_before: SystemTime, not_after: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    params.not_before = not_before.into();
    params.not_after = not_after.into();
    params
}

fn certificate_from_pem(pem: &str) -> Result<CertificateDer<'static>, PkiError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| PkiError(rcgen::Error::CouldNotParseCertificate))
}
