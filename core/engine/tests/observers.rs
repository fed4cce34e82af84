//! The runners of observers and of scheduled work, with native hooks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use russet_engine::settings::WorkSettings;
use russet_hooks::{
    Ask, Effect, EffectAction, Event, FaultKind, HookSet, HookSetBuilder, MAX_DEPTH, Observer, ObserverHook,
    PluginFault, Schedule, ScheduleTime, Scheduled, ScheduledHook, ScheduledRun,
};
use russet_store::{EnrollmentLookup, EventFilter, EventId, Parked, ReplayFrom, ScheduleOrigin};
use serde_json::Value as Json;
use support::{Device, Script, World, device_information, settings};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// An observer that notes what it is handed, wants what it is told to want, and fails as often as it is told to.
#[derive(Default)]
struct Watch {
    seen: Mutex<Vec<Event>>,
    effects: Mutex<Vec<Effect>>,
    /// Events of this device fail so many times more.
    fails: Mutex<Option<(String, u32)>>,
    /// Calls wait for this, if it is there.
    gate: Mutex<Option<Arc<Notify>>>,
    /// How many calls are under way, and the most that were at once.
    at_once: Mutex<(u32, u32)>,
}

struct Watcher(Arc<Watch>);

#[async_trait]
impl Observer for Watcher {
    async fn observe(&self, ask: &Ask<ObserverHook>) -> Result<(), PluginFault> {
        let watch = &self.0;
        {
            let mut at_once = watch.at_once.lock().unwrap();
            at_once.0 += 1;
            at_once.1 = at_once.1.max(at_once.0);
        }
        let gate = watch.gate.lock().unwrap().clone();
        watch.seen.lock().unwrap().push((*ask.request).clone());
        if let Some(gate) = gate {
            gate.notified().await;
        }
        watch.at_once.lock().unwrap().0 -= 1;
        let serial = ask
            .request
            .device
            .as_ref()
            .and_then(|device| device.serial_number.clone());
        if let Some((fails, times)) = watch.fails.lock().unwrap().as_mut()
            && serial.as_ref() == Some(fails)
            && *times > 0
        {
            *times -= 1;
            return Err(PluginFault::new(
                "watch",
                FaultKind::CouldNotDecide,
                "the webhook is down",
            ));
        }
        for effect in watch.effects.lock().unwrap().iter() {
            let mut effect = effect.clone();
            if let EffectAction::EnqueueCommand { uuid, .. } = &mut effect.action {
                *uuid = Uuid::now_v7().to_string();
            }
            ask.recorder.effect(effect);
        }
        Ok(())
    }
}

impl Watch {
    /// The events that were handed over: device and kind.
    fn seen(&self) -> Vec<(String, String)> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .map(|event| {
                let device = event.device.as_ref().and_then(|device| device.serial_number.clone());
                (device.unwrap_or_default(), event.kind.clone())
            })
            .collect()
    }

    fn of(&self, serial: &str) -> Vec<String> {
        let seen = self.seen().into_iter().filter(|(device, _)| device == serial);
        seen.map(|(_, kind)| kind).collect()
    }
}

/// Work that notes its runs, cannot be asked so many times, and then fails so many times.
#[derive(Default)]
struct Clock {
    runs: Mutex<Vec<ScheduledRun>>,
    not_asked: Mutex<u32>,
    fails: Mutex<u32>,
    effects: Mutex<Vec<Effect>>,
}

struct Ticking(Arc<Clock>);

#[async_trait]
impl Scheduled for Ticking {
    async fn run(&self, ask: &Ask<ScheduledHook>) -> Result<(), PluginFault> {
        self.0.runs.lock().unwrap().push((*ask.request).clone());
        let mut not_asked = self.0.not_asked.lock().unwrap();
        if *not_asked > 0 {
            *not_asked -= 1;
            return Err(PluginFault::new("clock", FaultKind::Quarantined, "it keeps failing"));
        }
        let mut fails = self.0.fails.lock().unwrap();
        if *fails > 0 {
            *fails -= 1;
            return Err(PluginFault::new("clock", FaultKind::Trap, "boom"));
        }
        for effect in self.0.effects.lock().unwrap().drain(..) {
            ask.recorder.effect(effect);
        }
        Ok(())
    }
}

/// Quick, so that tests need not wait.
fn quick() -> WorkSettings {
    WorkSettings {
        attempts: 3,
        retry_first: Duration::from_millis(20),
        retry_longest: Duration::from_millis(100),
        parallel: 4,
        lease: Duration::from_millis(400),
        idle_interval: Duration::from_millis(50),
        ..WorkSettings::default()
    }
}

fn allowing() -> HookSetBuilder {
    HookSet::builder().gate("gate", support::Allowing)
}

async fn world(hooks: HookSetBuilder) -> World {
    World::with_work(settings(), quick(), hooks.build(), Arc::new(Script::default())).await
}

async fn watching(kinds: &[&str]) -> (World, Arc<Watch>) {
    let watch = Arc::new(Watch::default());
    let kinds = kinds.iter().map(|kind| (*kind).to_owned()).collect();
    let world = world(allowing().observer("watch", Watcher(Arc::clone(&watch)), kinds)).await;
    (world, watch)
}

/// The runners of one node.
struct Node {
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Node {
    fn start(world: &World) -> Self {
        let stop = CancellationToken::new();
        let tasks = vec![
            tokio::spawn(world.engine.observer_runner().run(stop.clone())),
            tokio::spawn(world.engine.schedule_runner().run(stop.clone())),
        ];
        Self { stop, tasks }
    }

    async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
    }

    /// As kill -9 does.
    fn kill(self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .unwrap_or_else(|_| panic!("waited for: {what}"));
}

/// Until nothing waits to be handed over.
async fn drained(world: &World) {
    let (store, tenant) = (&world.store, world.store.default_tenant());
    until("everything is handed over", async || {
        let observers = store.observers(tenant).await.unwrap();
        observers.iter().all(|one| one.behind == 0 && one.waiting == 0) && !observers.is_empty()
    })
    .await;
}

async fn attribute(world: &World, device: &Device, name: &str) -> Json {
    let lookup = EnrollmentLookup::Udid(&device.udid);
    let found = world
        .store
        .enrollment(world.store.default_tenant(), lookup)
        .await
        .unwrap();
    found.unwrap().attributes[name].clone()
}

fn own(action: EffectAction) -> Effect {
    Effect { target: None, action }
}

fn set(name: &str, value: &str) -> Effect {
    own(EffectAction::SetAttribute {
        name: name.to_owned(),
        value: value.to_owned(),
    })
}

#[tokio::test]
async fn an_observer_sees_what_happened_and_acts_on_it() {
    let (world, watch) = watching(&["enrollment", "command.answered"]).await;
    *watch.effects.lock().unwrap() = vec![set("welcomed", "yes")];
    let node = Node::start(&world);
    let device = world.enrolled("A1").await;
    world.enqueue(&device, device_information()).await;
    let (uuid, _) = world.poll(&device, device.idle()).await.unwrap();
    world.send(&device, device.report("Acknowledged", &uuid)).await.unwrap();
    drained(&world).await;
    assert_eq!(
        watch.of("A1"),
        [
            "enrollment.authenticated",
            "enrollment.enrolled",
            "enrollment.token-updated",
            "command.answered"
        ]
    );
    assert_eq!(attribute(&world, &device, "welcomed").await, "yes");
    {
        let seen = watch.seen.lock().unwrap();
        let answered: Json = serde_json::from_str(&seen.last().unwrap().detail).unwrap();
        assert_eq!(answered["status"], "Acknowledged");
        assert_eq!(answered["request_type"], "DeviceInformation");
        assert!(
            answered["report"].as_str().is_some_and(|report| !report.is_empty()),
            "{answered}"
        );
        assert!(seen.iter().map(|event| event.id).is_sorted());
    }
    let records = world
        .store
        .decisions(world.store.default_tenant(), None, None, 10)
        .await
        .unwrap();
    let observed = records.items.iter().find(|one| one.hook == "observer").unwrap();
    assert_eq!(observed.effects[0]["effect"], "set-attribute");
    assert!(observed.enrollment.is_some());
    node.stop().await;
}

#[tokio::test]
async fn an_event_in_the_hands_of_a_killed_node_is_handed_over_again() {
    let (world, watch) = watching(&["enrollment.enrolled"]).await;
    let never = Arc::new(Notify::new());
    *watch.gate.lock().unwrap() = Some(Arc::clone(&never));
    *watch.effects.lock().unwrap() = vec![set("done", "yes")];
    let node = Node::start(&world);
    let device = world.enrolled("A1").await;
    until("the event is in its hands", async || watch.seen().len() == 1).await;
    node.kill();
    assert_eq!(attribute(&world, &device, "done").await, Json::Null);
    *watch.gate.lock().unwrap() = None;
    let other = Node::start(&world);
    drained(&world).await;
    let ids: Vec<_> = watch.seen.lock().unwrap().iter().map(|event| event.id).collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1], "the same event, with the same number");
    assert_eq!(attribute(&world, &device, "done").await, "yes");
    other.stop().await;
}

#[tokio::test]
async fn after_days_without_a_server_no_tenants_events_are_forgotten() {
    let (world, watch) = watching(&["enrollment.token-updated"]).await;
    let (store, tenant) = (&world.store, world.store.default_tenant());
    let another = store.create_tenant("another", world.now).await.unwrap();
    let node = Node::start(&world);
    let device = world.enrolled("A1").await;
    drained(&world).await;
    node.stop().await;
    world.send(&device, device.token_update()).await.unwrap();
    // As if all of that was long ago; the other tenant is the first in line.
    let long_ago = world.now - jiff::SignedDuration::from_hours(72);
    for tenant in [another, tenant] {
        store
            .observers_seen(tenant, vec!["watch".to_owned()], long_ago)
            .await
            .unwrap();
    }
    let node = Node::start(&world);
    until("what happened meanwhile is handed over", async || {
        watch.of("A1").len() == 2
    })
    .await;
    node.stop().await;
}

#[tokio::test]
async fn a_failing_event_holds_up_its_device_and_is_parked_in_the_end() {
    let (world, watch) = watching(&["enrollment"]).await;
    *watch.fails.lock().unwrap() = Some(("A1".to_owned(), 3));
    let node = Node::start(&world);
    world.enrolled("A1").await;
    world.enrolled("A2").await;
    drained(&world).await;
    let tenant = world.store.default_tenant();
    let parked = world
        .store
        .parked_events(tenant, "watch", None, 10)
        .await
        .unwrap()
        .items;
    assert_eq!(parked.len(), 1);
    assert_eq!(parked[0].delivery.attempts, 3);
    assert!(parked[0].error.contains("the webhook is down"), "{}", parked[0].error);
    let all = [
        "enrollment.authenticated",
        "enrollment.enrolled",
        "enrollment.token-updated",
    ];
    assert_eq!(watch.of("A2"), all, "another device is not held up");
    let of_one = watch.of("A1");
    assert_eq!(of_one[..3], [all[0]; 3], "nothing passes the one that fails");
    assert_eq!(of_one[3..], all[1..], "the next ones go on once it is parked");
    let attempts: Vec<_> = {
        let seen = watch.seen.lock().unwrap();
        let first = seen
            .iter()
            .filter(|event| event.id == u64::try_from(parked[0].delivery.event.id.0).unwrap());
        first.map(|event| event.attempt).collect()
    };
    assert_eq!(attempts, [0, 1, 2]);
    let faults = world.store.decisions(tenant, None, None, 100).await.unwrap().items;
    let faults: Vec<_> = faults.iter().filter(|one| one.hook == "observer").collect();
    assert_eq!(faults.len(), 3);
    assert_eq!(faults[0].failure_rule.as_deref(), Some("retry"));

    // Somebody mends the webhook and has it tried again.
    assert_eq!(
        world
            .store
            .retry_parked(tenant, "watch", Parked::All, world.now)
            .await
            .unwrap(),
        1
    );
    drained(&world).await;
    assert_eq!(watch.of("A1").last().unwrap(), all[0]);
    assert!(
        world
            .store
            .parked_events(tenant, "watch", None, 10)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    node.stop().await;
}

#[tokio::test]
async fn events_of_different_devices_are_handed_over_at_once() {
    let (world, watch) = watching(&["enrollment.authenticated"]).await;
    let open = Arc::new(Notify::new());
    *watch.gate.lock().unwrap() = Some(Arc::clone(&open));
    let node = Node::start(&world);
    for number in 0..6 {
        let device = world.identified(&format!("A{number}")).await;
        world.send(&device, device.authenticate()).await.unwrap();
    }
    until("as many as may are under way", async || {
        watch.at_once.lock().unwrap().0 == 4
    })
    .await;
    *watch.gate.lock().unwrap() = None;
    open.notify_waiters();
    drained(&world).await;
    assert_eq!(watch.at_once.lock().unwrap().1, 4, "and no more than that");
    assert_eq!(watch.seen().len(), 6);
    node.stop().await;
}

#[tokio::test]
async fn events_are_replayed_from_a_point() {
    let (world, watch) = watching(&["enrollment"]).await;
    let node = Node::start(&world);
    world.enrolled("A1").await;
    drained(&world).await;
    let before: Vec<_> = watch.seen.lock().unwrap().drain(..).map(|event| event.id).collect();
    assert_eq!(before.len(), 3);
    let tenant = world.store.default_tenant();
    let from = ReplayFrom::Event(EventId(i64::try_from(before[1]).unwrap()));
    assert_eq!(
        world
            .store
            .replay_events(tenant, "watch", from, world.now)
            .await
            .unwrap(),
        2
    );
    drained(&world).await;
    until("they are seen again", async || watch.seen().len() == 2).await;
    let again: Vec<_> = watch.seen.lock().unwrap().iter().map(|event| event.id).collect();
    assert_eq!(again, before[1..]);
    node.stop().await;
}

#[tokio::test]
async fn observers_that_cause_one_another_come_to_an_end() {
    let (world, watch) = watching(&["enrollment.enrolled", "plugin.watch"]).await;
    let ping = EffectAction::EmitEvent {
        kind: "ping".to_owned(),
        detail: "{}".to_owned(),
    };
    *watch.effects.lock().unwrap() = vec![own(ping)];
    let node = Node::start(&world);
    world.enrolled("A1").await;
    drained(&world).await;
    let depths: Vec<_> = watch.seen.lock().unwrap().iter().map(|event| event.depth).collect();
    assert_eq!(depths, (0..MAX_DEPTH).collect::<Vec<_>>());
    let tenant = world.store.default_tenant();
    let last = world
        .store
        .decisions(tenant, None, None, 1)
        .await
        .unwrap()
        .items
        .remove(0);
    assert_eq!(last.effects[0]["outcome"], "refused");
    node.stop().await;
}

#[tokio::test]
async fn an_observer_that_answers_every_answer_with_a_command_comes_to_an_end() {
    let (world, watch) = watching(&["command.answered"]).await;
    *watch.effects.lock().unwrap() = vec![own(EffectAction::EnqueueCommand {
        uuid: String::new(),
        command: r#"{ "RequestType": "SecurityInfo" }"#.to_owned(),
        priority: 0,
        not_before_ms: None,
        expires_at_ms: None,
        dedupe_key: None,
    })];
    let node = Node::start(&world);
    let device = world.enrolled("A1").await;
    for round in 0..2 {
        // What an administrator asks for begins anew.
        world.enqueue(&device, device_information()).await;
        let mut report = device.idle();
        let mut answered = 0;
        while let Some((uuid, _)) = world.poll(&device, report).await {
            world.poll(&device, device.report("Acknowledged", &uuid)).await;
            drained(&world).await;
            report = device.idle();
            answered += 1;
            assert!(answered <= MAX_DEPTH, "round {round} does not end");
        }
        let seen: Vec<_> = watch.seen.lock().unwrap().drain(..).collect();
        let depths: Vec<_> = seen.iter().map(|event| event.depth).collect();
        assert_eq!(depths, (0..MAX_DEPTH).collect::<Vec<_>>(), "round {round}");
    }
    let tenant = world.store.default_tenant();
    let last = world
        .store
        .decisions(tenant, None, None, 1)
        .await
        .unwrap()
        .items
        .remove(0);
    assert_eq!(last.effects[0]["outcome"], "refused", "{:?}", last.effects);
    node.stop().await;
}

#[tokio::test]
async fn work_that_effects_asked_for_is_done_once_at_its_time() {
    let (clock, watch) = (Arc::new(Clock::default()), Arc::new(Watch::default()));
    let hooks = allowing()
        .observer(
            "clock",
            Watcher(Arc::clone(&watch)),
            vec!["enrollment.enrolled".to_owned()],
        )
        .scheduled("clock", Ticking(Arc::clone(&clock)), Vec::new());
    let world = world(hooks).await;
    *clock.fails.lock().unwrap() = 1;
    let soon = u64::try_from(world.now.as_millisecond()).unwrap() + 50;
    *watch.effects.lock().unwrap() = vec![own(EffectAction::ScheduleCall {
        name: "later".to_owned(),
        at_ms: soon,
        payload: "A1".to_owned(),
    })];
    let (one, two) = (Node::start(&world), Node::start(&world));
    let device = world.enrolled("A1").await;
    let target = {
        let lookup = EnrollmentLookup::Udid(&device.udid);
        let tenant = world.store.default_tenant();
        world.store.enrollment(tenant, lookup).await.unwrap().unwrap().key
    };
    *clock.effects.lock().unwrap() = vec![Effect {
        target: Some(target),
        action: EffectAction::SetAttribute {
            name: "later".to_owned(),
            value: "done".to_owned(),
        },
    }];
    let tenant = world.store.default_tenant();
    until("the work is done", async || {
        attribute(&world, &device, "later").await == "done"
    })
    .await;
    until("and gone", async || {
        world.store.schedules(tenant).await.unwrap().is_empty()
    })
    .await;
    let runs = clock.runs.lock().unwrap().clone();
    assert_eq!(
        runs.iter().map(|run| run.attempt).collect::<Vec<_>>(),
        [0, 1],
        "tried again, once for two nodes"
    );
    assert!(
        runs.iter()
            .all(|run| run.payload == "A1" && run.due == i64::try_from(soon).unwrap())
    );
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_plugin_that_can_not_be_asked_uses_up_no_tries_of_its_work() {
    let (clock, watch) = (Arc::new(Clock::default()), Arc::new(Watch::default()));
    let kinds = vec!["enrollment.enrolled".to_owned()];
    let hooks = allowing()
        .observer("clock", Watcher(Arc::clone(&watch)), kinds)
        .scheduled("clock", Ticking(Arc::clone(&clock)), Vec::new());
    let world = world(hooks).await;
    // More often than it may fail; then it fails as often as it may, but for the last time.
    *clock.not_asked.lock().unwrap() = 4;
    *clock.fails.lock().unwrap() = 2;
    *watch.effects.lock().unwrap() = vec![own(EffectAction::ScheduleCall {
        name: "once".to_owned(),
        at_ms: u64::try_from(world.now.as_millisecond()).unwrap(),
        payload: String::new(),
    })];
    let node = Node::start(&world);
    world.enrolled("A1").await;
    let tenant = world.store.default_tenant();
    until("the work is done", async || {
        clock.runs.lock().unwrap().len() == 7 && world.store.schedules(tenant).await.unwrap().is_empty()
    })
    .await;
    node.stop().await;
    let runs = clock.runs.lock().unwrap();
    let attempts: Vec<_> = runs.iter().map(|run| run.attempt).collect();
    assert_eq!(attempts, [0, 0, 0, 0, 0, 1, 2]);
}

#[tokio::test]
async fn a_missed_time_of_a_manifest_is_made_up_for_once() {
    let clock = Arc::new(Clock::default());
    let schedule = Schedule {
        name: "sweep".to_owned(),
        when: ScheduleTime::EveryMinutes(1),
    };
    let world = world(allowing().scheduled("clock", Ticking(Arc::clone(&clock)), vec![schedule])).await;
    let (store, tenant) = (&world.store, world.store.default_tenant());
    let node = Node::start(&world);
    until("the schedule is noted", async || {
        store.schedules(tenant).await.unwrap().len() == 1
    })
    .await;
    let noted = store.schedules(tenant).await.unwrap().remove(0);
    assert_eq!(
        (noted.origin, noted.rule.as_str()),
        (ScheduleOrigin::Manifest, "every 1 minutes")
    );
    node.stop().await;
    assert!(clock.runs.lock().unwrap().is_empty());
    // Hours go by without a server: its time is long past when one starts.
    assert!(store.run_schedule(tenant, noted.id, world.now).await.unwrap());
    let node = Node::start(&world);
    until("it ran", async || {
        let next = store.schedules(tenant).await.unwrap().remove(0);
        clock.runs.lock().unwrap().len() == 1 && next.next_try_at > jiff::Timestamp::now()
    })
    .await;
    node.stop().await;
    assert_eq!(clock.runs.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn polls_that_find_nothing_write_nothing() {
    let (world, _) = watching(&["enrollment", "command"]).await;
    let device = world.enrolled("A1").await;
    let count = async || {
        let tenant = world.store.default_tenant();
        let events = world
            .store
            .events(tenant, &EventFilter::default(), None, 100)
            .await
            .unwrap();
        let decisions = world.store.decisions(tenant, None, None, 100).await.unwrap();
        (events.items.len(), decisions.items.len())
    };
    // DeviceConfigured may wait: it is answered first.
    while let Some((uuid, _)) = world.poll(&device, device.idle()).await {
        world.send(&device, device.report("Acknowledged", &uuid)).await.unwrap();
    }
    let before = count().await;
    for _ in 0..5 {
        assert!(world.poll(&device, device.idle()).await.is_none());
    }
    assert_eq!(count().await, before);
    assert_ne!(before.0, 0);
}
