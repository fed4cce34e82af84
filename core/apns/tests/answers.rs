//! What a push becomes for each answer of the service.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use russet_apns::{ClientOptions, Push, PushError, RetryReason, Scope};
use russet_simulator::apns::{ApnsOptions, Scripted};
use world::{MAGIC, TOPIC, World, client_of, soon, token};

fn configuration(result: Result<russet_apns::Delivered, PushError>) -> (String, Scope) {
    match result {
        Err(error @ PushError::Configuration { .. }) => {
            let scope = error.scope();
            let PushError::Configuration { reason } = error else {
                unreachable!()
            };
            (reason.as_str().to_owned(), scope)
        }
        other => panic!("expected a configuration error, got {other:?}"),
    }
}

fn retry(result: Result<russet_apns::Delivered, PushError>) -> (String, Option<Duration>, Scope) {
    match result {
        Err(PushError::Retry {
            reason: RetryReason::Refused(reason),
            after,
        }) => {
            let text = reason.as_str().to_owned();
            let scope = PushError::Retry {
                reason: RetryReason::Refused(reason),
                after,
            }
            .scope();
            (text, after, scope)
        }
        other => panic!("expected a refusal to try again, got {other:?}"),
    }
}

#[tokio::test]
async fn a_push_reaches_the_device_as_apple_wants_it() {
    let world = World::new().await;
    let device = world.device(1);
    let expiration = Timestamp::from_second(1_900_000_000).unwrap();

    let push = Push {
        token: device.clone(),
        magic: MAGIC.to_owned(),
        expiration: Some(expiration),
    };
    let delivered = soon(world.client.push(&push)).await.unwrap();

    // The stand-in refuses any other path, push type, topic and body.
    let received = soon(world.apns.wait_for_push(&device)).await;
    assert_eq!(received.magic, MAGIC);
    assert_eq!(received.topic, TOPIC);
    assert_eq!(received.token, device);
    assert_eq!(received.expiration, 1_900_000_000);
    assert_eq!(received.priority, 10);
    assert_eq!(delivered.apns_id, Some(received.apns_id));
}

#[tokio::test]
async fn a_push_without_expiration_takes_the_clients_lifetime() {
    let options = ClientOptions {
        lifetime: Duration::from_secs(3_600),
        ..ClientOptions::default()
    };
    let world = World::with(ApnsOptions::default(), options).await;
    let device = world.device(1);
    let before = Timestamp::now();

    soon(world.client.push(&Push::new(device.clone(), MAGIC)))
        .await
        .unwrap();

    let received = soon(world.apns.wait_for_push(&device)).await;
    let expiration = Timestamp::from_second(received.expiration).unwrap();
    let lifetime = expiration.duration_since(before);
    assert!(
        lifetime > SignedDuration::from_secs(3_590) && lifetime < SignedDuration::from_secs(3_700),
        "{lifetime}"
    );
}

#[tokio::test]
async fn a_magic_with_json_characters_arrives_unchanged() {
    let world = World::new().await;
    let device = world.device(1);
    let magic = "quote \" backslash \\ newline \n umlaut ü";

    soon(world.client.push(&Push::new(device.clone(), magic)))
        .await
        .unwrap();

    assert_eq!(soon(world.apns.wait_for_push(&device)).await.magic, magic);
}

#[tokio::test]
async fn a_dead_token_is_told_apart_with_its_time() {
    let world = World::new().await;
    let device = world.device(1);
    let before = Timestamp::now();
    world.apns.unregister(&device);

    match soon(world.client.push(&Push::new(device, MAGIC))).await {
        Err(
            error @ PushError::TokenDead {
                timestamp: Some(timestamp),
            },
        ) => {
            // The wire has milliseconds only.
            assert!(timestamp.as_millisecond() >= before.as_millisecond());
            assert_eq!(error.scope(), Scope::Token);
        }
        other => panic!("expected a dead token, got {other:?}"),
    }
}

#[tokio::test]
async fn refusals_name_apples_reason_and_whom_they_concern() {
    let world = World::new().await;

    let unknown = soon(world.client.push(&Push::new(token(404), MAGIC))).await;
    assert_eq!(configuration(unknown), ("BadDeviceToken".to_owned(), Scope::Token));

    let elsewhere = token(2);
    world.apns.register(&elsewhere, "com.apple.mgmt.External.another");
    let mismatch = soon(world.client.push(&Push::new(elsewhere, MAGIC))).await;
    assert_eq!(
        configuration(mismatch),
        ("DeviceTokenNotForTopic".to_owned(), Scope::Token)
    );

    let device = world.device(3);
    world.apns.answer_next(&device, Scripted::new(403, "BadCertificate"));
    let certificate = soon(world.client.push(&Push::new(device.clone(), MAGIC))).await;
    assert_eq!(
        configuration(certificate),
        ("BadCertificate".to_owned(), Scope::AllPushes)
    );

    // None of it disturbed the connection.
    soon(world.client.push(&Push::new(device, MAGIC))).await.unwrap();
    assert_eq!(world.apns.counters().connections, 1);
}

#[tokio::test]
async fn a_reason_that_nobody_knows_is_kept() {
    let world = World::new().await;
    let device = world.device(1);

    world.apns.answer_next(&device, Scripted::new(400, "BrandNewReason"));
    let answer = soon(world.client.push(&Push::new(device.clone(), MAGIC))).await;
    assert_eq!(configuration(answer), ("BrandNewReason".to_owned(), Scope::AllPushes));

    world.apns.answer_next(
        &device,
        Scripted {
            status: 418,
            reason: None,
            retry_after: None,
        },
    );
    let answer = soon(world.client.push(&Push::new(device, MAGIC))).await;
    assert_eq!(configuration(answer), ("HTTP 418".to_owned(), Scope::AllPushes));
}

#[tokio::test]
async fn a_rate_limit_is_tried_again_after_what_apns_asks() {
    let world = World::new().await;
    let device = world.device(1);

    world
        .apns
        .answer_next(&device, Scripted::new(429, "TooManyRequests").with_retry_after(17));
    let answer = soon(world.client.push(&Push::new(device.clone(), MAGIC))).await;
    assert_eq!(
        retry(answer),
        (
            "TooManyRequests".to_owned(),
            Some(Duration::from_secs(17)),
            Scope::Token
        )
    );

    world.apns.answer_next(&device, Scripted::new(429, "TooManyRequests"));
    let answer = soon(world.client.push(&Push::new(device, MAGIC))).await;
    assert_eq!(retry(answer), ("TooManyRequests".to_owned(), None, Scope::Token));
}

#[tokio::test]
async fn retry_after_may_be_a_date() {
    let world = World::new().await;
    let device = world.device(1);
    let date = |text: &str| Scripted {
        retry_after: Some(text.to_owned()),
        ..Scripted::new(503, "ServiceUnavailable")
    };

    world.apns.answer_next(&device, date("Sun, 06 Nov 1994 08:49:37 GMT"));
    let (_, past, _) = retry(soon(world.client.push(&Push::new(device.clone(), MAGIC))).await);
    assert_eq!(past, Some(Duration::ZERO));

    world.apns.answer_next(&device, date("Fri, 31 Dec 2100 23:59:59 GMT"));
    let (_, future, _) = retry(soon(world.client.push(&Push::new(device.clone(), MAGIC))).await);
    assert!(future > Some(Duration::from_secs(1_000_000)), "{future:?}");

    world.apns.answer_next(&device, date("soon"));
    let (_, neither, _) = retry(soon(world.client.push(&Push::new(device, MAGIC))).await);
    assert_eq!(neither, None);
}

#[tokio::test]
async fn trouble_at_apns_is_tried_again_on_another_connection() {
    let world = World::new().await;
    let device = world.device(1);

    world
        .apns
        .answer_next(&device, Scripted::new(500, "InternalServerError"));
    let (reason, after, scope) = retry(soon(world.client.push(&Push::new(device.clone(), MAGIC))).await);
    assert_eq!(
        (reason.as_str(), after, scope),
        ("InternalServerError", None, Scope::AllPushes)
    );
    assert_eq!(world.apns.counters().connections, 1);

    world
        .apns
        .answer_next(&device, Scripted::new(503, "Shutdown").with_retry_after(2));
    let (reason, after, scope) = retry(soon(world.client.push(&Push::new(device.clone(), MAGIC))).await);
    assert_eq!(
        (reason.as_str(), after, scope),
        ("Shutdown", Some(Duration::from_secs(2)), Scope::AllPushes)
    );

    soon(world.client.push(&Push::new(device, MAGIC))).await.unwrap();
    assert_eq!(world.apns.counters().connections, 2, "a host that shuts down is left");
}

#[tokio::test]
async fn an_empty_token_is_refused_before_anything_is_sent() {
    let world = World::new().await;
    let answer = soon(world.client.push(&Push::new(Vec::new(), MAGIC))).await;
    assert_eq!(configuration(answer), ("MissingDeviceToken".to_owned(), Scope::Token));
    assert_eq!(world.apns.counters().connections, 0);
}

#[tokio::test]
async fn texts_and_debug_output_hold_no_token_magic_or_key() {
    let world = World::new().await;
    let device = world.device(1);
    let push = Push::new(device.clone(), MAGIC);
    world.apns.unregister(&device);
    let error = soon(world.client.push(&push)).await.unwrap_err();

    let pem = world.apns.issue_push_certificate(TOPIC).unwrap();
    let client = client_of(&world.apns, &pem, ClientOptions::default());
    let texts = format!(
        "{push:?} {error:?} {error} {:?} {client:?} {:?}",
        world.client,
        client.certificate()
    );
    assert!(
        !texts.contains(MAGIC) && !texts.contains("a5a5a5") && !texts.contains("165, 165"),
        "{texts}"
    );
    assert!(!texts.to_lowercase().contains("key"), "{texts}");
    assert!(texts.contains(TOPIC));
}
