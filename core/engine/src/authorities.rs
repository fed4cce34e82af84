//! The server's own authorities: one that issues device identities over SCEP, one for its TLS certificate and its
//! profile signer. Made at the first start, kept sealed, and shared by all nodes on one database.

use jiff::{SignedDuration, Timestamp};
use russet_pki::ca::{CaOptions, CertificateAuthority, SignerUse};
use russet_pki::cms::Signer;
use russet_pki::key::{KeyKind, PrivateKey};
use russet_pki::scep::RaContext;
use russet_pki::{Certificate, TrustAnchors};
use russet_store::{SecretKind, Store};
use zeroize::Zeroizing;

use crate::StartError;
use crate::settings::{EnrollmentSettings, ProfileSigning};

const CA_LIFETIME: SignedDuration = SignedDuration::from_hours(24 * 365 * 10);
/// As long as its authority: it is made at each start, and a server may run for years.
const SIGNER_LIFETIME: SignedDuration = CA_LIFETIME;
const TLS_LIFETIME: SignedDuration = SignedDuration::from_hours(24 * 365);

/// The authorities of the server.
#[derive(Debug)]
pub(crate) struct Authorities {
    /// Issues identities. RSA, because SCEP's envelopes need it.
    pub(crate) devices: CertificateAuthority,
    /// The same authority, as it answers SCEP.
    pub(crate) scep: RaContext,
    /// What device certificates have to lead to.
    pub(crate) device_anchors: TrustAnchors,
    /// Issues the TLS certificate and the profile signer.
    pub(crate) server: CertificateAuthority,
    /// Signs profiles, unless they are to stay unsigned.
    pub(crate) signer: Option<Signer>,
}

/// A TLS server's certificate chain and key, as DER.
pub struct TlsIdentity {
    /// The leaf first.
    pub chain: Vec<Vec<u8>>,
    /// The key, as PKCS#8.
    pub key_pkcs8: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsIdentity")
            .field("certificates", &self.chain.len())
            .finish_non_exhaustive()
    }
}

impl Authorities {
    /// Loads the authorities, or makes them at the first start.
    pub(crate) async fn open(store: &Store, settings: &EnrollmentSettings, now: Timestamp) -> Result<Self, StartError> {
        let devices = authority(store, "devices", "Russet Device CA", KeyKind::Rsa2048, settings, now).await?;
        let server = authority(store, "server", "Russet Server CA", KeyKind::P256, settings, now).await?;
        let signer = match &settings.signing {
            ProfileSigning::Unsigned => None,
            ProfileSigning::OwnAuthority => {
                let name = format!("{} profile signer", settings.organization);
                let (certificate, key) = server.issue_signer(&name, SignerUse::Profiles, SIGNER_LIFETIME, now)?;
                Some(Signer::new(certificate, key).with_chain(server.chain().to_vec()))
            }
            ProfileSigning::Identity {
                certificate_pem,
                key_pem,
            } => {
                let mut chain = Certificate::chain_from_pem(certificate_pem).map_err(StartError::SigningCertificate)?;
                let key = PrivateKey::from_pem(key_pem).map_err(StartError::SigningKey)?;
                let certificate = chain.remove(0);
                if certificate.public_key_der() != key.public_key_der() {
                    return Err(StartError::SigningMismatch);
                }
                Some(Signer::new(certificate, key).with_chain(chain))
            }
        };
        let device_anchors = TrustAnchors::new(vec![devices.certificate().clone()]);
        let scep = RaContext::from_ca(&devices).map_err(|_| StartError::CorruptAuthority)?;
        Ok(Self {
            devices,
            scep,
            device_anchors,
            server,
            signer,
        })
    }

    /// Issues a certificate for the server's own TLS.
    pub(crate) fn tls_identity(
        &self,
        dns: &[String],
        addresses: &[std::net::IpAddr],
        now: Timestamp,
    ) -> Result<TlsIdentity, russet_pki::ca::CaError> {
        let (chain, key) = self.server.issue_tls_server(dns, addresses, TLS_LIFETIME, now)?;
        let chain = chain.iter().map(|certificate| certificate.der().to_vec()).collect();
        Ok(TlsIdentity {
            chain,
            key_pkcs8: key.to_pkcs8(),
        })
    }
}

/// The authority of that name: the stored one, or a new one if this is the first start. Of several nodes that start at
/// the same time all get the same.
async fn authority(
    store: &Store,
    name: &str,
    common_name: &str,
    key: KeyKind,
    settings: &EnrollmentSettings,
    now: Timestamp,
) -> Result<CertificateAuthority, StartError> {
    let tenant = store.default_tenant();
    let stored = match store.secret(tenant, SecretKind::CaKey, name).await? {
        Some(stored) => stored,
        None => {
            let options = CaOptions {
                common_name: common_name.to_owned(),
                organization: settings.organization.clone(),
                key,
                lifetime: CA_LIFETIME,
            };
            let made = CertificateAuthority::generate(&options, now)?;
            let key = PrivateKey::from_pkcs8(&made.key_pkcs8()).map_err(|_| StartError::CorruptAuthority)?;
            let pem = Zeroizing::new(format!("{}{}", made.certificate().to_pem(), *key.to_pem()));
            store
                .put_secret_if_absent(tenant, SecretKind::CaKey, name, pem.as_bytes(), now)
                .await?
        }
    };
    let pem = std::str::from_utf8(&stored).map_err(|_| StartError::CorruptAuthority)?;
    let certificate = Certificate::from_pem(pem).map_err(|_| StartError::CorruptAuthority)?;
    let key = PrivateKey::from_pem(pem).map_err(|_| StartError::CorruptAuthority)?;
    Ok(CertificateAuthority::from_parts(certificate, key)?)
}
