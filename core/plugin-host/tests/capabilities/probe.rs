//! The probe: a plugin that does what it is told with every capability, and says what each step gave.

use std::sync::Arc;
use std::time::Duration;

use russet_hooks::{
    Answers, Ask, DecisionRecord, Device, JournalEntry, PluginFault, RenderedProfile, Scope, TemplateHook,
    TemplateRequest,
};
use russet_plugin_host::ports::Ports;
use russet_plugin_host::{
    ConnectionGrants, Connections, Grants, Limits, LoadError, LoadedPlugin, PluginSource, inspect,
};
use serde_json::{Value, json};

use crate::common::{artifact, engine};

pub(crate) struct Probe {
    pub(crate) plugin: LoadedPlugin,
    tenant: Arc<str>,
}

/// How the probe is loaded.
pub(crate) struct Load {
    pub(crate) tenant: &'static str,
    pub(crate) ports: Ports,
    pub(crate) connections: Connections,
    pub(crate) settings: Value,
    pub(crate) limits: Limits,
    pub(crate) component: Vec<u8>,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            tenant: "default",
            ports: Ports::memory(),
            connections: Connections::default(),
            settings: json!({}),
            limits: Limits {
                wall_ms: 20_000,
                // Components are run without optimisation in the host's tests.
                cpu_ms: 2_000,
                ..Limits::default()
            },
            component: artifact("probe"),
        }
    }
}

impl Load {
    pub(crate) async fn with(self, grants: Grants) -> Result<Probe, LoadError> {
        let plugin = LoadedPlugin::load(
            &engine(),
            &self.connections,
            &self.ports,
            PluginSource {
                tenant: self.tenant.into(),
                component: self.component.into(),
                settings: Some(self.settings),
                grants,
                limits: self.limits,
            },
        )
        .await?;
        Ok(Probe {
            plugin,
            tenant: self.tenant.into(),
        })
    }

    /// With everything that it asks for, and every connection that there is.
    pub(crate) async fn granted(self) -> Probe {
        let grants = all_grants(&self);
        self.with(grants).await.unwrap()
    }
}

/// Everything that it asks for. It has to be granted connections of both kinds, and two that lead nowhere do.
pub(crate) fn all_grants(load: &Load) -> Grants {
    let manifest = inspect(&load.component).unwrap().manifest;
    Grants {
        capabilities: manifest.capabilities,
        connections: ConnectionGrants {
            ldap: load.connections.ldap.names().map(str::to_owned).collect(),
            http: load.connections.http.names().map(str::to_owned).collect(),
        },
        ..Grants::default()
    }
}

/// Connections to nowhere, for tests that use none.
pub(crate) fn nowhere() -> Connections {
    let mut connections = Connections::default();
    connections
        .ldap
        .insert(
            "nowhere",
            russet_plugin_host::LdapConnection {
                url: "ldap://127.0.0.1:1".to_owned(),
                allow_plaintext: true,
                base_dn: "dc=example,dc=org".to_owned(),
                ..Default::default()
            },
        )
        .unwrap();
    connections
        .http
        .insert(
            "nowhere",
            russet_plugin_host::HttpConnection {
                base_url: "http://127.0.0.1:1".to_owned(),
                allow_plaintext: true,
                ..Default::default()
            },
        )
        .unwrap();
    connections
}

pub(crate) fn request(steps: &Value) -> TemplateRequest {
    TemplateRequest {
        name: "probe".to_owned(),
        template: steps.to_string(),
        variables: "{}".to_owned(),
        device: Device {
            serial_number: Some("C02XY".to_owned()),
            ..Device::default()
        },
        person: None,
    }
}

impl Probe {
    pub(crate) async fn ask(
        &self,
        scope: Scope,
        steps: &Value,
        answers: Answers,
    ) -> (Result<RenderedProfile, PluginFault>, DecisionRecord) {
        let ask = Ask::<TemplateHook>::new(scope, Arc::new(request(steps))).beside(answers);
        self.plugin.template().unwrap().ask(ask).await
    }

    /// What each step gives, live.
    pub(crate) async fn run(&self, steps: Value) -> Value {
        self.run_for(Duration::from_secs(20), steps).await
    }

    pub(crate) async fn run_for(&self, budget: Duration, steps: Value) -> Value {
        let scope = Scope::new(Arc::clone(&self.tenant), "test", budget);
        let (answer, _) = self.ask(scope, &steps, Answers::Live).await;
        serde_json::from_slice(&answer.unwrap().0).unwrap()
    }

    /// What one step gives.
    pub(crate) async fn one(&self, step: Value) -> Value {
        self.run(json!([step])).await[0].take()
    }

    /// The error of one step.
    pub(crate) async fn error(&self, step: Value) -> String {
        let given = self.one(step).await;
        match given["error"].as_str() {
            Some(error) => error.to_owned(),
            None => panic!("no error: {given}"),
        }
    }

    /// What each step gives, with the record and its journal.
    pub(crate) async fn recorded(&self, steps: &Value) -> (Value, DecisionRecord) {
        let scope = Scope::new(Arc::clone(&self.tenant), "test", Duration::from_secs(20)).recording(true);
        let (answer, record) = self.ask(scope, steps, Answers::Live).await;
        (serde_json::from_slice(&answer.unwrap().0).unwrap(), record)
    }

    /// What each step gives with the answers of a journal.
    pub(crate) async fn replayed(
        &self,
        steps: &Value,
        journal: &[JournalEntry],
        strict: bool,
    ) -> (Result<Value, PluginFault>, DecisionRecord) {
        let scope = Scope::new(Arc::clone(&self.tenant), "test", Duration::from_secs(20));
        let answers = Answers::Recorded {
            entries: journal.into(),
            strict,
        };
        let (answer, record) = self.ask(scope, steps, answers).await;
        (answer.map(|answer| serde_json::from_slice(&answer.0).unwrap()), record)
    }
}
