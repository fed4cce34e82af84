//! Messages of enrolled devices: check-in and connect. One handler for both, because a profile may send both to one
//! address: what the message is decides.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::put;
use http::header::{CONTENT_TYPE, HeaderMap};
use http::{HeaderName, StatusCode};
use jiff::Timestamp;
use russet_engine::{DeviceAnswer, DeviceIdentity, IdentityError, MdmSignature};
use russet_protocol::{DeviceMessage, Limits, content_type};

use crate::boundary::keep_enrolled;
use crate::context::Context;
use crate::failure::Failure;
use crate::tenant::Begun;
use crate::{Api, Peer, body};

/// A detached CMS signature of the body, in base64 (Apple: `SignMessage`).
const MDM_SIGNATURE: HeaderName = HeaderName::from_static("mdm-signature");

pub(crate) fn routes() -> Router<Api> {
    let message = put(message);
    Router::new()
        .route("/mdm/checkin", message.clone())
        .route("/mdm/connect", message.clone())
        // Where NanoMDM's profiles send devices that were taken over from there: both kinds of message, or one each.
        .route("/mdm", message.clone())
        .route("/checkin", message.clone())
        .route("/t/{tenant}/mdm/checkin", message.clone())
        .route("/t/{tenant}/mdm/connect", message)
        .route_layer(from_fn(keep_enrolled))
}

async fn message(
    State(api): State<Api>,
    context: Context,
    Begun(request): Begun,
    peer: Option<axum::Extension<Peer>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let now = Timestamp::now();
    // Before the body is read: what a stranger sends is not kept in memory.
    let claim = claim(&api, peer.as_deref(), &headers, now)?;
    let (limit, timeout) = (api.settings.device_body, api.settings.body_timeout);
    let body = body::read_within(body, limit, timeout, &api.throttles.room).await?;
    // After the body: who sends slowly keeps nobody waiting.
    let _turn = api.throttles.shares.turn(&request.tenant.name).await?;
    let identity = match claim {
        Claim::Proven(identity) => identity,
        Claim::Signed(signature) => api.engine.identity_from_signature(signature, &body, now)?,
    };
    let limits = Limits {
        max_bytes: api.settings.device_body,
        ..Limits::default()
    };
    let sent_as = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let message = DeviceMessage::decode_as(sent_as, &body, &limits)?;
    context.note().enrollment = Some(message.key().as_str().to_owned());
    drop(body);
    let answer = api.engine.handle(&request, &identity, message, now).await?;
    Ok(match answer {
        // A body of no length ends the session; an empty property list would not.
        DeviceAnswer::Empty => StatusCode::OK.into_response(),
        DeviceAnswer::Plist(plist) => ([(CONTENT_TYPE, content_type::PLIST)], plist).into_response(),
        DeviceAnswer::Json(json) => ([(CONTENT_TYPE, content_type::JSON)], json).into_response(),
        DeviceAnswer::NotFound => StatusCode::NOT_FOUND.into_response(),
        DeviceAnswer::Gone => StatusCode::GONE.into_response(),
    })
}

/// Who sends, as far as it can be said without the body.
enum Claim {
    /// It is known.
    Proven(DeviceIdentity),
    /// Somebody with a certificate of a device of ours, if this signature of the body is good.
    Signed(MdmSignature),
}

/// Who sends: by the TLS certificate, else by the signature of the message, else by what a trusted proxy says. The TLS
/// certificate of a trusted proxy is its own and not a device's.
fn claim(api: &Api, peer: Option<&Peer>, headers: &HeaderMap, now: Timestamp) -> Result<Claim, IdentityError> {
    let proxy = &api.settings.proxy;
    let behind_proxy = peer.is_some_and(|peer| proxy.trusts(peer.address.ip()));
    if !behind_proxy && let Some(certificate) = peer.and_then(|peer| peer.certificate.as_deref()) {
        return api.engine.identity_from_tls(certificate, now).map(Claim::Proven);
    }
    if let Some(signature) = one(headers, &MDM_SIGNATURE)? {
        return api.engine.signature(signature, now).map(Claim::Signed);
    }
    if behind_proxy && let Some(certificate) = one(headers, &proxy.certificate_header)? {
        return api.engine.identity_from_proxy(certificate, now).map(Claim::Proven);
    }
    Err(IdentityError::Missing)
}

/// A header that may be there once: of two, nobody could say which one somebody else has checked.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, IdentityError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(IdentityError::Signature(format!("the header {name} is there twice")));
    }
    match value.to_str() {
        Ok(value) => Ok(Some(value)),
        Err(_) => Err(IdentityError::Signature(format!("the header {name} is not ASCII"))),
    }
}
