//! The stand-in's certificate authorities: one for its own server certificate, one for push certificates.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// `userId` (RFC 4519 section 2.39): where a push certificate has its topic.
pub(super) const USER_ID: [u64; 7] = [0, 9, 2342, 19_200_300, 100, 1, 1];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
#[error("the push service's test certificates cannot be made or read")]
pub struct PkiError(#[from] rcgen::Error);

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
        let mut params = leaf(ExtendedKeyUsagePurpose::ClientAuth, not_before, not_after);
        params
            .distinguished_name
            .push(DnType::CustomDnType(USER_ID.to_vec()), topic);
        params
            .distinguished_name
            .push(DnType::CommonName, format!("APSP:{topic}"));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.clients.issuer)?;
        Ok(PushCertificatePem {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
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
