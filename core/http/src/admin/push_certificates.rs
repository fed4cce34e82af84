//! Push certificates of a tenant.

use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use http::HeaderMap;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

use super::auth::AtTenant;
use super::input;
use super::page::List;
use crate::Api;
use crate::failure::Failure;

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/push-certificates", get(list).put(store))
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
struct NewPushCertificate {
    certificate_pem: String,
    #[serde(deserialize_with = "secret")]
    private_key_pem: Zeroizing<String>,
}

fn secret<'de, D: Deserializer<'de>>(text: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(text).map(Zeroizing::new)
}

#[derive(Debug, Serialize)]
struct Stored {
    topic: String,
    not_before: Timestamp,
    not_after: Timestamp,
}

async fn store(State(api): State<Api>, at: AtTenant, headers: HeaderMap, body: Body) -> Result<Json<Stored>, Failure> {
    let new: NewPushCertificate = input::json(&api, &headers, body).await?;
    let stored = api
        .engine
        .put_push_certificate(&at.tenant, &new.certificate_pem, &new.private_key_pem, Timestamp::now())
        .await?;
    Ok(Json(Stored {
        topic: stored.topic,
        not_before: stored.not_before,
        not_after: stored.not_after,
    }))
}
