//! What a plugin's own tests see of the host, outside WebAssembly.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, SystemTime};

use russet_plugin::command::{CommandRequest, Requester};
use russet_plugin::escrow::{EscrowRequest, Kind};
use russet_plugin::gate::Stage;
use russet_plugin::observer::{self, Event};
use russet_plugin::planner::{Declaration, PlanRequest};
use russet_plugin::scheduled::ScheduledRun;
use russet_plugin::testing::{Effect, Host};
use russet_plugin::{Device, Person, effects, http, inventory, kv, random, secrets, signer};
use serde_json::json;

#[test]
fn names_that_are_not_known_stay_what_they_are() {
    assert_eq!(Stage::from("authenticate"), Stage::Authenticate);
    let later = Stage::from("some-later-stage");
    assert_eq!(later, Stage::Other("some-later-stage".to_owned()));
    assert_eq!(later.to_string(), "some-later-stage");
    let event = Event::builder("plugin.other.happened").detail(r#"{"a": 1}"#).build();
    assert_eq!(event.kind().as_str(), "plugin.other.happened");
    assert!(matches!(event.kind(), observer::Kind::Other(_)));
    assert_eq!(event.detail_as::<serde_json::Value>().unwrap(), json!({"a": 1}));
}

#[test]
fn inputs_hold_what_they_were_built_of() {
    let command = CommandRequest::builder("EraseDevice")
        .targets(3)
        .destructive(true)
        .build();
    assert_eq!((command.targets(), command.destructive()), (3, true));
    assert_eq!(command.requester(), Requester::Administrator("admin".to_owned()));
    assert_eq!(
        command.command_as::<serde_json::Value>().unwrap(),
        json!({"RequestType": "EraseDevice"})
    );
    let escrow = EscrowRequest::builder(Kind::UnlockToken).secret(*b"s").build();
    assert_eq!(
        (escrow.kind(), escrow.secret()),
        (Kind::UnlockToken, Some(b"s".to_vec()))
    );
    let plan = PlanRequest::builder()
        .status("device.model.family", json!("Mac"))
        .build();
    assert_eq!(
        plan.status_as::<String>("device.model.family"),
        Ok(Some("Mac".to_owned()))
    );
    assert_eq!(plan.status_as::<String>("other"), Ok(None));
    let error = plan.status_as::<u32>("device.model.family").unwrap_err();
    assert!(error.to_string().contains("`device.model.family`"), "{error}");
    let run = ScheduledRun::builder("nightly").payload("[1]").attempt(2).build();
    assert_eq!((run.payload_as::<Vec<u8>>(), run.attempt()), (Ok(vec![1]), 2));
    let activation = Declaration::activation("on", ["passcode"], Some("true"));
    assert_eq!(
        activation.payload,
        json!({"StandardConfigurations": ["passcode"], "Predicate": "true"})
    );
}

#[test]
fn values_expire_and_are_replaced_only_as_they_were_read() {
    let host = Host::new().now_ms(1_000).install();
    kv::set_for("short", b"x", Duration::from_millis(500)).unwrap();
    kv::set("long", b"y").unwrap();
    assert_eq!(kv::get("short").unwrap().unwrap().expires_at_ms, Some(1_500));
    assert_eq!(kv::keys("", None, 10).unwrap(), ["long", "short"]);
    assert_eq!(kv::keys("", Some("long"), 10).unwrap(), ["short"]);
    host.set_now_ms(1_500);
    assert_eq!(kv::get("short"), Ok(None));

    let read = kv::get("long").unwrap().unwrap();
    kv::set("long", b"changed").unwrap();
    assert_eq!(kv::compare_and_set("long", Some(read.version), b"z", None), Ok(false));
    assert_eq!(kv::compare_and_set("long", None, b"z", None), Ok(false));
    assert_eq!(kv::compare_and_set("new", None, b"z", None), Ok(true));
    assert_eq!(kv::delete("new"), Ok(true));
    assert_eq!(kv::delete("new"), Ok(false));
    assert!(matches!(kv::set("", b""), Err(kv::Error::Invalid(_))));
    assert!(matches!(kv::set("k", &[0; 65_537]), Err(kv::Error::Invalid(_))));

    kv::set_json("json", &json!({"n": 1})).unwrap();
    let error = kv::get_json::<u32>("json").unwrap_err();
    assert!(error.to_string().starts_with("stored value `json`: "), "{error}");
    assert_eq!(host.kv("long"), Some(b"changed".to_vec()));
}

#[test]
fn an_update_is_made_again_when_another_call_was_faster() {
    let _host = Host::new().install();
    kv::set_json("count", &1).unwrap();
    let mut tries = 0;
    let count = kv::update_json("count", |count: Option<u32>| {
        tries += 1;
        if tries == 1 {
            kv::set_json("count", &10).unwrap();
        }
        count.unwrap_or(0) + 1
    });
    assert_eq!((count, tries), (Ok(11), 2));
    let never = kv::update_json("count", |count: Option<u32>| {
        kv::set_json("count", &0).unwrap();
        count.unwrap_or(0)
    });
    assert!(
        never
            .unwrap_err()
            .to_string()
            .contains("`count` is changed by other calls")
    );
}

#[test]
fn devices_are_found_by_their_names_attributes_and_people() {
    let ada = Person::builder("1", "ada").build();
    let device = |id: &str, site: &str| Device::builder().enrollment_id(id).attribute("site", site).build();
    let _host = Host::new()
        .device(device("b", "hq"), None)
        .device(device("a", "hq"), Some(ada))
        .device(device("c", "lab"), None)
        .install();
    let ids = |found: Vec<inventory::Found>| -> Vec<String> {
        found.iter().filter_map(|found| found.device.enrollment_id()).collect()
    };
    assert_eq!(
        ids(inventory::devices_with_attribute("site", "hq", None, 10).unwrap()),
        ["a", "b"]
    );
    assert_eq!(
        ids(inventory::devices_with_attribute("site", "hq", Some("a"), 10).unwrap()),
        ["b"]
    );
    assert_eq!(
        ids(inventory::devices_with_attribute("site", "hq", None, 1).unwrap()),
        ["a"]
    );
    assert_eq!(ids(inventory::devices_of_person("ada").unwrap()), ["a"]);
    assert!(inventory::find_device("c").unwrap().is_some());
    assert!(inventory::find_device("d").unwrap().is_none());
}

#[test]
fn values_can_not_leave_their_place_in_a_path() {
    let request = http::get("hr", "/Users").segment("a/../b?c#d").query("q", "x&y=z é");
    assert_eq!(request.path, "/Users/a%2F..%2Fb%3Fc%23d?q=x%26y%3Dz%20%C3%A9");
    let _host = Host::new()
        .http("hr", |request| {
            assert_eq!(
                request.headers,
                [("content-type".to_owned(), "application/json".to_owned())]
            );
            Ok(http::Response::new(503))
        })
        .install();
    let answer = http::post("hr", "/").json(&json!({"a": 1})).unwrap().send().unwrap();
    let error = answer.ok().unwrap_err();
    assert_eq!(error.to_string(), "the http server answered with status 503");
    assert!(matches!(
        http::get("other", "/").send(),
        Err(http::Error::NotGranted(_))
    ));
}

#[test]
fn secrets_and_signatures() {
    let host = Host::new().secret("hook", *b"key").install();
    // RFC 2104 with SHA-256, of `The quick brown fox jumps over the lazy dog` under `key`.
    let mac = signer::hmac_sha256("hook", b"The quick brown fox jumps over the lazy dog").unwrap();
    let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8");
    assert!(matches!(
        signer::hmac_sha256("none", b""),
        Err(signer::Error::Invalid(_))
    ));
    assert!(matches!(signer::sign("k", b""), Err(signer::Error::Unavailable(_))));
    let sealed = secrets::seal(b"x").unwrap();
    assert_eq!(secrets::open(&sealed).unwrap(), b"x");
    assert!(matches!(secrets::open(b"x"), Err(secrets::Error::Invalid(_))));
    secrets::put("new", b"y").unwrap();
    assert_eq!(host.secret("new"), Some(b"y".to_vec()));
}

#[test]
fn random_numbers_of_a_seed_are_the_same() {
    let numbers = |seed| {
        let _host = Host::new().random(seed).install();
        (random::bytes(5_000), random::u64())
    };
    assert_eq!(numbers(1), numbers(1));
    assert_ne!(numbers(1), numbers(2));
    assert_eq!(numbers(1).0.len(), 5_000);
}

#[test]
fn effects_are_collected_in_order() {
    let host = Host::new().install();
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(60);
    let uuid = effects::of("E1")
        .command(&json!({"RequestType": "DeviceLock"}))
        .priority(-1)
        .not_before(at)
        .dedupe_key("lock")
        .enqueue()
        .unwrap();
    effects::schedule_call("later", at, "{}").unwrap();
    effects::clear_attribute("site").unwrap();
    assert!(matches!(
        effects::command(&json!(["no", "object"])).enqueue(),
        Err(effects::Error::Invalid(_))
    ));
    assert_eq!(
        host.effects(),
        [
            Effect::EnqueueCommand {
                enrollment: Some("E1".to_owned()),
                uuid,
                command: json!({"RequestType": "DeviceLock"}),
                priority: -1,
                not_before_ms: Some(60_000),
                expires_at_ms: None,
                dedupe_key: Some("lock".to_owned()),
            },
            Effect::ScheduleCall {
                name: "later".to_owned(),
                at_ms: 60_000,
                payload: "{}".to_owned(),
            },
            Effect::ClearAttribute {
                enrollment: None,
                name: "site".to_owned(),
            },
        ]
    );
}
