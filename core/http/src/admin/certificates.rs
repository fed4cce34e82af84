//! Identity certificates that the server issued.

use axum::body::Body;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use russet_engine::store::CertificateRecord;
use serde::{Deserialize, Serialize};

use super::auth::AtTenant;
use super::input::{self, Digest, Named, OfDevice, Params};
use super::page::{List, Paging};
use crate::Api;
use crate::failure::Failure;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/certificates", get(list))
        .route("/certificates/{sha256}/revoke", post(revoke))
}

#[derive(Debug, Serialize)]
struct CertificateView {
    sha256: String,
    /// Its own serial number, not a device's.
    serial_number: String,
    subject: String,
    not_before: Timestamp,
    not_after: Timestamp,
    bound_serial: Option<String>,
    bound_udid: Option<String>,
    renews: Option<String>,
    /// Whether an enrollment uses it.
    enrolled: bool,
    revoked_at: Option<Timestamp>,
    revoke_reason: Option<String>,
    created_at: Timestamp,
}

impl From<CertificateRecord> for CertificateView {
    fn from(record: CertificateRecord) -> Self {
        let certificate = record.certificate;
        Self {
            sha256: hex::encode(certificate.sha256),
            serial_number: certificate.serial_number,
            subject: certificate.subject,
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            bound_serial: certificate.bound_serial,
            bound_udid: certificate.bound_udid,
            renews: certificate.renews.map(hex::encode),
            enrolled: record.enrollment.is_some(),
            revoked_at: record.revoked_at,
            revoke_reason: record.revoke_reason,
            created_at: record.created_at,
        }
    }
}

async fn list(
    State(api): State<Api>,
    at: AtTenant,
    Params(of): Params<OfDevice>,
    Params(paging): Params<Paging>,
) -> Result<Json<List<CertificateView>>, Failure> {
    let device = of.find(&api, &at.tenant).await?;
    let page = api
        .engine
        .store()
        .certificates(at.tenant.id, device, paging.cursor(), paging.limit())
        .await?;
    Ok(Json(List::of(page, CertificateView::from)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revocation {
    reason: String,
}

async fn revoke(
    State(api): State<Api>,
    at: AtTenant,
    Named(Digest { sha256 }): Named<Digest>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Failure> {
    let sha256 = input::sha256(&sha256)?;
    let revocation: Revocation = input::json(&api, &headers, body).await?;
    api.engine
        .revoke_certificate(&at.tenant, &sha256, &revocation.reason, Timestamp::now())
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
