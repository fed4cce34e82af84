//! The table of `core/docs/failures.md`: what each hook does at each stage at which a plugin can fail. One test for each
//! cell.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::questions::{self, Question, load, set, silent_ports};
use common::{engine, scope};
use russet_hooks::{FailureRule, FaultKind, HookSet, HookSource};
use russet_plugin_host::ports::Ports;
use russet_plugin_host::{
    Activation, Actor, BreakerSettings, EngineConfig, Limits, Manifest, MemoryRevisions, NewRevision, PluginEngine,
    PluginHost, PluginManager, RevisionState, RevisionStore,
};

const TENANT: &str = "default";

/// What every cell has in common: the fault is in the record, the hook's rule was applied, and nothing is left to be done.
async fn cell(stage: Stage, questions: &[Question]) {
    let hooks = stage.hooks.await;
    for question in questions {
        let asked = question.ask(&hooks, &scope()).await;
        let fault = asked
            .record
            .fault
            .as_ref()
            .unwrap_or_else(|| panic!("{question:?} did not fail"));
        assert_eq!(fault.kind, stage.kind, "{question:?}: {fault}");
        assert_eq!(asked.record.verdict, "fault", "{question:?}");
        assert_eq!(asked.record.failure_rule, Some(question.rule()), "{question:?}");
        assert_eq!(asked.record.effects, [], "{question:?}");
        assert!(
            !asked.answered || question.rule() == FailureRule::Open,
            "{question:?}: {asked:?}"
        );
        assert_eq!(asked.refused.is_none(), question.goes_on(), "{question:?}: {asked:?}");
    }
}

struct Stage {
    hooks: futures::future::BoxFuture<'static, Arc<HookSet>>,
    kind: FaultKind,
}

/// A plugin that is loaded, and fails when it runs.
fn runs(mode: &'static str, kind: FaultKind) -> Stage {
    with(mode, kind, Limits::default(), Ports::memory())
}

fn with(mode: &'static str, kind: FaultKind, limits: Limits, ports: Ports) -> Stage {
    Stage {
        hooks: Box::pin(async move { set(&load(&engine(), mode, limits, &ports).await.unwrap()) }),
        kind,
    }
}

/// How an active revision fails before it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Fetch,
    Verify,
    Compile,
    Probe,
    CircuitOpen,
    Quarantined,
}

/// A plugin that is active in the store, as a server has it after its next start.
fn managed(broken: Broken) -> Stage {
    Stage {
        hooks: Box::pin(start(broken)),
        kind: match broken {
            Broken::CircuitOpen => FaultKind::CircuitOpen,
            Broken::Quarantined => FaultKind::Quarantined,
            Broken::Fetch | Broken::Verify | Broken::Compile | Broken::Probe => FaultKind::Unusable,
        },
    }
}

async fn start(broken: Broken) -> Arc<HookSet> {
    let mode = if broken == Broken::CircuitOpen {
        "panic"
    } else {
        "answer"
    };
    let source = questions::source(mode, Limits::default());
    let manifest = Manifest::read(source.component.bytes()).unwrap();
    let store = Arc::new(MemoryRevisions::new([TENANT]));
    let revision = NewRevision {
        plugin: manifest.name.clone(),
        version: manifest.version.to_string(),
        digest: match broken {
            Broken::Fetch => "00".repeat(32),
            _ => source.component.digest().to_owned(),
        },
        component: Some(Arc::clone(source.component.bytes())),
        manifest: serde_json::to_value(&manifest).unwrap(),
        settings: source.settings.unwrap(),
        grants: match broken {
            Broken::Verify => serde_json::json!({}),
            _ => serde_json::to_value(&source.grants).unwrap(),
        },
        signature: None,
        staging: None,
        revision: None,
        steps: vec![RevisionState::Verified, RevisionState::Compiled, RevisionState::Probed],
        actor: Actor::default(),
    };
    let revision = store.insert(TENANT, revision).await.unwrap();
    let activation = Activation {
        revision,
        actor: Actor::default(),
        force: false,
        watch: None,
    };
    store.activate(TENANT, activation).await.unwrap();
    if broken == Broken::Quarantined {
        let actor = Actor::default().because("it failed for this test");
        store.quarantine(TENANT, revision, actor).await.unwrap();
    }

    let limits = match broken {
        // Less than the plugin begins with: the engine has no place for it, or it does not get that far.
        Broken::Compile | Broken::Probe => Limits {
            memory_bytes: 64 << 10,
            ..Limits::default()
        },
        _ => Limits::default(),
    };
    let engine = match broken {
        Broken::Compile => PluginEngine::new(&EngineConfig {
            max_memory_bytes: 64 << 10,
            ..EngineConfig::default()
        })
        .unwrap(),
        _ => engine(),
    };
    let manager = PluginManager::new(
        engine,
        Arc::new(PluginHost::new()),
        store,
        questions::silent_connections(),
        Ports::memory(),
        limits,
    )
    .with_breaker(BreakerSettings {
        faults: 1,
        first: Duration::from_secs(600),
        longest: Duration::from_secs(600),
        ..BreakerSettings::default()
    });
    let report = manager.load_all().await.unwrap();
    let reason = report.failures.first().map(|failure| failure.reason.as_str());
    let expected = match broken {
        Broken::Fetch => Some("digest"),
        Broken::Verify => Some("more than it was granted"),
        Broken::Compile => Some("can not be compiled"),
        Broken::Probe => Some("failed its first start"),
        Broken::CircuitOpen => None,
        Broken::Quarantined => Some("for this test"),
    };
    match (reason, expected) {
        (Some(reason), Some(expected)) => assert!(reason.contains(expected), "{broken:?}: {reason}"),
        (reason, expected) => assert_eq!(reason, expected, "{broken:?}"),
    }
    let hooks = manager.host().pin(TENANT);
    if broken == Broken::CircuitOpen {
        let first = Question::Gate.ask(&hooks, &scope()).await;
        assert_eq!(first.record.fault.unwrap().kind, FaultKind::Trap);
    }
    hooks
}

/// Another test for each hook.
macro_rules! row {
    ($($stage:ident: $how:expr;)*) => {
        $(mod $stage {
            use super::*;

            #[tokio::test]
            async fn enrollment_gate() {
                cell($how, &[Question::Gate]).await;
            }

            #[tokio::test]
            async fn directory() {
                cell($how, &[Question::SignIn, Question::Find]).await;
            }

            #[tokio::test]
            async fn escrow_policy() {
                cell($how, &[Question::Deposit, Question::Release, Question::Clear]).await;
            }

            #[tokio::test]
            async fn profile_template() {
                cell($how, &[Question::Render]).await;
            }

            #[tokio::test]
            async fn command_policy() {
                cell($how, &[Question::Destructive, Question::Harmless]).await;
            }

            #[tokio::test]
            async fn declaration_planner() {
                cell($how, &[Question::Plan]).await;
            }

            #[tokio::test]
            async fn observer() {
                cell($how, &[Question::Observe]).await;
            }

            #[tokio::test]
            async fn scheduled() {
                cell($how, &[Question::Run]).await;
            }
        })*
    };
}

row! {
    fetch: managed(Broken::Fetch);
    verify: managed(Broken::Verify);
    compile: managed(Broken::Compile);
    probe: managed(Broken::Probe);
    circuit_open: managed(Broken::CircuitOpen);
    quarantined: managed(Broken::Quarantined);
    run_trap: runs("panic", FaultKind::Trap);
    run_stack: runs("stack", FaultKind::Trap);
    run_error: runs("error", FaultKind::CouldNotDecide);
    limit_processor_time: runs("loop", FaultKind::CpuLimit);
    limit_memory: runs("memory", FaultKind::MemoryLimit);
    limit_host_calls: runs("host-call-flood", FaultKind::HostCallLimit);
    limit_answer: with(
        "huge-answer",
        FaultKind::HostCallLimit,
        Limits { memory_bytes: 64 << 20, ..Limits::default() },
        Ports::memory(),
    );
    limit_time: with(
        "hang",
        FaultKind::Deadline,
        Limits { wall_ms: 300, ..Limits::default() },
        silent_ports(),
    );
}

/// Those whose answer has a form.
const FORMED: [Question; 10] = [
    Question::Gate,
    Question::SignIn,
    Question::Find,
    Question::Deposit,
    Question::Release,
    Question::Clear,
    Question::Render,
    Question::Destructive,
    Question::Harmless,
    Question::Plan,
];

#[tokio::test]
async fn an_answer_that_is_not_well_formed_is_a_failure_of_the_run() {
    cell(runs("bad-answer", FaultKind::BadAnswer), &FORMED).await;
}
