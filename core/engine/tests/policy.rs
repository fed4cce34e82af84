//! Command policies at both stages, approvals by a second administrator, and what their failure means.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use russet_engine::{Audience, CommandSource, DeviceAnswer, EngineError, EnqueueReport, EnqueueRequest, GroupChange};
use russet_hooks::{
    Ask, CommandHook, CommandPolicy, CommandRequest, CommandStage, CommandVerdict, Explanation, FaultKind, HookSet,
    PluginFault, Requester,
};
use russet_protocol::{Limits, codec, plist};
use russet_store::{Approval, EnrollmentLookup, EntryRecord, EntryState};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use support::{Device, Script, World, administrator, device_information, security_info};

type Rule = Box<dyn Fn(&CommandRequest) -> Result<CommandVerdict, FaultKind> + Send>;

/// What the policy answers, changed by tests as they go, and what it was asked.
#[derive(Clone)]
struct Policy {
    rule: Arc<Mutex<Rule>>,
    asked: Arc<Mutex<Vec<CommandRequest>>>,
}

#[async_trait]
impl CommandPolicy for Policy {
    async fn check(&self, ask: &Ask<CommandHook>) -> Result<CommandVerdict, PluginFault> {
        self.asked.lock().unwrap().push((*ask.request).clone());
        let answer = (self.rule.lock().unwrap())(&ask.request);
        answer.map_err(|kind| PluginFault::new("guard", kind, "scripted"))
    }
}

impl Policy {
    fn rule(&self, rule: impl Fn(&CommandRequest) -> Result<CommandVerdict, FaultKind> + Send + 'static) {
        *self.rule.lock().unwrap() = Box::new(rule);
    }

    fn asked(&self) -> Vec<CommandRequest> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn because(reason: &str) -> Explanation {
    Explanation {
        reason: reason.to_owned(),
        message: format!("because of {reason}"),
    }
}

async fn guarded() -> (World, Policy) {
    let script = Arc::new(Script::default());
    let policy = Policy {
        rule: Arc::new(Mutex::new(Box::new(|_| Ok(CommandVerdict::Allow)))),
        asked: Arc::default(),
    };
    let hooks = HookSet::builder()
        .gate("gate", support::scripted(&script))
        .command_policy("guard", policy.clone())
        .build();
    (World::with(support::settings(), hooks, script).await, policy)
}

fn erase() -> CommandSource {
    CommandSource::Json(json!({"RequestType": "EraseDevice"}))
}

fn ask(source: CommandSource, audience: Audience) -> EnqueueRequest {
    EnqueueRequest {
        source,
        audience,
        priority: 0,
        not_before: None,
        expires_at: None,
        pace: None,
        administrator: administrator("ada", 1),
    }
}

async fn enqueue(world: &World, source: CommandSource, devices: &[&Device]) -> Result<EnqueueReport, EngineError> {
    let names = devices.iter().map(|device| device.serial.clone()).collect();
    let ask = ask(source, Audience::Devices(names));
    world.engine.enqueue(&world.request().await, ask, world.now).await
}

async fn entry(world: &World, device: &Device, uuid: Uuid) -> EntryRecord {
    let tenant = world.store.default_tenant();
    let lookup = EnrollmentLookup::Serial(&device.serial);
    let id = world.store.enrollment(tenant, lookup).await.unwrap().unwrap().id;
    world.store.command_entry(id, uuid).await.unwrap().unwrap()
}

async fn verdicts(world: &World) -> Vec<String> {
    let found = world
        .store
        .decisions(world.store.default_tenant(), None, None, 100)
        .await;
    let page = found.unwrap();
    let of_policy = page.items.into_iter().filter(|record| record.hook == "command-policy");
    of_policy.map(|record| record.verdict).collect()
}

#[tokio::test]
async fn a_policy_is_asked_once_for_all_and_once_for_each() {
    let (world, policy) = guarded().await;
    let devices = [world.enrolled("C02A").await, world.enrolled("C02B").await];
    policy.asked();
    enqueue(&world, erase(), &[&devices[0], &devices[1]]).await.unwrap();
    let asked = policy.asked();
    assert_eq!(asked.len(), 1);
    let at_enqueue = &asked[0];
    assert_eq!((at_enqueue.stage, at_enqueue.targets), (CommandStage::Enqueue, 2));
    assert!(at_enqueue.destructive && at_enqueue.device.is_none() && at_enqueue.approved_by.is_none());
    assert_eq!(at_enqueue.requester, Requester::Administrator("ada".to_owned()));
    let command: Json = serde_json::from_str(&at_enqueue.command).unwrap();
    assert_eq!(command["RequestType"], "EraseDevice");
    for device in &devices {
        assert!(world.poll(device, device.idle()).await.is_some());
        let asked = policy.asked();
        assert_eq!(asked.len(), 1);
        assert_eq!((asked[0].stage, asked[0].targets), (CommandStage::Send, 1));
        assert_eq!(asked[0].uuid, at_enqueue.uuid);
        let told = asked[0].device.as_ref().unwrap();
        assert_eq!(told.serial_number.as_deref(), Some(device.serial.as_str()));
        assert_eq!(asked[0].requester, at_enqueue.requester);
    }
    assert_eq!(verdicts(&world).await, ["allow"; 3]);
    // For one device it is told which, before it is stored.
    enqueue(&world, security_info(), &[&devices[0]]).await.unwrap();
    let asked = policy.asked();
    assert_eq!(asked[0].device.as_ref().unwrap().serial_number.as_deref(), Some("C02A"));
    assert!(!asked[0].destructive);
}

#[tokio::test]
async fn what_is_denied_is_not_stored() {
    let (world, policy) = guarded().await;
    let device = world.enrolled("C02A").await;
    policy.rule(|_| Ok(CommandVerdict::Deny(because("never"))));
    let error = enqueue(&world, erase(), &[&device]).await.unwrap_err();
    let EngineError::Denied { reason, message } = error else {
        panic!("{error:?}")
    };
    assert_eq!((reason.as_str(), message.as_str()), ("never", "because of never"));
    assert!(world.poll(&device, device.idle()).await.is_none());
    let tenant = world.store.default_tenant();
    let commands = world.store.commands(tenant, false, None, 10).await.unwrap().items;
    assert!(commands.iter().all(|command| command.request_type != "EraseDevice"));
    assert_eq!(verdicts(&world).await, ["deny"]);
}

#[tokio::test]
async fn what_is_denied_for_one_device_goes_to_the_others() {
    let (world, policy) = guarded().await;
    let (one, other) = (world.enrolled("C02A").await, world.enrolled("C02B").await);
    policy.rule(|asked| match &asked.device {
        Some(device) if device.serial_number.as_deref() == Some("C02A") => {
            Ok(CommandVerdict::Deny(because("the-boss")))
        }
        _ => Ok(CommandVerdict::Allow),
    });
    let uuid = enqueue(&world, erase(), &[&one, &other]).await.unwrap().command_uuid;
    let after = enqueue(&world, security_info(), &[&other]).await.unwrap().command_uuid;
    assert!(world.poll(&one, one.idle()).await.is_none());
    let denied = entry(&world, &one, uuid).await;
    assert_eq!(
        (denied.state, denied.defer_reason.as_deref()),
        (EntryState::Cancelled, Some("because of the-boss"))
    );
    let (sent, _) = world.poll(&other, other.idle()).await.unwrap();
    assert_eq!(sent, uuid.to_string().to_uppercase());
    let (sent, _) = world.poll(&other, other.report("Acknowledged", &sent)).await.unwrap();
    assert_eq!(sent, after.to_string().to_uppercase());
}

#[tokio::test]
async fn a_held_command_takes_a_second_administrator() {
    let (world, policy) = guarded().await;
    let device = world.enrolled("C02A").await;
    policy.rule(|asked| match (&asked.approved_by, asked.destructive) {
        (None, true) => Ok(CommandVerdict::Hold(because("erase-needs-approval"))),
        _ => Ok(CommandVerdict::Allow),
    });
    let report = enqueue(&world, erase(), &[&device]).await.unwrap();
    let uuid = report.command_uuid;
    assert_eq!(report.held.unwrap().0, "erase-needs-approval");
    // Other commands are not held up.
    let other = enqueue(&world, device_information(), &[&device])
        .await
        .unwrap()
        .command_uuid;
    let (sent, _) = world.poll(&device, device.idle()).await.unwrap();
    assert_eq!(sent, other.to_string().to_uppercase());
    assert!(
        world
            .poll(&device, device.report("Acknowledged", &sent))
            .await
            .is_none()
    );

    let request = world.request().await;
    // The same token under another name is still the same.
    for name in ["ada", "grace"] {
        let own = world
            .engine
            .approve_command(&request, uuid, &administrator(name, 1), world.now)
            .await;
        assert!(matches!(own, Err(EngineError::Refused(_))), "{own:?}");
    }
    policy.asked();
    let grace = administrator("grace", 2);
    let released = world
        .engine
        .approve_command(&request, uuid, &grace, world.now)
        .await
        .unwrap();
    assert_eq!(released, 1);
    let asked = policy.asked();
    assert_eq!((asked.len(), asked[0].approved_by.as_deref()), (1, Some("grace")));
    let (sent, _) = world.poll(&device, device.idle()).await.unwrap();
    assert_eq!(sent, uuid.to_string().to_uppercase());
    let asked = policy.asked();
    assert_eq!(
        (asked[0].stage, asked[0].approved_by.as_deref()),
        (CommandStage::Send, Some("grace"))
    );
    let (command, _) = world.store.command(request.tenant.id, uuid).await.unwrap().unwrap();
    assert_eq!(
        (command.approval, command.decided.unwrap().0),
        (Some(Approval::Approved), "grace".to_owned())
    );
    let again = world.engine.approve_command(&request, uuid, &grace, world.now).await;
    assert!(matches!(again, Err(EngineError::Conflict(_))), "{again:?}");
}

#[tokio::test]
async fn an_approval_is_put_to_the_policies_again() {
    let (world, policy) = guarded().await;
    let device = world.enrolled("C02A").await;
    policy.rule(|_| Ok(CommandVerdict::Hold(because("two-eyes"))));
    let uuid = enqueue(&world, erase(), &[&device]).await.unwrap().command_uuid;
    let request = world.request().await;
    let grace = administrator("grace", 2);
    let approve = || world.engine.approve_command(&request, uuid, &grace, world.now);
    // It may want yet another approval, or fail: then the command goes on waiting.
    assert!(matches!(approve().await, Err(EngineError::Conflict(_))));
    policy.rule(|_| Err(FaultKind::Trap));
    assert!(matches!(approve().await, Err(EngineError::Undecided)));
    assert_eq!(entry(&world, &device, uuid).await.state, EntryState::Held);
    // It may make something else of it, which is checked like any command.
    let obliterate = json!({"RequestType": "EraseDevice", "PIN": "123456"});
    policy.rule(move |_| Ok(CommandVerdict::Replace(obliterate.to_string())));
    assert_eq!(approve().await.unwrap(), 1);
    let (_, command) = world.poll(&device, device.idle()).await.unwrap();
    assert_eq!(command.get("PIN").and_then(plist::Value::as_string), Some("123456"));
    // Or deny it, for good.
    policy.rule(|_| Ok(CommandVerdict::Hold(because("two-eyes"))));
    let uuid = enqueue(&world, erase(), &[&device]).await.unwrap().command_uuid;
    policy.rule(|_| Ok(CommandVerdict::Deny(because("no"))));
    let denied = world.engine.approve_command(&request, uuid, &grace, world.now).await;
    assert!(matches!(denied, Err(EngineError::Denied { .. })), "{denied:?}");
    assert_eq!(entry(&world, &device, uuid).await.state, EntryState::Cancelled);
}

#[tokio::test]
async fn an_approval_for_one_device_is_judged_for_that_device() {
    let (world, policy) = guarded().await;
    let (one, other) = (world.enrolled("C02DEMO1").await, world.enrolled("C02B").await);
    let rules = |asked: &CommandRequest| {
        let serial = asked.device.as_ref().and_then(|device| device.serial_number.as_deref());
        Ok(match (serial, &asked.approved_by) {
            (Some("C02DEMO1"), None) => CommandVerdict::Hold(because("a-demo")),
            (Some("C02DEMO1"), Some(_)) => CommandVerdict::Allow,
            _ => CommandVerdict::Deny(because("no-demo")),
        })
    };
    policy.rule(rules);
    let uuid = enqueue(&world, erase(), &[&one]).await.unwrap().command_uuid;
    policy.asked();
    let request = world.request().await;
    let grace = administrator("grace", 2);
    let approve = |uuid| world.engine.approve_command(&request, uuid, &grace, world.now);
    assert_eq!(approve(uuid).await.unwrap(), 1);
    let asked = policy.asked();
    let told = asked[0].device.as_ref().unwrap();
    assert_eq!((told.serial_number.as_deref(), asked[0].targets), (Some("C02DEMO1"), 1));
    let (sent, _) = world.poll(&one, one.idle()).await.unwrap();
    assert_eq!(sent, uuid.to_string().to_uppercase());
    // For several it is told of none, as when it was handed in.
    policy.rule(|_| Ok(CommandVerdict::Hold(because("two-eyes"))));
    let uuid = enqueue(&world, erase(), &[&one, &other]).await.unwrap().command_uuid;
    policy.rule(|_| Ok(CommandVerdict::Allow));
    policy.asked();
    assert_eq!(approve(uuid).await.unwrap(), 2);
    let asked = policy.asked();
    assert!(asked[0].device.is_none() && asked[0].targets == 2);
}

#[tokio::test]
async fn a_held_command_is_rejected() {
    let (world, policy) = guarded().await;
    let device = world.enrolled("C02A").await;
    policy.rule(|_| Ok(CommandVerdict::Hold(because("two-eyes"))));
    let uuid = enqueue(&world, erase(), &[&device]).await.unwrap().command_uuid;
    let request = world.request().await;
    let ada = administrator("ada", 1);
    let reason = Some("a mistake".to_owned());
    let rejected = world
        .engine
        .reject_command(&request.tenant, uuid, &ada, reason, world.now)
        .await;
    assert_eq!(rejected.unwrap(), 1);
    policy.rule(|_| Ok(CommandVerdict::Allow));
    let late = world
        .engine
        .approve_command(&request, uuid, &administrator("grace", 2), world.now)
        .await;
    assert!(matches!(late, Err(EngineError::Conflict(_))), "{late:?}");
    assert!(world.poll(&device, device.idle()).await.is_none());
}

#[tokio::test]
async fn a_delivery_that_is_held_waits_for_an_approval_too() {
    let (world, policy) = guarded().await;
    let device = world.enrolled("C02A").await;
    let uuid = enqueue(&world, erase(), &[&device]).await.unwrap().command_uuid;
    let other = enqueue(&world, security_info(), &[&device]).await.unwrap().command_uuid;
    policy.rule(|asked| match (asked.stage, &asked.approved_by, asked.destructive) {
        (CommandStage::Send, None, true) => Ok(CommandVerdict::Hold(because("at-night"))),
        _ => Ok(CommandVerdict::Allow),
    });
    let (sent, _) = world.poll(&device, device.idle()).await.unwrap();
    assert_eq!(sent, other.to_string().to_uppercase());
    let held = entry(&world, &device, uuid).await;
    assert_eq!(
        (held.state, held.defer_reason.as_deref()),
        (EntryState::Held, Some("because of at-night"))
    );
    let request = world.request().await;
    let grace = administrator("grace", 2);
    assert_eq!(
        world
            .engine
            .approve_command(&request, uuid, &grace, world.now)
            .await
            .unwrap(),
        1
    );
    let (sent, _) = world.poll(&device, device.report("Acknowledged", &sent)).await.unwrap();
    assert_eq!(sent, uuid.to_string().to_uppercase());
}

#[tokio::test]
async fn a_policy_may_put_another_command_in_place() {
    let (world, policy) = guarded().await;
    let device = world.enrolled("C02A").await;
    let replace = |json: Json| move |_: &CommandRequest| Ok(CommandVerdict::Replace(json.to_string()));
    policy.rule(replace(
        json!({"RequestType": "DeviceInformation", "Queries": ["DeviceName"]}),
    ));
    enqueue(&world, device_information(), &[&device]).await.unwrap();
    policy.rule(|_| Ok(CommandVerdict::Allow));
    let (uuid, command) = world.poll(&device, device.idle()).await.unwrap();
    let queries = command.get("Queries").unwrap().as_array().unwrap();
    assert_eq!(queries[0].as_string(), Some("DeviceName"));
    world.poll(&device, device.report("Acknowledged", &uuid)).await;

    // What is not valid, or is another request type, counts as a failure: a command that destroys nothing does not go
    // out in a form that nobody asked for.
    for json in [
        json!({"RequestType": "DeviceLock", "PIN": "abc"}),
        json!({"RequestType": "EraseDevice"}),
        json!([1]),
    ] {
        policy.rule(replace(json.clone()));
        let lock = CommandSource::Json(json!({"RequestType": "DeviceLock"}));
        let error = enqueue(&world, lock, &[&device]).await.unwrap_err();
        assert!(matches!(error, EngineError::Undecided), "{json}: {error:?}");
    }
    assert!(world.poll(&device, device.idle()).await.is_none());
}

#[tokio::test]
async fn a_failing_policy_keeps_back_what_destroys_and_else_what_the_operator_says() {
    let (world, policy) = guarded().await;
    let device = world.enrolled("C02A").await;
    policy.rule(|_| Err(FaultKind::Trap));
    let own_profile = json!({"RequestType": "RemoveProfile", "Identifier": support::settings().profile_identifier});
    for source in [
        erase(),
        CommandSource::Json(json!({"RequestType": "DeviceLock"})),
        CommandSource::Json(json!({"RequestType": "ClearPasscode", "UnlockToken": "AAAA"})),
        CommandSource::Json(json!({"RequestType": "EnableLostMode", "Message": "x"})),
        CommandSource::Json(own_profile),
    ] {
        let error = enqueue(&world, source.clone(), &[&device]).await.unwrap_err();
        assert!(matches!(error, EngineError::Undecided), "{source:?}: {error:?}");
    }
    // Open, as is usual; at delivery too.
    let other = json!({"RequestType": "RemoveProfile", "Identifier": "com.example.wifi"});
    let uuid = enqueue(&world, CommandSource::Json(other), &[&device])
        .await
        .unwrap()
        .command_uuid;
    let (sent, _) = world.poll(&device, device.idle()).await.unwrap();
    assert_eq!(sent, uuid.to_string().to_uppercase());
    world.poll(&device, device.report("Acknowledged", &sent)).await;

    // What destroys and was let into the queue waits while the policy fails at delivery.
    policy.rule(|_| Ok(CommandVerdict::Allow));
    let uuid = enqueue(&world, erase(), &[&device]).await.unwrap().command_uuid;
    policy.rule(|_| Err(FaultKind::Trap));
    assert!(world.poll(&device, device.idle()).await.is_none());
    let waiting = entry(&world, &device, uuid).await;
    assert_eq!(waiting.state, EntryState::Pending);
    assert!(waiting.defer_reason.unwrap().contains("guard"));
    policy.rule(|_| Ok(CommandVerdict::Allow));
    let later = world.now + jiff::SignedDuration::from_mins(6);
    let answer = world.send_at(&device, device.idle(), later).await.unwrap();
    let DeviceAnswer::Plist(body) = answer else {
        panic!("{answer:?}")
    };
    assert!(codec::decode(&body, &Limits::default()).is_ok());
}

#[tokio::test]
async fn without_a_policy_nothing_is_asked_or_recorded() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    enqueue(&world, erase(), &[&device]).await.unwrap();
    assert!(world.poll(&device, device.idle()).await.is_some());
    assert_eq!(verdicts(&world).await, [""; 0]);
}

#[tokio::test]
async fn a_command_goes_to_a_group_or_to_all() {
    let (world, policy) = guarded().await;
    let devices = [
        world.enrolled("C02A").await,
        world.enrolled("C02B").await,
        world.enrolled("C02C").await,
    ];
    let request = world.request().await;
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let change = |change| world.engine.change_group(&request.tenant, "lab", change, world.now);
    let error = change(GroupChange::Set(names(&["C02A", "nobody"]))).await.unwrap_err();
    assert!(matches!(error, EngineError::Invalid { .. }), "{error:?}");
    let error = change(GroupChange::Remove(names(&["C02A"]))).await.unwrap_err();
    assert!(matches!(error, EngineError::NotFound("group")), "{error:?}");
    assert_eq!(change(GroupChange::Set(names(&["C02A"]))).await.unwrap().members, 1);
    assert_eq!(
        change(GroupChange::Add(names(&["UDID-C02B", "C02A"])))
            .await
            .unwrap()
            .members,
        2
    );
    assert_eq!(change(GroupChange::Remove(names(&["C02A"]))).await.unwrap().members, 1);

    policy.asked();
    let enqueue = |audience| {
        let ask = ask(security_info(), audience);
        world.engine.enqueue(&request, ask, world.now)
    };
    assert_eq!(enqueue(Audience::Group("lab".into())).await.unwrap().queued, 1);
    assert!(matches!(
        enqueue(Audience::Group("no".into())).await,
        Err(EngineError::NotFound("group"))
    ));
    let all = enqueue(Audience::All).await.unwrap();
    assert_eq!((all.queued, all.duplicates, all.deduplicated.len()), (2, 1, 0));
    let targets: Vec<_> = policy.asked().iter().map(|asked| asked.targets).collect();
    assert_eq!(targets, [1, 3]);
    for device in &devices {
        assert!(world.poll(device, device.idle()).await.is_some(), "{}", device.serial);
    }
    let error = world
        .engine
        .enqueue(
            &request,
            EnqueueRequest {
                pace: Some(0),
                ..ask(erase(), Audience::All)
            },
            world.now,
        )
        .await
        .unwrap_err();
    assert!(matches!(error, EngineError::Invalid { .. }), "{error:?}");
    world.engine.delete_group(&request.tenant, "lab").await.unwrap();
    assert!(world.engine.delete_group(&request.tenant, "lab").await.is_err());
}

#[tokio::test]
async fn commands_are_taken_back_and_queues_flushed() {
    let world = World::new().await;
    let (one, other) = (world.enrolled("C02A").await, world.enrolled("C02B").await);
    let request = world.request().await;
    let tenant = &request.tenant;
    let uuid = enqueue(&world, erase(), &[&one, &other]).await.unwrap().command_uuid;
    let cancel = |device| world.engine.cancel_command(tenant, uuid, device, world.now);
    assert_eq!(cancel(Some("C02A")).await.unwrap(), 1);
    assert!(world.poll(&one, one.idle()).await.is_none());
    // The other one has it already, and its answer is kept.
    let (sent, _) = world.poll(&other, other.idle()).await.unwrap();
    assert_eq!(cancel(None).await.unwrap(), 1);
    world.poll(&other, other.report("Acknowledged", &sent)).await;
    assert_eq!(entry(&world, &other, uuid).await.state, EntryState::Acknowledged);
    assert_eq!(entry(&world, &one, uuid).await.state, EntryState::Cancelled);

    enqueue(&world, device_information(), &[&one]).await.unwrap();
    enqueue(&world, security_info(), &[&one]).await.unwrap();
    let flush = |request_type: Option<&str>| {
        let request_type = request_type.map(str::to_owned);
        world.engine.flush_queue(tenant, "C02A", request_type, world.now)
    };
    assert_eq!(flush(Some("SecurityInfo")).await.unwrap(), 1);
    assert_eq!(flush(None).await.unwrap(), 1);
    assert!(world.poll(&one, one.idle()).await.is_none());
}
