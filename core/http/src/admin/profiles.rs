//! Profiles that the server stores.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use russet_engine::NewProfile;
use russet_engine::store::Profile;
use russet_protocol::content_type;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::auth::AtTenant;
use super::input::{self, Named};
use super::page::List;
use crate::Api;
use crate::failure::Failure;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/profiles", get(list))
        .route("/profiles/{name}", get(show).put(store).delete(remove))
}

#[derive(Debug, Serialize)]
struct ProfileView {
    name: String,
    template: Option<String>,
    variables: Value,
    size: usize,
    updated_at: Timestamp,
}

impl From<&Profile> for ProfileView {
    fn from(profile: &Profile) -> Self {
        Self {
            name: profile.name.clone(),
            template: profile.template.clone(),
            variables: profile.settings.clone(),
            size: profile.content.len(),
            updated_at: profile.updated_at,
        }
    }
}

/// With its content: as text, or in base64 where it is none (a signed profile).
#[derive(Debug, Serialize)]
struct WholeProfile {
    #[serde(flatten)]
    profile: ProfileView,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_base64: Option<String>,
}

#[derive(Deserialize)]
struct ProfileName {
    name: String,
}

async fn list(State(api): State<Api>, at: AtTenant) -> Result<Json<List<ProfileView>>, Failure> {
    let profiles = api.engine.store().profiles(at.tenant.id).await?;
    Ok(Json(List::whole(profiles.iter().map(ProfileView::from))))
}

async fn show(
    State(api): State<Api>,
    at: AtTenant,
    Named(ProfileName { name }): Named<ProfileName>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let found = api.engine.store().profile(at.tenant.id, &name).await?;
    let found = found.ok_or_else(|| Failure::not_found("profile"))?;
    let accepts = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    if accepts.is_some_and(|accepted| content_type::is(accepted, content_type::PROFILE)) {
        return Ok(([(CONTENT_TYPE, content_type::PROFILE)], found.content).into_response());
    }
    let profile = ProfileView::from(&found);
    let (content, content_base64) = match String::from_utf8(found.content) {
        Ok(text) => (Some(text), None),
        Err(binary) => (None, Some(STANDARD.encode(binary.as_bytes()))),
    };
    let whole = WholeProfile {
        profile,
        content,
        content_base64,
    };
    Ok(Json(whole).into_response())
}

#[derive(Debug, Serialize)]
struct StoredProfile {
    #[serde(flatten)]
    profile: ProfileView,
    /// In how many queues it is now, because devices have it and it changed.
    reinstalled: u64,
}

/// A profile as JSON; the other form is the mobileconfig itself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonProfile {
    content: String,
    #[serde(default)]
    template: Option<String>,
    #[serde(default)]
    variables: Map<String, Value>,
}

async fn store(
    State(api): State<Api>,
    at: AtTenant,
    Named(ProfileName { name }): Named<ProfileName>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<StoredProfile>), Failure> {
    let body = input::read(&api, body).await?;
    let says_json = input::sent_as(&headers).is_some_and(|sent| content_type::is(sent, content_type::JSON));
    let new = if says_json {
        let json: JsonProfile = input::parse(&body)?;
        NewProfile {
            content: json.content.into_bytes(),
            template: json.template,
            variables: json.variables.into(),
        }
    } else {
        NewProfile {
            content: body.into(),
            template: None,
            variables: Map::new().into(),
        }
    };
    let now = Timestamp::now();
    let view = ProfileView {
        name: name.clone(),
        template: new.template.clone(),
        variables: new.variables.clone(),
        size: new.content.len(),
        updated_at: now,
    };
    let report = api.engine.put_profile(&at.tenant, &name, new, now).await?;
    let status = if report.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let stored = StoredProfile {
        profile: view,
        reinstalled: report.reinstalled,
    };
    Ok((status, Json(stored)))
}

async fn remove(
    State(api): State<Api>,
    at: AtTenant,
    Named(ProfileName { name }): Named<ProfileName>,
) -> Result<StatusCode, Failure> {
    if api.engine.store().delete_profile(at.tenant.id, &name).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Failure::not_found("profile"))
    }
}
