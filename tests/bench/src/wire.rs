//! A connection that sends requests made before, and reads answers with as little work as that takes: what the load
//! generator needs of two cores, the server does not get.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Failure;

/// The largest answer that is taken.
const LARGEST: usize = 4 << 20;

/// A server, and what it takes to connect to it.
#[derive(Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    roots: Arc<RootCertStore>,
    tls: Arc<ClientConfig>,
}

impl Target {
    /// A server whose certificate is issued by an authority in PEM.
    pub(crate) fn new(address: SocketAddr, authority: &str) -> Result<Self, Failure> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            roots.add(certificate?)?;
        }
        let roots = Arc::new(roots);
        let tls = Arc::new(builder(&roots)?.with_no_client_auth());
        Ok(Self { address, roots, tls })
    }

    /// The same, showing a client certificate.
    pub(crate) fn with_identity(&self, certificate: &[u8], key_pkcs8: &[u8]) -> Result<Self, Failure> {
        let chain = vec![CertificateDer::from(certificate.to_vec())];
        let key = PrivateKeyDer::Pkcs8(key_pkcs8.to_vec().into());
        let tls = builder(&self.roots)?.with_client_auth_cert(chain, key)?;
        Ok(Self {
            tls: Arc::new(tls),
            ..self.clone()
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same server by way of another address.
    pub(crate) fn at(&self, address: SocketAddr) -> Self {
        Self {
            address,
            ..self.clone()
        }
    }

    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await?;
        Ok(Connection {
            stream,
            read: Vec::with_capacity(16 << 10),
        })
    }
}

fn builder(
    roots: &Arc<RootCertStore>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(Arc::clone(roots)))
}

/// A request of HTTP/1.1 as bytes.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    let mut request = request.into_bytes();
    request.extend_from_slice(body);
    request
}

/// One connection that is kept open.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    read: Vec<u8>,
}

/// An answer; its body lies in the connection until the next request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

impl Answer<'_> {
    /// The answer if it says that all is well, and an error with its text otherwise.
    pub(crate) fn accepted(self, what: &str) -> Result<Self, Failure> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let text = String::from_utf8_lossy(self.body);
        Err(format!("{what}: the server answered {}: {}", self.status, text.trim()).into())
    }
}

impl Connection {
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<Answer<'_>, Failure> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        self.read.clear();
        let head = loop {
            if let Some(head) = Head::parse(&self.read)? {
                break head;
            }
            self.more().await?;
        };
        let end = head.length + head.body;
        while self.read.len() < end {
            self.more().await?;
        }
        Ok(Answer {
            status: head.status,
            body: &self.read[head.length..end],
        })
    }

    async fn more(&mut self) -> Result<(), Failure> {
        if self.read.len() > LARGEST {
            return Err("the answer is too large".into());
        }
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }
}

/// What the head of an answer says.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Bytes of the head.
    length: usize,
    /// Bytes of the body.
    body: usize,
}

impl Head {
    fn parse(read: &[u8]) -> Result<Option<Self>, Failure> {
        let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = std::str::from_utf8(&read[..end])?;
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1)?.parse().ok())
            .ok_or("the answer has no status")?;
        let length = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map(|(_, value)| value.trim().parse());
        // Without a body there need not be a length.
        let body = match length {
            Some(length) => length?,
            None if status == 204 || status == 304 => 0,
            None => return Err("the answer has no Content-Length".into()),
        };
        Ok(Some(Self {
            status,
            length: end + 4,
            body,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ncontent-length: 5\r\n\r\nhello";
        assert_eq!(Head::parse(&answer[..30]).unwrap(), None);
        let head = Head::parse(answer).unwrap().unwrap();
        assert_eq!((head.status, head.body), (200, 5));
        assert_eq!(&answer[head.length..], b"hello");
    }

    #[test]
    fn an_answer_of_unknown_length_is_refused() {
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n").is_err());
        assert_eq!(
            Head::parse(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap().body,
            0
        );
    }

    #[test]
    fn requests_have_a_length_and_their_headers() {
        let bytes = request("PUT", "/x", &[("A", "b")], b"body");
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nA: b\r\n\r\nbody"
        );
    }

    #[test]
    fn only_success_is_accepted() {
        let answer = |status| Answer { status, body: b"no" };
        assert!(answer(201).accepted("x").is_ok());
        assert!(answer(403).accepted("x").unwrap_err().to_string().contains("403: no"));
    }
}
