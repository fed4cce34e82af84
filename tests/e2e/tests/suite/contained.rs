//! A plugin that misbehaves harms nobody but itself: its call ends with a fault, the hook's failure rule answers, other
//! requests go on.

use http::header::RETRY_AFTER;
use russet_simulator::device::ProfileRequest;
use russet_tests::{World, soon};
use serde_json::json;

/// The hostile plugin's modes that end in a fault, and what the fault may be called.
const FAULTS: [(&str, &[&str]); 12] = [
    ("panic", &["trap"]),
    ("loop", &["cpu-limit"]),
    ("memory", &["memory-limit"]),
    ("stack", &["trap"]),
    ("host-call-flood", &["host-call-limit"]),
    ("log-flood", &["host-call-limit"]),
    ("getter-flood", &["host-call-limit"]),
    ("handle-flood", &["host-call-limit"]),
    ("huge-answer", &["host-call-limit", "bad-answer"]),
    ("many-attributes", &["host-call-limit", "bad-answer"]),
    ("error", &["could-not-decide"]),
    ("slow-ldap", &["could-not-decide", "deadline"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_closes_the_gate_for_now_and_is_told_by_its_name() {
    let world = World::builder()
        .set("plugins.limits.cpu_milliseconds", 200)
        .start()
        .await;
    world.admin.install("hostile", json!({"mode": "allow"})).await;
    let honest = world.enrolled("C02HONEST01").await;
    let mac = world.by_hand("C02VICTIM01").build().unwrap();

    for (mode, kinds) in FAULTS {
        let changed = world
            .admin
            .put("/plugins/hostile", &json!({"settings": {"mode": mode}}))
            .await
            .ok();
        assert_eq!(changed["state"], "active", "{changed}");
        // The others' polls go on while the plugin has its time.
        let request = ProfileRequest::Manual(None);
        let (answer, polled) = tokio::join!(mac.request_profile(&request), honest.run_until_idle());
        polled.unwrap();
        let answer = answer.unwrap();
        assert_eq!(answer.status.as_u16(), 503, "{mode}: {}", answer.text());
        assert!(answer.headers.contains_key(RETRY_AFTER), "{mode}");
        assert!(answer.text().contains("try again later"), "{mode}: {}", answer.text());

        let decisions = world.admin.decisions().await;
        let decision = &decisions[0];
        assert_eq!(decision["verdict"], "fault", "{mode}: {decision}");
        assert_eq!(decision["failure_rule"], "closed", "{mode}: {decision}");
        let fault = decision["fault"].as_str().unwrap();
        let kind = fault.split_once(':').unwrap().0;
        assert!(kinds.contains(&kind), "{mode}: {fault}");
    }

    // Nothing of it stays: the same server, the same plugin, another mode.
    world
        .admin
        .put("/plugins/hostile", &json!({"settings": {"mode": "allow"}}))
        .await
        .ok();
    mac.enroll().await.unwrap();
    honest.run_until_idle().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plugin_logs_is_cut_to_its_share() {
    let world = World::start().await;
    for (mode, status) in [("log-flood", 503), ("huge-log", 200)] {
        world.admin.install("hostile", json!({"mode": mode})).await;
        let mac = world.by_hand("C02LOGS0001").build().unwrap();
        let answer = mac.request_profile(&ProfileRequest::Manual(None)).await.unwrap();
        assert_eq!(answer.status.as_u16(), status, "{mode}: {}", answer.text());
    }
    let log = world.server.log();
    assert!(
        log.contains("line 0") && log.contains("line 99"),
        "the first lines are there"
    );
    assert!(!log.contains("line 100"), "the lines over the limit are not");
    assert!(!log.contains(&"x".repeat(8 * 1024)), "a line has its longest");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_endless_loops_do_not_keep_others_from_being_served() {
    let world = World::builder()
        .set("plugins.limits.cpu_milliseconds", 100)
        .start()
        .await;
    world.admin.install("hostile", json!({"mode": "allow"})).await;
    let honest = world.enrolled("C02HONEST01").await;
    world
        .admin
        .put("/plugins/hostile", &json!({"settings": {"mode": "loop"}}))
        .await
        .ok();

    let mut loops = Vec::new();
    for _ in 0..16 {
        let mac = world.by_hand("C02LOOPS001").build().unwrap();
        loops.push(tokio::spawn(async move {
            mac.request_profile(&ProfileRequest::Manual(None))
                .await
                .unwrap()
                .status
                .as_u16()
        }));
    }
    let mut polls = 0;
    while !loops.iter().all(tokio::task::JoinHandle::is_finished) {
        honest.run_until_idle().await.unwrap();
        polls += 1;
    }
    for looped in loops {
        assert_eq!(soon("the loop is ended", looped).await.unwrap(), 503);
    }
    assert!(polls > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_reaches_only_what_it_was_granted() {
    let world = World::start().await;
    // It asks for LDAP: without the grant it does not run, and the line to add is told.
    let nothing = json!({
        "component": russet_tests::component("hostile"),
        "settings": {"mode": "allow"},
        "grants": {"capabilities": ["settings.get"], "connections": {"ldap": []}},
    });
    let report = world.admin.put("/plugins/hostile", &nothing).await.ok();
    assert_eq!(report["state"], "pending", "{report}");
    let missing: Vec<_> = report["missing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["flag"].as_str().unwrap())
        .collect();
    assert_eq!(
        missing,
        ["--grant ldap.search", "--grant log.write", "--connection ldap:NAME"],
        "{report}"
    );
    let refusal = world
        .by_hand("C02GRANT001")
        .build()
        .unwrap()
        .enroll()
        .await
        .unwrap_err();
    assert_eq!(
        refusal.status(),
        Some(403),
        "what does not run lets nobody in: {refusal}"
    );

    // Granted one connection, it cannot use another.
    world.admin.install("hostile", json!({"mode": "other-ldap"})).await;
    world.by_hand("C02GRANT001").build().unwrap().enroll().await.unwrap();
    let shown = world.admin.device("C02GRANT001").await;
    let answer = shown["attributes"]["answer"].as_str().unwrap();
    assert!(answer.contains("--connection ldap:other"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_template_holds_its_delivery_back_and_no_other() {
    let world = World::builder().without_gate().start().await;
    world.admin.install("profile-template", json!({})).await;
    let mac = world.enrolled("C02TEMPLATE").await;
    let template = russet_tests::profile("org.example.broken", "{{ person.full_name }}");
    world
        .admin
        .put(
            "/profiles/broken",
            &json!({"content": template, "template": "profile-template"}),
        )
        .await
        .ok();
    let broken = world
        .admin
        .post("/commands", &json!({"devices": ["C02TEMPLATE"], "profile": "broken"}))
        .await
        .ok();
    let other = world
        .admin
        .command(&["C02TEMPLATE"], json!({"RequestType": "SecurityInfo"}))
        .await;

    mac.run_until_idle().await.unwrap();
    assert_eq!(
        world.admin.finished(&other).await["devices"][0]["state"],
        "acknowledged"
    );
    let waiting = world.admin.show_command(broken["command_uuid"].as_str().unwrap()).await;
    let entry = &waiting["devices"][0];
    assert_eq!(entry["state"], "pending", "{waiting}");
    assert!(
        entry["waiting_for"].as_str().unwrap().contains("person.full_name"),
        "{waiting}"
    );
}
