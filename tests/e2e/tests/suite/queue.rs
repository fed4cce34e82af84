//! The queue with the real program: groups and all from the command line, what a device never answers, waking it again, and
//! taking commands back.

use russet_simulator::device::Answer;
use russet_tests::{World, eventually};
use serde_json::{Value, json};

const ONE: &str = "C02QUEUE0001";
const OTHER: &str = "C02QUEUE0002";

async fn world() -> World {
    World::builder()
        .without_gate()
        .set("queue.offer_again_first_seconds", 3_600)
        .set("queue.stuck_after_offers", 1)
        .start()
        .await
}

fn printed(world: &World, arguments: &[&str]) -> Value {
    world.server.cli(&[arguments, &["--json"]].concat()).ok().json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_and_all_get_a_command_and_lose_it_again() {
    let world = world().await;
    let (one, other) = (world.enrolled(ONE).await, world.enrolled(OTHER).await);
    let group = printed(&world, &["group", "add", "lab", ONE]);
    assert_eq!(group["members"], 1, "{group}");
    let members = printed(&world, &["group", "show", "lab"]);
    assert_eq!(members["items"][0]["serial_number"], ONE, "{members}");

    let sent = printed(&world, &["command", "send", "--group", "lab", "SecurityInfo"]);
    let to_lab = sent["command_uuid"].as_str().unwrap();
    let sent = printed(&world, &["command", "send", "--all", "--pace", "600", "ProfileList"]);
    let to_all = sent["command_uuid"].as_str().unwrap();
    assert_eq!(sent["queued"], 2, "{sent}");
    one.run_until_idle().await.unwrap();
    assert_eq!(one.answered().len(), 2);
    let progress = printed(&world, &["command", "progress", to_all]);
    assert_eq!(
        (&progress["counts"], &progress["open"]),
        (&json!({"acknowledged": 1, "pending": 1}), &json!(1)),
        "{progress}"
    );
    let cancelled = printed(&world, &["command", "cancel", to_all]);
    assert_eq!(cancelled["cancelled"], 1, "{cancelled}");
    other.run_until_idle().await.unwrap();
    assert!(
        other.answered().is_empty(),
        "it was taken back, and the other command was the group's"
    );
    let text = world.server.cli(&["command", "progress", to_lab]).ok();
    assert!(text.out.contains("0 of 1 devices open"), "{}", text.out);

    printed(&world, &["command", "send", "--device", OTHER, "SecurityInfo"]);
    printed(&world, &["command", "send", "--device", OTHER, "ProfileList"]);
    let flushed = printed(&world, &["device", "flush", OTHER, "--request-type", "ProfileList"]);
    assert_eq!(flushed["cancelled"], 1, "{flushed}");
    let flushed = printed(&world, &["device", "flush", OTHER]);
    assert_eq!(flushed["cancelled"], 1, "{flushed}");
    world.server.cli(&["group", "delete", "lab"]).ok();
    let gone = world.server.cli(&["group", "show", "lab"]).failed();
    assert!(gone.complaint().contains("no such group"), "{}", gone.complaint());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_never_answered_is_passed_shown_and_offered_when_somebody_asks() {
    let world = world().await;
    let mac = world.enrolled(ONE).await;
    let deaf = world
        .admin
        .command(&[ONE], json!({"RequestType": "SecurityInfo"}))
        .await;
    let poll = async || mac.poll(&Answer::idle()).await.unwrap();
    let received =
        |command: Option<russet_simulator::device::ReceivedCommand>| command.map(|command| command.uuid.to_lowercase());
    assert_eq!(received(poll().await), Some(deaf.clone()));
    // What came later goes first now.
    let later = world.admin.command(&[ONE], json!({"RequestType": "ProfileList"})).await;
    let session = mac.poll(&Answer::idle()).await.unwrap().unwrap();
    assert_eq!(session.uuid.to_lowercase(), later);
    let done = Answer::acknowledged(session.uuid, Default::default());
    // Once more at once, since the answer may have been lost; then it rests, and is shown.
    assert_eq!(received(mac.poll(&done).await.unwrap()), Some(deaf.clone()));
    assert_eq!(received(poll().await), None);
    let stuck = world.admin.list("/queue/stuck").await;
    assert_eq!(
        (&stuck[0]["command_uuid"], &stuck[0]["serial_number"]),
        (&json!(deaf), &json!(ONE)),
        "{stuck:?}"
    );
    assert_eq!(world.admin.get("/queue").await.ok()["stuck_entries"], 1);
    assert_eq!(world.admin.device(ONE).await["queue"], json!({"stuck": 1}));
    let text = world.server.cli(&["command", "stuck"]).ok();
    assert!(text.out.contains(&deaf) && text.out.contains(ONE), "{}", text.out);

    // An administrator who wakes the device gives it another chance.
    let pushes = world.apns.counters().requests;
    world.server.cli(&["device", "push", ONE]).ok();
    eventually("the device is pushed", || async {
        (world.apns.counters().requests > pushes).then_some(())
    })
    .await;
    mac.run_until_idle().await.unwrap();
    assert_eq!(world.admin.finished(&deaf).await["devices"][0]["state"], "acknowledged");
    assert_eq!(world.admin.get("/queue").await.ok()["stuck_entries"], 0);
}
