//! Pushes over the stand-in of Apple's service: dead tokens, refusals, coalescing, lost connections, certificates.

use std::time::{Duration, SystemTime};

use russet_simulator::SimulatedDevice;
use russet_simulator::apns::Scripted;
use russet_tests::{TOPIC, World, eventually, soon};
use serde_json::{Value, json};

const MAC: &str = "C02PUSH00001";

async fn world() -> (World, SimulatedDevice) {
    let world = World::builder().without_gate().start().await;
    let mac = world.enrolled(MAC).await;
    (world, mac)
}

fn token(mac: &SimulatedDevice) -> Vec<u8> {
    mac.push_credentials().unwrap().token.expose().to_vec()
}

async fn parked(world: &World) -> Value {
    world.admin.device(MAC).await["push"]["parked_at"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_token_is_parked_until_the_device_has_a_new_one() {
    let (world, mac) = world().await;
    world.apns.unregister(&token(&mac));
    let uuid = world
        .admin
        .command(&[MAC], json!({"RequestType": "SecurityInfo"}))
        .await;
    eventually("the token is parked", || async {
        (!parked(&world).await.is_null()).then_some(())
    })
    .await;

    // Nobody is pushed in vain any more, and whoever asks for it is told.
    let requests = world.apns.counters().requests;
    world.admin.command(&[MAC], json!({"RequestType": "ProfileList"})).await;
    let error = world
        .admin
        .post(&format!("/devices/{MAC}/push"), &json!({}))
        .await
        .refused(422);
    assert!(error.to_string().contains("no push token that works"), "{error}");

    mac.renew_push_credentials();
    world.listen(&mac);
    mac.token_update().await.unwrap();
    assert!(parked(&world).await.is_null());
    assert_eq!(
        world.admin.finished(&uuid).await["devices"][0]["state"],
        "acknowledged",
        "what waited wakes it"
    );
    assert_eq!(world.apns.counters().refused, 1);
    assert!(world.apns.counters().requests > requests);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_apple_refuses_for_now_is_tried_again() {
    let (world, mac) = world().await;
    let token = token(&mac);
    world.apns.answer_next(&token, Scripted::new(503, "ServiceUnavailable"));
    world
        .apns
        .answer_next(&token, Scripted::new(429, "TooManyRequests").with_retry_after(1));
    world.listen(&mac);
    let uuid = world
        .admin
        .command(&[MAC], json!({"RequestType": "SecurityInfo"}))
        .await;
    assert_eq!(world.admin.finished(&uuid).await["devices"][0]["state"], "acknowledged");
    let counters = world.apns.counters();
    assert_eq!((counters.refused, counters.delivered), (2, 1), "{counters:?}");
    assert!(parked(&world).await.is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_commands_are_few_pushes() {
    let (world, mac) = world().await;
    let hold = world.apns.hold(&token(&mac));
    let mut commands = Vec::new();
    for number in 0..20 {
        let command = json!({"RequestType": "InstalledApplicationList", "Identifiers": [format!("app{number}")]});
        commands.push(world.admin.command(&[MAC], command).await);
    }
    soon("the first push is on its way", hold.reached(1)).await;
    assert_eq!(
        world.apns.counters().requests,
        1,
        "one push is on its way, and the others wait for it"
    );
    world.listen(&mac);
    hold.release();
    for uuid in commands {
        assert_eq!(world.admin.finished(&uuid).await["devices"][0]["state"], "acknowledged");
    }
    let counters = world.apns.counters();
    assert!(counters.requests <= 2, "{counters:?}");
    assert_eq!(mac.answered().len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_a_killed_server_had_on_its_way_holds_nothing_up() {
    let world = World::builder().without_gate().at_a_lasting_address();
    let mut world = world.set("push.lease_seconds", 3_600).start().await;
    let mac = world.enrolled(MAC).await;
    let hold = world.apns.hold(&token(&mac));
    let first = json!({"RequestType": "SecurityInfo"});
    let first = world.admin.command(&[MAC], first).await;
    soon("the push is on its way", hold.reached(1)).await;
    world.server.kill();
    hold.release();
    world.listen(&mac);
    world.server.resume().await.unwrap();
    world.admin.reach().await;
    let second = json!({"RequestType": "ProfileList"});
    let second = world.admin.command(&[MAC], second).await;
    for uuid in [first, second] {
        assert_eq!(world.admin.finished(&uuid).await["devices"][0]["state"], "acknowledged");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_made_again() {
    let (world, mac) = world().await;
    world.listen(&mac);
    for lose in [
        |world: &World| world.apns.drop_connections(),
        |world: &World| world.apns.go_away(),
        |_: &World| {},
    ] {
        let uuid = world
            .admin
            .command(&[MAC], json!({"RequestType": "SecurityInfo"}))
            .await;
        assert_eq!(world.admin.finished(&uuid).await["devices"][0]["state"], "acknowledged");
        lose(&world);
    }
    assert!(world.apns.counters().connections >= 2, "{:?}", world.apns.counters());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_carries_the_devices_own_magic_and_lasts_as_long_as_the_setting_says() {
    let world = World::builder()
        .without_gate()
        .set("push.lifetime_seconds", 3600)
        .start()
        .await;
    let mac = world.enrolled(MAC).await;
    let accepted = world.admin.post(&format!("/devices/{MAC}/push"), &json!({})).await;
    assert_eq!(accepted.status, 202);
    let push = soon("the push comes", world.apns.wait_for_push(&token(&mac))).await;
    assert_eq!(push.topic, TOPIC);
    assert_eq!(push.magic, mac.push_credentials().unwrap().magic.expose());
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let left = push.expiration - i64::try_from(now).unwrap();
    assert!((3500..=3700).contains(&left), "{left}");
    // Neither token nor magic is in the log.
    let log = world.server.log();
    assert!(!log.contains(&hex::encode(token(&mac))) && !log.contains(&push.magic));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_push_is_refused() {
    let world = World::builder().without_gate().without_push_certificate().start().await;
    let put = async |certificate: &str, key: &str| {
        world
            .admin
            .put(
                "/push-certificates",
                &json!({"certificate_pem": certificate, "private_key_pem": key}),
            )
            .await
    };
    let good = world.apns.issue_push_certificate(TOPIC).unwrap();
    let other = world.apns.issue_push_certificate(TOPIC).unwrap();
    let day = Duration::from_secs(24 * 3600);
    let now = SystemTime::now();
    let expired = world
        .apns
        .pki()
        .issue_push_certificate_valid(TOPIC, now - 2 * day, now - day)
        .unwrap();
    let nobody = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let cases = [
        ("no UID", nobody.cert.pem(), nobody.signing_key.serialize_pem(), "UID"),
        ("another one's key", good.certificate.clone(), other.key.clone(), "key"),
        ("expired", expired.certificate, expired.key, "expired"),
        ("no PEM", "nonsense".to_owned(), good.key.clone(), ".pem"),
    ];
    for (what, certificate, key, reason) in cases {
        let error = put(&certificate, &key).await.refused(422);
        assert!(error["message"].as_str().unwrap().contains(reason), "{what}: {error}");
        assert!(
            !world.server.log().contains("PRIVATE KEY"),
            "{what}: a key is in the log"
        );
    }
    assert!(world.admin.list("/push-certificates").await.is_empty());
    assert_eq!(put(&good.certificate, &good.key).await.ok()["topic"], TOPIC);

    // A renewal takes the place of the one before, and pushes go on.
    assert_eq!(put(&other.certificate, &other.key).await.ok()["topic"], TOPIC);
    assert_eq!(world.admin.list("/push-certificates").await.len(), 1);
    let mac = world.enrolled(MAC).await;
    world.listen(&mac);
    let uuid = world
        .admin
        .command(&[MAC], json!({"RequestType": "SecurityInfo"}))
        .await;
    assert_eq!(world.admin.finished(&uuid).await["devices"][0]["state"], "acknowledged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_hangs_holds_no_other_up() {
    let (world, mac) = world().await;
    let other = world.enrolled("C02PUSH00002").await;
    let hold = world.apns.hold(&token(&mac));
    world
        .admin
        .command(&[MAC], json!({"RequestType": "SecurityInfo"}))
        .await;
    soon("the push is on its way", hold.reached(1)).await;
    world.listen(&other);
    let uuid = world
        .admin
        .command(&["C02PUSH00002"], json!({"RequestType": "SecurityInfo"}))
        .await;
    let done = tokio::time::timeout(Duration::from_secs(5), world.admin.finished(&uuid)).await;
    assert_eq!(
        done.expect("the other's push is sent meanwhile")["devices"][0]["state"],
        "acknowledged"
    );
    hold.release();
}
