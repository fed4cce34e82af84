use russet_plugin::Device;
use russet_plugin::command::CommandRequest;
use russet_plugin::testing::Host;
use serde_json::{Value, json};

use super::*;

fn decide(settings: &Settings, request: &CommandRequest<'_>) -> String {
    match Guard::check(settings.clone(), request).unwrap() {
        Verdict::Allow => "allow".to_owned(),
        Verdict::Hold { reason, .. } => format!("hold {reason}"),
        Verdict::Deny { reason, .. } => format!("deny {reason}"),
        other => panic!("{other:?}"),
    }
}

fn rules(rules: Value) -> Settings {
    serde_json::from_value(json!({ "rules": rules })).unwrap()
}

#[test]
fn an_erase_waits_for_somebody_else_and_then_goes_out() {
    let _host = Host::new().now_ms(0).install();
    let settings = Settings::default();
    let erase = || CommandRequest::builder("EraseDevice").destructive(true);
    assert_eq!(decide(&settings, &erase().build()), "hold erase-needs-approval");
    assert_eq!(decide(&settings, &erase().approved_by("berta").build()), "allow");
    let sending = erase().stage(Stage::Send).approved_by("berta").build();
    assert_eq!(decide(&settings, &sending), "allow");
    assert_eq!(
        decide(&settings, &CommandRequest::builder("ProfileList").build()),
        "allow"
    );
}

#[test]
fn a_mass_erase_is_stopped_until_its_time_is_over() {
    let settings = rules(json!([
        {"destructive": true, "more_often_than": {"count": 2, "minutes": 10}, "action": "deny", "reason": "slow-down"}
    ]));
    let lock = CommandRequest::builder("DeviceLock").destructive(true).build();
    let sending = CommandRequest::builder("DeviceLock")
        .destructive(true)
        .stage(Stage::Send)
        .build();
    let host = Host::new().now_ms(1_000).install();
    assert_eq!(decide(&settings, &lock), "allow");
    assert_eq!(
        decide(&settings, &CommandRequest::builder("ProfileList").build()),
        "allow"
    );
    assert_eq!(decide(&settings, &lock), "allow");
    assert_eq!(decide(&settings, &lock), "deny slow-down");
    assert_eq!(
        decide(&settings, &sending),
        "allow",
        "what goes out was counted when it was handed in"
    );
    let approved = CommandRequest::builder("DeviceLock")
        .destructive(true)
        .approved_by("berta")
        .build();
    assert_eq!(decide(&settings, &approved), "allow", "and so was what is approved");
    let kept = host.kv("history/0").unwrap();
    drop(host);
    let _later = Host::new().now_ms(601_001).kv("history/0", kept).install();
    assert_eq!(decide(&settings, &lock), "allow");
}

#[test]
fn the_first_rule_that_fits_decides() {
    let _host = Host::new().install();
    let settings = rules(json!([
        {"commands": ["*"], "requesters": ["administrator:root"], "action": "allow"},
        {"commands": ["Erase*"], "more_targets_than": 1, "action": "deny", "reason": "one-by-one"},
        {"commands": ["EraseDevice"], "action": "hold"},
        {"requesters": ["plugin:*"], "destructive": true, "action": "deny", "reason": "no-plugins"}
    ]));
    let erase = || CommandRequest::builder("EraseDevice").destructive(true);
    let by = |requester| erase().requester(requester).build();
    assert_eq!(
        decide(&settings, &by(Requester::Administrator("root".to_owned()))),
        "allow"
    );
    assert_eq!(decide(&settings, &erase().targets(2).build()), "deny one-by-one");
    assert_eq!(decide(&settings, &erase().build()), "hold needs-approval");
    let lock = CommandRequest::builder("DeviceLock").destructive(true);
    let lock = lock.requester(Requester::Plugin("observer".to_owned())).build();
    assert_eq!(decide(&settings, &lock), "deny no-plugins");
}

#[test]
fn rules_about_devices_are_asked_for_each_device() {
    let _host = Host::new().install();
    let settings = rules(json!([
        {"commands": ["EraseDevice"], "when": {"attribute": {"owner": ["board"]}}, "action": "deny", "reason": "board"}
    ]));
    let of = |owner: &str| Device::builder().attribute("owner", owner).build();
    let erase = || CommandRequest::builder("EraseDevice").destructive(true);
    assert_eq!(decide(&settings, &erase().targets(500).build()), "allow");
    let send = |owner: &str| erase().stage(Stage::Send).device(of(owner)).build();
    assert_eq!(decide(&settings, &send("board")), "deny board");
    assert_eq!(decide(&settings, &send("staff")), "allow");
}
