//! What becomes of pushes when connections end, hang or are refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use russet_apns::{ClientOptions, Endpoint, Push, PushCertificate, PushClient, PushError, RetryReason, Roots, Scope};
use russet_simulator::apns::{ApnsOptions, ApnsStandIn};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use world::{MAGIC, TOPIC, World, client_of, endpoint_of, soon};

/// Finds a dead connection within fractions of a second, and never by the time limit of the answer.
fn impatient() -> ClientOptions {
    ClientOptions {
        connect_timeout: Duration::from_millis(300),
        ping_interval: Duration::from_millis(100),
        ping_timeout: Duration::from_millis(100),
        ..ClientOptions::default()
    }
}

/// Starts a push in the background.
fn start(world: &World, device: &[u8]) -> tokio::task::JoinHandle<Result<russet_apns::Delivered, PushError>> {
    let (client, push) = (world.client.clone(), Push::new(device, MAGIC));
    tokio::spawn(async move { client.push(&push).await })
}

fn is_connection_trouble(error: &PushError) -> bool {
    matches!(
        error,
        PushError::Retry {
            reason: RetryReason::Connection(_),
            ..
        }
    )
}

#[tokio::test]
async fn a_client_connects_only_when_there_is_something_to_push() {
    let world = World::new().await;
    assert_eq!(world.apns.counters().connections, 0);
    let device = world.device(1);
    for _ in 0..3 {
        soon(world.client.push(&Push::new(device.clone(), MAGIC)))
            .await
            .unwrap();
    }
    assert_eq!(world.apns.counters().connections, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_pushes_at_once_share_one_connection() {
    let world = World::new().await;
    let mut pushes = JoinSet::new();
    for number in 0..1_000 {
        let (client, push) = (world.client.clone(), Push::new(world.device(number), MAGIC));
        pushes.spawn(async move { client.push(&push).await });
    }
    let results = soon(pushes.join_all()).await;
    assert!(results.iter().all(Result::is_ok));
    let counters = world.apns.counters();
    assert_eq!(
        (counters.connections, counters.delivered, counters.refused),
        (1, 1_000, 0)
    );
    for number in 0..1_000 {
        soon(world.apns.wait_for_push(&world::token(number))).await;
    }
}

#[tokio::test]
async fn the_services_limit_of_concurrent_requests_is_kept() {
    // A request beyond the limit would be refused, and the client would leave the connection for another.
    let apns = ApnsOptions {
        max_concurrent_streams: 4,
        ..ApnsOptions::default()
    };
    let world = World::with(apns, ClientOptions::default()).await;
    let device = world.device(0);
    let hold = world.apns.hold(&device);
    let pushes: Vec<_> = (0..60).map(|_| start(&world, &device)).collect();
    soon(hold.reached(4)).await;
    assert_eq!(world.apns.counters().requests, 4);
    hold.release();
    for push in pushes {
        soon(push).await.unwrap().unwrap();
    }
    let counters = world.apns.counters();
    assert_eq!((counters.connections, counters.delivered), (1, 60));
}

#[tokio::test]
async fn the_clients_own_limit_applies_where_it_is_lower() {
    let options = ClientOptions {
        max_in_flight: 2,
        ..ClientOptions::default()
    };
    let world = World::with(ApnsOptions::default(), options).await;
    let device = world.device(0);
    let hold = world.apns.hold(&device);
    let pushes: Vec<_> = (0..20).map(|_| start(&world, &device)).collect();
    soon(hold.reached(2)).await;
    assert_eq!(world.apns.counters().requests, 2);
    hold.release();
    for push in pushes {
        soon(push).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn go_away_lets_pushes_in_flight_end_and_new_ones_go_elsewhere() {
    let world = World::new().await;
    let (slow, quick) = (world.device(1), world.device(2));
    let hold = world.apns.hold(&slow);
    let in_flight = start(&world, &slow);
    soon(hold.reached(1)).await;

    world.apns.go_away();
    // The notice is under way; pushes before and after its arrival must both succeed.
    for _ in 0..20 {
        soon(world.client.push(&Push::new(quick.clone(), MAGIC))).await.unwrap();
    }
    hold.release();
    soon(in_flight).await.unwrap().unwrap();
    soon(world.client.push(&Push::new(quick, MAGIC))).await.unwrap();

    let counters = world.apns.counters();
    assert_eq!(
        (counters.connections, counters.delivered),
        (2, 22),
        "nothing was sent twice"
    );
}

#[tokio::test]
async fn a_push_whose_connection_is_cut_is_sent_once_more() {
    let world = World::new().await;
    let device = world.device(1);
    let hold = world.apns.hold(&device);
    let in_flight = start(&world, &device);
    soon(hold.reached(1)).await;
    world.apns.drop_connections();
    soon(hold.reached(2)).await;
    hold.release();
    soon(in_flight).await.unwrap().unwrap();
    assert_eq!(world.apns.counters().connections, 2);
}

#[tokio::test]
async fn a_push_whose_connection_is_cut_twice_is_left_to_the_caller() {
    let world = World::new().await;
    let device = world.device(1);
    let hold = world.apns.hold(&device);
    let in_flight = start(&world, &device);
    for requests in 1..=2 {
        soon(hold.reached(requests)).await;
        world.apns.drop_connections();
    }
    let error = soon(in_flight).await.unwrap().unwrap_err();
    assert!(is_connection_trouble(&error), "{error:?}");
    assert_eq!(error.scope(), Scope::AllPushes);
    assert_eq!(world.apns.counters().requests, 2);
    hold.release();
    soon(world.client.push(&Push::new(device, MAGIC))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_pushes_survive_the_loss_of_their_connection() {
    let world = World::new().await;
    let device = world.device(1);
    let hold = world.apns.hold(&device);
    let pushes: Vec<_> = (0..1_000).map(|_| start(&world, &device)).collect();
    soon(hold.reached(1_000)).await;
    world.apns.drop_connections();
    soon(hold.reached(2_000)).await;
    hold.release();
    for push in pushes {
        soon(push).await.unwrap().unwrap();
    }
    assert_eq!(
        world.apns.counters().connections,
        2,
        "they share the new connection too"
    );
}

#[tokio::test]
async fn a_half_open_connection_is_found_by_ping() {
    let world = World::with(ApnsOptions::default(), impatient()).await;
    let device = world.device(1);
    soon(world.client.push(&Push::new(device.clone(), MAGIC)))
        .await
        .unwrap();

    world.apns.stall(true);
    // The ping finds the old connection dead; the new one cannot finish its handshake.
    let error = soon(world.client.push(&Push::new(device.clone(), MAGIC)))
        .await
        .unwrap_err();
    assert!(is_connection_trouble(&error), "{error:?}");

    world.apns.stall(false);
    soon(world.client.push(&Push::new(device, MAGIC))).await.unwrap();
}

#[tokio::test]
async fn pushes_that_wait_for_the_same_failing_connection_fail_together() {
    let options = ClientOptions {
        connect_timeout: Duration::from_secs(1),
        ..ClientOptions::default()
    };
    let world = World::with(ApnsOptions::default(), options).await;
    let device = world.device(1);
    world.apns.stall(true);
    // One after the other they would take 50 seconds, more than `soon` allows.
    let pushes: Vec<_> = (0..50).map(|_| start(&world, &device)).collect();
    soon(async {
        for push in pushes {
            assert!(is_connection_trouble(&push.await.unwrap().unwrap_err()));
        }
    })
    .await;
    world.apns.stall(false);
    soon(world.client.push(&Push::new(device, MAGIC))).await.unwrap();
}

#[tokio::test]
async fn a_service_that_answers_pings_but_nothing_else_is_left() {
    let options = ClientOptions {
        response_timeout: Duration::from_millis(200),
        ..impatient()
    };
    let world = World::with(ApnsOptions::default(), options).await;
    let (stuck, device) = (world.device(1), world.device(2));
    let hold = world.apns.hold(&stuck);
    let error = soon(world.client.push(&Push::new(stuck, MAGIC))).await.unwrap_err();
    assert_eq!(
        error,
        PushError::Retry {
            reason: RetryReason::NoAnswer,
            after: None
        }
    );
    soon(world.client.push(&Push::new(device, MAGIC))).await.unwrap();
    assert_eq!(world.apns.counters().connections, 2);
    hold.release();
}

#[tokio::test]
async fn nobody_listening_is_passing_trouble() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let apns = ApnsStandIn::start(ApnsOptions::default()).await.unwrap();
    let pem = apns.issue_push_certificate(TOPIC).unwrap();
    let certificate = PushCertificate::from_pem(pem.certificate.as_bytes(), pem.key.as_bytes()).unwrap();
    let endpoint = endpoint_of(&apns).with_address(address);
    let client = PushClient::new(endpoint, Arc::new(certificate), ClientOptions::default());
    let error = soon(client.push(&Push::new(world::token(1), MAGIC))).await.unwrap_err();
    assert!(is_connection_trouble(&error), "{error:?}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn an_expired_push_certificate_is_a_matter_of_configuration() {
    let apns = ApnsStandIn::start(ApnsOptions::default()).await.unwrap();
    let now = SystemTime::now();
    let day = Duration::from_secs(86_400);
    let pem = apns
        .pki()
        .issue_push_certificate_valid(TOPIC, now - 2 * day, now - day)
        .unwrap();
    let client = client_of(&apns, &pem, ClientOptions::default());
    apns.register(&world::token(1), TOPIC);

    match soon(client.push(&Push::new(world::token(1), MAGIC))).await {
        Err(error @ PushError::Configuration { .. }) => {
            assert_eq!(error.scope(), Scope::AllPushes);
            assert!(error.to_string().contains("has not expired"), "{error}");
        }
        other => panic!("expected a configuration error, got {other:?}"),
    }
    assert_eq!(apns.counters().refused_connections, 1, "it is not tried again");
}

#[tokio::test]
async fn a_service_that_is_not_trusted_is_a_matter_of_configuration() {
    let world = World::new().await;
    let other = ApnsStandIn::start(ApnsOptions::default()).await.unwrap();
    let pem = world.apns.issue_push_certificate(TOPIC).unwrap();
    let certificate = PushCertificate::from_pem(pem.certificate.as_bytes(), pem.key.as_bytes()).unwrap();
    let roots = Roots::from_pem(other.roots_pem().as_bytes()).unwrap();
    let client = PushClient::new(
        endpoint_of(&world.apns).with_roots(roots),
        Arc::new(certificate),
        ClientOptions::default(),
    );
    let error = soon(client.push(&Push::new(world.device(1), MAGIC))).await.unwrap_err();
    assert!(matches!(error, PushError::Configuration { .. }), "{error:?}");
}

#[tokio::test]
async fn the_host_name_is_checked_even_at_a_fixed_address() {
    let world = World::new().await;
    let certificate = Arc::clone(world.client.certificate());
    let endpoint = Endpoint {
        host: "push.example.org".to_owned(),
        ..endpoint_of(&world.apns)
    };
    let client = PushClient::new(endpoint, certificate, ClientOptions::default());
    let error = soon(client.push(&Push::new(world.device(1), MAGIC))).await.unwrap_err();
    assert!(matches!(error, PushError::Configuration { .. }), "{error:?}");
}

#[tokio::test]
async fn a_stopped_service_is_found_again_at_a_new_start() {
    let world = World::new().await;
    let device = world.device(1);
    soon(world.client.push(&Push::new(device.clone(), MAGIC)))
        .await
        .unwrap();
    let World { apns, client } = world;
    let (address, kept) = (apns.address(), apns.pki().to_pem());
    drop(apns);

    let pki = Some(russet_simulator::apns::ApnsPki::from_pem(&kept).unwrap());
    // The old listener closes in its own task, so the port may still be taken for a moment.
    let apns = soon(async {
        let mut pki = pki;
        loop {
            match TcpListener::bind(address).await {
                Ok(probe) => drop(probe),
                Err(_) => {
                    tokio::task::yield_now().await;
                    continue;
                }
            }
            let options = ApnsOptions {
                listen: address,
                pki: pki.take(),
                ..ApnsOptions::default()
            };
            break ApnsStandIn::start(options).await.unwrap();
        }
    })
    .await;
    apns.register(&device, TOPIC);
    soon(client.push(&Push::new(device, MAGIC))).await.unwrap();
}
