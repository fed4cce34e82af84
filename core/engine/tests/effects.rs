//! Effects of plugins: checked, put to the command policies, and done with the decision.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use russet_engine::settings::WorkSettings;
use russet_engine::{CommandSource, ProfileSource};
use russet_hooks::{
    Ask, CommandHook, CommandPolicy, CommandVerdict, Directory, DirectoryHook, DirectoryRequest, DirectoryVerdict,
    Effect, EffectAction, EnrollmentGate, Explanation, GateHook, GateStage, GateVerdict, HookSet, Person, PluginFault,
    Secret, SignIn,
};
use russet_store::{ChainBreak, DecisionRecord, DecisionRetention, EnrollmentLookup, EnrollmentRecord};
use serde_json::{Value as Json, json};
use support::{Device, Script, World, settings};
use uuid::Uuid;

/// A gate that allows, wants something done at Authenticate, and denies what is on its list.
#[derive(Default)]
struct Wanting {
    effects: Mutex<Vec<Effect>>,
    denies: Mutex<bool>,
}

struct Gate(Arc<Wanting>);

#[async_trait]
impl EnrollmentGate for Gate {
    async fn check(&self, ask: &Ask<GateHook>) -> Result<GateVerdict, PluginFault> {
        if ask.request.stage == GateStage::Authenticate {
            for effect in self.0.effects.lock().unwrap().iter() {
                ask.recorder.effect(effect.clone());
            }
            if *self.0.denies.lock().unwrap() {
                return Ok(GateVerdict::Deny(russet_hooks::Denial {
                    reason: "no".to_owned(),
                    message: "no".to_owned(),
                }));
            }
        }
        Ok(GateVerdict::Allow(BTreeMap::new()))
    }
}

/// Denies what plugins want erased, and wants an erasure itself.
#[derive(Default)]
struct NoErasing {
    asked: Mutex<Vec<String>>,
}

struct Policy(Arc<NoErasing>);

#[async_trait]
impl CommandPolicy for Policy {
    async fn check(&self, ask: &Ask<CommandHook>) -> Result<CommandVerdict, PluginFault> {
        self.0.asked.lock().unwrap().push(ask.request.request_type.clone());
        if ask.request.request_type != "EraseDevice" {
            return Ok(CommandVerdict::Allow);
        }
        ask.recorder.effect(own(command("EraseDevice")));
        Ok(CommandVerdict::Deny(Explanation {
            reason: "no-erasing".to_owned(),
            message: "plugins erase nothing".to_owned(),
        }))
    }
}

struct People;

#[async_trait]
impl Directory for People {
    async fn ask(&self, ask: &Ask<DirectoryHook>) -> Result<DirectoryVerdict, PluginFault> {
        let name = match &*ask.request {
            DirectoryRequest::SignIn(sign_in) => sign_in.user_name.clone(),
            DirectoryRequest::Find(name) => name.clone(),
        };
        Ok(DirectoryVerdict::Person(Person {
            id: name.clone(),
            user_name: name,
            ..Person::default()
        }))
    }
}

fn own(action: EffectAction) -> Effect {
    Effect { target: None, action }
}

fn command(request_type: &str) -> EffectAction {
    EffectAction::EnqueueCommand {
        uuid: Uuid::now_v7().to_string(),
        command: json!({ "RequestType": request_type }).to_string(),
        priority: 3,
        not_before_ms: None,
        expires_at_ms: None,
        dedupe_key: Some("mine".to_owned()),
    }
}

fn set(name: &str, value: &str) -> EffectAction {
    EffectAction::SetAttribute {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

async fn world(gate: &Arc<Wanting>, policy: &Arc<NoErasing>) -> World {
    let hooks = HookSet::builder()
        .gate("gate", Gate(Arc::clone(gate)))
        .directory("people", People)
        .command_policy("policy", Policy(Arc::clone(policy)))
        .build();
    World::with(settings(), hooks, Arc::new(Script::default())).await
}

async fn enrollment(world: &World, device: &Device) -> EnrollmentRecord {
    let tenant = world.store.default_tenant();
    let lookup = EnrollmentLookup::Udid(&device.udid);
    world.store.enrollment(tenant, lookup).await.unwrap().unwrap()
}

async fn decisions(world: &World) -> Vec<DecisionRecord> {
    let tenant = world.store.default_tenant();
    world.store.decisions(tenant, None, None, 100).await.unwrap().items
}

fn outcomes(record: &DecisionRecord) -> Vec<(&str, &str)> {
    let effects = record.effects.as_array().unwrap();
    let text = |effect: &'_ Json, key: &str| -> String { effect[key].as_str().unwrap().to_owned() };
    effects
        .iter()
        .map(|effect| {
            let name: &str = Box::leak(text(effect, "effect").into_boxed_str());
            let outcome: &str = Box::leak(text(effect, "outcome").into_boxed_str());
            (name, outcome)
        })
        .collect()
}

#[tokio::test]
async fn effects_of_a_gate_are_done_with_the_enrollment_that_it_lets_in() {
    let (gate, policy) = (Arc::new(Wanting::default()), Arc::new(NoErasing::default()));
    let world = world(&gate, &policy).await;
    *gate.effects.lock().unwrap() = vec![
        own(set("site", "north")),
        own(command("SecurityInfo")),
        own(EffectAction::PutSecret {
            name: "key".to_owned(),
            value: Secret::new(b"hidden-value"),
        }),
        own(EffectAction::Push),
    ];
    let device = world.identified("A1").await;
    world.send(&device, device.authenticate()).await.unwrap();
    let found = enrollment(&world, &device).await;
    assert_eq!(found.attributes["site"], "north");
    let queue = world.store.queue(found.id).await.unwrap();
    assert_eq!(queue[0].request_type, "SecurityInfo");
    assert_eq!(queue[0].priority, 3);
    let tenant = world.store.default_tenant();
    let secret = world.store.plugin_secret(tenant, "gate", "key").await.unwrap().unwrap();
    assert_eq!(&secret[..], b"hidden-value");
    let record = decisions(&world)
        .await
        .into_iter()
        .find(|one| one.effects != json!([]))
        .unwrap();
    assert_eq!(record.enrollment, Some(found.id));
    assert_eq!(
        outcomes(&record),
        [
            ("set-attribute", "applied"),
            ("enqueue-command", "applied"),
            ("put-secret", "applied"),
            ("push", "applied")
        ]
    );
    assert!(!record.effects.to_string().contains("hidden-value"));
    // The device fetches what was queued for it.
    world.send(&device, device.token_update()).await.unwrap();
    let (_, command) = world.poll(&device, device.idle()).await.unwrap();
    assert_eq!(command["RequestType"].as_string(), Some("SecurityInfo"));
}

#[tokio::test]
async fn what_is_wrong_with_one_effect_is_recorded_and_the_others_go_on() {
    let (gate, policy) = (Arc::new(Wanting::default()), Arc::new(NoErasing::default()));
    let world = world(&gate, &policy).await;
    let to = |target: &str, action| Effect {
        target: Some(target.to_owned()),
        action,
    };
    let mut bad = command("SecurityInfo");
    if let EffectAction::EnqueueCommand { command, .. } = &mut bad {
        *command = "{".to_owned();
    }
    let mut not_valid = command("InstallProfile");
    if let EffectAction::EnqueueCommand { uuid, .. } = &mut not_valid {
        *uuid = Uuid::now_v7().to_string();
    }
    let schedule = EffectAction::ScheduleCall {
        name: "later".to_owned(),
        at_ms: 4_000_000_000_000,
        payload: String::new(),
    };
    let event = EffectAction::EmitEvent {
        kind: "seen".to_owned(),
        detail: "[]".to_owned(),
    };
    *gate.effects.lock().unwrap() = vec![
        own(set("enrollment-method", "automated")),
        own(set("long", &"x".repeat(5_000))),
        own(bad),
        own(not_valid),
        to("nobody", set("a", "b")),
        own(schedule),
        own(event),
        own(EffectAction::AssignProfile {
            profile: "nothing".to_owned(),
        }),
        own(set("good", "yes")),
    ];
    let device = world.identified("A1").await;
    world.send(&device, device.authenticate()).await.unwrap();
    let found = enrollment(&world, &device).await;
    assert_eq!(found.attributes["good"], "yes");
    assert_eq!(
        found.attributes["enrollment-method"], "manual",
        "what the server noted is its own"
    );
    let record = decisions(&world)
        .await
        .into_iter()
        .find(|one| one.effects != json!([]))
        .unwrap();
    let refused: Vec<_> = outcomes(&record).iter().map(|(_, outcome)| *outcome).collect();
    assert_eq!(refused[..8], ["refused"; 8], "{}", record.effects);
    assert_eq!(refused[8], "applied");
    assert_eq!(record.effects[5]["reason"], "the plugin has no scheduled hook");
}

#[tokio::test]
async fn command_policies_are_asked_about_what_plugins_want_sent() {
    let (gate, policy) = (Arc::new(Wanting::default()), Arc::new(NoErasing::default()));
    let world = world(&gate, &policy).await;
    *gate.effects.lock().unwrap() = vec![own(command("EraseDevice"))];
    let device = world.identified("A1").await;
    world.send(&device, device.authenticate()).await.unwrap();
    let found = enrollment(&world, &device).await;
    let records = decisions(&world).await;
    let of_gate = records
        .iter()
        .find(|one| one.effects[0]["outcome"] == "refused")
        .unwrap();
    assert_eq!(of_gate.plugin.as_deref(), Some("gate"));
    assert_eq!(of_gate.effects[0]["reason"], "plugins erase nothing");
    let of_policy = records.iter().find(|one| one.hook == "command-policy").unwrap();
    assert_eq!(
        (of_policy.verdict.as_str(), of_policy.reason.as_deref()),
        ("deny", Some("no-erasing"))
    );
    // What the policy itself wants is not put to it again.
    assert_eq!(*policy.asked.lock().unwrap(), ["EraseDevice"]);
    let queue = world.store.queue(found.id).await.unwrap();
    assert_eq!(queue.len(), 1, "the policy's own command");
    assert_eq!(queue[0].request_type, "EraseDevice");
}

#[tokio::test]
async fn a_denied_device_leaves_the_effects_that_need_no_enrollment() {
    let (gate, policy) = (Arc::new(Wanting::default()), Arc::new(NoErasing::default()));
    let world = world(&gate, &policy).await;
    let known = world.enrolled("A0").await;
    let key = enrollment(&world, &known).await.key;
    *gate.denies.lock().unwrap() = true;
    *gate.effects.lock().unwrap() = vec![
        own(set("a", "b")),
        Effect {
            target: Some(key),
            action: set("told", "yes"),
        },
    ];
    let device = world.identified("A1").await;
    world.send(&device, device.authenticate()).await.unwrap_err();
    let record = decisions(&world)
        .await
        .into_iter()
        .find(|one| one.verdict == "deny")
        .unwrap();
    assert_eq!(
        outcomes(&record),
        [("set-attribute", "refused"), ("set-attribute", "applied")]
    );
    assert_eq!(enrollment(&world, &known).await.attributes["told"], "yes");
}

#[tokio::test]
async fn calls_are_kept_in_full_and_sign_ins_are_not() {
    let (gate, policy) = (Arc::new(Wanting::default()), Arc::new(NoErasing::default()));
    let world = world(&gate, &policy).await;
    let sign_in = SignIn {
        user_name: "ada".to_owned(),
        password: "correct horse".to_owned().into(),
    };
    world.profile(ProfileSource::Manual, Some(sign_in)).await.unwrap();
    let request = world.request().await;
    world
        .engine
        .find_person(&request, "ada", world.now)
        .await
        .unwrap()
        .unwrap();
    let records = decisions(&world).await;
    let tenant = world.store.default_tenant();
    let of = |hook: &str| records.iter().filter(|one| one.hook == hook).collect::<Vec<_>>();
    let [find, sign_in] = of("directory")[..] else {
        panic!("{records:?}")
    };
    assert!(find.has_call && !sign_in.has_call);
    assert_eq!(sign_in.input_sha256, None);
    let call = world.store.recorded_call(tenant, find.id).await.unwrap().unwrap();
    assert!(call.input.contains("ada"));
    let [gate] = of("enrollment-gate")[..] else {
        panic!("{records:?}")
    };
    let call = world.store.recorded_call(tenant, gate.id).await.unwrap().unwrap();
    let input = russet_hooks::HookInput::from_json(russet_hooks::HookKind::EnrollmentGate, &call.input).unwrap();
    assert_eq!(input.to_json().unwrap(), call.input, "what is kept can be asked again");
    assert_eq!(gate.verdict, "allow");
    assert_eq!(
        gate.verdict_sha256.unwrap(),
        russet_pki::fingerprint::sha256(call.verdict.as_bytes())
    );
}

#[tokio::test]
async fn nothing_is_kept_in_full_where_that_is_off() {
    let gate = Arc::new(Wanting::default());
    let hooks = HookSet::builder().gate("gate", Gate(Arc::clone(&gate))).build();
    let work = WorkSettings {
        record_calls: false,
        ..WorkSettings::default()
    };
    let world = World::with_work(settings(), work, hooks, Arc::new(Script::default())).await;
    world.enrolled("A1").await;
    let records = decisions(&world).await;
    assert!(!records.is_empty());
    assert!(
        records.iter().all(|one| !one.has_call && one.input_sha256.is_some()),
        "{records:?}"
    );

    // The tenant's own word comes before the server's.
    let tenant = world.engine.tenant("default").await.unwrap();
    let keep = |hours| DecisionRetention {
        decisions_days: None,
        input_hours: Some(hours),
    };
    world.engine.set_decision_retention(&tenant, keep(1)).await.unwrap();
    world.identified("A2").await;
    assert!(decisions(&world).await[0].has_call);
    world.engine.set_decision_retention(&tenant, keep(0)).await.unwrap();
    world.identified("A3").await;
    assert!(!decisions(&world).await[0].has_call);
    world
        .engine
        .set_decision_retention(&tenant, keep(u32::MAX))
        .await
        .unwrap_err();
}

#[tokio::test]
async fn every_decision_joins_the_chain() {
    let (gate, policy) = (Arc::new(Wanting::default()), Arc::new(NoErasing::default()));
    let world = world(&gate, &policy).await;
    let device = world.enrolled("A1").await;
    world
        .enqueue(&device, CommandSource::Json(json!({ "RequestType": "SecurityInfo" })))
        .await;
    world.store.chain_decisions().await.unwrap();
    let tenant = world.store.default_tenant();
    let report = world.store.verify_decisions(tenant, None).await.unwrap();
    assert_eq!(report.broken, None::<ChainBreak>);
    assert_eq!(report.verified, decisions(&world).await.len() as u64);
    assert!(report.verified >= 3, "profile, Authenticate, command");
}
