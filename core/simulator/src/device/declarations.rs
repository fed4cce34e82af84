//! Declarative management, the device's side: what to have, fetching what is missing, and the status report.

use std::collections::{BTreeMap, BTreeSet};

use russet_protocol::plist::{Dictionary, Value};
use serde_json::{Value as Json, json};

use super::channel::Channel;
use super::error::{DeviceError, Step};
use super::state::{Declaration, lock};
use super::transport::RawResponse;

const STEP: Step = Step::CheckIn("DeclarativeManagement");

/// The kinds of declarations: the name of the list in `declaration-items`, and the name in the endpoint.
const KINDS: [(&str, &str); 4] = [
    ("Activations", "activation"),
    ("Assets", "asset"),
    ("Configurations", "configuration"),
    ("Management", "management"),
];

impl Channel<'_> {
    /// Sends one request of the declarative protocol; `data` is the JSON of a status report.
    pub(crate) async fn declarative(&self, endpoint: &str, data: Option<Vec<u8>>) -> Result<RawResponse, DeviceError> {
        let mut fields = Dictionary::from_iter([("Endpoint", Value::from(endpoint))]);
        if let Some(data) = data {
            fields.insert("Data".to_owned(), Value::Data(data));
        }
        self.check_in("DeclarativeManagement", fields).await
    }

    /// Fetches the tokens; when they changed, the list and every declaration that is new; then reports the status.
    pub(crate) async fn sync_declarations(&self) -> Result<(), DeviceError> {
        let tokens = json(&self.declarative("tokens", None).await?)?;
        let token = tokens.pointer("/SyncTokens/DeclarationsToken").and_then(Json::as_str);
        let token = token.ok_or_else(|| DeviceError::answer(STEP, "the tokens have no DeclarationsToken"))?;
        if lock(self.state).declarations_token.as_deref() != Some(token) {
            self.fetch_declarations().await?;
            lock(self.state).declarations_token = Some(token.to_owned());
        }
        let report = serde_json::to_vec(&self.status_report()).map_err(|error| DeviceError::answer(STEP, error))?;
        self.declarative("status", Some(report)).await?;
        Ok(())
    }

    async fn fetch_declarations(&self) -> Result<(), DeviceError> {
        let items = json(&self.declarative("declaration-items", None).await?)?;
        let own = lock(self.state).declarations.clone();
        let mut wanted = BTreeMap::new();
        for (list, kind) in KINDS {
            let list = items
                .pointer(&format!("/Declarations/{list}"))
                .and_then(Json::as_array)
                .ok_or_else(|| DeviceError::answer(STEP, format!("declaration-items has no list {list}")))?;
            for item in list {
                let text = |key: &str| item.get(key).and_then(Json::as_str);
                let (Some(identifier), Some(server_token)) = (text("Identifier"), text("ServerToken")) else {
                    return Err(DeviceError::answer(STEP, "an item has no Identifier or ServerToken"));
                };
                match own.get(identifier) {
                    Some(kept) if kept.server_token == server_token => {
                        wanted.insert(identifier.to_owned(), kept.clone());
                    }
                    _ => {
                        if let Some(fetched) = self.fetch_declaration(kind, identifier).await? {
                            wanted.insert(identifier.to_owned(), fetched);
                        }
                    }
                }
            }
        }
        lock(self.state).declarations = wanted;
        Ok(())
    }

    /// Fetches one declaration; `None` when the server has dropped it meanwhile.
    async fn fetch_declaration(&self, kind: &str, identifier: &str) -> Result<Option<Declaration>, DeviceError> {
        let endpoint = format!("declaration/{kind}/{identifier}");
        let response = match self.declarative(&endpoint, None).await {
            Err(error) if error.status() == Some(404) => return Ok(None),
            other => other?,
        };
        let declaration = json(&response)?;
        let text = |key: &'static str| {
            let value = declaration.get(key).and_then(Json::as_str).map(str::to_owned);
            value.ok_or_else(|| DeviceError::answer(STEP, format!("the declaration has no {key}")))
        };
        Ok(Some(Declaration {
            declaration_type: text("Type")?,
            server_token: text("ServerToken")?,
            payload: declaration.get("Payload").cloned().unwrap_or_else(|| json!({})),
        }))
    }

    fn status_report(&self) -> Json {
        let facts = &self.device.settings.facts;
        let family = if facts.platform.is_mac() { "macOS" } else { "iOS" };
        let mut lists: BTreeMap<&str, Vec<Json>> =
            KINDS.iter().map(|(_, kind)| (list_name(kind), Vec::new())).collect();
        let declarations = lock(self.state).declarations.clone();
        let activated = activated(&declarations);
        for (identifier, declaration) in &declarations {
            let kind = KINDS.iter().map(|(_, kind)| *kind).find(|kind| {
                let prefix = format!("com.apple.{kind}.");
                declaration.declaration_type.starts_with(&prefix)
            });
            let status = json!({
                "identifier": identifier,
                "server-token": declaration.server_token,
                "active": kind != Some("configuration") || activated.contains(identifier.as_str()),
                "valid": "valid",
            });
            if let Some(list) = kind.and_then(|kind| lists.get_mut(list_name(kind))) {
                list.push(status);
            }
        }
        json!({
            "StatusItems": {
                "device": {
                    "operating-system": {
                        "family": family,
                        "version": facts.os_version,
                        "build-version": facts.build_version,
                    },
                },
                "management": { "declarations": lists },
            },
            "Errors": [],
            "FullReport": true,
        })
    }
}

/// The configurations that an activation names: the others are fetched and checked, and stay inactive.
fn activated(declarations: &BTreeMap<String, Declaration>) -> BTreeSet<&str> {
    declarations
        .values()
        .filter(|declaration| declaration.declaration_type.starts_with("com.apple.activation."))
        .filter_map(|activation| activation.payload.get("StandardConfigurations")?.as_array())
        .flatten()
        .filter_map(Json::as_str)
        .collect()
}

/// The name of a kind's list in a status report.
fn list_name(kind: &str) -> &'static str {
    match kind {
        "activation" => "activations",
        "asset" => "assets",
        "configuration" => "configurations",
        _ => "management",
    }
}

fn json(response: &RawResponse) -> Result<Json, DeviceError> {
    serde_json::from_slice(&response.body).map_err(|error| DeviceError::answer(STEP, error))
}
