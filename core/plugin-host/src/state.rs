//! What the host keeps for one running call.

use std::collections::BTreeMap;
use std::sync::Arc;

use russet_hooks::{
    Answers, Ask, CommandRequest, Device, EnrollmentRequest, EscrowRequest, Event, Hook, Person, PlanRequest, Recorder,
    ScheduledRun, Scope, TemplateRequest,
};
use wasmtime::ResourceLimiter;

use crate::Limits;
use crate::capabilities::{LogLines, Wasi};
use crate::found::Found;
use crate::journal::Journal;
use crate::limits::Violation;
use crate::ports::{HttpPort, LdapPort, Ports, Space};

/// What all calls of one loaded plugin share.
#[derive(Debug)]
pub(crate) struct PluginContext {
    pub(crate) name: Arc<str>,
    /// A JSON object.
    pub(crate) settings: String,
    pub(crate) limits: Limits,
    /// Whether it implements `scheduled`, so that it can be called back.
    pub(crate) scheduled: bool,
    /// What the host asks of the server.
    pub(crate) ports: Ports,
    /// Whose data it reads and writes.
    pub(crate) space: Space,
    /// The connections that the plugin was granted and the server has.
    pub(crate) ldap: BTreeMap<String, Arc<dyn LdapPort>>,
    /// The same for HTTP.
    pub(crate) http: BTreeMap<String, Arc<dyn HttpPort>>,
}

/// What the call is about: its question. A call has one, so the handles that the guest holds on it carry no number.
#[derive(Debug)]
pub(crate) enum Subject {
    Enrollment(Arc<EnrollmentRequest>),
    Escrow(Arc<EscrowRequest>),
    Template(Arc<TemplateRequest>),
    Command(Arc<CommandRequest>),
    Plan(Arc<PlanRequest>),
    Event(Arc<Event>),
    Run(Arc<ScheduledRun>),
    /// A sign-in or a look-up: a name, passed by value.
    Name,
}

impl Subject {
    pub(crate) fn device(&self) -> Option<&Device> {
        match self {
            Self::Enrollment(request) => Some(&request.device),
            Self::Escrow(request) => Some(&request.device),
            Self::Template(request) => Some(&request.device),
            Self::Command(request) => request.device.as_ref(),
            Self::Plan(request) => Some(&request.device),
            Self::Event(event) => event.device.as_ref(),
            Self::Run(_) | Self::Name => None,
        }
    }

    pub(crate) fn person(&self) -> Option<&Person> {
        match self {
            Self::Enrollment(request) => request.person.as_ref(),
            Self::Escrow(request) => request.person.as_ref(),
            Self::Template(request) => request.person.as_ref(),
            Self::Command(request) => request.person.as_ref(),
            Self::Plan(request) => request.person.as_ref(),
            Self::Event(event) => event.person.as_ref(),
            Self::Run(_) | Self::Name => None,
        }
    }
}

/// What a call is made with, apart from its question.
#[derive(Debug)]
pub(crate) struct CallInput {
    pub(crate) scope: Scope,
    pub(crate) answers: Answers,
    pub(crate) recorder: Recorder,
}

impl CallInput {
    /// Takes a question apart.
    pub(crate) fn of<H: Hook>(ask: Ask<H>) -> (Self, Arc<H::Request>) {
        let input = Self {
            scope: ask.scope,
            answers: ask.answers,
            recorder: ask.recorder,
        };
        (input, ask.request)
    }
}

/// The data of a store.
#[derive(Debug)]
pub(crate) struct CallState {
    pub(crate) plugin: Arc<PluginContext>,
    pub(crate) scope: Scope,
    pub(crate) subject: Subject,
    /// Devices that `inventory` handed out.
    pub(crate) found: Found,
    /// Where calls of the host get their answers.
    pub(crate) journal: Journal,
    /// Where effects go.
    pub(crate) recorder: Recorder,
    /// What the plugin wrote to its log, if it wrote anything.
    pub(crate) log: Option<Arc<LogLines>>,
    /// The system that the plugin's run time sees, if it looked at it.
    pub(crate) wasi: Option<Box<Wasi>>,
    pub(crate) meter: Meter,
}

/// What the call has used.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) ticks: u64,
    pub(crate) host_calls: u32,
    pub(crate) effects: u32,
    pub(crate) effect_bytes: usize,
    memory_bytes: usize,
    table_elements: usize,
}

impl CallState {
    pub(crate) fn new(plugin: Arc<PluginContext>, input: CallInput, subject: Subject) -> Self {
        let recorder = input.scope.recording.then(|| input.recorder.clone());
        Self {
            plugin,
            scope: input.scope,
            subject,
            found: Found::default(),
            journal: Journal::new(&input.answers, recorder),
            recorder: input.recorder,
            log: None,
            wasi: None,
            meter: Meter::default(),
        }
    }

    /// Counts a call of a host function.
    pub(crate) fn count_host_call(&mut self) -> wasmtime::Result<()> {
        let limit = self.plugin.limits.host_calls;
        if self.meter.host_calls >= limit {
            return Err(Violation::HostCalls(limit).into());
        }
        self.meter.host_calls += 1;
        Ok(())
    }
}

impl Drop for CallState {
    /// However the call ended, also at its deadline: what it used is known.
    fn drop(&mut self) {
        let meter = &self.meter;
        self.recorder.with(|recorded| {
            recorded.usage.host_calls = meter.host_calls;
            recorded.usage.cpu_ticks = u32::try_from(meter.ticks).unwrap_or(u32::MAX);
            recorded.usage.memory_bytes = meter.memory_bytes as u64;
        });
    }
}

/// The start of a text, at most `bytes` long.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

impl ResourceLimiter for CallState {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let limit = self.plugin.limits.memory_bytes;
        let asked = self.meter.memory_bytes.saturating_add(desired.saturating_sub(current));
        if asked > limit {
            // An error instead of a refusal: the guest would only abort, and the fault would look like its own bug.
            return Err(Violation::Memory { asked, limit }.into());
        }
        self.meter.memory_bytes = asked;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let limit = self.plugin.limits.table_elements;
        let asked = self
            .meter
            .table_elements
            .saturating_add(desired.saturating_sub(current));
        if asked > limit {
            return Err(Violation::Tables { asked, limit }.into());
        }
        self.meter.table_elements = asked;
        Ok(true)
    }
}
