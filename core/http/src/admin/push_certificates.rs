//! Push certificates of a tenant.

use axum::body::Body;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::HeaderMap;
use jiff::Timestamp;
use russet_engine::NewPushCertificate;
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

use super::auth::AtTenant;
use super::input;
use super::page::List;
use crate::Api;
use crate::failure::Failure;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/push-certificates", get(list).put(store))
        .route("/push-certificates/request", post(request))
}

#[derive(Debug, Serialize)]
struct PushCertificateView {
    topic: String,
    subject: String,
    not_after: Timestamp,
    updated_at: Timestamp,
}

async fn list(State(api): State<Api>, at: AtTenant) -> Result<Json<List<PushCertificateView>>, Failure> {
    let certificates = api.engine.store().push_certificates(at.tenant.id).await?;
    Ok(Json(List::whole(certificates.into_iter().map(|certificate| {
        PushCertificateView {
            topic: certificate.topic,
            subject: certificate.subject,
            not_after: certificate.not_after,
            updated_at: certificate.updated_at,
        }
    }))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Upload {
    certificate_pem: String,
    /// Left out if the key was made here.
    #[serde(default, deserialize_with = "secret")]
    private_key_pem: Option<Zeroizing<String>>,
    /// The certificate is wanted although no device listens to its topic.
    #[serde(default)]
    other_topic: bool,
}

fn secret<'de, D: Deserializer<'de>>(text: D) -> Result<Option<Zeroizing<String>>, D::Error> {
    Ok(Option::<String>::deserialize(text)?.map(Zeroizing::new))
}

#[derive(Debug, Serialize)]
struct Stored {
    topic: String,
    not_before: Timestamp,
    not_after: Timestamp,
}

async fn store(State(api): State<Api>, at: AtTenant, headers: HeaderMap, body: Body) -> Result<Json<Stored>, Failure> {
    let upload: Upload = input::json(&api, &headers, body).await?;
    let new = NewPushCertificate {
        certificate_pem: upload.certificate_pem,
        private_key_pem: upload.private_key_pem,
        other_topic: upload.other_topic,
    };
    let stored = api
        .engine
        .put_push_certificate(&at.tenant, &new, Timestamp::now())
        .await?;
    Ok(Json(Stored {
        topic: stored.topic,
        not_before: stored.not_before,
        not_after: stored.not_after,
    }))
}

#[derive(Debug, Serialize)]
struct Requested {
    request_pem: String,
}

/// Makes a key that stays here, and the request for its certificate.
async fn request(State(api): State<Api>, at: AtTenant) -> Result<Json<Requested>, Failure> {
    let request_pem = api
        .engine
        .request_push_certificate(&at.tenant, Timestamp::now())
        .await?;
    Ok(Json(Requested { request_pem }))
}
