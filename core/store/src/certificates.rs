//! Identity certificates that this server issued or was told of, and whether they were revoked.

use jiff::Timestamp;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::Value as Json;

use crate::db::{Db, digest, from_json, from_ms, ms, values};
use crate::decisions::{NewDecision, record};
use crate::entity::certificate;
use crate::error::StoreError;
use crate::ids::{CertificateId, EnrollmentId, Sha256, TenantId};
use crate::page::{Cursor, Page, probe};
use crate::store::Store;

/// A certificate to store.
#[derive(Clone, Debug, PartialEq)]
pub struct NewCertificate {
    /// Digest of the DER form.
    pub sha256: Sha256,
    /// The tenant that it identifies a device to.
    pub tenant: TenantId,
    /// Serial number in hexadecimal.
    pub serial_number: String,
    /// Subject in the form of RFC 4514.
    pub subject: String,
    /// The certificate.
    pub der: Vec<u8>,
    /// Start of its validity.
    pub not_before: Timestamp,
    /// End of its validity.
    pub not_after: Timestamp,
    /// The person that it was issued for. Replaced by the challenge's when it is stored by [`Store::issue`].
    pub person: Option<Json>,
    /// What the gate and the directory said; an object. Replaced likewise.
    pub attributes: Json,
    /// The only serial number that may enroll with it. Replaced likewise.
    pub bound_serial: Option<String>,
    /// The only UDID that may enroll with it. Replaced likewise.
    pub bound_udid: Option<String>,
    /// The certificate that it renews (SCEP RenewalReq).
    pub renews: Option<Sha256>,
}

/// A stored certificate.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateRecord {
    /// Its row.
    pub id: CertificateId,
    /// What was stored.
    pub certificate: NewCertificate,
    /// The enrollment that it was bound to at Authenticate.
    pub enrollment: Option<EnrollmentId>,
    /// Since when it is refused.
    pub revoked_at: Option<Timestamp>,
    /// Why it was revoked.
    pub revoke_reason: Option<String>,
    /// When it was stored.
    pub created_at: Timestamp,
}

impl TryFrom<certificate::Model> for CertificateRecord {
    type Error = StoreError;

    fn try_from(row: certificate::Model) -> Result<Self, StoreError> {
        Ok(Self {
            id: CertificateId(row.id),
            certificate: NewCertificate {
                sha256: digest(row.sha256)?,
                tenant: TenantId(row.tenant_id),
                serial_number: row.serial_number,
                subject: row.subject,
                der: row.der,
                not_before: from_ms(row.not_before)?,
                not_after: from_ms(row.not_after)?,
                person: row.person.as_deref().map(from_json).transpose()?,
                attributes: from_json(&row.attributes)?,
                bound_serial: row.bound_serial,
                bound_udid: row.bound_udid,
                renews: row.renews_sha256.map(digest).transpose()?,
            },
            enrollment: row.enrollment_id.map(EnrollmentId),
            revoked_at: row.revoked_at.map(from_ms).transpose()?,
            revoke_reason: row.revoke_reason,
            created_at: from_ms(row.created_at)?,
        })
    }
}

/// How many certificates are looked at in one statement.
const SLICE: i64 = 5_000;

/// Ended before $2, and not the one that its device had last.
macro_rules! over {
    () => {
        "c.not_after <= $2 AND NOT EXISTS (SELECT 1 FROM enrollments e \
         WHERE e.id = c.enrollment_id AND e.certificate_sha256 = c.sha256)"
    };
}

/// The next slice after $1: where it ends, when the first of it was stored, and how many are over.
const LOOK: &str = concat!(
    "SELECT MAX(c.id), MIN(c.created_at), COUNT(CASE WHEN ",
    over!(),
    " THEN 1 END) FROM (SELECT id, not_after, created_at, enrollment_id, sha256 FROM certificates WHERE id > $1 \
     ORDER BY id LIMIT $3) AS c"
);
const DELETE: &str = concat!(
    "DELETE FROM certificates WHERE id IN (SELECT c.id FROM certificates c WHERE c.id > $1 AND c.id <= $3 AND ",
    over!(),
    ")"
);
const COUNT: &str = concat!("SELECT COUNT(*) FROM certificates c WHERE c.id > $1 AND ", over!());

impl Store {
    /// Deletes the certificates that ended before a time, but for those that devices had last; how many.
    ///
    /// An index by their end would cost each enrollment something, so they are looked through, on a reader. They are in the
    /// order in which they were stored, and none ends before it is; one that a clock stored which was ahead does not count.
    pub(crate) async fn purge_certificates(&self, before: i64) -> Result<u64, StoreError> {
        let (mut deleted, mut after) = (0, 0_i64);
        loop {
            let row = self.read().row(LOOK, values![after, before, SLICE]).await?;
            let (last, stored): (Option<i64>, Option<i64>) = (row.get(0)?, row.get(1)?);
            let Some(last) = last else { return Ok(deleted) };
            if row.get::<i64>(2)? > 0 {
                deleted += self
                    .write((after, before, last), |db, (after, before, last)| {
                        Box::pin(async move { db.exec(DELETE, values![*after, *before, *last]).await })
                    })
                    .await?;
            }
            if stored.is_none_or(|stored| stored > before) {
                return Ok(deleted);
            }
            after = last;
        }
    }

    /// What [`purge_certificates`](Self::purge_certificates) would delete.
    pub(crate) async fn would_purge_certificates(&self, before: i64) -> Result<u64, StoreError> {
        let count: i64 = self.read().row(COUNT, values![0_i64, before]).await?.get(0)?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Stores a certificate that no challenge gave: a renewal, or one of another authority; with the decisions that
    /// allowed it.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when it is stored already.
    pub async fn insert_certificate(
        &self,
        certificate: NewCertificate,
        decisions: Vec<NewDecision>,
        now: Timestamp,
    ) -> Result<CertificateId, StoreError> {
        self.write((certificate, decisions, now), |db, (certificate, decisions, now)| {
            Box::pin(async move {
                let id = insert(db, certificate, *now).await?;
                record(db, certificate.tenant, None, decisions, *now).await?;
                Ok(id)
            })
        })
        .await
    }

    /// The certificate of a digest, in any tenant.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn certificate(&self, sha256: &Sha256) -> Result<Option<CertificateRecord>, StoreError> {
        let row = certificate::Entity::find()
            .filter(certificate::Column::Sha256.eq(sha256.to_vec()))
            .one(self.read())
            .await?;
        row.map(CertificateRecord::try_from).transpose()
    }

    /// Certificates of a tenant, or of one of its enrollments, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn certificates(
        &self,
        tenant: TenantId,
        enrollment: Option<EnrollmentId>,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<Page<CertificateRecord>, StoreError> {
        let mut query = certificate::Entity::find().filter(certificate::Column::TenantId.eq(tenant.0));
        if let Some(enrollment) = enrollment {
            query = query.filter(certificate::Column::EnrollmentId.eq(enrollment.0));
        }
        if let Some(after) = after {
            query = query.filter(certificate::Column::Id.lt(after.0));
        }
        let rows = query
            .order_by_desc(certificate::Column::Id)
            .limit(u64::try_from(probe(limit)).ok())
            .all(self.read())
            .await?;
        let rows = rows
            .into_iter()
            .map(CertificateRecord::try_from)
            .collect::<Result<_, _>>()?;
        Ok(Page::cut(rows, limit, |record: &CertificateRecord| record.id.0))
    }

    /// Revokes a certificate of a tenant; the first reason stays.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the tenant has no such certificate.
    pub async fn revoke_certificate(
        &self,
        tenant: TenantId,
        sha256: &Sha256,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(
            (tenant, *sha256, reason.to_owned(), now),
            |db, (tenant, sha256, reason, now)| {
                Box::pin(async move {
                    let changed = db
                        .exec(
                            "UPDATE certificates SET revoked_at = COALESCE(revoked_at, $1), \
                         revoke_reason = COALESCE(revoke_reason, $2) WHERE tenant_id = $3 AND sha256 = $4",
                            values![ms(*now), reason.clone(), *tenant, sha256.to_vec()],
                        )
                        .await?;
                    if changed == 0 {
                        Err(StoreError::NotFound("certificate"))
                    } else {
                        Ok(())
                    }
                })
            },
        )
        .await
    }
}

pub(crate) async fn insert(db: &Db, certificate: &NewCertificate, now: Timestamp) -> Result<CertificateId, StoreError> {
    let row = db
        .one(
            "INSERT INTO certificates (tenant_id, sha256, serial_number, subject, der, not_before, not_after, person, \
             attributes, bound_serial, bound_udid, renews_sha256, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING RETURNING id",
            values![
                certificate.tenant,
                certificate.sha256.to_vec(),
                certificate.serial_number.clone(),
                certificate.subject.clone(),
                certificate.der.clone(),
                ms(certificate.not_before),
                ms(certificate.not_after),
                certificate.person.as_ref().map(Json::to_string),
                certificate.attributes.to_string(),
                certificate.bound_serial.clone(),
                certificate.bound_udid.clone(),
                certificate.renews.map(|sha256| sha256.to_vec()),
                ms(now),
            ],
        )
        .await?;
    row.ok_or(StoreError::Exists("certificate"))?.get(0).map(CertificateId)
}

/// Binds a known certificate to an enrollment; one of another authority has no row and needs none.
pub(crate) async fn bind(db: &Db, sha256: &Sha256, enrollment: EnrollmentId) -> Result<(), StoreError> {
    let bound = db
        .exec(
            "UPDATE certificates SET enrollment_id = $1 \
             WHERE sha256 = $2 AND (enrollment_id IS NULL OR enrollment_id = $1)",
            values![enrollment, sha256.to_vec()],
        )
        .await?;
    if bound == 0 {
        let known = db
            .one("SELECT 1 FROM certificates WHERE sha256 = $1", values![sha256.to_vec()])
            .await?;
        if known.is_some() {
            return Err(StoreError::CertificateBound);
        }
    }
    Ok(())
}
