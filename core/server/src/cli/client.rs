//! The admin API's client: where the server is, whom to trust for it, and which token to show.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, RequestBuilder, Url};
use russet::config::Secret;
use russet::data_dir::DataDir;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};

use super::context::Context;
use super::error::ClientError;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an answer may take: installing a large plugin compiles it, for which the server has five minutes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(330);

/// How many items are asked for at once.
const PAGE: usize = 100;

#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub(super) struct ClientArgs {
    /// The server's address.
    #[arg(
        long,
        value_name = "URL",
        env = "RUSSET_SERVER",
        default_value = "https://127.0.0.1:8443",
        global = true
    )]
    server: String,
    /// The API token [default: the file `admin-token` in the data directory]. On the command line other users of the
    /// machine can see it; the variable is safer.
    #[arg(long, env = "RUSSET_TOKEN", hide_env_values = true, value_parser = secret, global = true)]
    token: Option<Secret>,
    /// The tenant.
    #[arg(long, env = "RUSSET_TENANT", default_value = "default", global = true)]
    pub(super) tenant: String,
    /// A file with the CA certificates to trust for the server, in PEM [default: those of the system, and `ca.pem` in
    /// the data directory].
    #[arg(long, value_name = "FILE", env = "RUSSET_CA", global = true)]
    ca: Option<PathBuf>,
    /// Print the API's JSON.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

#[expect(clippy::unnecessary_wraps, reason = "clap's parsers return a result")]
fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

/// A server, ready to be asked.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    authorization: HeaderValue,
    tenant: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn new(args: &ClientArgs, context: &Context) -> miette::Result<Self> {
        let base = address(&args.server)?;
        // The configuration is only asked where the command line leaves something open, and has to be good only where the
        // command can not go on without it.
        let (token, data_dir) = match (&args.token, &args.ca) {
            (Some(token), Some(_)) => (token.clone(), None),
            (Some(token), None) => (token.clone(), context.data_dir().ok()),
            (None, _) => {
                let data_dir = context.data_dir()?;
                (read_token(&data_dir)?, Some(data_dir))
            }
        };
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {}", token.expose().trim())).map_err(|_| ClientError::BadToken)?;
        authorization.set_sensitive(true);
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(args.ca.as_ref(), data_dir.as_ref())?)
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            // A redirect would carry the token to another place.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("russet/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ClientError::of_transport(base.as_str(), &error))?;
        Ok(Self {
            http,
            base,
            authorization,
            tenant: args.tenant.clone(),
        })
    }

    /// A client of a server on this machine, with the token and the authority in its data directory.
    pub(super) fn local(server: &str, data_dir: &DataDir) -> miette::Result<Self> {
        let args = ClientArgs {
            server: server.to_owned(),
            token: Some(read_token(data_dir)?),
            tenant: "default".to_owned(),
            ca: Some(data_dir.ca_certificate()),
            json: false,
        };
        Self::new(&args, &Context::without_file())
    }

    /// The address of something of the tenant's.
    pub(super) fn of_tenant(&self, path: &[&str]) -> Url {
        let mut whole = vec!["v1", "tenants", self.tenant.as_str()];
        whole.extend(path);
        self.url(&whole)
    }

    /// The address of something of the server's. Each part is escaped.
    pub(super) fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    pub(super) async fn get(&self, url: Url) -> Result<Value, ClientError> {
        self.send(self.http.request(Method::GET, url)).await
    }

    pub(super) async fn delete(&self, url: Url) -> Result<Value, ClientError> {
        self.send(self.http.request(Method::DELETE, url)).await
    }

    pub(super) async fn post(&self, url: Url, body: &Value) -> Result<Value, ClientError> {
        self.send(self.http.request(Method::POST, url).json(body)).await
    }

    pub(super) async fn put(&self, url: Url, body: &Value) -> Result<Value, ClientError> {
        self.send(self.http.request(Method::PUT, url).json(body)).await
    }

    pub(super) async fn put_bytes(&self, url: Url, kind: &'static str, body: Vec<u8>) -> Result<Value, ClientError> {
        self.send(
            self.http
                .request(Method::PUT, url)
                .header(CONTENT_TYPE, kind)
                .body(body),
        )
        .await
    }

    pub(super) async fn post_bytes(&self, url: Url, kind: &'static str, body: Vec<u8>) -> Result<Value, ClientError> {
        self.send(
            self.http
                .request(Method::POST, url)
                .header(CONTENT_TYPE, kind)
                .body(body),
        )
        .await
    }

    /// The first `limit` items of a list, from as many pages as that takes: `{"items", "next"}`.
    pub(super) async fn list(&self, mut url: Url, limit: usize) -> Result<Value, ClientError> {
        let query: Vec<(String, String)> = url
            .query_pairs()
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        let mut items: Vec<Value> = Vec::new();
        let mut next = Value::Null;
        while items.len() < limit {
            let page = (limit - items.len()).min(PAGE).to_string();
            url.query_pairs_mut()
                .clear()
                .extend_pairs(&query)
                .append_pair("limit", &page);
            if let Some(cursor) = next.as_str() {
                url.query_pairs_mut().append_pair("cursor", cursor);
            }
            let mut answer = self.get(url.clone()).await?;
            match answer.get_mut("items").map(Value::take) {
                Some(Value::Array(more)) => items.extend(more),
                _ => {
                    return Err(ClientError::NotRusset {
                        server: self.server(),
                        status: 200,
                    });
                }
            }
            next = answer.get_mut("next").map(Value::take).unwrap_or_default();
            if next.is_null() {
                break;
            }
        }
        Ok(json!({"items": items, "next": next}))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Value, ClientError> {
        let failed = |error: reqwest::Error| ClientError::of_transport(&self.server(), &error);
        let response = request
            .header(AUTHORIZATION, self.authorization.clone())
            .send()
            .await
            .map_err(failed)?;
        let status = response.status();
        let body = response.bytes().await.map_err(failed)?;
        if !status.is_success() {
            return Err(ClientError::of_answer(&self.server(), status.as_u16(), &body));
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|_| ClientError::NotRusset {
            server: self.server(),
            status: status.as_u16(),
        })
    }

    fn server(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }
}

fn address(text: &str) -> Result<Url, ClientError> {
    let url = Url::parse(text).map_err(|_| ClientError::Address(text.to_owned()))?;
    let host = url.host_str().ok_or_else(|| ClientError::Address(text.to_owned()))?;
    let local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    match url.scheme() {
        "https" => Ok(url),
        "http" if local => Ok(url),
        "http" => Err(ClientError::Unencrypted(text.to_owned())),
        _ => Err(ClientError::Address(text.to_owned())),
    }
}

fn read_token(data_dir: &DataDir) -> Result<Secret, ClientError> {
    let path = data_dir.admin_token();
    match std::fs::read_to_string(&path) {
        Ok(token) => Ok(Secret::new(token)),
        Err(error) => Err(ClientError::NoToken {
            path,
            reason: error.to_string(),
        }),
    }
}

/// Trusts the named certificates alone, or the system's and those of the server whose data directory is at hand.
fn tls(ca: Option<&PathBuf>, data_dir: Option<&DataDir>) -> Result<ClientConfig, ClientError> {
    let mut roots = RootCertStore::empty();
    let mut add = |path: &PathBuf| -> Result<(), ClientError> {
        let wrong = |reason: String| ClientError::Roots(format!("{}: {reason}", path.display()));
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
        let mut added = 0_usize;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            added += 1;
        }
        if added == 0 {
            Err(wrong("it holds no certificate".to_owned()))
        } else {
            Ok(())
        }
    };
    match (ca, data_dir.map(DataDir::ca_certificate).filter(|path| path.exists())) {
        (Some(path), _) => add(path)?,
        (None, own) => {
            if let Some(path) = own {
                add(&path)?;
            }
            // A machine without system certificates still reaches a server whose own authority it was given.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .map_err(|error| ClientError::Roots(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
