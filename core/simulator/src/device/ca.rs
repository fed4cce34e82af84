//! A stand-in of the authority that gives every Apple device its certificate at the factory: a root, an intermediate and
//! one RSA certificate per device. A server that takes [`DeviceIdentityCa::anchors_pem`] as its trust anchors for machine
//! information treats simulated devices as it treats real ones.

use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256};
use russet_pki::Certificate;
use russet_pki::ca::{CertificateAuthority, DeviceCertificate};
use russet_pki::cms::{self, Signer};
use russet_pki::csr::CertificateRequest;
use russet_pki::key::{KeyKind, PrivateKey};
use russet_pki::name::Name;
use russet_protocol::codec;
use russet_protocol::plist::{Dictionary, Value};
use rustls_pki_types::PrivatePkcs8KeyDer;

use super::error::DeviceError;
use super::facts::DeviceFacts;

/// How long a device's factory certificate is valid: a server must not refuse an old device.
const LIFETIME: SignedDuration = SignedDuration::from_hours(24 * 365 * 10);

/// A stand-in of Apple's device authority. Cloning shares the keys.
#[derive(Clone)]
pub struct DeviceIdentityCa(Arc<Keys>);

struct Keys {
    root: Certificate,
    intermediate: Certificate,
    issuer: CertificateAuthority,
}

impl fmt::Debug for DeviceIdentityCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceIdentityCa")
            .field("root", &self.0.root.subject())
            .finish_non_exhaustive()
    }
}

impl DeviceIdentityCa {
    /// Makes a new root and intermediate.
    ///
    /// # Errors
    /// [`DeviceError::Crypto`] when a key cannot be made.
    pub fn generate() -> Result<Self, DeviceError> {
        let root_key = rsa_pair(&PrivateKey::generate(KeyKind::Rsa2048).map_err(DeviceError::crypto)?)?;
        let root_params = ca_params("Simulated Device Root CA", BasicConstraints::Unconstrained)?;
        let root = root_params.self_signed(&root_key).map_err(DeviceError::crypto)?;
        let key = PrivateKey::generate(KeyKind::Rsa2048).map_err(DeviceError::crypto)?;
        let intermediate = ca_params("Simulated Device CA", BasicConstraints::Constrained(0))?
            .signed_by(&rsa_pair(&key)?, &Issuer::from_params(&root_params, &root_key))
            .map_err(DeviceError::crypto)?;
        let root = Certificate::parse(root.der()).map_err(DeviceError::crypto)?;
        let intermediate = Certificate::parse(intermediate.der()).map_err(DeviceError::crypto)?;
        let issuer = CertificateAuthority::from_parts(intermediate.clone(), key).map_err(DeviceError::crypto)?;
        Ok(Self(Arc::new(Keys {
            root,
            intermediate,
            issuer,
        })))
    }

    /// The root in PEM, for the server's list of device authorities.
    pub fn anchors_pem(&self) -> String {
        self.0.root.to_pem()
    }

    /// The root.
    pub fn root(&self) -> &Certificate {
        &self.0.root
    }

    /// The intermediate, which every device sends along.
    pub fn intermediate(&self) -> &Certificate {
        &self.0.intermediate
    }

    /// Makes the factory certificate of a device; its common name is the device's identifier.
    ///
    /// # Errors
    /// [`DeviceError::Crypto`] when a key cannot be made.
    pub fn issue(&self, udid: &str) -> Result<FactoryIdentity, DeviceError> {
        let key = PrivateKey::generate(KeyKind::Rsa2048).map_err(DeviceError::crypto)?;
        let request = CertificateRequest::build(&Name::common(udid), None, &key).map_err(DeviceError::crypto)?;
        let device = DeviceCertificate {
            common_name: udid.to_owned(),
            extra: Vec::new(),
            lifetime: LIFETIME,
        };
        let issued = self
            .0
            .issuer
            .issue_device(&request, &device, Timestamp::now())
            .map_err(DeviceError::crypto)?;
        Ok(FactoryIdentity {
            certificate: issued.certificate,
            intermediate: self.0.intermediate.clone(),
            key,
        })
    }
}

/// The certificate and key that a device has from the factory.
#[derive(Debug, Clone)]
pub struct FactoryIdentity {
    certificate: Certificate,
    intermediate: Certificate,
    key: PrivateKey,
}

impl FactoryIdentity {
    /// The certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Signs machine information, or any other content that a test wants the server to see.
    ///
    /// # Errors
    /// [`DeviceError::Crypto`] when the key operation fails.
    pub fn sign(&self, content: &[u8]) -> Result<Vec<u8>, DeviceError> {
        let signer =
            Signer::new(self.certificate.clone(), self.key.clone()).with_chain(vec![self.intermediate.clone()]);
        cms::sign_attached(content, &signer).map_err(DeviceError::crypto)
    }
}

/// Machine information as the device tells it before enrollment (Apple's schema: `other/machineinfo`).
pub fn machine_info(facts: &DeviceFacts) -> Vec<u8> {
    let mut info = Dictionary::from_iter([
        ("UDID", Value::from(facts.udid.as_str())),
        ("SERIAL", facts.serial_number.as_str().into()),
        ("PRODUCT", facts.product_name.as_str().into()),
        ("VERSION", facts.build_version.as_str().into()),
        ("OS_VERSION", facts.os_version.as_str().into()),
        ("LANGUAGE", facts.language.as_str().into()),
        (
            "SOFTWARE_UPDATE_DEVICE_ID",
            facts.software_update_device_id.as_str().into(),
        ),
    ]);
    let optional = [("IMEI", &facts.imei), ("MEID", &facts.meid)];
    for (key, value) in optional {
        if let Some(value) = value {
            info.insert(key.to_owned(), Value::from(value.as_str()));
        }
    }
    if facts.can_request_software_update {
        info.insert("MDM_CAN_REQUEST_SOFTWARE_UPDATE".to_owned(), Value::Boolean(true));
    }
    codec::encode(&info)
}

fn ca_params(common_name: &str, constraints: BasicConstraints) -> Result<CertificateParams, DeviceError> {
    let mut params = CertificateParams::new(Vec::new()).map_err(DeviceError::crypto)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn rsa_pair(key: &PrivateKey) -> Result<KeyPair, DeviceError> {
    let pkcs8 = key.to_pkcs8();
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8.as_slice()), &PKCS_RSA_SHA256)
        .map_err(DeviceError::crypto)
}
