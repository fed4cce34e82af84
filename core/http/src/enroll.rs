//! Enrollment profiles: downloaded by hand, or asked for by a device in set-up (automated device enrollment).

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, HeaderMap};
use http::{HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;
use russet_engine::{ProfileRefusal, ProfileRequest, ProfileSource, Request};
use russet_hooks::SignIn;
use russet_protocol::content_type;
use russet_protocol::forbidden::BodyFormat;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::tenant::Begun;
use crate::{Api, body};

/// The machine information of a device whose set-up shows a web page: signed CMS in base64.
const DEVICE_INFO: HeaderName = HeaderName::from_static("x-apple-aspen-deviceinfo");

/// The largest signed machine information in bytes; real ones have about 5 KB.
const MACHINE_INFO: usize = 256 << 10;

pub(crate) fn routes() -> Router<Api> {
    let profile = get(download).post(automated);
    Router::new()
        .route("/enroll", profile.clone())
        .route("/t/{tenant}/enroll", profile)
}

async fn download(State(api): State<Api>, Begun(request): Begun, headers: HeaderMap) -> Result<Response, Failure> {
    match headers.get(DEVICE_INFO) {
        None => profile(&api, &request, ProfileSource::Manual, &headers)
            .await
            // Somebody looks at it in a browser.
            .map_err(Failure::in_text),
        Some(value) => {
            let info = STANDARD
                .decode(value.as_bytes())
                .map_err(|_| Failure::bad_request("the header x-apple-aspen-deviceinfo is not base64"))?;
            profile(&api, &request, ProfileSource::MachineInfo(info), &headers).await
        }
    }
}

async fn automated(
    State(api): State<Api>,
    Begun(request): Begun,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let info = body::read(body, MACHINE_INFO, api.settings.body_timeout).await?;
    profile(&api, &request, ProfileSource::MachineInfo(info.into()), &headers).await
}

async fn profile(
    api: &Api,
    request: &Request,
    source: ProfileSource,
    headers: &HeaderMap,
) -> Result<Response, Failure> {
    let credentials = match headers.get(AUTHORIZATION) {
        None => None,
        Some(value) => Some(basic(value).ok_or_else(|| {
            Failure::new(
                StatusCode::UNAUTHORIZED,
                "sign-in",
                "sign in with a user name and a password (Basic)",
            )
            .authenticate(challenge(&api.settings.realm))
        })?),
    };
    if let Some(sign_in) = &credentials {
        api.throttles.sign_in(&request.tenant.name, &sign_in.user_name)?;
    }
    let ask = ProfileRequest { source, credentials };
    let refusal = match api.engine.enrollment_profile(request, ask, Timestamp::now()).await {
        Ok(profile) => {
            let headers = [
                (CONTENT_TYPE, content_type::PROFILE),
                (CONTENT_DISPOSITION, "attachment; filename=\"enroll.mobileconfig\""),
                // It holds a challenge that is good once.
                (CACHE_CONTROL, "no-store"),
            ];
            return Ok((headers, profile).into_response());
        }
        Err(refusal) => refusal,
    };
    let message = refusal.to_string();
    Err(match refusal {
        ProfileRefusal::SignIn => {
            Failure::new(StatusCode::UNAUTHORIZED, "sign-in", message).authenticate(challenge(&api.settings.realm))
        }
        ProfileRefusal::WrongCredentials => Failure::new(StatusCode::UNAUTHORIZED, "wrong-credentials", message)
            .authenticate(challenge(&api.settings.realm)),
        ProfileRefusal::Forbidden(forbidden) => {
            // Apple's own form, which the device acts on.
            let format = BodyFormat::Json;
            let headers = [(CONTENT_TYPE, format.content_type())];
            return Ok((StatusCode::FORBIDDEN, headers, forbidden.encode(format)).into_response());
        }
        ProfileRefusal::Denied { reason, message } => Failure::new(StatusCode::FORBIDDEN, reason, message),
        ProfileRefusal::MachineInfo(_) => Failure::new(StatusCode::BAD_REQUEST, "machine-info", message),
        ProfileRefusal::NoPushCertificate => Failure::unavailable(message),
        ProfileRefusal::TryLater { after } => Failure::unavailable(message).retry_after(after),
        ProfileRefusal::Store(error) => Failure::unavailable(message).caused_by(error),
        ProfileRefusal::Internal(error) => Failure::unavailable(message).caused_by(Inside(error)),
        _ => Failure::unavailable(message),
    })
}

#[derive(Debug, thiserror::Error)]
#[error("the profile could not be made")]
struct Inside(#[source] Box<dyn std::error::Error + Send + Sync>);

/// The name and the password of RFC 7617.
fn basic(header: &HeaderValue) -> Option<SignIn> {
    let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = Zeroizing::new(STANDARD.decode(encoded.trim()).ok()?);
    let (user_name, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some(SignIn {
        user_name: user_name.to_owned(),
        password: Zeroizing::new(password.to_owned()),
    })
}

fn challenge(realm: &str) -> HeaderValue {
    let plain: String = realm
        .chars()
        .filter(|c| c.is_ascii() && !c.is_ascii_control() && !"\"\\".contains(*c))
        .collect();
    HeaderValue::try_from(format!("Basic realm=\"{plain}\", charset=\"UTF-8\""))
        .unwrap_or_else(|_| HeaderValue::from_static("Basic realm=\"enrollment\""))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn basic_credentials_are_read_as_rfc_7617_writes_them() {
        let header = |text: &str| HeaderValue::from_str(text).unwrap();
        let sign_in = basic(&header(&format!("basic {}", STANDARD.encode("anna:pass:wörd")))).unwrap();
        assert_eq!(
            (sign_in.user_name.as_str(), sign_in.password.as_str()),
            ("anna", "pass:wörd")
        );
        for wrong in [
            "Basic",
            "Basic ***",
            "Bearer YTpi",
            &format!("Basic {}", STANDARD.encode("anna")),
        ] {
            assert!(basic(&header(wrong)).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_realm_cannot_break_out_of_its_quotes() {
        assert_eq!(challenge("A \"b\"\\\n c"), "Basic realm=\"A b c\", charset=\"UTF-8\"");
    }
}
