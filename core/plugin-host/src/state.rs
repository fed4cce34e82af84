//! What the host keeps for one running call.

use std::collections::BTreeMap;
use std::sync::Arc;

use russet_hooks::{Device, EnrollmentRequest, EscrowRequest, Person, Scope, TemplateRequest};
use wasmtime::ResourceLimiter;

use crate::Limits;
use crate::capabilities::LdapClient;
use crate::limits::Violation;

/// The longest piece of a plugin's own words in a fault, in bytes.
const LAST_WORDS: usize = 512;

/// What all calls of one loaded plugin share.
#[derive(Debug)]
pub(crate) struct PluginContext {
    pub(crate) name: Arc<str>,
    /// A JSON object.
    pub(crate) settings: String,
    pub(crate) limits: Limits,
    /// The connections that the plugin was granted and the server has.
    pub(crate) ldap: BTreeMap<String, Arc<LdapClient>>,
}

/// What the call is about. There is one of each kind in a call, so the handles that the guest holds carry no number.
#[derive(Debug)]
pub(crate) enum Subject {
    Enrollment(Arc<EnrollmentRequest>),
    Escrow(Arc<EscrowRequest>),
    Template(Arc<TemplateRequest>),
    /// A sign-in or a look-up: a name, passed by value.
    Name,
}

impl Subject {
    pub(crate) fn device(&self) -> Option<&Device> {
        match self {
            Self::Enrollment(request) => Some(&request.device),
            Self::Escrow(request) => Some(&request.device),
            Self::Template(request) => Some(&request.device),
            Self::Name => None,
        }
    }

    pub(crate) fn person(&self) -> Option<&Person> {
        match self {
            Self::Enrollment(request) => request.person.as_ref(),
            Self::Escrow(request) => request.person.as_ref(),
            Self::Template(request) => request.person.as_ref(),
            Self::Name => None,
        }
    }
}

/// The data of a store.
#[derive(Debug)]
pub(crate) struct CallState {
    pub(crate) plugin: Arc<PluginContext>,
    pub(crate) scope: Scope,
    pub(crate) subject: Subject,
    pub(crate) meter: Meter,
}

/// What the call has used.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) ticks: u64,
    pub(crate) host_calls: u32,
    pub(crate) log_lines: u32,
    pub(crate) log_lines_dropped: u32,
    /// The last line of level error: what a panicking guest said.
    pub(crate) last_words: Option<String>,
    memory_bytes: usize,
    table_elements: usize,
}

impl CallState {
    pub(crate) fn new(plugin: Arc<PluginContext>, scope: Scope, subject: Subject) -> Self {
        Self {
            plugin,
            scope,
            subject,
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

    /// Keeps what the guest said last, for the fault that may follow.
    pub(crate) fn remember(&mut self, line: &str) {
        self.meter.last_words = Some(cut(line, LAST_WORDS).to_owned());
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
