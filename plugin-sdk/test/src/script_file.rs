//! What the host answers, written in a file: for `russet plugin run` and for cases.

use std::collections::BTreeMap;

use jiff::Timestamp;
use russet_plugin_host::ports::{CallError, FoundDevice, HttpRequest, HttpResponse, LdapEntry, LdapSearch};
use serde::Deserialize;
use serde_json::Value;

use crate::Script;

/// What the host answers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScriptFile {
    /// What the clock shows, such as `2026-01-31T08:00:00Z`.
    pub clock: Option<Timestamp>,
    /// Where random numbers begin.
    pub random: Option<u64>,
    /// Values in the plugin's store: text as it is, anything else as JSON.
    pub kv: BTreeMap<String, Value>,
    /// Secrets of the plugin.
    pub secrets: BTreeMap<String, String>,
    /// The secret that escrow policies are asked about.
    pub escrow_secret: Option<String>,
    /// Enrolled devices.
    pub devices: Vec<FoundDevice>,
    /// HTTP connections: the first rule that fits a request answers it.
    pub http: BTreeMap<String, Vec<HttpRule>>,
    /// LDAP connections.
    pub ldap: BTreeMap<String, LdapFile>,
}

/// The answer to HTTP requests.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpRule {
    /// The method; any if absent.
    pub method: Option<String>,
    /// The path and query; with `*` at the end how they begin. Any if absent.
    pub path: Option<String>,
    /// The status code; 200 if absent.
    pub status: u16,
    /// Headers.
    pub headers: BTreeMap<String, String>,
    /// The body: text as it is, anything else as JSON.
    pub body: Value,
    /// The server can not be reached, for this reason.
    pub unavailable: Option<String>,
}

impl Default for HttpRule {
    fn default() -> Self {
        Self {
            method: None,
            path: None,
            status: 200,
            headers: BTreeMap::new(),
            body: Value::Null,
            unavailable: None,
        }
    }
}

/// What is behind an LDAP connection.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LdapFile {
    /// What searches find: the first rule that fits answers; nothing is found if none does.
    pub searches: Vec<LdapRule>,
    /// The passwords, by distinguished name.
    pub passwords: BTreeMap<String, String>,
    /// The directory can not be reached, for this reason.
    pub unavailable: Option<String>,
}

/// The answer to searches.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LdapRule {
    /// The filter; any if absent.
    pub filter: Option<String>,
    /// The values in the filter; any if absent.
    pub values: Option<Vec<String>>,
    /// The base; any if absent.
    pub base: Option<String>,
    /// What is found.
    pub entries: Vec<EntryFile>,
}

/// An entry of a directory.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryFile {
    /// The distinguished name.
    pub dn: String,
    /// The attributes with their values.
    #[serde(default)]
    pub attributes: BTreeMap<String, Vec<String>>,
}

fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::Null => Vec::new(),
        Value::String(text) => text.clone().into_bytes(),
        other => other.to_string().into_bytes(),
    }
}

impl ScriptFile {
    /// The script.
    pub fn script(self) -> Script {
        let mut script = Script::new();
        if let Some(now) = self.clock {
            script = script.clock(now);
        }
        if let Some(seed) = self.random {
            script = script.random(seed);
        }
        for (key, value) in &self.kv {
            script = script.kv(key, bytes(value));
        }
        for (name, value) in self.secrets {
            script = script.secret(name, value);
        }
        if let Some(secret) = self.escrow_secret {
            script = script.escrow_secret(secret);
        }
        for found in self.devices {
            script = script.device(found.device, found.person);
        }
        for (name, rules) in self.http {
            script = script.http(name, move |request| answer(&rules, request));
        }
        for (name, directory) in self.ldap {
            let LdapFile {
                searches,
                passwords,
                unavailable,
            } = directory;
            let down = unavailable.clone();
            script = script
                .ldap_search(&name, move |search| match &down {
                    Some(reason) => Err(CallError::Unavailable(reason.clone())),
                    None => Ok(find(&searches, search)),
                })
                .ldap_bind(&name, move |dn, password| match &unavailable {
                    Some(reason) => Err(CallError::Unavailable(reason.clone())),
                    None => Ok(passwords.get(dn).is_some_and(|known| known == password)),
                });
        }
        script
    }

    /// This file with what another one says beside it or in its place.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.clock = other.clock.or(self.clock);
        self.random = other.random.or(self.random);
        self.escrow_secret = other.escrow_secret.or(self.escrow_secret);
        self.kv.extend(other.kv);
        self.secrets.extend(other.secrets);
        self.devices.extend(other.devices);
        self.http.extend(other.http);
        self.ldap.extend(other.ldap);
        self
    }
}

fn answer(rules: &[HttpRule], request: &HttpRequest) -> Result<HttpResponse, CallError> {
    let fits = |rule: &&HttpRule| {
        let path = match rule.path.as_deref() {
            None => true,
            Some(path) => match path.strip_suffix('*') {
                Some(start) => request.path.starts_with(start),
                None => request.path == path,
            },
        };
        path && rule.method.as_ref().is_none_or(|method| *method == request.method)
    };
    let Some(rule) = rules.iter().find(fits) else {
        return Err(CallError::Unavailable(format!(
            "no rule for {} {} over `{}`",
            request.method, request.path, request.connection
        )));
    };
    match &rule.unavailable {
        Some(reason) => Err(CallError::Unavailable(reason.clone())),
        None => Ok(HttpResponse {
            status: rule.status,
            headers: rule
                .headers
                .iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
                .collect(),
            body: bytes(&rule.body),
        }),
    }
}

fn find(rules: &[LdapRule], search: &LdapSearch) -> Vec<LdapEntry> {
    let fits = |rule: &&LdapRule| {
        rule.filter.as_ref().is_none_or(|filter| *filter == search.filter)
            && rule.values.as_ref().is_none_or(|values| *values == search.values)
            && rule.base.as_ref().is_none_or(|base| Some(base) == search.base.as_ref())
    };
    let entries = rules.iter().find(fits).map_or(&[][..], |rule| rule.entries.as_slice());
    entries
        .iter()
        .map(|entry| LdapEntry {
            dn: entry.dn.clone(),
            attributes: entry.attributes.clone().into_iter().collect(),
        })
        .collect()
}
