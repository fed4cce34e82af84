//! What administrators send: bodies within their caps, JSON, and parameters of the address, with errors in the one
//! form.

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use russet_engine::TenantRef;
use russet_engine::store::EnrollmentId;
use russet_protocol::content_type;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::failure::Failure;
use crate::{Api, body};

/// The largest body that holds no plugin, in bytes.
const ORDINARY: usize = 16 << 20;

/// Reads an ordinary body.
pub(super) async fn read(api: &Api, body: Body) -> Result<Bytes, Failure> {
    let limit = api.settings.admin_body.min(ORDINARY);
    Ok(body::read(body, limit, api.settings.body_timeout).await?)
}

/// Reads a body that may hold a plugin.
pub(super) async fn read_large(api: &Api, body: Body) -> Result<Bytes, Failure> {
    Ok(body::read(body, api.settings.admin_body, api.settings.body_timeout).await?)
}

/// Reads an ordinary body that is JSON.
pub(super) async fn json<T: DeserializeOwned>(api: &Api, headers: &HeaderMap, body: Body) -> Result<T, Failure> {
    if !is_json(headers) {
        return Err(unsupported("send JSON, as Content-Type: application/json"));
    }
    parse(&read(api, body).await?)
}

/// Reads an ordinary body that is JSON, or none at all.
pub(super) async fn json_or_nothing<T: DeserializeOwned + Default>(
    api: &Api,
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Failure> {
    let body = read(api, body).await?;
    if body.is_empty() {
        return Ok(T::default());
    }
    if !is_json(headers) {
        return Err(unsupported("send JSON, as Content-Type: application/json"));
    }
    parse(&body)
}

/// Reads JSON; what is wrong is said with its line and column, without its content.
pub(super) fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(json)
        .map_err(|error| Failure::bad_request(format!("the JSON body cannot be read: {}", masked(&error.to_string()))))
}

/// The text of an error without the value that it repeats: it may be a secret, and the text gets into the log.
fn masked(error: &str) -> String {
    // As serde spells it: `invalid type: string "value", expected a map at line 1 column 2`.
    let parts = error
        .strip_prefix("invalid type: ")
        .or_else(|| error.strip_prefix("invalid value: "))
        .and_then(|found| Some((found.split(' ').next()?, found.rsplit_once(", expected ")?.1)));
    match parts {
        Some((kind, expected)) => format!("{kind} given, expected {expected}"),
        None => error.to_owned(),
    }
}

/// Whether a body is JSON: by its `Content-Type`, or because nothing says otherwise.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    sent_as(headers).is_none_or(|sent| content_type::is(sent, content_type::JSON))
}

/// The `Content-Type` of a body.
pub(super) fn sent_as(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok())
}

pub(super) fn unsupported(message: &'static str) -> Failure {
    Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", message)
}

/// The query, as a struct.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Api> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _api: &Api) -> Result<Self, Failure> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(params)| Self(params))
            .map_err(|error| Failure::bad_request(format!("the query cannot be read: {}", error.body_text())))
    }
}

/// What the path names below its tenant, such as a device.
pub(super) struct Named<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for Named<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Failure> {
        Path::from_request_parts(parts, api)
            .await
            .map(|Path(named)| Self(named))
            .map_err(|error| Failure::bad_request(error.body_text()))
    }
}

/// A device in the path: its enrollment id, its serial number or its UDID.
#[derive(Deserialize)]
pub(super) struct Id {
    pub(super) id: String,
}

/// `?device=`: only what concerns that device, by its enrollment id, serial number or UDID.
#[derive(Deserialize)]
pub(super) struct OfDevice {
    device: Option<String>,
}

impl OfDevice {
    pub(super) async fn find(&self, api: &Api, tenant: &TenantRef) -> Result<Option<EnrollmentId>, Failure> {
        match &self.device {
            None => Ok(None),
            Some(device) => Ok(Some(api.engine.device(tenant, device).await?.id)),
        }
    }
}

/// A certificate in the path: its SHA-256 digest, to be read by [`sha256`].
#[derive(Deserialize)]
pub(super) struct Digest {
    pub(super) sha256: String,
}

/// A SHA-256 digest in hexadecimal.
pub(super) fn sha256(text: &str) -> Result<[u8; 32], Failure> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest)
        .map_err(|_| Failure::bad_request("a certificate is named by its SHA-256: 64 hexadecimal digits"))?;
    Ok(digest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashMap;

    use super::*;

    #[test]
    fn what_is_wrong_with_json_is_said_without_its_values() {
        let error = |json: &str| {
            serde_json::from_str::<HashMap<String, Vec<u8>>>(json)
                .map_err(|error| masked(&error.to_string()))
                .unwrap_err()
        };
        assert_eq!(
            error(r#"{"key": "hunter2, expected by nobody"}"#),
            "string given, expected a sequence at line 1 column 37"
        );
        assert_eq!(
            error(r#"{"key": [8675309]}"#),
            "integer given, expected u8 at line 1 column 16"
        );
        assert_eq!(error("{"), "EOF while parsing an object at line 1 column 1");
    }
}
