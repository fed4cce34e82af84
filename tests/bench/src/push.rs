//! Pushes of the client to a stand-in of APNs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use russet_apns::{ClientOptions, Endpoint, Push, PushCertificate, PushClient, Roots};
use russet_simulator::apns::{ApnsOptions, ApnsStandIn};
use tokio::task::JoinSet;

use crate::Failure;
use crate::report::{Figure, Section};
use crate::scale::Scale;
use crate::stats::{Samples, per_second};

/// The topic of the push certificates of the bench.
pub(crate) const TOPIC: &str = "com.apple.mgmt.External.russet-bench";

const METHOD: &str = "The push client alone: no database. Real HTTP/2 over mutually authenticated TLS on loopback, one \
    connection; the stand-in checks certificate, topic, token and body of each push. Both are in one process and share \
    its two threads, so each has about half of the machine.";

const TOKENS: usize = 1_000;

pub(crate) async fn section(scale: Scale) -> Result<Section, Failure> {
    let apns = ApnsStandIn::start(ApnsOptions::default()).await?;
    let client = client(&apns)?;
    let pushes: Arc<[Push]> = (0..TOKENS)
        .map(|number| Push::new(token(number), "bench-magic"))
        .collect();
    for push in pushes.iter() {
        apns.register(&push.token, TOPIC);
    }
    run(&client, &pushes, 10, scale.pushes() / 10).await?;

    let mut section = Section::new("Pushes to the stand-in", METHOD);
    for concurrency in [1, 100, 1_000] {
        // One at a time takes ten times as long.
        let count = if concurrency == 1 {
            scale.pushes() / 10
        } else {
            scale.pushes()
        };
        let (samples, elapsed) = run(&client, &pushes, concurrency, count).await?;
        let rate = per_second(samples.len(), elapsed);
        let figure = Figure::new(format!("{concurrency} at once"), samples.len(), "")
            .rate(samples.len(), elapsed, "pushes/s")
            .percentiles(&samples);
        section.add(match concurrency {
            1 => figure,
            _ => figure.at_least(
                &format!("pushes, the client alone, {concurrency} at once"),
                rate,
                25_000.0,
                "pushes/s",
            ),
        });
    }
    let (delivered, connections) = (apns.counters().delivered, apns.counters().connections);
    if connections != 1 {
        return Err(format!("{connections} connections carried {delivered} pushes, not one").into());
    }
    Ok(section)
}

fn client(apns: &ApnsStandIn) -> Result<PushClient, Failure> {
    let pem = apns.issue_push_certificate(TOPIC)?;
    let certificate = PushCertificate::from_pem(pem.certificate.as_bytes(), pem.key.as_bytes())?;
    let roots = Roots::from_pem(apns.roots_pem().as_bytes())?;
    let endpoint = Endpoint::new(apns.host(), apns.address().port(), roots).with_address(apns.address());
    Ok(PushClient::new(
        endpoint,
        Arc::new(certificate),
        ClientOptions::default(),
    ))
}

/// A device token of the length that devices have.
pub(crate) fn token(number: usize) -> Vec<u8> {
    let mut token = vec![0xA5; 32];
    token[..8].copy_from_slice(&(number as u64).to_be_bytes());
    token
}

async fn run(
    client: &PushClient,
    pushes: &Arc<[Push]>,
    concurrency: usize,
    count: usize,
) -> Result<(Samples, Duration), Failure> {
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..concurrency {
        let (client, pushes, next) = (client.clone(), Arc::clone(pushes), Arc::clone(&next));
        tasks.spawn(async move {
            let mut samples = Samples::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok::<_, Failure>(samples);
                }
                let started = Instant::now();
                client.push(&pushes[number % pushes.len()]).await?;
                samples.add(started.elapsed());
            }
        });
    }
    let mut samples = Samples::with_capacity(count);
    while let Some(of_task) = tasks.join_next().await {
        samples.merge(of_task??);
    }
    Ok((samples, started.elapsed()))
}
