//! TLS: the server's certificate, which can be replaced while it runs, and certificates of clients.
//!
//! A client is asked for a certificate and need not have one. Whatever it shows is taken if the client proves that it
//! has the key: who the certificate is from is for the engine to judge, so that a device with an unknown or expired
//! certificate gets an answer that says so instead of a handshake that fails.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};

/// The TLS identity of the server is not usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The certificate does not read.
    #[error("the TLS certificate cannot be read; give it in PEM, followed by its issuers")]
    Certificate,
    /// The key does not read.
    #[error("the TLS key cannot be read; give it in PEM, not encrypted")]
    Key,
    /// The key is of another kind, or belongs to another certificate.
    #[error("the TLS key cannot be used with the certificate: {0}")]
    Unusable(#[source] rustls::Error),
    /// The certificate of an authority for devices does not read.
    #[error("the certificate of the device authority cannot be read: {0}")]
    ClientAuthority(#[source] rustls::Error),
}

/// The server's side of TLS 1.2 and 1.3. Clones share the certificate.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ArcSwap<ServerConfig>>,
    identity: Arc<Identity>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// TLS with a certificate chain (leaf first) and its key in PKCS#8, all in DER. Clients are told that certificates
    /// of `client_authorities` (certificates in DER) are of use here; others are taken all the same.
    ///
    /// # Errors
    ///
    /// [`TlsError`].
    pub fn from_der(chain: Vec<Vec<u8>>, key_pkcs8: &[u8], client_authorities: &[&[u8]]) -> Result<Self, TlsError> {
        Self::new(certified_der(chain, key_pkcs8)?, client_authorities)
    }

    /// As [`from_der`](Self::from_der), with the chain and the key (PKCS#8, PKCS#1 or SEC 1) in PEM.
    ///
    /// # Errors
    ///
    /// [`TlsError`].
    pub fn from_pem(chain: &[u8], key: &[u8], client_authorities: &[&[u8]]) -> Result<Self, TlsError> {
        Self::new(certified_pem(chain, key)?, client_authorities)
    }

    /// Replaces certificate and key: handshakes that start from now on see them.
    ///
    /// # Errors
    ///
    /// [`TlsError`]; the old ones stay.
    pub fn replace_der(&self, chain: Vec<Vec<u8>>, key_pkcs8: &[u8]) -> Result<(), TlsError> {
        self.identity.0.store(Arc::new(certified_der(chain, key_pkcs8)?));
        Ok(())
    }

    /// As [`replace_der`](Self::replace_der), in PEM.
    ///
    /// # Errors
    ///
    /// [`TlsError`]; the old ones stay.
    pub fn replace_pem(&self, chain: &[u8], key: &[u8]) -> Result<(), TlsError> {
        self.identity.0.store(Arc::new(certified_pem(chain, key)?));
        Ok(())
    }

    /// Tells clients that certificates of these authorities (in DER) are of use here, in handshakes that start from now on.
    /// One that does not read is left out: certificates of others are taken all the same.
    ///
    /// # Errors
    ///
    /// [`TlsError`]; what clients are told stays as it was.
    pub fn ask_clients_for(&self, client_authorities: Vec<Vec<u8>>) -> Result<(), TlsError> {
        let mut authorities = RootCertStore::empty();
        authorities.add_parsable_certificates(client_authorities.into_iter().map(CertificateDer::from));
        self.config.store(Arc::new(config(&self.identity, &authorities)?));
        Ok(())
    }

    fn new(identity: CertifiedKey, client_authorities: &[&[u8]]) -> Result<Self, TlsError> {
        let mut authorities = RootCertStore::empty();
        for der in client_authorities {
            authorities
                .add(CertificateDer::from(*der))
                .map_err(TlsError::ClientAuthority)?;
        }
        let identity = Arc::new(Identity(ArcSwap::from_pointee(identity)));
        let config = config(&identity, &authorities)?;
        Ok(Self {
            config: Arc::new(ArcSwap::from_pointee(config)),
            identity,
        })
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }
}

fn config(identity: &Arc<Identity>, authorities: &RootCertStore) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let clients = Arc::new(AnyClient {
        provider: Arc::clone(&provider),
        hints: authorities.subjects(),
    });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Unusable)?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::clone(identity) as Arc<dyn ResolvesServerCert>);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn certified_der(chain: Vec<Vec<u8>>, key_pkcs8: &[u8]) -> Result<CertifiedKey, TlsError> {
    if chain.is_empty() {
        return Err(TlsError::Certificate);
    }
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    certified(chain, PrivatePkcs8KeyDer::from(key_pkcs8.to_vec()).into())
}

fn certified_pem(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, TlsError> {
    let chain = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|chain| !chain.is_empty())
        .ok_or(TlsError::Certificate)?;
    certified(chain, PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Key)?)
}

fn certified(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, TlsError> {
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(TlsError::Unusable)
}

/// The certificate that is served, whatever name the client asks for.
#[derive(Debug)]
struct Identity(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// Takes any client that proves possession of its key, and any client without a certificate.
struct AnyClient {
    provider: Arc<CryptoProvider>,
    hints: Vec<DistinguishedName>,
}

impl fmt::Debug for AnyClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyClient").finish_non_exhaustive()
    }
}

impl ClientCertVerifier for AnyClient {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        // The engine judges the chain with each request: see the head of this file.
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
