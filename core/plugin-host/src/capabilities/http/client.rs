//! The client of one connection. Its addresses are checked when a name is resolved, and the address that was checked is the
//! one that is connected to: there is no second look at the name in between.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use reqwest::header::{HeaderMap, LOCATION, SET_COOKIE};
use reqwest::{Client, Method, Response, StatusCode, Url};
use tokio::time::{Instant, timeout_at};

use super::address;
use super::address::{CheckedResolver, Forbidden, NameResolver};
use super::config::{HttpConfigError, HttpConnection, check};
use super::request::{Sound, is_below, sound};
use crate::ports::{CallError, HttpPort, HttpRequest, HttpResponse, Space};

/// The most redirects that are followed.
const MAX_REDIRECTS: usize = 5;
/// The most bytes of headers of an answer.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// A client of one named connection.
pub(super) struct HttpClient {
    name: String,
    settings: HttpConnection,
    base: Url,
    own: HeaderMap,
    client: Client,
    rate: DefaultKeyedRateLimiter<Space>,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("name", &self.name)
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

impl HttpClient {
    pub(super) fn new(
        name: &str,
        settings: HttpConnection,
        resolver: Arc<dyn NameResolver>,
    ) -> Result<Self, HttpConfigError> {
        let checked = check(&settings)?;
        let resolver = CheckedResolver {
            resolver,
            allowed: settings.allowed_networks.clone().into(),
        };
        let client = Client::builder()
            .tls_backend_preconfigured((*checked.tls).clone())
            .dns_resolver(resolver)
            // A proxy of the environment would connect where it likes.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(settings.timeout)
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(8)
            .user_agent(concat!("russet/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| HttpConfigError::Client(error.to_string()))?;
        let per_minute = NonZeroU32::new(settings.requests_per_minute).ok_or(HttpConfigError::Zero)?;
        Ok(Self {
            name: name.to_owned(),
            base: checked.base,
            own: checked.own,
            client,
            rate: RateLimiter::keyed(Quota::per_minute(per_minute)),
            settings,
        })
    }

    async fn exchange(&self, mut request: Sound) -> Result<HttpResponse, CallError> {
        for _ in 0..=MAX_REDIRECTS {
            self.check_literal(&request.url)?;
            let response = self.once(&request).await?;
            match next(&request.method, response.status()) {
                Some(method) if response.headers().contains_key(LOCATION) => {
                    request.url = self.redirected(&request.url, &response)?;
                    if method == Method::GET && request.method != Method::HEAD {
                        request.method = Method::GET;
                        request.body.clear();
                        request.headers.remove(reqwest::header::CONTENT_TYPE);
                    }
                }
                _ => return self.whole(response).await,
            }
        }
        Err(self.unavailable(&format!("more than {MAX_REDIRECTS} redirects")))
    }

    /// A host that is an address is never resolved, so it is checked here.
    fn check_literal(&self, url: &Url) -> Result<(), CallError> {
        let host = url.host_str().unwrap_or_default();
        let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() else {
            return Ok(());
        };
        address::check(address, &self.settings.allowed_networks).map_err(|forbidden| self.forbidden(&forbidden))
    }

    async fn once(&self, request: &Sound) -> Result<Response, CallError> {
        let mut built = self
            .client
            .request(request.method.clone(), request.url.clone())
            .headers(request.headers.clone());
        if !request.body.is_empty() {
            built = built.body(request.body.clone());
        }
        built.send().await.map_err(|error| self.failed(&error))
    }

    fn redirected(&self, from: &Url, response: &Response) -> Result<Url, CallError> {
        let out = || {
            CallError::Forbidden(format!(
                "the server of {:?} redirects to an address outside the connection's",
                self.name
            ))
        };
        let target = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let mut url = target.and_then(|target| from.join(target).ok()).ok_or_else(out)?;
        url.set_fragment(None);
        if is_below(&self.base, &url) {
            Ok(url)
        } else {
            Err(out())
        }
    }

    /// The whole answer, no larger than the connection allows.
    async fn whole(&self, mut response: Response) -> Result<HttpResponse, CallError> {
        let max = self.settings.max_response_bytes;
        let too_large = || {
            CallError::TooLarge(format!(
                "the answer of {:?} is larger than the {max} bytes that the connection allows",
                self.name
            ))
        };
        // A length that is only announced, as to HEAD, is no body.
        let announced = response.content_length().unwrap_or_default();
        if announced > max as u64 {
            return Err(too_large());
        }
        let status = response.status().as_u16();
        let headers = self.headers(response.headers())?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(&error))? {
            if body.len() + chunk.len() > max {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(HttpResponse { status, headers, body })
    }

    /// Headers as text. Cookies stay here: they are credentials of the operator's account.
    fn headers(&self, headers: &HeaderMap) -> Result<Vec<(String, String)>, CallError> {
        let size: usize = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        if size > MAX_HEADER_BYTES {
            return Err(CallError::TooLarge(format!(
                "the headers of {:?} are larger than {MAX_HEADER_BYTES} bytes",
                self.name
            )));
        }
        Ok(headers
            .iter()
            .filter(|(name, _)| *name != SET_COOKIE)
            .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
            .collect())
    }

    fn failed(&self, error: &reqwest::Error) -> CallError {
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        let mut last = String::new();
        while let Some(one) = cause {
            if let Some(forbidden) = one.downcast_ref::<Forbidden>() {
                return self.forbidden(forbidden);
            }
            last = one.to_string();
            cause = one.source();
        }
        self.unavailable(&last)
    }

    fn forbidden(&self, forbidden: &Forbidden) -> CallError {
        CallError::Forbidden(format!("the address of {:?}: {forbidden}", self.name))
    }

    fn unavailable(&self, reason: &str) -> CallError {
        CallError::Unavailable(format!("the server of {:?}: {reason}", self.name))
    }
}

/// The method to go on with after a redirect; `None` if the answer is for the plugin as it is.
fn next(method: &Method, status: StatusCode) -> Option<Method> {
    let safe = *method == Method::GET || *method == Method::HEAD;
    match status {
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => Some(method.clone()),
        StatusCode::SEE_OTHER => Some(if safe { method.clone() } else { Method::GET }),
        // Whether another method becomes GET here is read in two ways: the plugin decides.
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND if safe => Some(method.clone()),
        _ => None,
    }
}

#[async_trait]
impl HttpPort for HttpClient {
    async fn send(&self, space: &Space, request: HttpRequest, deadline: Instant) -> Result<HttpResponse, CallError> {
        let request = sound(&self.base, &self.own, self.settings.max_request_bytes, request)?;
        if self.rate.check_key(space).is_err() {
            return Err(self.unavailable(&format!(
                "the plugin sent more than {} requests in a minute",
                self.settings.requests_per_minute
            )));
        }
        let deadline = deadline.min(Instant::now() + self.settings.timeout);
        match timeout_at(deadline, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.unavailable("no answer in time")),
        }
    }
}
