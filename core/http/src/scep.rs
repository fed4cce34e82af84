//! SCEP over HTTP (RFC 8894, section 4): how operations and messages travel. What they mean is for the engine.

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use russet_engine::{EngineError, Request, ScepAnswer};

use crate::failure::Failure;
use crate::query::{Plus, pairs};
use crate::tenant::Begun;
use crate::{Api, body};

/// The largest message in bytes; real ones have less than 10 KB.
const MESSAGE: usize = 256 << 10;

/// Clients leave the padding out, or pad wrongly.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

pub(crate) fn routes() -> Router<Api> {
    let scep = get(by_query).post(by_body);
    Router::new()
        .route("/scep", scep.clone())
        .route("/t/{tenant}/scep", scep)
}

async fn by_query(
    State(api): State<Api>,
    Begun(request): Begun,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let query = Query::parse(query.as_deref().unwrap_or_default()).map_err(Failure::in_text)?;
    let message = query.message.as_deref();
    answer(&api, &request, query.operation, || {
        let message = message.ok_or_else(|| Failure::bad_request("a PKIOperation by GET has a message"))?;
        decode(message).ok_or_else(|| Failure::bad_request("the message is not base64"))
    })
    .await
    .map_err(Failure::in_text)
}

async fn by_body(
    State(api): State<Api>,
    Begun(request): Begun,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, Failure> {
    let query = Query::parse(query.as_deref().unwrap_or_default()).map_err(Failure::in_text)?;
    let message = body::read(body, MESSAGE, api.settings.body_timeout)
        .await
        .map_err(|error| Failure::from(error).in_text())?;
    answer(&api, &request, query.operation, || Ok(message.to_vec()))
        .await
        .map_err(Failure::in_text)
}

async fn answer(
    api: &Api,
    request: &Request,
    operation: Operation,
    message: impl FnOnce() -> Result<Vec<u8>, Failure>,
) -> Result<Response, Failure> {
    let ScepAnswer { content_type, body } = match operation {
        Operation::Capabilities => api.engine.scep_capabilities(),
        Operation::Certificates => api.engine.scep_ca(),
        Operation::Message => {
            let answer = api.engine.scep(request, &message()?, Timestamp::now()).await;
            answer.map_err(|error| match error {
                // Not a SCEP message at all. (A refusal is an answer.)
                EngineError::Invalid { message, .. } => Failure::bad_request(message),
                other => other.into(),
            })?
        }
    };
    Ok(([(CONTENT_TYPE, content_type)], body).into_response())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Capabilities,
    Certificates,
    Message,
}

struct Query {
    operation: Operation,
    message: Option<String>,
}

impl Query {
    fn parse(query: &str) -> Result<Self, Failure> {
        let mut operation = None;
        let mut message = None;
        for (key, value) in pairs(query, Plus::Plus)? {
            match key.as_str() {
                "operation" => operation = Some(value),
                "message" => message = Some(value),
                _ => {}
            }
        }
        let operation = match operation.as_deref() {
            Some("GetCACaps") => Operation::Capabilities,
            Some("GetCACert") => Operation::Certificates,
            Some("PKIOperation") => Operation::Message,
            _ => {
                return Err(Failure::bad_request(
                    "the operation is none of GetCACaps, GetCACert and PKIOperation",
                ));
            }
        };
        Ok(Self { operation, message })
    }
}

/// Base64 in either alphabet, with or without padding and line breaks, and with spaces where something on the way has
/// taken a plus sign for one.
fn decode(message: &str) -> Option<Vec<u8>> {
    let plain: Vec<u8> = message
        .bytes()
        .filter_map(|octet| match octet {
            b'\r' | b'\n' => None,
            b'-' | b' ' => Some(b'+'),
            b'_' => Some(b'/'),
            octet => Some(octet),
        })
        .collect();
    let padding = plain.iter().rev().take_while(|octet| **octet == b'=').count();
    BASE64.decode(&plain[..plain.len() - padding]).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    use super::*;

    #[test]
    fn every_way_in_which_clients_write_a_message_reads_the_same() {
        let message: Vec<u8> = (0..=255).rev().cycle().take(1000).collect();
        let standard = STANDARD.encode(&message);
        assert!(standard.contains('+') && standard.contains('/') && standard.ends_with('='));
        let escaped = standard.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        let wrapped = standard
            .as_bytes()
            .chunks(64)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect::<Vec<_>>()
            .join("%0D%0A");
        for form in [
            standard.clone(),
            escaped,
            wrapped,
            standard.replace('+', "%20"),
            standard.trim_end_matches('=').to_owned(),
            URL_SAFE_NO_PAD.encode(&message),
        ] {
            let query = Query::parse(&format!("operation=PKIOperation&message={form}")).unwrap();
            assert_eq!(
                decode(&query.message.unwrap()).as_deref(),
                Some(message.as_slice()),
                "{form}"
            );
        }
    }

    #[test]
    fn other_operations_and_broken_base64_are_refused() {
        for query in [
            "",
            "operation=",
            "operation=GetNextCACert",
            "message=AA",
            "operation=%zz",
        ] {
            assert!(Query::parse(query).is_err(), "{query}");
        }
        for message in ["A", "A*==", "a=b"] {
            assert_eq!(decode(message), None, "{message}");
        }
    }
}
