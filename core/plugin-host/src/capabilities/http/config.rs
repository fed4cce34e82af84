//! The configuration of a connection, checked before anything connects.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::address::{NameResolver, SystemResolver};
use super::client::HttpClient;
use crate::capabilities::named::NamedConnections;
use crate::capabilities::trust::{TrustError, client_config};
use crate::ports::HttpPort;

/// How a connection proves who it is. The plugin never sees it.
#[derive(Clone, Default)]
pub enum HttpAuthentication {
    /// Not at all. The plugin may then bring an `Authorization` of its own.
    #[default]
    None,
    /// A bearer token (RFC 6750).
    Bearer(Zeroizing<String>),
    /// A user name and a password (RFC 7617).
    Basic {
        /// The user name.
        user_name: String,
        /// The password.
        password: Zeroizing<String>,
    },
    /// A header of any name.
    Header {
        /// Its name.
        name: String,
        /// Its value.
        value: Zeroizing<String>,
    },
}

impl fmt::Debug for HttpAuthentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Bearer(_) => "Bearer(..)",
            Self::Basic { .. } => "Basic(..)",
            Self::Header { .. } => "Header(..)",
        })
    }
}

/// A named connection to an HTTP server.
#[derive(Clone, Debug)]
pub struct HttpConnection {
    /// `https://host[:port][/path]`: every request goes to this server, at or below this path.
    pub base_url: String,
    /// Lets the address be `http://`. Credentials are then readable on the network: for tests, and for servers on the same
    /// machine.
    pub allow_plaintext: bool,
    /// What the server is told about who asks.
    pub authentication: HttpAuthentication,
    /// Networks that are not public and may be connected to all the same.
    pub allowed_networks: Vec<IpNet>,
    /// The certificates (PEM) of the authorities to trust; those of the system without any.
    pub ca_pem: Option<String>,
    /// The longest time for one request, redirects included. The deadline of the plugin's call applies too.
    pub timeout: Duration,
    /// The largest body that may be sent, in bytes.
    pub max_request_bytes: usize,
    /// The largest body that may come back, in bytes.
    pub max_response_bytes: usize,
    /// How many requests each plugin may send in a minute.
    pub requests_per_minute: u32,
    /// The tenants whose plugins may use it; all of them if absent.
    pub tenants: Option<BTreeSet<String>>,
}

impl Default for HttpConnection {
    /// No server yet; public addresses only, 10 seconds, bodies up to 512 KiB, 600 requests a minute, for all tenants.
    fn default() -> Self {
        Self {
            base_url: String::new(),
            allow_plaintext: false,
            authentication: HttpAuthentication::None,
            allowed_networks: Vec::new(),
            ca_pem: None,
            timeout: Duration::from_secs(10),
            max_request_bytes: 512 << 10,
            max_response_bytes: 512 << 10,
            requests_per_minute: 600,
            tenants: None,
        }
    }
}

/// Why a connection can not be used as configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpConfigError {
    /// The address is not one of a server.
    #[error("the address {0:?} is not of the form https://host[:port][/path]")]
    Url(String),
    /// The connection would be in clear text.
    #[error("http:// without encryption; use https://, or set `allow_plaintext` if that is meant")]
    Plaintext,
    /// The credentials can not be sent.
    #[error("the credentials can not be a header: {0}")]
    Credentials(&'static str),
    /// The trust anchors can not be read.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A limit of zero.
    #[error("the timeout, the sizes and the requests per minute have to be above zero")]
    Zero,
    /// The client can not be built.
    #[error("the HTTP client can not be set up: {0}")]
    Client(String),
}

/// All HTTP servers that plugins may be let at, by name, and who looks their addresses up.
pub type HttpConnections = NamedConnections<dyn HttpPort, Arc<dyn NameResolver>>;

impl Default for HttpConnections {
    fn default() -> Self {
        Self::with_resolver(Arc::new(SystemResolver))
    }
}

impl HttpConnections {
    /// No connections; names are resolved by the operating system.
    pub fn new() -> Self {
        Self::default()
    }

    /// No connections; names are resolved by this.
    pub fn with_resolver(resolver: Arc<dyn NameResolver>) -> Self {
        Self::made_with(resolver)
    }

    /// Adds one. Nothing connects before the first request.
    ///
    /// # Errors
    ///
    /// See [`HttpConfigError`].
    pub fn insert(&mut self, name: impl Into<String>, connection: HttpConnection) -> Result<(), HttpConfigError> {
        let name = name.into();
        let tenants = connection.tenants.clone();
        let client = HttpClient::new(&name, connection, Arc::clone(&self.means))?;
        self.add(name, Arc::new(client), tenants);
        Ok(())
    }
}

/// A connection whose settings make sense together.
pub(super) struct Checked {
    pub(super) base: Url,
    /// The headers that the connection sets itself.
    pub(super) own: HeaderMap,
    pub(super) tls: Arc<rustls::ClientConfig>,
}

pub(super) fn check(settings: &HttpConnection) -> Result<Checked, HttpConfigError> {
    let wrong = || HttpConfigError::Url(settings.base_url.clone());
    let base = Url::parse(&settings.base_url).map_err(|_| wrong())?;
    match base.scheme() {
        "https" => {}
        "http" if settings.allow_plaintext => {}
        "http" => return Err(HttpConfigError::Plaintext),
        _ => return Err(wrong()),
    }
    if !base.has_host()
        || !base.username().is_empty()
        || base.password().is_some()
        || base.query().is_some()
        || base.fragment().is_some()
        || !super::request::is_below(&base, &base)
    {
        return Err(wrong());
    }
    if settings.timeout.is_zero()
        || settings.max_request_bytes == 0
        || settings.max_response_bytes == 0
        || settings.requests_per_minute == 0
    {
        return Err(HttpConfigError::Zero);
    }
    Ok(Checked {
        base,
        own: own_headers(&settings.authentication)?,
        tls: client_config(settings.ca_pem.as_deref())?,
    })
}

fn own_headers(authentication: &HttpAuthentication) -> Result<HeaderMap, HttpConfigError> {
    use base64::Engine as _;
    let unfit = |_| HttpConfigError::Credentials("the value holds characters that no header may hold");
    let (name, text) = match authentication {
        HttpAuthentication::None => return Ok(HeaderMap::new()),
        HttpAuthentication::Bearer(token) => (AUTHORIZATION, Zeroizing::new(format!("Bearer {}", token.as_str()))),
        HttpAuthentication::Basic { user_name, password } => {
            if user_name.contains(':') {
                return Err(HttpConfigError::Credentials("the user name holds a colon"));
            }
            let pair = Zeroizing::new(format!("{user_name}:{}", password.as_str()));
            let encoded = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(pair.as_bytes()));
            (AUTHORIZATION, Zeroizing::new(format!("Basic {}", encoded.as_str())))
        }
        HttpAuthentication::Header { name, value } => {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| HttpConfigError::Credentials("the header's name is not well formed"))?;
            (name, value.clone())
        }
    };
    let mut value = HeaderValue::from_str(&text).map_err(unfit)?;
    value.set_sensitive(true);
    let mut headers = HeaderMap::new();
    headers.insert(name, value);
    Ok(headers)
}
