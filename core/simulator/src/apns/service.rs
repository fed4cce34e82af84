//! One request: what APNs checks, in the order in which it complains (Apple: "Sending notification requests to APNs" and
//! "Handling notification responses from APNs").

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{HeaderMap, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::devices::Registration;
use super::{ReceivedPush, Scripted, Shared};

/// The largest body of a notification, in bytes.
const BODY_LIMIT: usize = 4_096;

/// A refusal: status, reason, and for dead tokens the time of death.
struct Refusal {
    status: StatusCode,
    reason: &'static str,
    since: Option<Timestamp>,
}

fn bad(reason: &'static str) -> Refusal {
    Refusal {
        status: StatusCode::BAD_REQUEST,
        reason,
        since: None,
    }
}

fn with_status(status: StatusCode, reason: &'static str) -> Refusal {
    Refusal {
        status,
        reason,
        since: None,
    }
}

pub(super) async fn answer(shared: &Shared, topic: &str, request: Request<Incoming>) -> Response<Full<Bytes>> {
    shared.tally.requests.fetch_add(1, Ordering::SeqCst);
    let apns_id = Uuid::new_v4().to_string().to_uppercase();
    let mut response = match take(shared, topic, &apns_id, request).await {
        Ok(()) => {
            shared.tally.delivered.fetch_add(1, Ordering::SeqCst);
            Response::default()
        }
        Err(response) => {
            shared.tally.refused.fetch_add(1, Ordering::SeqCst);
            *response
        }
    };
    if let Ok(value) = HeaderValue::from_str(&apns_id) {
        response.headers_mut().insert("apns-id", value);
    }
    response
}

async fn take(
    shared: &Shared,
    topic: &str,
    apns_id: &str,
    request: Request<Incoming>,
) -> Result<(), Box<Response<Full<Bytes>>>> {
    let (head, body) = request.into_parts();
    let token = token_of(head.uri.path());
    if let Ok(token) = &token {
        shared.devices.wait_while_held(token).await;
        if let Some(scripted) = shared.devices.take_scripted(token) {
            return scripted_answer(&scripted);
        }
    }
    let body = Limited::new(body, BODY_LIMIT).collect().await;
    let checked = async {
        if head.method != Method::POST {
            return Err(with_status(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"));
        }
        let token = token?;
        let body = body
            .map_err(|_| with_status(StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLarge"))?
            .to_bytes();
        check(shared, topic, apns_id, token, &head.headers, &body)
    };
    let push = checked.await.map_err(|refusal| Box::new(refuse(&refusal)))?;
    // Nobody listening is the usual case.
    let _ = shared.pushes.send(push.clone());
    shared.devices.deliver(push);
    Ok(())
}

fn check(
    shared: &Shared,
    topic: &str,
    apns_id: &str,
    token: Vec<u8>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<ReceivedPush, Refusal> {
    if header(headers, "apns-push-type")? != Some("mdm") {
        return Err(bad("InvalidPushType"));
    }
    match header(headers, "apns-topic")? {
        None => return Err(bad("MissingTopic")),
        Some(asked) if asked != topic => return Err(bad("TopicDisallowed")),
        Some(_) => {}
    }
    let priority = match header(headers, "apns-priority")? {
        None | Some("10") => 10,
        Some("5") => 5,
        Some(_) => return Err(bad("BadPriority")),
    };
    let expiration = match header(headers, "apns-expiration")? {
        None => 0,
        Some(text) => text.parse().map_err(|_| bad("BadExpirationDate"))?,
    };
    let magic = magic_of(body)?;
    match shared.devices.registration(&token) {
        Registration::Unknown => Err(bad("BadDeviceToken")),
        Registration::Dead { since } => Err(Refusal {
            status: StatusCode::GONE,
            reason: "Unregistered",
            since: Some(since),
        }),
        Registration::Alive { topic: of_device } if of_device != topic => Err(bad("DeviceTokenNotForTopic")),
        Registration::Alive { .. } => Ok(ReceivedPush {
            token,
            magic,
            topic: topic.to_owned(),
            expiration,
            priority,
            apns_id: apns_id.to_owned(),
        }),
    }
}

fn token_of(path: &str) -> Result<Vec<u8>, Refusal> {
    let token = path
        .strip_prefix("/3/device/")
        .ok_or_else(|| with_status(StatusCode::NOT_FOUND, "BadPath"))?;
    if token.is_empty() {
        return Err(bad("MissingDeviceToken"));
    }
    hex::decode(token).map_err(|_| bad("BadDeviceToken"))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().and_then(|value| value.to_str().ok());
    match values.next() {
        Some(_) => Err(bad("DuplicateHeaders")),
        None => Ok(value),
    }
}

/// The body of an MDM push is one object with the magic and nothing else. APNs itself does not look inside; a device
/// ignores anything else in silence, so the stand-in says it aloud, with a word of its own.
fn magic_of(body: &[u8]) -> Result<String, Refusal> {
    if body.is_empty() {
        return Err(bad("PayloadEmpty"));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(mut fields)) if fields.len() == 1 => match fields.remove("mdm") {
            Some(Value::String(magic)) => Ok(magic),
            _ => Err(bad("BadMdmPayload")),
        },
        _ => Err(bad("BadMdmPayload")),
    }
}

fn refuse(refusal: &Refusal) -> Response<Full<Bytes>> {
    let body = match refusal.since {
        Some(since) => json!({"reason": refusal.reason, "timestamp": since.as_millisecond()}),
        None => json!({"reason": refusal.reason}),
    };
    json_answer(refusal.status, body.to_string())
}

/// A scripted 200 counts as refused too: the push reaches nobody.
fn scripted_answer(scripted: &Scripted) -> Result<(), Box<Response<Full<Bytes>>>> {
    let status = StatusCode::from_u16(scripted.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = match &scripted.reason {
        Some(reason) if status == StatusCode::GONE => {
            json!({"reason": reason, "timestamp": Timestamp::now().as_millisecond()}).to_string()
        }
        Some(reason) => json!({"reason": reason}).to_string(),
        None => String::new(),
    };
    let mut response = json_answer(status, body);
    if let Some(value) = scripted
        .retry_after
        .as_ref()
        .and_then(|value| HeaderValue::from_str(value).ok())
    {
        response.headers_mut().insert(RETRY_AFTER, value);
    }
    Err(Box::new(response))
}

fn json_answer(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
