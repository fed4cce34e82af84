//! Devices of another server, taken over. One message at a time, in the form in which NanoMDM's tools send them: `PUT` of
//! the raw property list, with the token as a bearer's or as the password of Basic.

use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::routing::{delete, get, put};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use russet_engine::store::{ImportStatus, Imported, NewIdentityAuthority};
use russet_engine::{Administrator, ImportOptions, ImportReport};
use russet_protocol::{CheckIn, Limits, MessageError};
use serde::{Deserialize, Serialize};

use super::auth::{AtTenant, at_tenant, bearer, refused, unauthorized};
use super::input::{self, Digest, Named, Params};
use super::page::List;
use crate::context::Context;
use crate::failure::Failure;
use crate::{Api, body};

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/import", get(status))
        .route("/import/checkin", put(check_in))
        .route("/import/authorities", get(authorities).put(trust))
        .route("/import/authorities/{sha256}", delete(distrust))
}

/// Somebody who may import into the tenant: its administrators, and tokens that are good for this alone.
struct Importer(AtTenant);

impl FromRequestParts<Api> for Importer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Failure> {
        let token = parts
            .headers
            .get(AUTHORIZATION)
            .and_then(|header| bearer(header).map(str::to_owned).or_else(|| basic_password(header)));
        let token = token.ok_or_else(|| {
            unauthorized("send the token as: Authorization: Bearer <token>, or as the password of Basic")
        })?;
        let importer: Option<Administrator> = api.engine.importer(&token).await?;
        let Some(importer) = importer else {
            return Err(refused(parts, api));
        };
        let Ok(context) = Context::from_request_parts(parts, api).await;
        context.note().administrator = Some(importer.name.clone());
        at_tenant(parts, api, importer).await.map(Self)
    }
}

/// The password of Basic credentials, whatever the name: NanoMDM's tools send `nanomdm`.
fn basic_password(header: &HeaderValue) -> Option<String> {
    let (scheme, credentials) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let credentials = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (_, password) = credentials.split_once(':')?;
    Some(password.to_owned())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    #[serde(default)]
    certificate_sha256: Option<String>,
    #[serde(default)]
    tell_observers: bool,
}

#[derive(Serialize)]
struct ReportView {
    message_type: &'static str,
    enrollment: String,
    outcome: &'static str,
    warnings: Vec<String>,
}

impl From<ImportReport> for ReportView {
    fn from(report: ImportReport) -> Self {
        Self {
            message_type: report.message_type,
            enrollment: report.enrollment.as_str().to_owned(),
            outcome: match report.outcome {
                Imported::Created => "created",
                Imported::Updated => "updated",
                Imported::Unchanged => "unchanged",
                Imported::HasComeItself => "has-come-itself",
                Imported::Removed => "removed-here",
            },
            warnings: report.warnings,
        }
    }
}

/// Answered with 200 in every case of success: NanoMDM's tools take nothing else for one.
async fn check_in(
    State(api): State<Api>,
    context: Context,
    Importer(at): Importer,
    Params(options): Params<Options>,
    sent: Body,
) -> Result<Json<ReportView>, Failure> {
    let body = body::read(sent, api.settings.device_body, api.settings.body_timeout).await?;
    let limits = Limits {
        max_bytes: api.settings.device_body,
        ..Limits::default()
    };
    let message = CheckIn::decode(&body, &limits).map_err(MessageError::CheckIn)?;
    drop(body);
    context.note().enrollment = Some(message.key().as_str().to_owned());
    let options = ImportOptions {
        certificate_sha256: options.certificate_sha256.as_deref().map(input::sha256).transpose()?,
        tell_observers: options.tell_observers,
    };
    let request = at.begin(&api).await?;
    let report = api
        .engine
        .import_check_in(&request, message, options, Timestamp::now())
        .await?;
    Ok(Json(report.into()))
}

#[derive(Serialize)]
struct Waiting {
    enrollment: String,
    serial_number: Option<String>,
}

#[derive(Serialize)]
struct StatusView {
    devices: u64,
    arrived: u64,
    without_token: u64,
    /// The first of those that have not come.
    waiting: Vec<Waiting>,
}

async fn status(State(api): State<Api>, at: AtTenant) -> Result<Json<StatusView>, Failure> {
    let ImportStatus {
        devices,
        arrived,
        without_token,
        waiting,
    } = api.engine.import_status(&at.tenant).await?;
    let waiting = waiting.into_iter().map(|(enrollment, serial_number)| Waiting {
        enrollment,
        serial_number,
    });
    Ok(Json(StatusView {
        devices,
        arrived,
        without_token,
        waiting: waiting.collect(),
    }))
}

#[derive(Serialize)]
struct AuthorityView {
    sha256: String,
    subject: String,
    not_after: Timestamp,
    added_by: String,
}

impl From<NewIdentityAuthority> for AuthorityView {
    fn from(authority: NewIdentityAuthority) -> Self {
        Self {
            sha256: hex::encode(authority.sha256),
            subject: authority.subject,
            not_after: authority.not_after,
            added_by: authority.added_by,
        }
    }
}

async fn authorities(State(api): State<Api>, at: AtTenant) -> Result<Json<List<AuthorityView>>, Failure> {
    let authorities = api.engine.trusted_authorities(&at.tenant).await?;
    let views = authorities.into_iter().map(|stored| stored.authority.into());
    Ok(Json(List::whole(views)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewAuthorities {
    certificates_pem: String,
}

async fn trust(
    State(api): State<Api>,
    at: AtTenant,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<List<AuthorityView>>, Failure> {
    let new: NewAuthorities = input::json(&api, &headers, body).await?;
    let trusted = api
        .engine
        .trust_authorities(&at.tenant, &new.certificates_pem, &at.administrator, Timestamp::now())
        .await?;
    Ok(Json(List::whole(trusted.into_iter().map(AuthorityView::from))))
}

async fn distrust(
    State(api): State<Api>,
    at: AtTenant,
    Named(Digest { sha256 }): Named<Digest>,
) -> Result<StatusCode, Failure> {
    api.engine
        .distrust_authority(&at.tenant, &input::sha256(&sha256)?)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_password_of_basic_is_the_token() {
        let of = |text: &str| basic_password(&HeaderValue::from_str(text).unwrap());
        let credentials = STANDARD.encode("nanomdm:russet_a:b");
        assert_eq!(of(&format!("Basic {credentials}")).as_deref(), Some("russet_a:b"));
        for wrong in [
            "Basic",
            "Basic %%%",
            "Bearer abc",
            &format!("Basic {}", STANDARD.encode("nanomdm")),
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
