//! The listener and its connections: TLS with a client certificate, then HTTP/2.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::pki::{ApnsPki, USER_ID};
use super::stall::StallStream;
use super::{Orders, Shared, StartError, service};

/// What every connection is served with.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) max_concurrent_streams: u32,
    pub(super) tls: Arc<ServerConfig>,
}

/// TLS that asks for a push certificate of this stand-in's own authority and takes no connection without one.
pub(super) fn tls_config(pki: &ApnsPki, host: &str, address: IpAddr) -> Result<ServerConfig, StartError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(pki.client_root()?)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let (certificate, key) = pki.issue_server_certificate(host, address)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Accepts connections until the stand-in is dropped.
pub(super) async fn listen(
    listener: TcpListener,
    settings: Settings,
    shared: Arc<Shared>,
    mut orders: watch::Receiver<Orders>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            changed = orders.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        // A failed accept concerns the one connection that was not made, or a shortage of descriptors that passes.
        let Ok((tcp, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        tokio::spawn(serve(tcp, settings.clone(), Arc::clone(&shared), orders.clone()));
    }
}

async fn serve(tcp: TcpStream, settings: Settings, shared: Arc<Shared>, mut orders: watch::Receiver<Orders>) {
    let at_start = *orders.borrow_and_update();
    let ended = tokio::select! {
        ended = handshake(tcp, &settings, &shared) => ended,
        () = cut(&mut orders, at_start) => return,
    };
    let (stream, topic) = match ended {
        Ok(accepted) => accepted,
        Err(error) => {
            tracing::debug!(error = %error, "push service stand-in refused a connection");
            return;
        }
    };
    shared.tally.connections.fetch_add(1, Ordering::SeqCst);

    let topic: Arc<str> = topic.into();
    let service = service_fn(|request| {
        let (shared, topic) = (Arc::clone(&shared), Arc::clone(&topic));
        async move { Ok::<_, std::convert::Infallible>(service::answer(&shared, &topic, request).await) }
    });
    let mut connection = std::pin::pin!(
        http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(settings.max_concurrent_streams)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut leaving = false;
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(error = %error, "push service stand-in lost a connection");
                }
                return;
            }
            changed = orders.changed() => {
                let now = *orders.borrow_and_update();
                if changed.is_err() || now.drop != at_start.drop {
                    return;
                }
                if now.go_away != at_start.go_away && !leaving {
                    leaving = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

type TlsStream = tokio_rustls::server::TlsStream<StallStream<TcpStream>>;

/// Shakes hands and reads the topic from the client's certificate.
async fn handshake(tcp: TcpStream, settings: &Settings, shared: &Shared) -> io::Result<(TlsStream, String)> {
    tcp.set_nodelay(true)?;
    let stream = StallStream::new(tcp, shared.stall.clone());
    let accept = TlsAcceptor::from(Arc::clone(&settings.tls))
        .accept(stream)
        .into_fallible();
    let stream = match accept.await {
        Ok(stream) => stream,
        Err((error, mut stream)) => {
            // Counted first: once the client has the alert, a test may look.
            shared.tally.refused_connections.fetch_add(1, Ordering::SeqCst);
            // Closing a socket with unread data resets it, and the reset would overtake the alert that says why.
            stream.shutdown().await?;
            let mut rest = [0; 1024];
            while stream.read(&mut rest).await? > 0 {}
            return Err(error);
        }
    };
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let topic = certificates.first().and_then(topic_of);
    match topic {
        Some(topic) => Ok((stream, topic)),
        None => {
            shared.tally.refused_connections.fetch_add(1, Ordering::SeqCst);
            Err(io::Error::other("the client certificate names no topic"))
        }
    }
}

fn topic_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let user_id = USER_ID.map(|arc| arc.to_string()).join(".");
    let certificate = Certificate::from_der(certificate).ok()?;
    let attribute = certificate
        .tbs_certificate()
        .subject()
        .iter()
        .find(|attribute| attribute.oid.to_string() == user_id)?;
    String::from_utf8(attribute.value.value().to_vec()).ok()
}

/// Waits until connections are to be cut, or the stand-in is gone.
async fn cut(orders: &mut watch::Receiver<Orders>, at_start: Orders) {
    // An error means that the stand-in is gone, which cuts as well.
    let _ = orders.wait_for(|now| now.drop != at_start.drop).await;
}
