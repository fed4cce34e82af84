//! From what a plugin asks for to a request that stays below the connection's base address and carries nothing that belongs
//! to the connection.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};

use crate::ports::{CallError, HttpRequest};

/// The longest path with its query, in bytes.
const MAX_PATH: usize = 8 << 10;
/// The most headers.
const MAX_HEADERS: usize = 64;
/// The most bytes of headers.
const MAX_HEADER_BYTES: usize = 16 << 10;
/// How often a path may be encoded over again before it is refused.
const MAX_DECODING: usize = 4;

/// Headers that are the connection's, or that say how the message travels (RFC 9110 section 7.6.1).
const REFUSED_HEADERS: [&str; 14] = [
    "host",
    "content-length",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "forwarded",
    "via",
];

/// A request that may be sent.
#[derive(Debug)]
pub(super) struct Sound {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

fn invalid(text: impl Into<String>) -> CallError {
    CallError::Invalid(text.into())
}

/// Checks a request. `own` are the headers that the connection sets itself.
pub(super) fn sound(base: &Url, own: &HeaderMap, max_body: usize, request: HttpRequest) -> Result<Sound, CallError> {
    let method = match request.method.as_str() {
        "GET" => Method::GET,
        "HEAD" => Method::HEAD,
        "POST" => Method::POST,
        "PUT" => Method::PUT,
        "PATCH" => Method::PATCH,
        "DELETE" => Method::DELETE,
        _ => return Err(invalid("the method is none of GET, HEAD, POST, PUT, PATCH, DELETE")),
    };
    if request.body.len() > max_body {
        return Err(invalid(format!("the body is larger than {max_body} bytes")));
    }
    Ok(Sound {
        method,
        url: below(base, &request.path)?,
        headers: headers(own, &request.headers)?,
        body: request.body,
    })
}

/// The address of a path below the base.
fn below(base: &Url, path: &str) -> Result<Url, CallError> {
    if path.len() > MAX_PATH {
        return Err(invalid(format!("the path is longer than {MAX_PATH} bytes")));
    }
    if !path.starts_with('/') && !path.starts_with('?') && !path.is_empty() {
        return Err(invalid(
            "the path has to begin with `/`; it lies below the connection's address",
        ));
    }
    if let Some(bad) = path
        .bytes()
        .find(|byte| !byte.is_ascii_graphic() || matches!(byte, b'\\' | b'#'))
    {
        return Err(invalid(format!(
            "the path holds the byte {bad:#04x}; encode it as %{bad:02X}"
        )));
    }
    let (only_path, _) = path.split_once('?').unwrap_or((path, ""));
    if leaves(only_path)? {
        return Err(invalid("the path holds `.` or `..` as a part"));
    }
    let text = format!("{}{path}", base.as_str().trim_end_matches('/'));
    let url = Url::parse(&text).map_err(|_| invalid("the path makes no address"))?;
    if is_below(base, &url) {
        Ok(url)
    } else {
        Err(invalid("the path leads out of the connection's address"))
    }
}

/// Whether an address lies at or below the base: the same server, and the base's path or one under it.
pub(super) fn is_below(base: &Url, url: &Url) -> bool {
    let (root, path) = (base.path().trim_end_matches('/'), url.path());
    let under = path
        .strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    base.scheme() == url.scheme()
        && base.host() == url.host()
        && base.port_or_known_default() == url.port_or_known_default()
        && url.username().is_empty()
        && url.password().is_none()
        && under
        && leaves(path).is_ok_and(|leaves| !leaves)
}

/// Whether a server might read the path as one that goes up: parts are looked at as they are, and decoded as often as
/// somebody on the way may do it.
fn leaves(path: &str) -> Result<bool, CallError> {
    let mut text = path.as_bytes().to_vec();
    for _ in 0..MAX_DECODING {
        let parts = text.split(|byte| matches!(byte, b'/' | b'\\'));
        // `..;x` is `..` to servers that know path parameters.
        if parts
            .map(|part| part.split(|byte| *byte == b';').next().unwrap_or_default())
            .any(|part| part == b"." || part == b"..")
        {
            return Ok(true);
        }
        if text.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
            return Err(invalid("the path holds an encoded line break or zero byte"));
        }
        let decoded = decode(&text);
        if decoded == text {
            return Ok(false);
        }
        text = decoded;
    }
    Err(invalid("the path is encoded too many times over"))
}

/// One round of percent decoding.
fn decode(text: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match (byte, digit(text.get(at + 1)), digit(text.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
}

fn headers(own: &HeaderMap, asked: &[(String, String)]) -> Result<HeaderMap, CallError> {
    if asked.len() > MAX_HEADERS || asked.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>() > MAX_HEADER_BYTES {
        return Err(invalid(format!(
            "more than {MAX_HEADERS} headers, or more than {MAX_HEADER_BYTES} bytes of them"
        )));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in asked {
        let name =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid("a header's name is not well formed"))?;
        if REFUSED_HEADERS.contains(&name.as_str()) || own.contains_key(&name) {
            return Err(invalid(format!("the header {name} is not for the plugin to set")));
        }
        let value = HeaderValue::from_str(value)
            .map_err(|_| invalid(format!("the value of the header {name} is not well formed")))?;
        headers.append(name, value);
    }
    headers.extend(own.clone());
    Ok(headers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn base(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn paths_lie_below_the_base() {
        for (address, path, whole) in [
            ("https://a.example", "/Users", "https://a.example/Users"),
            ("https://a.example/", "/Users", "https://a.example/Users"),
            (
                "https://a.example/scim/v2",
                "/Users?filter=a%20b&x=/../",
                "https://a.example/scim/v2/Users?filter=a%20b&x=/../",
            ),
            ("https://a.example/scim/v2/", "", "https://a.example/scim/v2"),
            ("https://a.example/scim", "?q=1", "https://a.example/scim?q=1"),
            ("https://a.example", "/a%2Fb/100%25", "https://a.example/a%2Fb/100%25"),
            (
                "https://a.example",
                "//other.example/x",
                "https://a.example//other.example/x",
            ),
            ("https://a.example", "/...", "https://a.example/..."),
        ] {
            assert_eq!(below(&base(address), path).unwrap().as_str(), whole, "{address} {path}");
        }
    }

    #[test]
    fn no_path_leaves_the_base() {
        let base = base("https://a.example/scim/v2");
        for path in [
            "Users",
            "http://b.example/",
            "@b.example/",
            ":8443/",
            ".b.example/",
            "/../admin",
            "/x/../../admin",
            "/./x",
            "/..",
            "/%2e%2e/admin",
            "/%2E./admin",
            "/..%2fadmin",
            "/x%2f..%2f..%2fadmin",
            "/%252e%252e/admin",
            "/..%5cadmin",
            "/..;/admin",
            "/\\..\\admin",
            "/a\r\nHost: b",
            "/a%0d%0aHost:%20b",
            "/a%00",
            "/a b",
            "/a#b",
            "/ä",
            "/%25252525252e",
        ] {
            assert!(matches!(below(&base, path), Err(CallError::Invalid(_))), "{path:?}");
        }
        assert!(below(&base, &format!("/{}", "x".repeat(MAX_PATH))).is_err());
    }

    #[test]
    fn redirects_stay_below_the_base() {
        let base = base("https://a.example/scim");
        for (target, fine) in [
            ("https://a.example/scim", true),
            ("https://a.example:443/scim/Users?x", true),
            ("https://a.example/scimitar", false),
            ("https://a.example/other", false),
            ("http://a.example/scim/", false),
            ("https://a.example:8443/scim/", false),
            ("https://b.example/scim/", false),
            ("https://u@a.example/scim/", false),
            ("https://a.example/scim/..%2fadmin", false),
        ] {
            assert_eq!(is_below(&base, &Url::parse(target).unwrap()), fine, "{target}");
        }
    }

    #[test]
    fn headers_of_the_connection_are_not_the_plugins() {
        let mut own = HeaderMap::new();
        own.insert("x-api-key", HeaderValue::from_static("secret"));
        let with = |name: &str, value: &str| headers(&own, &[(name.to_owned(), value.to_owned())]);
        for (name, value) in [
            ("Host", "b.example"),
            ("content-length", "0"),
            ("Transfer-Encoding", "chunked"),
            ("X-API-Key", "mine"),
            ("x y", "z"),
            ("", "z"),
            ("x", "a\r\nhost: b"),
        ] {
            assert!(with(name, value).is_err(), "{name}");
        }
        // Of a connection without credentials the plugin may bring its own.
        let whole = with("Authorization", "Bearer token").unwrap();
        assert_eq!(whole["authorization"], "Bearer token");
        assert_eq!(whole["x-api-key"], "secret");
    }
}
