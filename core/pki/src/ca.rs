//! The certificate authority: a key, its certificate, and what it issues.
//!
//! Knows the four kinds of certificate that an MDM server needs; does not keep a list of what it issued, which is the
//! store's task, and does not decide who gets one.

use std::net::IpAddr;

use aws_lc_rs::rand;
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use crate::asn1::{self, Asn1Error};
use crate::certificate::{Certificate, CertificateError, ExtendedKeyUsage, KeyUsage};
use crate::csr::CertificateRequest;
use crate::extensions;
use crate::key::{KeyError, KeyKind, PrivateKey, PublicKey, PublicKeyKind};
use crate::name::Name;
use crate::{ObjectIdentifier, fingerprint, oid, time};

/// Certificates are valid from this long before `now`: devices whose clock runs late still accept them.
pub const BACKDATE: SignedDuration = SignedDuration::from_hours(1);

/// Why the authority could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// Key and certificate do not belong together.
    #[error("the key does not belong to the CA certificate")]
    KeyMismatch,
    /// The certificate may not issue others.
    #[error("the certificate is not a CA certificate; it needs basicConstraints CA:TRUE")]
    NotACa,
    /// The CA certificate has run out, so nothing can be issued.
    #[error("the CA certificate expired at {0}; renew it")]
    Expired(Timestamp),
    /// The lifetime is not positive, or ends outside what a certificate can say.
    #[error("the lifetime must be positive and end before the year 10000")]
    Lifetime,
    /// A DNS name that is not ASCII, or no name at all.
    #[error("a server certificate needs at least one name; write international names in their ASCII form")]
    Names,
    /// The key operation failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What was built does not parse: a bug.
    #[error("built an unreadable certificate: {0}")]
    Build(#[from] CertificateError),
}

impl From<Asn1Error> for CaError {
    fn from(error: Asn1Error) -> Self {
        Self::Build(error.into())
    }
}

/// What a new CA is like.
#[derive(Debug, Clone)]
pub struct CaOptions {
    /// Common name, for instance "Russet Device CA".
    pub common_name: String,
    /// Organization; none when empty.
    pub organization: String,
    /// Its key: RSA-2048 when it also answers SCEP, which needs RSA.
    pub key: KeyKind,
    /// How long it is valid.
    pub lifetime: SignedDuration,
}

/// What to put in a device's identity certificate.
#[derive(Debug, Clone)]
pub struct DeviceCertificate {
    /// Common name: the server's name for the enrollment, not the requester's wish.
    pub common_name: String,
    /// More subject attributes, for instance [`oid::SERIAL_NUMBER`]; written before the common name.
    pub extra: Vec<(ObjectIdentifier, String)>,
    /// How long it is valid; shortened to the CA's own end.
    pub lifetime: SignedDuration,
}

/// What a signer's certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignerUse {
    /// Signing configuration profiles: a P-256 key.
    Profiles,
    /// Answering SCEP in the CA's place (registration authority): an RSA-2048 key that also decrypts.
    ScepRa,
}

/// An issued certificate with the chain that a client needs to verify it.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The new certificate.
    pub certificate: Certificate,
    /// The CA's certificate, then what is above it, without a self-signed root unless that is the CA itself.
    pub chain: Vec<Certificate>,
}

/// A certificate authority. Cloning shares the key.
#[derive(Debug, Clone)]
pub struct CertificateAuthority {
    certificate: Certificate,
    chain: Vec<Certificate>,
    key: PrivateKey,
}

struct Template<'a> {
    subject: Vec<u8>,
    public_key: &'a PublicKey,
    not_before: Timestamp,
    not_after: Timestamp,
    extensions: Vec<Vec<u8>>,
}

impl CertificateAuthority {
    /// Makes a new self-signed CA that can issue end-entity certificates only (path length 0).
    ///
    /// # Errors
    /// [`CaError::Lifetime`], or [`CaError::Key`] when the key cannot be made.
    pub fn generate(options: &CaOptions, now: Timestamp) -> Result<Self, CaError> {
        let key = PrivateKey::generate(options.key)?;
        let subject = Name::new()
            .with(oid::ORGANIZATION, &options.organization)
            .with(oid::COMMON_NAME, &options.common_name)
            .to_der();
        let identifier = key_identifier(key.public_key());
        // A SCEP CA also decrypts requests and signs replies with its own key.
        let usage = KeyUsage::KEY_CERT_SIGN
            .and(KeyUsage::CRL_SIGN)
            .and(KeyUsage::DIGITAL_SIGNATURE);
        let usage = if is_rsa(key.public_key()) {
            usage.and(KeyUsage::KEY_ENCIPHERMENT)
        } else {
            usage
        };
        let template = Template {
            subject: subject.clone(),
            public_key: key.public_key(),
            not_before: backdated(now)?,
            not_after: end(now, options.lifetime)?,
            extensions: vec![
                extensions::basic_constraints(true, Some(0)),
                extensions::key_usage(usage),
                extensions::subject_key_identifier(&identifier),
                extensions::authority_key_identifier(&identifier),
            ],
        };
        let certificate = build(&template, &subject, &key)?;
        Ok(Self {
            chain: vec![certificate.clone()],
            certificate,
            key,
        })
    }

    /// An existing CA.
    ///
    /// # Errors
    /// [`CaError::NotACa`] or [`CaError::KeyMismatch`].
    pub fn from_parts(certificate: Certificate, key: PrivateKey) -> Result<Self, CaError> {
        let may_sign = certificate
            .key_usage()
            .is_none_or(|usage| usage.contains(KeyUsage::KEY_CERT_SIGN));
        if !certificate.is_ca() || !may_sign {
            return Err(CaError::NotACa);
        }
        if certificate.public_key_der() != key.public_key_der() {
            return Err(CaError::KeyMismatch);
        }
        Ok(Self {
            chain: vec![certificate.clone()],
            certificate,
            key,
        })
    }

    /// For a subordinate CA: the certificates above it, nearest first, which clients get beside its own.
    #[must_use]
    pub fn with_issuers(mut self, issuers: &[Certificate]) -> Self {
        self.chain.truncate(1);
        self.chain.extend_from_slice(issuers);
        self
    }

    /// The CA's certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The CA's certificate and what is above it.
    pub fn chain(&self) -> &[Certificate] {
        &self.chain
    }

    /// The CA's key as PKCS#8: seal it before it is stored.
    pub fn key_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        self.key.to_pkcs8()
    }

    /// The CA's key.
    pub(crate) fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Issues a device's identity: TLS client authentication, for the key in the request, with the given subject; what
    /// subject and extensions the request asks for is ignored.
    ///
    /// # Errors
    /// [`CaError::Expired`] when the CA is, [`CaError::Lifetime`], [`CaError::Key`].
    pub fn issue_device(
        &self,
        request: &CertificateRequest,
        device: &DeviceCertificate,
        now: Timestamp,
    ) -> Result<Issued, CaError> {
        let subject = device
            .extra
            .iter()
            .fold(Name::new(), |name, (attribute, value)| name.with(*attribute, value))
            .with(oid::COMMON_NAME, &device.common_name);
        let usage = KeyUsage::DIGITAL_SIGNATURE;
        let usage = if is_rsa(request.public_key()) {
            usage.and(KeyUsage::KEY_ENCIPHERMENT)
        } else {
            usage
        };
        self.issue(
            &subject,
            request.public_key(),
            usage,
            &[ExtendedKeyUsage::ClientAuth],
            Vec::new(),
            device.lifetime,
            now,
        )
    }

    /// Issues a TLS server certificate with a new P-256 key. Returns leaf and chain, and the key.
    ///
    /// # Errors
    /// [`CaError::Names`], and as [`issue_device`](Self::issue_device).
    pub fn issue_tls_server(
        &self,
        dns: &[String],
        addresses: &[IpAddr],
        lifetime: SignedDuration,
        now: Timestamp,
    ) -> Result<(Vec<Certificate>, PrivateKey), CaError> {
        if (dns.is_empty() && addresses.is_empty()) || dns.iter().any(|name| name.is_empty() || !name.is_ascii()) {
            return Err(CaError::Names);
        }
        let key = PrivateKey::generate(KeyKind::P256)?;
        let common = dns.first().cloned().unwrap_or_else(|| addresses[0].to_string());
        // A common name holds 64 characters; clients read subjectAltName anyway.
        let subject = if common.len() <= 64 {
            Name::common(common)
        } else {
            Name::common("Russet")
        };
        let issued = self.issue(
            &subject,
            key.public_key(),
            KeyUsage::DIGITAL_SIGNATURE,
            &[ExtendedKeyUsage::ServerAuth],
            vec![extensions::subject_alt_name(dns, addresses)],
            lifetime,
            now,
        )?;
        let mut chain = vec![issued.certificate];
        chain.extend(issued.chain);
        Ok((chain, key))
    }

    /// Issues a certificate and a new key for signing on the server's behalf.
    ///
    /// # Errors
    /// As [`issue_device`](Self::issue_device).
    pub fn issue_signer(
        &self,
        common_name: &str,
        purpose: SignerUse,
        lifetime: SignedDuration,
        now: Timestamp,
    ) -> Result<(Certificate, PrivateKey), CaError> {
        let (kind, usage, purposes) = match purpose {
            SignerUse::Profiles => (
                KeyKind::P256,
                KeyUsage::DIGITAL_SIGNATURE,
                &[ExtendedKeyUsage::CodeSigning, ExtendedKeyUsage::EmailProtection][..],
            ),
            SignerUse::ScepRa => (
                KeyKind::Rsa2048,
                KeyUsage::DIGITAL_SIGNATURE.and(KeyUsage::KEY_ENCIPHERMENT),
                &[][..],
            ),
        };
        let key = PrivateKey::generate(kind)?;
        let issued = self.issue(
            &Name::common(common_name),
            key.public_key(),
            usage,
            purposes,
            Vec::new(),
            lifetime,
            now,
        )?;
        Ok((issued.certificate, key))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "private; each argument is one field of the certificate"
    )]
    fn issue(
        &self,
        subject: &Name,
        public_key: &PublicKey,
        usage: KeyUsage,
        purposes: &[ExtendedKeyUsage],
        more: Vec<Vec<u8>>,
        lifetime: SignedDuration,
        now: Timestamp,
    ) -> Result<Issued, CaError> {
        if now > self.certificate.not_after() {
            return Err(CaError::Expired(self.certificate.not_after()));
        }
        let issuer_id = match self.certificate.subject_key_id() {
            Some(identifier) => identifier.to_vec(),
            None => key_identifier(self.certificate.public_key()).to_vec(),
        };
        let mut all = vec![extensions::basic_constraints(false, None), extensions::key_usage(usage)];
        if !purposes.is_empty() {
            all.push(extensions::extended_key_usage(purposes));
        }
        all.push(extensions::subject_key_identifier(&key_identifier(public_key)));
        all.push(extensions::authority_key_identifier(&issuer_id));
        all.extend(more);
        let template = Template {
            subject: subject.to_der(),
            public_key,
            not_before: backdated(now)?.max(self.certificate.not_before()),
            not_after: end(now, lifetime)?.min(self.certificate.not_after()),
            extensions: all,
        };
        let certificate = build(&template, self.certificate.subject_der(), &self.key)?;
        Ok(Issued {
            certificate,
            chain: self.chain.clone(),
        })
    }
}

/// Makes a self-signed end-entity certificate: what a SCEP client wraps its first request with (RFC 8894 section 2.3).
///
/// # Errors
/// [`CaError::Lifetime`] or [`CaError::Key`].
pub fn self_signed(
    subject: &Name,
    key: &PrivateKey,
    lifetime: SignedDuration,
    now: Timestamp,
) -> Result<Certificate, CaError> {
    let usage = KeyUsage::DIGITAL_SIGNATURE;
    let usage = usage.and(if is_rsa(key.public_key()) {
        KeyUsage::KEY_ENCIPHERMENT
    } else {
        KeyUsage::KEY_AGREEMENT
    });
    let subject = subject.to_der();
    let template = Template {
        subject: subject.clone(),
        public_key: key.public_key(),
        not_before: backdated(now)?,
        not_after: end(now, lifetime)?,
        extensions: vec![
            extensions::key_usage(usage),
            extensions::subject_key_identifier(&key_identifier(key.public_key())),
        ],
    };
    build(&template, &subject, key)
}

fn build(template: &Template<'_>, issuer: &[u8], key: &PrivateKey) -> Result<Certificate, CaError> {
    let digest = key.digest();
    let algorithm = key.signature_identifier(digest);
    let validity = asn1::sequence(&[&time::encode(template.not_before)?, &time::encode(template.not_after)?]);
    let tbs = asn1::sequence(&[
        &asn1::tlv(asn1::context(0), &asn1::unsigned(&[2])),
        &asn1::unsigned(&serial()?),
        &algorithm,
        issuer,
        &validity,
        &template.subject,
        template.public_key.der(),
        &asn1::tlv(
            asn1::context(3),
            &asn1::tlv(asn1::SEQUENCE, &template.extensions.concat()),
        ),
    ]);
    let signature = key.sign_with(digest, &tbs)?;
    Ok(Certificate::parse(&asn1::sequence(&[
        &tbs,
        &algorithm,
        &asn1::bit_string(&signature),
    ]))?)
}

/// A random positive serial number of 16 octets: 126 random bits below a fixed `01`.
fn serial() -> Result<[u8; 16], CaError> {
    let mut serial = [0; 16];
    rand::fill(&mut serial).map_err(|_| KeyError::Operation)?;
    // Neither a sign octet nor a leading zero, so that every serial has the same length in every notation.
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

/// SHA-1 of the public key bits (RFC 5280 section 4.2.1.2, method 1).
pub(crate) fn key_identifier(key: &PublicKey) -> [u8; 20] {
    fingerprint::sha1(key.key_octets())
}

fn is_rsa(key: &PublicKey) -> bool {
    matches!(key.kind(), PublicKeyKind::Rsa { .. })
}

fn backdated(now: Timestamp) -> Result<Timestamp, CaError> {
    now.checked_sub(BACKDATE).map_err(|_| CaError::Lifetime)
}

fn end(now: Timestamp, lifetime: SignedDuration) -> Result<Timestamp, CaError> {
    if !lifetime.is_positive() {
        return Err(CaError::Lifetime);
    }
    now.checked_add(lifetime).map_err(|_| CaError::Lifetime)
}
