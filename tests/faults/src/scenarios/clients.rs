//! Clients that open connections and do not go on: nobody else waits for them, and the server lets go of them.

use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::fleet::Habits;
use crate::site::{Backend, Extent, Outcome, Site};

/// How many there are at once.
const CLIENTS: u64 = 60;

/// How far a client goes, slowly, before it does not.
#[derive(Clone, Copy, Debug)]
enum Slow {
    /// It connects and says nothing.
    Silent,
    /// It has a TLS connection and says nothing.
    Idle,
    /// It sends the head of a request, a byte at a time.
    Head,
    /// It sends the body of a request, a byte at a time.
    Body,
}

pub(super) async fn slow(extent: Extent) -> Outcome {
    let mut site = Site::start_with(Backend::Sqlite, extent, Habits::default(), |builder| {
        builder
            .set("server.limits.handshake_timeout_seconds", 2)
            .set("server.limits.header_timeout_seconds", 2)
            .set("server.limits.body_timeout_seconds", 2)
            .set("server.limits.idle_timeout_seconds", 2)
    })
    .await;
    let connector = connector(&site.world.server.ca_pem());
    let running = site.run().await;
    for _ in 0..extent.runs {
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let how = *site.random.one(&[Slow::Silent, Slow::Idle, Slow::Head, Slow::Body]);
            let (address, connector) = (site.world.server.address(), connector.clone());
            clients.spawn(async move {
                if let Ok(tcp) = TcpStream::connect(address).await {
                    dawdle(tcp, &connector, how).await;
                }
            });
        }
        site.fleet.advances(30).await;
        let gone = tokio::time::timeout(russet_tests::PATIENCE, async {
            while let Some(ended) = clients.join_next().await {
                ended.expect("no client panics");
            }
        });
        assert!(gone.await.is_ok(), "the server lets slow clients stay");
        site.after_a_fault("slow clients").await;
    }
    site.finish(running).await
}

fn connector(roots_pem: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots_pem.as_bytes()) {
        roots.add(root.expect("a certificate")).expect("a root");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// Ends when the server has hung up.
async fn dawdle(mut tcp: TcpStream, connector: &TlsConnector, how: Slow) {
    if matches!(how, Slow::Silent) {
        let _ = tcp.read(&mut [0; 1]).await;
        return;
    }
    let name = ServerName::try_from("localhost").expect("a name");
    let Ok(mut tls) = connector.connect(name, tcp).await else {
        return;
    };
    const HEAD: &[u8] = b"PUT /mdm/connect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n";
    match how {
        Slow::Silent => {}
        Slow::Idle => {
            let _ = tls.read(&mut [0; 1]).await;
        }
        Slow::Head => drip(&mut tls, &HEAD[..HEAD.len() - 2]).await,
        Slow::Body => {
            if tls.write_all(HEAD).await.is_ok() {
                drip(&mut tls, &[b' '; 10_000]).await;
            }
        }
    }
}

/// A byte at a time, until the other side hangs up; then nothing more.
async fn drip(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), bytes: &[u8]) {
    for byte in bytes {
        let mut answer = [0; 256];
        if stream.write_all(std::slice::from_ref(byte)).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        // An answer may come before the end does: a refusal of what took too long.
        match tokio::time::timeout(Duration::from_millis(50), stream.read(&mut answer)).await {
            Ok(Ok(1..)) | Err(_) => {}
            Ok(_) => return,
        }
    }
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
}
