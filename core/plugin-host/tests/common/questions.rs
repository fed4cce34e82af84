//! A question to each hook, and the plugin that implements them all.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use russet_hooks::{
    CommandFailure, CommandRequest, CommandStage, DecisionRecord, Device, DirectoryRequest, DirectoryVerdict,
    EscrowKind, EscrowOperation, EscrowRequest, Event, FailureRule, HookSet, Outcome, PlanRequest, PluginFault,
    Requester, ScheduledRun, Scope, Secret, SignIn, TemplateRequest,
};
use russet_plugin_host::ports::{
    CallError, HttpPort, HttpRequest, HttpResponse, KvEntry, KvPort, KvWrite, Ports, Space,
};
use russet_plugin_host::{
    ConnectionGrants, Connections, Grants, Limits, LoadError, LoadedPlugin, Manifest, PluginEngine, PluginSource,
};
use tokio::time::Instant;

use super::{artifact, mode, request};

/// What the host can be asked; a hook with several functions has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    Gate,
    SignIn,
    Find,
    Deposit,
    Release,
    Clear,
    Render,
    /// A command that erases.
    Destructive,
    /// One that does not, with the setting that lets such go on.
    Harmless,
    Plan,
    Observe,
    Run,
}

impl Question {
    pub const ALL: [Self; 12] = [
        Self::Gate,
        Self::SignIn,
        Self::Find,
        Self::Deposit,
        Self::Release,
        Self::Clear,
        Self::Render,
        Self::Destructive,
        Self::Harmless,
        Self::Plan,
        Self::Observe,
        Self::Run,
    ];

    /// What a failure means: the column of `core/docs/failures.md`.
    pub fn rule(self) -> FailureRule {
        match self {
            Self::Gate | Self::SignIn | Self::Release | Self::Clear | Self::Destructive => FailureRule::Closed,
            Self::Find => FailureRule::UnknownPerson,
            Self::Deposit => FailureRule::KeepMarked,
            Self::Render => FailureRule::Wait,
            Self::Harmless => FailureRule::Open,
            Self::Plan => FailureRule::LastGoodPlan,
            Self::Observe | Self::Run => FailureRule::Retry,
        }
    }

    /// Whether what was asked for goes on in spite of a failure.
    pub fn goes_on(self) -> bool {
        matches!(self, Self::Find | Self::Harmless)
    }

    /// Asks all that a set has.
    pub async fn ask(self, set: &Arc<HookSet>, scope: &Scope) -> Asked {
        match self {
            Self::Gate => Asked::of(set.check_enrollment(scope, request("C02XY")).await, |_| true),
            Self::SignIn => {
                let sign_in = SignIn {
                    user_name: "anna".to_owned(),
                    password: "secret".to_owned().into(),
                };
                let outcome = set.ask_directory(scope, DirectoryRequest::SignIn(sign_in)).await;
                Asked::of(outcome, |verdict| matches!(verdict, DirectoryVerdict::Person(_)))
            }
            Self::Find => {
                let outcome = set
                    .ask_directory(scope, DirectoryRequest::Find("anna".to_owned()))
                    .await;
                Asked::of(outcome, |verdict| matches!(verdict, DirectoryVerdict::Person(_)))
            }
            Self::Deposit => Asked::of(set.decide_escrow(scope, escrow(EscrowOperation::Deposit)).await, |_| {
                true
            }),
            Self::Release => Asked::of(set.decide_escrow(scope, escrow(EscrowOperation::Release)).await, |_| {
                true
            }),
            Self::Clear => Asked::of(set.decide_escrow(scope, escrow(EscrowOperation::Clear)).await, |_| true),
            Self::Render => Asked::of(set.render(scope, "hostile-hooks", template()).await, |_| true),
            Self::Destructive => Asked::of(
                set.check_command(scope, command("EraseDevice", true), CommandFailure::Open)
                    .await,
                |_| true,
            ),
            Self::Harmless => Asked::of(
                set.check_command(scope, command("DeviceInformation", false), CommandFailure::Open)
                    .await,
                |_| true,
            ),
            Self::Plan => {
                let plan = set.plan(scope, plan()).await.remove(0);
                Asked {
                    answered: plan.plan.is_ok(),
                    refused: plan.plan.err(),
                    record: plan.decision,
                }
            }
            Self::Observe => Asked::of(set.observe(scope, "hostile-hooks", event()).await, |()| true),
            Self::Run => Asked::of(set.run_scheduled(scope, "hostile-hooks", run()).await, |()| true),
        }
    }
}

/// What came of a question.
#[derive(Debug)]
pub struct Asked {
    /// Whether what was asked for goes on: also when a failure rule lets it.
    pub answered: bool,
    /// The fault that stopped it.
    pub refused: Option<PluginFault>,
    /// The record of the call.
    pub record: DecisionRecord,
}

impl Asked {
    fn of<V>(mut outcome: Outcome<V>, answered: impl FnOnce(&V) -> bool) -> Self {
        Self {
            answered: outcome.verdict.as_ref().is_ok_and(answered),
            refused: outcome.verdict.err().map(|undecided| undecided.fault),
            record: outcome.decisions.remove(0),
        }
    }
}

pub fn known_device() -> Device {
    Device {
        serial_number: Some("C02XY".to_owned()),
        enrollment_id: Some("UDID-1".to_owned()),
        ..Device::default()
    }
}

pub fn escrow(operation: EscrowOperation) -> EscrowRequest {
    EscrowRequest {
        operation,
        kind: EscrowKind::BootstrapToken,
        device: known_device(),
        person: None,
        requester: Requester::Device,
        age_seconds: Some(60),
        secret: Some(Secret::new(*b"token")),
    }
}

pub fn template() -> TemplateRequest {
    TemplateRequest {
        name: "wifi".to_owned(),
        template: "<plist/>".to_owned(),
        variables: "{}".to_owned(),
        device: known_device(),
        person: None,
    }
}

pub fn command(request_type: &str, destructive: bool) -> CommandRequest {
    CommandRequest {
        stage: CommandStage::Send,
        uuid: "0195F9D4-7C3E-7000-8000-0123456789AB".to_owned(),
        request_type: request_type.to_owned(),
        command: format!(r#"{{"RequestType":"{request_type}"}}"#).into(),
        destructive,
        requester: Requester::Administrator("ops".to_owned()),
        approved_by: None,
        targets: 1,
        device: Some(known_device()),
        person: None,
    }
}

pub fn plan() -> PlanRequest {
    PlanRequest {
        device: known_device(),
        person: None,
        status: BTreeMap::from([("device.operating-system.version".to_owned(), "\"27.1\"".to_owned())]),
    }
}

pub fn event() -> Event {
    Event {
        id: 7,
        kind: "enrollment.enrolled".to_owned(),
        time: 1_800_000_000_000,
        device: Some(known_device()),
        person: None,
        detail: r#"{"a":1}"#.to_owned(),
        attempt: 0,
        depth: 0,
    }
}

pub fn run() -> ScheduledRun {
    ScheduledRun {
        name: "nightly".to_owned(),
        due: 1_800_000_000_000,
        payload: String::new(),
        attempt: 0,
    }
}

/// A part of the server that never answers.
#[derive(Debug)]
pub struct Silent;

#[async_trait]
impl KvPort for Silent {
    async fn get(&self, _: &Space, _: &str) -> Result<Option<KvEntry>, CallError> {
        std::future::pending().await
    }

    async fn write(&self, _: &Space, _: KvWrite) -> Result<bool, CallError> {
        std::future::pending().await
    }

    async fn delete(&self, _: &Space, _: &str) -> Result<bool, CallError> {
        std::future::pending().await
    }

    async fn keys(&self, _: &Space, _: &str, _: Option<&str>, _: u32) -> Result<Vec<String>, CallError> {
        std::future::pending().await
    }
}

#[async_trait]
impl HttpPort for Silent {
    async fn send(&self, _: &Space, _: HttpRequest, _: Instant) -> Result<HttpResponse, CallError> {
        std::future::pending().await
    }
}

/// A server whose store never answers.
pub fn silent_ports() -> Ports {
    Ports {
        kv: Arc::new(Silent),
        ..Ports::memory()
    }
}

/// Connections with one for HTTP, which never answers.
pub fn silent_connections() -> Connections {
    let mut connections = Connections::default();
    connections.http.insert_port("corp", Arc::new(Silent));
    connections
}

/// The plugin that implements every hook, with all that it asks for.
pub fn source(name: &str, limits: Limits) -> PluginSource {
    let component = artifact("hostile-hooks");
    let mut grants = Grants::all_asked(&Manifest::read(&component).unwrap());
    grants.connections = ConnectionGrants {
        http: ["corp".to_owned()].into(),
        ..ConnectionGrants::default()
    };
    PluginSource {
        tenant: "default".into(),
        component: component.into(),
        settings: Some(mode(name)),
        grants,
        limits,
    }
}

/// Loads it in one of its modes.
pub async fn load(engine: &PluginEngine, name: &str, limits: Limits, ports: &Ports) -> Result<LoadedPlugin, LoadError> {
    LoadedPlugin::load(engine, &silent_connections(), ports, source(name, limits)).await
}

/// Everything that it implements, as a set.
pub fn set(plugin: &LoadedPlugin) -> Arc<HookSet> {
    HookSet::builder()
        .add_gate(plugin.gate().unwrap().clone())
        .add_directory(plugin.directory().unwrap().clone())
        .add_escrow_policy(plugin.escrow_policy().unwrap().clone())
        .add_template(plugin.template().unwrap().clone())
        .add_command_policy(plugin.command_policy().unwrap().clone())
        .add_planner(plugin.planner().unwrap().clone())
        .add_observer(plugin.observer().unwrap().clone(), plugin.manifest().events.clone())
        .add_scheduled(plugin.scheduled().unwrap().clone(), plugin.manifest().schedules())
        .build()
}
