//! Plugins are swapped while devices poll and enroll. The plugin here is the hostile one in its mode `label`, which
//! keeps the label of its settings with every enrollment that it lets in: so it shows which revision decided.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use russet_simulator::SimulatedDevice;
use russet_tests::{World, component, soon};
use serde_json::{Value, json};

/// How many revisions are published.
const REVISIONS: usize = 24;

/// What of the swaps is known so far.
#[derive(Default)]
struct Swaps {
    /// The newest revision whose installation has begun.
    begun: AtomicUsize,
    /// The newest revision whose installation was confirmed.
    done: AtomicUsize,
    over: AtomicBool,
}

fn label(number: usize) -> Value {
    json!({"mode": "label", "label": number.to_string()})
}

async fn label_of(world: &World, device: &SimulatedDevice) -> usize {
    let shown = world.admin.device(&device.facts().serial_number).await;
    shown["attributes"]["label"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_and_each_enrollment_sees_one_revision_while_revisions_come_and_go() {
    let world = Arc::new(World::start().await);
    world.admin.install("hostile", label(0)).await;
    let swaps = Arc::new(Swaps::default());

    let mut pollers = Vec::new();
    for number in 0..2 {
        let (device, swaps) = (world.enrolled(&format!("C02POLL{number}")).await, Arc::clone(&swaps));
        pollers.push(tokio::spawn(async move {
            let mut polls = 0;
            while !swaps.over.load(Ordering::SeqCst) {
                device
                    .run_until_idle()
                    .await
                    .expect("no poll fails while a plugin is swapped");
                polls += 1;
            }
            polls
        }));
    }
    let mut enrollers = Vec::new();
    for number in 0..2 {
        let (world, swaps) = (Arc::clone(&world), Arc::clone(&swaps));
        enrollers.push(tokio::spawn(async move {
            let mut seen = Vec::new();
            while !swaps.over.load(Ordering::SeqCst) {
                let mac = world
                    .by_hand(&format!("C02NEW{number}X{}", seen.len()))
                    .build()
                    .unwrap();
                mac.fetch_profile(&russet_simulator::device::ProfileRequest::Manual(None))
                    .await
                    .unwrap();
                mac.enroll_identity().await.unwrap();
                // The label that is kept is the one of Authenticate.
                let before = swaps.done.load(Ordering::SeqCst);
                mac.authenticate()
                    .await
                    .expect("no enrollment fails while a plugin is swapped");
                let after = swaps.begun.load(Ordering::SeqCst);
                mac.token_update().await.unwrap();
                let label = label_of(&world, &mac).await;
                assert!(
                    (before..=after).contains(&label),
                    "revision {label} decided between {before} and {after}"
                );
                seen.push(label);
            }
            seen
        }));
    }

    for number in 1..=REVISIONS {
        swaps.begun.store(number, Ordering::SeqCst);
        // Other settings alone, and a whole component, in turn.
        let mut body = json!({"settings": label(number)});
        if number % 4 == 0 {
            body["component"] = component("hostile").into();
        }
        let report = world.admin.put("/plugins/hostile", &body).await.ok();
        assert_eq!(report["state"], "active", "{report}");
        swaps.done.store(number, Ordering::SeqCst);
    }
    let last = world.by_hand("C02LAST0001").build().unwrap();
    last.enroll().await.unwrap();
    assert_eq!(
        label_of(&world, &last).await,
        REVISIONS,
        "a confirmed revision decides from then on"
    );
    swaps.over.store(true, Ordering::SeqCst);

    let mut enrolled = 0;
    for enroller in enrollers {
        enrolled += soon("the enrollments end", enroller).await.unwrap().len();
    }
    let mut polls = 0;
    for poller in pollers {
        polls += soon("the polls end", poller).await.unwrap();
    }
    assert!(
        enrolled > 0 && polls > REVISIONS,
        "{enrolled} enrollments and {polls} polls"
    );

    // Nobody got an answer that is an error, and every decision names one revision.
    for line in world.server.log_lines() {
        if let Some(status) = line["http.status"].as_u64() {
            assert!(status < 400, "{line}");
        }
    }
    let decisions = world.admin.decisions().await;
    assert!(
        decisions
            .iter()
            .all(|decision| decision["verdict"] == "allow" && decision["revision"].is_string())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_swaps_a_plugin_too() {
    let world = World::start().await;
    world.admin.install("hostile", label(1)).await;
    let before = world.enrolled("C02BEFORE01").await;
    let settings = world.server.folder().path().join("settings.toml");
    std::fs::write(&settings, "mode = \"label\"\nlabel = \"2\"\n").unwrap();
    let file = russet_plugin_build::artifact("hostile");
    let install = [
        "plugin",
        "install",
        file.to_str().unwrap(),
        "--settings",
        settings.to_str().unwrap(),
    ];

    let out = world.server.cli(&install).ok().out;
    assert!(out.contains("hostile 0.1.0 runs as revision"), "{out}");
    let after = world.enrolled("C02AFTER001").await;
    assert_eq!(
        (label_of(&world, &before).await, label_of(&world, &after).await),
        (1, 2)
    );

    // A revision that asks for more than it is granted waits; the old one answers.
    std::fs::write(&settings, "mode = \"label\"\nlabel = \"3\"\n").unwrap();
    let less = [&install[..], &["--grant", "settings.get", "--grant", "log.write"]].concat();
    let err = world.server.cli(&less).failed().complaint();
    assert!(err.contains("asks for more than it was granted"), "{err}");
    assert!(
        err.contains("--grant ldap.search") && err.contains("--connection ldap:NAME"),
        "{err}"
    );
    let later = world.enrolled("C02LATER001").await;
    assert_eq!(label_of(&world, &later).await, 2);
    let shown = world.admin.get("/plugins/hostile").await.ok();
    assert_eq!(shown["state"], "active");
    assert!(
        shown["pending"]["missing"].to_string().contains("ldap.search"),
        "{shown}"
    );

    // Granted, it runs.
    let all = [&install[..], &["--grant-asked", "--connection", "ldap:corp"]].concat();
    world.server.cli(&all).ok();
    let last = world.enrolled("C02LAST0001").await;
    assert_eq!(label_of(&world, &last).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_is_refused_and_what_runs_goes_on() {
    let world = World::start().await;
    world.admin.install("hostile", label(1)).await;

    let wrong = json!({"settings": {"mode": "no such mode", "label": 7, "extra": true}});
    let error = world.admin.put("/plugins/hostile", &wrong).await.refused(422);
    let details = error["details"].to_string();
    for path in ["/mode", "/label", "extra"] {
        assert!(details.contains(path), "{path} is not named: {error}");
    }
    let nonsense = json!({"component": "bm8gY29tcG9uZW50", "settings": label(2)});
    world.admin.put("/plugins/hostile", &nonsense).await.refused(422);
    let other = json!({"component": component("smallest-gate"), "settings": {"prefix": "X"}});
    let error = world.admin.put("/plugins/hostile", &other).await.refused(422);
    assert!(error.to_string().contains("smallest-gate"), "{error}");
    world
        .admin
        .put("/plugins/unknown", &json!({"settings": {}}))
        .await
        .refused(404);
    let raw = world
        .admin
        .of_tenant(http::Method::PUT, "/plugins/hostile")
        .body("x")
        .header("content-type", "text/csv");
    world.admin.send(raw).await.refused(415);

    let still = world.enrolled("C02STILL001").await;
    assert_eq!(label_of(&world, &still).await, 1);

    // Out of use: nobody decides any more, so nobody enrolls.
    world.admin.delete("/plugins/hostile").await.ok();
    let refusal = world.mac("C02NOBODY01").build().unwrap().enroll().await.unwrap_err();
    assert_eq!(refusal.status(), Some(403), "{refusal}");
    still.run_until_idle().await.unwrap();
}
