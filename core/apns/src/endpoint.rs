//! Where the push service is and whom to trust there.

use std::fmt;
use std::net::SocketAddr;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// A push service: Apple's, or a stand-in that speaks the same protocol.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The host name that is looked up, sent as SNI and `:authority`, and checked in the server's certificate.
    pub host: String,
    /// The TCP port. Apple serves 443 and, for networks that intercept 443, 2197.
    pub port: u16,
    /// Where to connect instead of looking `host` up; for stand-ins, tunnels and fixed addresses.
    pub address: Option<SocketAddr>,
    /// Whom to trust for the server's certificate.
    pub roots: Roots,
}

impl Endpoint {
    /// Apple's production service, `api.push.apple.com:443`, with the operating system's trust roots.
    ///
    /// MDM pushes always use production; there is no development environment for them.
    pub fn apple() -> Self {
        Self {
            host: "api.push.apple.com".to_owned(),
            port: 443,
            address: None,
            roots: Roots::System,
        }
    }

    /// A service at `host` and `port`, with the given trust roots.
    pub fn new(host: impl Into<String>, port: u16, roots: Roots) -> Self {
        Self {
            host: host.into(),
            port,
            address: None,
            roots,
        }
    }

    /// The same endpoint on another port, for example 2197.
    #[must_use]
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The same endpoint, reached at a fixed address.
    #[must_use]
    pub fn with_address(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// The same endpoint with other trust roots.
    #[must_use]
    pub fn with_roots(mut self, roots: Roots) -> Self {
        self.roots = roots;
        self
    }
}

/// Shows `host:port`, and the address if one is fixed.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)?;
        match self.address {
            Some(address) => write!(f, " at {address}"),
            None => Ok(()),
        }
    }
}

/// Whom to trust for the push service's certificate.
#[derive(Debug, Clone)]
pub enum Roots {
    /// The operating system's certificate store (or what `SSL_CERT_FILE` and `SSL_CERT_DIR` name).
    System,
    /// These certificates and no others, as DER.
    Custom(Vec<CertificateDer<'static>>),
}

impl Roots {
    /// Reads the operator's own roots from PEM.
    ///
    /// # Errors
    ///
    /// If the PEM is malformed or holds no certificate.
    pub fn from_pem(pem: &[u8]) -> Result<Self, RootsError> {
        let roots = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        match roots {
            Ok(roots) if roots.is_empty() => Err(RootsError::Empty),
            Ok(roots) => Ok(Self::Custom(roots)),
            Err(_) => Err(RootsError::Malformed),
        }
    }

    /// Reads the system's store from disk if asked to, so call it where blocking is allowed.
    pub(crate) fn load(&self) -> Result<RootCertStore, RootsError> {
        let mut store = RootCertStore::empty();
        match self {
            Self::System => {
                let loaded = rustls_native_certs::load_native_certs();
                let (usable, ignored) = store.add_parsable_certificates(loaded.certs);
                tracing::debug!(
                    apns.roots = usable,
                    apns.roots_ignored = ignored,
                    "loaded system trust roots"
                );
                if store.is_empty() {
                    return Err(RootsError::NoSystemRoots);
                }
            }
            Self::Custom(roots) => {
                // A root that cannot be parsed is the operator's mistake; leaving it out silently would show up as an
                // untrusted server much later.
                for root in roots {
                    store.add(root.clone()).map_err(|_| RootsError::Malformed)?;
                }
                if store.is_empty() {
                    return Err(RootsError::Empty);
                }
            }
        }
        Ok(store)
    }
}

/// Why trust roots could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootsError {
    /// No certificate was given.
    #[error("the trust roots are empty; name a PEM file with at least one CA certificate")]
    Empty,
    /// One of the certificates is not valid PEM or not a valid CA certificate.
    #[error("a trust root cannot be read; it must be a CA certificate as PEM")]
    Malformed,
    /// The operating system has no certificate store, as in a minimal container image.
    #[error("the system has no trust roots; install ca-certificates or name a PEM file with Apple's roots")]
    NoSystemRoots,
}
