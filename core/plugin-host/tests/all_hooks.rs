//! Every hook of one plugin: what it reads, what it answers, and what it leaves to be done.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use common::questions::{self, Question, escrow, load, set};
use common::{engine, request, scope};
use russet_hooks::{
    Answers, Ask, CommandFailure, CommandVerdict, DecisionRecord, Device, EffectAction, EscrowOperation, EscrowVerdict,
    FaultKind, GateVerdict, HookInput, HookSet, MAX_DEPTH, Secret,
};
use russet_plugin_host::Limits;
use russet_plugin_host::ports::memory::MemoryInventory;
use russet_plugin_host::ports::{FoundDevice, Ports, Space};

async fn hooks(mode: &str) -> Arc<HookSet> {
    set(&load(&engine(), mode, Limits::default(), &Ports::memory())
        .await
        .unwrap())
}

fn effects(record: &DecisionRecord) -> Vec<&EffectAction> {
    record.effects.iter().map(|effect| &effect.action).collect()
}

#[tokio::test]
async fn every_hook_answers() {
    let hooks = hooks("answer").await;
    for question in Question::ALL {
        let asked = question.ask(&hooks, &scope()).await;
        assert!(asked.answered, "{question:?}: {asked:?}");
        assert_eq!(asked.record.fault, None, "{question:?}");
        assert!(
            asked.record.usage.host_calls > 0,
            "{question:?}: the settings were read"
        );
        assert!(asked.record.usage.memory_bytes > 0, "{question:?}");
    }
}

#[tokio::test]
async fn a_gate_reads_what_it_would_replace() {
    let mut request = request("C02XY");
    request.replaces = Some("UDID-0".to_owned());
    let outcome = hooks("read").await.check_enrollment(&scope(), request).await;
    let Ok(GateVerdict::Allow(attributes)) = outcome.verdict else {
        panic!("{outcome:?}");
    };
    assert_eq!(attributes["replaces"], "UDID-0");
    assert_eq!(attributes["tenant"], "default");
    assert_eq!(attributes["serial"], "C02XY");
}

#[tokio::test]
async fn an_escrow_policy_reads_the_secret_and_puts_another_form_in_its_place() {
    let hooks = hooks("read").await;
    for operation in [EscrowOperation::Deposit, EscrowOperation::Release] {
        let outcome = hooks.decide_escrow(&scope(), escrow(operation)).await;
        assert_eq!(outcome.verdict, Ok(EscrowVerdict::AllowAs(Secret::new(*b"nekot"))));
        let shown = format!("{:?}", outcome.decisions);
        assert!(!shown.contains("nekot"), "{shown}");
    }
    let outcome = hooks.decide_escrow(&scope(), escrow(EscrowOperation::Clear)).await;
    assert!(matches!(outcome.verdict, Ok(EscrowVerdict::Deny(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_command_policy_reads_the_command() {
    let request = questions::command("EraseDevice", true);
    let outcome = hooks("read")
        .await
        .check_command(&scope(), request, CommandFailure::Open)
        .await;
    let Ok(CommandVerdict::Hold(why)) = outcome.verdict else {
        panic!("{outcome:?}");
    };
    assert_eq!(why.message, "EraseDevice true 1 C02XY");
}

#[tokio::test]
async fn a_planner_reads_the_status() {
    let plans = hooks("read").await.plan(&scope(), questions::plan()).await;
    let payload = &plans[0].plan.as_ref().unwrap()[0].payload;
    assert_eq!(payload, r#"{"os":"\"27.1\"","serial":"C02XY"}"#);
}

#[tokio::test]
async fn an_observer_and_scheduled_work_read_what_is_due() {
    let hooks = hooks("read").await;
    for (question, expected) in [
        (Question::Observe, r#"7 1800000000000 {"a":1}"#),
        (Question::Run, "nightly 1800000000000 "),
    ] {
        let asked = question.ask(&hooks, &scope()).await;
        let EffectAction::SetAttribute { value, .. } = effects(&asked.record)[0] else {
            panic!("{asked:?}");
        };
        assert_eq!(value, expected);
    }
}

#[tokio::test]
async fn each_kind_of_effect_is_recorded_in_order() {
    let hooks = hooks("effects").await;
    for question in Question::ALL {
        let asked = question.ask(&hooks, &scope()).await;
        assert!(asked.answered, "{question:?}: {asked:?}");
        let actions = effects(&asked.record);
        let names: Vec<&str> = actions.iter().map(|action| action.as_str()).collect();
        assert_eq!(
            names,
            [
                "set-attribute",
                "clear-attribute",
                "enqueue-command",
                "cancel-command",
                "push",
                "assign-profile",
                "unassign-profile",
                "assign-declarations",
                "unassign-declarations",
                "put-secret",
                "schedule-call",
                "emit-event",
            ],
            "{question:?}"
        );
        let (
            EffectAction::EnqueueCommand {
                uuid,
                priority,
                dedupe_key,
                ..
            },
            EffectAction::CancelCommand { uuid: taken_back },
        ) = (actions[2], actions[3])
        else {
            panic!("{actions:?}");
        };
        assert_eq!(uuid, taken_back, "the plugin was told the UUID");
        assert_eq!((*priority, dedupe_key.as_deref()), (-5, Some("once")));
        assert_eq!(asked.record.effects[0].target.as_deref(), Some("UDID-1"));
    }
}

#[tokio::test]
async fn effects_that_are_not_well_formed_are_not_taken() {
    let asked = Question::Run.ask(&hooks("bad-effects").await, &scope()).await;
    assert!(asked.answered, "{asked:?}");
    assert_eq!(asked.record.effects, []);
}

#[tokio::test]
async fn an_effect_without_a_name_is_about_the_enrollment_of_the_call() {
    let hooks = hooks("own-effect").await;
    for question in Question::ALL {
        let asked = question.ask(&hooks, &scope()).await;
        match question {
            // Nobody is enrolled yet; a sign-in is about a name; work is about nobody.
            Question::Gate | Question::SignIn | Question::Find | Question::Run => {
                assert_eq!(asked.record.effects, [], "{question:?}");
                let detail = asked.record.fault.unwrap().detail;
                assert!(detail.contains("enrollment"), "{question:?}: {detail}");
            }
            _ => {
                assert!(asked.answered, "{question:?}: {asked:?}");
                assert_eq!(asked.record.effects[0].target, None, "{question:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_call_that_fails_leaves_nothing_to_be_done() {
    for (mode, kind) in [
        ("effect-and-panic", FaultKind::Trap),
        // Stopped by the budget, which it reports as that it could not decide.
        ("effect-flood", FaultKind::CouldNotDecide),
    ] {
        let asked = Question::Observe.ask(&hooks(mode).await, &scope()).await;
        let fault = asked.record.fault.unwrap();
        assert_eq!(fault.kind, kind, "{fault}");
        assert_eq!(asked.record.effects, [], "{mode}");
    }
}

#[tokio::test]
async fn effects_have_a_budget() {
    let asked = Question::Run.ask(&hooks("effect-flood").await, &scope()).await;
    let detail = asked.record.fault.unwrap().detail;
    assert!(detail.contains("64 effects"), "{detail}");
}

#[tokio::test]
async fn plugins_that_cause_one_another_come_to_an_end() {
    let hooks = hooks("echo").await;
    // Each event that the plugin emits is one for itself again.
    let mut depth = 0;
    loop {
        let asked = Question::Observe.ask(&hooks, &scope().at_depth(depth)).await;
        if let Some(fault) = asked.record.fault {
            assert!(fault.detail.contains("caused one another"), "{fault}");
            assert_eq!(asked.record.effects, []);
            break;
        }
        assert!(matches!(effects(&asked.record)[..], [EffectAction::EmitEvent { .. }]));
        depth += 1;
    }
    assert_eq!(depth, MAX_DEPTH);
}

#[tokio::test]
async fn a_call_that_is_run_again_has_the_same_effects() {
    let plugin = load(&engine(), "effects", Limits::default(), &Ports::memory())
        .await
        .unwrap();
    let event = HookInput::Observer(Arc::new(questions::event()));
    let live = plugin
        .answer(scope().recording(true), event.clone(), Answers::Live)
        .await
        .unwrap();
    assert!(!live.journal.is_empty(), "the UUID is from the host");
    let again = plugin.answer(scope(), event.clone(), Answers::Live).await.unwrap();
    assert_ne!(live.effects, again.effects, "each UUID is new");
    let recorded = Answers::Recorded {
        entries: live.journal.clone().into(),
        strict: true,
    };
    let replayed = plugin.answer(scope(), event, recorded).await.unwrap();
    assert_eq!(replayed.effects, live.effects);
    assert_eq!(replayed.verdict_json, live.verdict_json);
}

#[tokio::test]
async fn a_directory_s_sign_in_is_never_recorded() {
    let asked = Question::SignIn.ask(&hooks("answer").await, &scope()).await;
    assert_eq!(asked.record.input, None);
    let asked = Question::Find.ask(&hooks("answer").await, &scope()).await;
    assert!(matches!(asked.record.input, Some(HookInput::Directory(_))));
}

#[tokio::test]
async fn a_call_that_read_an_escrowed_secret_is_not_kept_to_be_asked_again() {
    for (mode, kept) in [("answer", true), ("read", false)] {
        let outcome = hooks(mode)
            .await
            .decide_escrow(&scope(), escrow(EscrowOperation::Release))
            .await;
        assert_eq!(outcome.decisions[0].input.is_some(), kept, "{mode}");
    }
}

fn fleet(devices: u32) -> Ports {
    let inventory = MemoryInventory::default();
    for number in 0..devices {
        inventory.add(
            "default",
            FoundDevice {
                device: Device {
                    serial_number: Some(format!("S{number:05}")),
                    enrollment_id: Some(format!("UDID-{number:05}")),
                    attributes: [("fleet".to_owned(), "all".to_owned())].into(),
                    ..Device::default()
                },
                person: None,
            },
        );
    }
    Ports {
        inventory: Arc::new(inventory),
        ..Ports::memory()
    }
}

/// Lets a plugin read so much of a fleet in a debug build.
fn patient() -> Limits {
    Limits {
        cpu_ms: 2_000,
        wall_ms: 20_000,
        ..Limits::default()
    }
}

#[tokio::test]
async fn a_plugin_goes_through_a_fleet_page_by_page() {
    let ports = fleet(1_500);
    let plugin = load(&engine(), "page-devices", patient(), &ports).await.unwrap();
    let ask = Ask::new(scope(), Arc::new(questions::run()));
    plugin.scheduled().unwrap().ask(ask).await.0.unwrap();
    let count = ports.kv.get(&Space::new("default", "hostile-hooks"), "count").await;
    assert_eq!(count.unwrap().unwrap().value, b"1500");
}

#[tokio::test]
async fn a_plugin_that_keeps_every_device_it_finds_is_stopped() {
    let plugin = load(&engine(), "hoard-devices", patient(), &fleet(1_000))
        .await
        .unwrap();
    let ask = Ask::new(scope(), Arc::new(questions::run()));
    let fault = plugin.scheduled().unwrap().ask(ask).await.0.unwrap_err();
    assert_eq!(fault.kind, FaultKind::HostCallLimit, "{fault}");
    assert!(fault.detail.contains("devices at once"), "{fault}");
}
