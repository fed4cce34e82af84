//! HTTPS as a device does it: its own trust, its own client certificate, connections kept open.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use russet_protocol::codec::{self, DecodeError, Limits};
use russet_protocol::plist::Dictionary;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::error::{DeviceError, Refusal, Step};
use super::identity::Identity;

/// Which servers a device trusts before a profile tells it more.
#[derive(Debug, Clone, Default)]
pub struct ServerTrust {
    roots: Vec<CertificateDer<'static>>,
}

impl ServerTrust {
    /// Trusts the certificates in a PEM text, and nothing else.
    ///
    /// # Errors
    /// [`DeviceError::Setup`] when there is none or one cannot be read.
    pub fn from_pem(pem: &str) -> Result<Self, DeviceError> {
        let roots: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| DeviceError::Setup(format!("the trusted certificates are not PEM: {error}")))?;
        if roots.is_empty() {
            return Err(DeviceError::Setup(
                "there is no certificate to trust; give at least one in PEM".to_owned(),
            ));
        }
        Ok(Self { roots })
    }

    /// Trusts one certificate more.
    #[must_use]
    pub fn with_der(mut self, certificate: &[u8]) -> Self {
        self.roots.push(CertificateDer::from(certificate.to_vec()));
        self
    }

    /// The trusted certificates in DER.
    pub(crate) fn roots(&self) -> impl Iterator<Item = &[u8]> {
        self.roots.iter().map(AsRef::as_ref)
    }
}

/// An answer as it came, whatever its status.
#[derive(Debug, Clone)]
pub struct RawResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl RawResponse {
    /// The `Content-Type`, when there is a readable one.
    pub fn content_type(&self) -> Option<&str> {
        self.headers.get(http::header::CONTENT_TYPE)?.to_str().ok()
    }

    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as a property list.
    ///
    /// # Errors
    /// When it is none.
    pub fn plist(&self) -> Result<Dictionary, DecodeError> {
        codec::decode(&self.body, &Limits::default())
    }

    /// The answer itself when its status is 2xx.
    ///
    /// # Errors
    /// [`DeviceError::Refused`] otherwise.
    pub fn accepted(self, step: Step) -> Result<Self, DeviceError> {
        if self.status.is_success() {
            return Ok(self);
        }
        Err(DeviceError::Refused(Box::new(Refusal { step, response: self })))
    }
}

/// A request about to be sent.
pub(crate) struct Outgoing<'a> {
    pub(crate) step: Step,
    pub(crate) method: Method,
    pub(crate) url: &'a str,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Builds the client of a device: provider named explicitly, no proxy of the environment, ALPN for HTTP/2 and 1.1.
pub(crate) fn client(
    trust: &ServerTrust,
    anchors: &[Vec<u8>],
    identity: Option<&Identity>,
    user_agent: &'static str,
    timeout: Duration,
) -> Result<reqwest::Client, DeviceError> {
    let mut roots = RootCertStore::empty();
    for root in trust.roots().chain(anchors.iter().map(Vec::as_slice)) {
        roots
            .add(CertificateDer::from(root.to_vec()))
            .map_err(|error| DeviceError::Setup(format!("a trusted certificate cannot be used: {error}")))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(DeviceError::crypto)?
        .with_root_certificates(roots);
    let mut tls = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = vec![CertificateDer::from(identity.certificate().der().to_vec())];
            let key = PrivateKeyDer::Pkcs8(identity.key().to_pkcs8().to_vec().into());
            builder.with_client_auth_cert(chain, key).map_err(DeviceError::crypto)?
        }
    };
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .user_agent(user_agent)
        .timeout(timeout)
        .build()
        .map_err(|error| DeviceError::Setup(format!("the HTTP client cannot be built: {error}")))
}

/// Sends a request and reads the whole answer, whatever its status.
pub(crate) async fn send(client: &reqwest::Client, request: Outgoing<'_>) -> Result<RawResponse, DeviceError> {
    let step = request.step;
    let failed = |source| DeviceError::Transport { step, source };
    let response = client
        .request(request.method, request.url)
        .headers(request.headers)
        .body(request.body)
        .send()
        .await
        .map_err(failed)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.bytes().await.map_err(failed)?;
    Ok(RawResponse { status, headers, body })
}
