//! What goes over the wire: a device's connection to a server process, through a relay that counts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use russet_apns::{ClientOptions, Endpoint, Push, PushCertificate, PushClient, Roots};
use russet_simulator::apns::{ApnsOptions, ApnsStandIn};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::Failure;
use crate::fleet::{self, Device};
use crate::process::Installation;
use crate::push;
use crate::report::{Figure, Section};
use crate::scale::Scale;
use crate::wire::Target;

/// Passes connections on, and counts the bytes of TCP in each direction, those of TLS included.
struct Relay {
    address: SocketAddr,
    up: Arc<AtomicU64>,
    down: Arc<AtomicU64>,
}

impl Relay {
    async fn start(to: SocketAddr) -> Result<Self, Failure> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let relay = Self {
            address: listener.local_addr()?,
            up: Arc::default(),
            down: Arc::default(),
        };
        let (up, down) = (Arc::clone(&relay.up), Arc::clone(&relay.down));
        tokio::spawn(async move {
            // Ends with the runtime; a connection that cannot be passed on is the bench's to notice.
            while let Ok((device, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(to).await else {
                    return;
                };
                let ((from_device, to_device), (from_server, to_server)) = (device.into_split(), server.into_split());
                tokio::spawn(pass(from_device, to_server, Arc::clone(&up)));
                tokio::spawn(pass(from_server, to_device, Arc::clone(&down)));
            }
        });
        Ok(relay)
    }

    fn counted(&self) -> (u64, u64) {
        (self.up.load(Ordering::SeqCst), self.down.load(Ordering::SeqCst))
    }
}

/// Counts before it passes on: who has read an answer finds it counted.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, counter: Arc<AtomicU64>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        counter.fetch_add(read as u64, Ordering::SeqCst);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

pub(super) async fn measure(scale: Scale, section: &mut Section) -> Result<(), Failure> {
    let apns = ApnsStandIn::start(ApnsOptions::default()).await?;
    let installation = Installation::new(None, Some(&apns))?;
    let server = installation.start().await?;
    let mut administrator = server.administrator().await?;
    let certificate = apns.issue_push_certificate(push::TOPIC)?;
    let certificate = json!({"certificate_pem": certificate.certificate, "private_key_pem": certificate.key});
    administrator.send("PUT", "push-certificates", &certificate).await?;
    let gate = json!({"serial_numbers": {"allow": ["BENCH*"]}});
    administrator.install("enrollment-gate", Some(gate)).await?;
    let relay = Relay::start(server.target.address()).await?;
    let target = server.target.at(relay.address);
    let count = scale.tenfold_operations().min(200);

    let before = relay.counted();
    let devices = fleet::identified(&target, 1).await?;
    let device = devices.first().ok_or("no device")?;
    let mut connection = target.connect().await?;
    connection
        .send(&device.authenticate()?)
        .await?
        .accepted("Authenticate")?;
    connection
        .send(&device.token_update()?)
        .await?
        .accepted("TokenUpdate")?;
    let how = "profile, SCEP, Authenticate and TokenUpdate over two connections";
    section.add(figure("network: an enrollment", before, relay.counted(), 1, how));

    for (what, signed) in [("`Mdm-Signature`", true), ("TLS client certificate", false)] {
        polls(&relay, &target, device, signed, what, count, section).await?;
    }
    server.stop().await?;
    pushes(&apns, count, section).await
}

/// One certificate, one connection.
async fn pushes(apns: &ApnsStandIn, count: usize, section: &mut Section) -> Result<(), Failure> {
    let relay = Relay::start(apns.address()).await?;
    let pem = apns.issue_push_certificate(push::TOPIC)?;
    let certificate = PushCertificate::from_pem(pem.certificate.as_bytes(), pem.key.as_bytes())?;
    let roots = Roots::from_pem(apns.roots_pem().as_bytes())?;
    let endpoint = Endpoint::new(apns.host(), apns.address().port(), roots).with_address(relay.address);
    let client = PushClient::new(endpoint, Arc::new(certificate), ClientOptions::default());
    let pushes: Vec<Push> = (0..=count)
        .map(|number| Push::new(push::token(number), "2F1C5E52-0B5A-4F0B-9C1D-5C0F7E6B9A10"))
        .collect();
    let (Some(first), rest) = (pushes.first(), pushes.get(1..).unwrap_or_default()) else {
        return Err("there is nothing to push".into());
    };
    for push in &pushes {
        apns.register(&push.token, push::TOPIC);
    }
    client.push(first).await?;
    let before = relay.counted();
    for push in rest {
        client.push(push).await?;
    }
    let (up, down) = relay.counted();
    let each = |before: u64, after: u64| (after - before) as f64 / rest.len() as f64;
    section.add(
        Figure::new(
            "network: a push",
            rest.len(),
            "over the open connection of its certificate",
        )
        .with("to APNs", each(before.0, up), "bytes")
        .with("from APNs", each(before.1, down), "bytes"),
    );
    Ok(())
}

async fn polls(
    relay: &Relay,
    target: &Target,
    device: &Device,
    signed: bool,
    what: &str,
    count: usize,
    section: &mut Section,
) -> Result<(), Failure> {
    let (target, request) = if signed {
        (target.clone(), device.idle()?)
    } else {
        (device.target(target)?, device.unsigned_idle()?)
    };
    let before = relay.counted();
    let mut connection = target.connect().await?;
    connection.send(&request).await?.accepted("a poll")?;
    let first = relay.counted();
    for _ in 0..count {
        connection.send(&request).await?.accepted("a poll")?;
    }
    let how = match signed {
        true => "a TLS 1.3 session that is resumed, and one poll",
        false => "a whole handshake of TLS 1.3, and one poll",
    };
    section.add(figure(
        &format!("network: a poll over a new connection, {what}"),
        before,
        first,
        1,
        how,
    ));
    let how = "each further poll";
    section.add(figure(
        &format!("network: a poll over an open one, {what}"),
        first,
        relay.counted(),
        count,
        how,
    ));
    Ok(())
}

fn figure(what: &str, before: (u64, u64), after: (u64, u64), count: usize, how: &str) -> Figure {
    let each = |before: u64, after: u64| (after - before) as f64 / count as f64;
    Figure::new(what, count, how)
        .with("from the device", each(before.0, after.0), "bytes")
        .with("to the device", each(before.1, after.1), "bytes")
}
