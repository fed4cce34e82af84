//! What can go wrong between the command line and a server, and what to do about it.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;

use miette::Diagnostic;
use serde_json::Value;

/// Why the server did not do what was asked.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(super) enum ClientError {
    #[error("`{0}` is no address of a server")]
    #[diagnostic(
        code("address"),
        help("write it like https://mdm.example.com or https://127.0.0.1:8443")
    )]
    Address(String),
    #[error("the token would be sent to {0} without encryption")]
    #[diagnostic(
        code("address"),
        help("use an https:// address; http:// is accepted for 127.0.0.1, ::1 and localhost alone")
    )]
    Unencrypted(String),
    #[error("the certificates to trust can not be used: {0}")]
    #[diagnostic(code("trust"), help("--ca names a file with CA certificates in PEM"))]
    Roots(String),
    #[error("no API token: none is given, and {} can not be read ({reason})", path.display())]
    #[diagnostic(
        code("token"),
        help(
            "give one with --token or RUSSET_TOKEN, or name the server's configuration with --config: its first token is \
         in the file `admin-token` of its data directory"
        )
    )]
    NoToken { path: PathBuf, reason: String },
    #[error("the token holds characters that no token has")]
    #[diagnostic(code("token"), help("copy it again, without spaces and line breaks"))]
    BadToken,
    #[error("no answer from {server}: {reason}")]
    #[diagnostic(
        code("unreachable"),
        help("start the server there with `russet serve`, or name another address with --server or RUSSET_SERVER")
    )]
    Unreachable { server: String, reason: String },
    #[error("{server} did not answer in time")]
    #[diagnostic(
        code("timed-out"),
        help("look into the server's log; what was asked may still have been done")
    )]
    TimedOut { server: String },
    #[error("the certificate of {server} is not trusted: {reason}")]
    #[diagnostic(
        code("untrusted-server"),
        help(
            "name the CA certificate to trust with --ca or RUSSET_CA; a server with a certificate of its own making keeps \
         its CA in the file `ca.pem` of its data directory"
        )
    )]
    Untrusted { server: String, reason: String },
    #[error("the server refused the token: {message}")]
    #[diagnostic(
        code("token-refused"),
        help("give another one with --token or RUSSET_TOKEN; an administrator makes one with `russet token create`")
    )]
    TokenRefused { message: String },
    #[error("the token may not do that: {message}")]
    #[diagnostic(
        code("not-allowed"),
        help("use a token of this tenant or of the whole server; --tenant names the tenant")
    )]
    NotAllowed { message: String },
    #[error("not found: {message}")]
    #[diagnostic(code("not-found"), help("`list` shows what there is; --tenant names the tenant"))]
    NotFound { message: String },
    #[error("the server refused: {message}{}", listed(said))]
    #[diagnostic(code("refused"))]
    Refused { message: String, said: Said },
    #[error("the server failed: {message} (status {status})")]
    #[diagnostic(code("server-failed"), help("its log says why"))]
    ServerFailed { status: u16, message: String },
    #[error("{server} answers (status {status}), but not as a russet server does")]
    #[diagnostic(
        code("not-russet"),
        help("name the server's own address with --server or RUSSET_SERVER")
    )]
    NotRusset { server: String, status: u16 },
}

/// What the server said of a refusal, for programs.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) status: u16,
    /// The `code` of its error.
    pub(super) code: String,
    /// The `details` of its error, as they are.
    pub(super) details: Vec<Value>,
}

fn listed(said: &Said) -> String {
    said.details
        .iter()
        .map(|each| format!("\n- {}", detail(each)))
        .collect()
}

impl ClientError {
    /// What a failure of the connection means.
    pub(super) fn of_transport(server: &str, error: &reqwest::Error) -> Self {
        let server = server.to_owned();
        if let Some(tls) = find_tls(error) {
            return Self::Untrusted {
                server,
                reason: tls.to_string(),
            };
        }
        if error.is_timeout() {
            return Self::TimedOut { server };
        }
        let mut reason: &dyn StdError = error;
        while let Some(source) = reason.source() {
            reason = source;
        }
        Self::Unreachable {
            server,
            reason: reason.to_string(),
        }
    }

    /// What an answer that is no success means.
    pub(super) fn of_answer(server: &str, status: u16, body: &[u8]) -> Self {
        let error = serde_json::from_slice::<Value>(body)
            .ok()
            .and_then(|body| body.get("error").cloned());
        let Some(error) = error else {
            return match status {
                502..=504 => Self::ServerFailed {
                    status,
                    message: "it is not available".to_owned(),
                },
                _ => Self::NotRusset {
                    server: server.to_owned(),
                    status,
                },
            };
        };
        let message = error
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or("no reason is given")
            .to_owned();
        match status {
            401 => Self::TokenRefused { message },
            403 => Self::NotAllowed { message },
            404 => Self::NotFound { message },
            400..=499 => {
                let details = error
                    .get("details")
                    .and_then(Value::as_array)
                    .map_or(&[][..], Vec::as_slice);
                let code = error.get("code").and_then(Value::as_str).unwrap_or_default();
                Self::Refused {
                    message,
                    said: Said {
                        status,
                        code: code.to_owned(),
                        details: details.to_vec(),
                    },
                }
            }
            _ => Self::ServerFailed { status, message },
        }
    }
}

/// A detail is text, or an object that says where and what, and perhaps which flag mends it.
fn detail(detail: &Value) -> String {
    if let Value::String(text) = detail {
        return text.clone();
    }
    let text = |names: &[&str]| names.iter().find_map(|name| detail.get(name).and_then(Value::as_str));
    let place = text(&["path", "key"]).filter(|place| !place.is_empty());
    let what = text(&["message", "problem", "what"]);
    match (place, what, text(&["flag"])) {
        (Some(place), Some(what), _) => format!("{place}: {what}"),
        (None, Some(what), Some(flag)) => format!("{what} (add {flag})"),
        (None, Some(what), None) => what.to_owned(),
        (_, None, _) => detail.to_string(),
    }
}

/// The TLS error inside an error; an `io::Error` hides what it carries from `source`.
fn find_tls<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            return find_tls(inner);
        }
        next = error.source();
    }
    None
}
