//! Named HTTP connections. The operator binds a name to a base address and credentials; the plugin holds neither.
//!
//! ```
//! use russet_plugin::{Error, http};
//!
//! fn is_employee(user: &str) -> Result<bool, Error> {
//!     #[derive(serde::Deserialize)]
//!     struct Users {
//!         #[serde(rename = "totalResults")]
//!         total: u32,
//!     }
//!     let users: Users = http::get("hr", "/Users")
//!         .query("filter", &format!("userName eq \"{user}\""))
//!         .send()?
//!         .ok()?
//!         .json()?;
//!     Ok(users.total > 0)
//! }
//! # use russet_plugin::testing::Host;
//! # let _host = Host::new()
//! #     .http("hr", |request| {
//! #         assert_eq!(request.path, "/Users?filter=userName%20eq%20%22ada%22");
//! #         Ok(http::Response::new(200).with_json(&serde_json::json!({"totalResults": 1})))
//! #     })
//! #     .install();
//! # assert_eq!(is_employee("ada"), Ok(true));
//! ```

use std::fmt::Write;

use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(target_family = "wasm")]
use crate::bindings::russet::plugin::http as backend;
use crate::bindings::russet::plugin::http as host;
use crate::input::capability_error;
#[cfg(not(target_family = "wasm"))]
use crate::testing::backend::http as backend;

capability_error! {
    http;
    /// The connection is not among the plugin's grants; the text names the grant to add.
    NotGranted => "http connection not granted",
    /// The request is not well formed; the text says why.
    Invalid => "http request not well formed",
    /// The connection's address is one that the operator did not allow; the text says which.
    Forbidden => "http address not allowed",
    /// The server can not be reached, or did not answer in time.
    Unavailable => "http server not available",
    /// The answer is larger than the connection allows.
    TooLarge => "http answer too large",
}

/// A request, and its builder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The name of the connection.
    pub connection: String,
    /// `GET`, `HEAD`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: String,
    /// The path and query below the connection's base address.
    pub path: String,
    /// Headers. `host`, `content-length`, hop-by-hop headers and those that the connection sets itself are refused.
    pub headers: Vec<(String, String)>,
    /// The body; empty for none.
    pub body: Vec<u8>,
}

/// A `GET` of a path below a connection's base address.
pub fn get(connection: impl Into<String>, path: impl Into<String>) -> Request {
    Request::new(connection, "GET", path)
}

/// A `POST` to a path below a connection's base address.
pub fn post(connection: impl Into<String>, path: impl Into<String>) -> Request {
    Request::new(connection, "POST", path)
}

/// A `PUT` to a path below a connection's base address.
pub fn put(connection: impl Into<String>, path: impl Into<String>) -> Request {
    Request::new(connection, "PUT", path)
}

/// A `PATCH` of a path below a connection's base address.
pub fn patch(connection: impl Into<String>, path: impl Into<String>) -> Request {
    Request::new(connection, "PATCH", path)
}

/// A `DELETE` of a path below a connection's base address.
pub fn delete(connection: impl Into<String>, path: impl Into<String>) -> Request {
    Request::new(connection, "DELETE", path)
}

impl Request {
    /// A request of a method, without headers and body.
    pub fn new(connection: impl Into<String>, method: impl Into<String>, path: impl Into<String>) -> Self {
        Self {
            connection: connection.into(),
            method: method.into(),
            path: path.into(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Adds a value to the query; it is percent-encoded here.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.path.push(if self.path.contains('?') { '&' } else { '?' });
        encode(&mut self.path, name);
        self.path.push('=');
        encode(&mut self.path, value);
        self
    }

    /// Adds one segment to the path; it is percent-encoded here, so that no value can leave it.
    #[must_use]
    pub fn segment(mut self, value: &str) -> Self {
        if !self.path.ends_with('/') {
            self.path.push('/');
        }
        encode(&mut self.path, value);
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// A JSON body, with its `content-type`.
    ///
    /// # Errors
    ///
    /// If the value can not be written as JSON.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<Self, crate::Error> {
        let body = serde_json::to_vec(value)?;
        Ok(self.header("content-type", "application/json").body(body))
    }

    /// Sends the request and waits for the whole answer, of whatever status.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn send(self) -> Result<Response, Error> {
        let answer = backend::send(&host::Request {
            connection: self.connection,
            method: self.method,
            path: self.path,
            headers: self.headers,
            body: self.body,
        })?;
        Ok(Response {
            status: answer.status,
            headers: answer.headers,
            body: answer.body,
        })
    }
}

/// Everything but the unreserved characters of RFC 3986 section 2.3.
fn encode(out: &mut String, value: &str) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// An answer, of whatever status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, whole.
    pub body: Vec<u8>,
}

impl Response {
    /// An empty answer of a status, for tests.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// This answer with a JSON body, for tests.
    #[must_use]
    pub fn with_json(mut self, value: &serde_json::Value) -> Self {
        self.headers
            .push(("content-type".to_owned(), "application/json".to_owned()));
        self.body = value.to_string().into_bytes();
        self
    }

    /// The first value of a header; its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Whether the status is 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The answer, if its status is 200 to 299.
    ///
    /// # Errors
    ///
    /// Names the status otherwise. The body is not shown: it may hold what no log should.
    pub fn ok(self) -> Result<Self, crate::Error> {
        if self.is_success() {
            return Ok(self);
        }
        Err(crate::Error::new(format_args!(
            "the http server answered with status {}",
            self.status
        )))
    }

    /// The body, read from JSON.
    ///
    /// # Errors
    ///
    /// If it does not fit the type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, crate::Error> {
        serde_json::from_slice(&self.body).map_err(|error| crate::Error::new(format_args!("http answer: {error}")))
    }

    /// The body as text.
    ///
    /// # Errors
    ///
    /// If it is not UTF-8.
    pub fn text(&self) -> Result<&str, crate::Error> {
        std::str::from_utf8(&self.body).map_err(|error| crate::Error::new(format_args!("http answer: {error}")))
    }
}
