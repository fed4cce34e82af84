//! An administrator who uses the API.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::{Method, RequestBuilder};
use russet_plugin_build::{Interfaces, artifact};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::server::TestServer;
use crate::wait::{PATIENCE, eventually};

/// Somebody with a token, at one tenant.
#[derive(Clone)]
pub struct ApiUser {
    http: reqwest::Client,
    base: String,
    token: String,
    tenant: String,
}

impl fmt::Debug for ApiUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiUser")
            .field("base", &self.base)
            .field("tenant", &self.tenant)
            .finish_non_exhaustive()
    }
}

/// An answer of the API, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body, where it is JSON; else null.
    pub json: Value,
    /// The body.
    pub text: String,
}

impl Answer {
    /// The body, of a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(
            (200..300).contains(&self.status),
            "the API refused ({}): {}",
            self.status,
            self.text
        );
        self.json
    }

    /// The `error` of a refusal of this status.
    #[track_caller]
    pub fn refused(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        let error = self.json["error"].clone();
        assert!(error["message"].is_string(), "an error has one form: {}", self.text);
        error
    }
}

impl ApiUser {
    /// The first administrator of a server, at the tenant that every server has.
    pub fn first(server: &TestServer) -> Self {
        Self::trusting(server, &server.ca_pem(), &server.admin_token())
    }

    /// Somebody with a token, who trusts these certificates.
    pub fn trusting(server: &TestServer, roots_pem: &str, token: &str) -> Self {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(roots_pem.as_bytes()) {
            roots
                .add(root.expect("a certificate in PEM"))
                .expect("a certificate to trust");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .timeout(Duration::from_secs(120))
            .build()
            .expect("an HTTP client");
        Self {
            http,
            base: format!("https://{}", server.address()),
            token: token.to_owned(),
            tenant: "default".to_owned(),
        }
    }

    /// The same person with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: token.to_owned(),
            ..self.clone()
        }
    }

    /// The same person at another tenant.
    #[must_use]
    pub fn at(&self, tenant: &str) -> Self {
        Self {
            tenant: tenant.to_owned(),
            ..self.clone()
        }
    }

    /// The HTTP client, which trusts the server: for requests of other programs.
    pub fn client(&self) -> &reqwest::Client {
        &self.http
    }

    /// Where the server is.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Asks for something of the server's: a path such as `/v1/tokens`.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(&self.token)
    }

    /// Asks for something of the tenant's: a path such as `/devices`.
    pub fn of_tenant(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, &format!("/v1/tenants/{}{path}", self.tenant))
    }

    /// Sends a request and reads the answer.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        let response = request.send().await.expect("the server answers");
        let status = response.status().as_u16();
        let text = response.text().await.expect("the whole answer arrives");
        let json = serde_json::from_str(&text).unwrap_or_default();
        Answer { status, json, text }
    }

    /// `GET` of something of the tenant's.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.of_tenant(Method::GET, path)).await
    }

    /// `PUT` of JSON to something of the tenant's.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(self.of_tenant(Method::PUT, path).json(body)).await
    }

    /// `POST` of JSON to something of the tenant's.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.of_tenant(Method::POST, path).json(body)).await
    }

    /// `DELETE` of something of the tenant's.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.of_tenant(Method::DELETE, path)).await
    }

    /// All items of a list of the tenant's, from as many pages as there are.
    pub async fn list(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = None;
        loop {
            let page = match &cursor {
                None => self.get(path).await.ok(),
                // A cursor has letters and digits only.
                Some(cursor) => {
                    let mark = if path.contains('?') { '&' } else { '?' };
                    self.get(&format!("{path}{mark}cursor={cursor}")).await.ok()
                }
            };
            items.extend(page["items"].as_array().expect("a list has items").iter().cloned());
            match page["next"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return items,
            }
        }
    }

    /// A device, by serial number, UDID or enrollment id.
    pub async fn device(&self, id: &str) -> Value {
        self.get(&format!("/devices/{id}")).await.ok()
    }

    /// Queues a command and returns its UUID.
    pub async fn command(&self, devices: &[&str], command: Value) -> String {
        let queued = self
            .post("/commands", &json!({"devices": devices, "command": command}))
            .await
            .ok();
        queued["command_uuid"]
            .as_str()
            .expect("a command has a UUID")
            .to_owned()
    }

    /// A command and what became of it.
    pub async fn show_command(&self, uuid: &str) -> Value {
        self.get(&format!("/commands/{uuid}")).await.ok()
    }

    /// Waits until every device of a command has come to an end with it.
    pub async fn finished(&self, uuid: &str) -> Value {
        let what = format!("every device finishes the command {uuid}");
        let show = || async {
            let command = self.show_command(uuid).await;
            let devices = command["devices"].as_array().expect("a command has devices");
            let done = devices.iter().all(|device| !device["finished_at"].is_null());
            done.then_some(command)
        };
        eventually(&what, show).await
    }

    /// The decision records, newest first.
    pub async fn decisions(&self) -> Vec<Value> {
        self.list("/decisions").await
    }

    /// Installs a plugin of this workspace with these settings and all that it asks for; where that is LDAP, the
    /// connection `corp`, and where it is HTTP, the connection `nowhere`.
    pub async fn install(&self, name: &str, settings: Value) -> Value {
        let component = component_bytes(name);
        let interfaces = Interfaces::of(&component).expect("a built plugin is a component");
        let capabilities = interfaces.capabilities;
        let connections = |interface: &str, connection: &'static str| {
            let asked = capabilities.iter().any(|name| name.starts_with(interface));
            Vec::from_iter(asked.then_some(connection))
        };
        let connections = json!({"ldap": connections("ldap.", "corp"), "http": connections("http.", "nowhere")});
        let installation = json!({
            "component": BASE64.encode(component),
            "settings": settings,
            "grants": {"capabilities": capabilities, "connections": connections},
        });
        let report = self.put(&format!("/plugins/{name}"), &installation).await.ok();
        assert_eq!(report["state"], "active", "{report}");
        report
    }

    /// Waits until nothing is in this person's way of asking: for servers that were just started again.
    pub async fn reach(&self) {
        let health = || async {
            let answer = self
                .http
                .get(format!("{}/readyz", self.base))
                .timeout(PATIENCE)
                .send()
                .await
                .ok()?;
            answer.status().is_success().then_some(())
        };
        eventually("the server is ready", health).await;
    }
}

/// A plugin of this workspace, in base64.
pub fn component(name: &str) -> String {
    BASE64.encode(component_bytes(name))
}

fn component_bytes(name: &str) -> Vec<u8> {
    std::fs::read(artifact(name)).expect("a built plugin can be read")
}
