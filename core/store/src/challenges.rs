//! One-time SCEP challenges.
//!
//! A challenge is spent by the first request that shows it, and remembers that request's public key: a device that
//! lost the answer may ask again with the same key and gets the same certificate.

use jiff::Timestamp;
use serde_json::Value as Json;

use crate::certificates::{NewCertificate, insert};
use crate::db::{Db, Row, ms, values};
use crate::decisions::{NewDecision, record};
use crate::error::StoreError;
use crate::ids::{ChallengeId, EnrollmentId, Sha256, TenantId};
use crate::store::Store;

/// A challenge to hand out.
#[derive(Clone, Debug)]
pub struct NewChallenge {
    /// Digest of the challenge password.
    pub challenge_sha256: Sha256,
    /// The tenant whose identity it gives.
    pub tenant: TenantId,
    /// The person that the identity is for, if one is known.
    pub person: Option<Json>,
    /// What the gate and the directory said about the device; an object.
    pub attributes: Json,
    /// The only serial number that may use it.
    pub bound_serial: Option<String>,
    /// The only UDID that may use it.
    pub bound_udid: Option<String>,
    /// The enrollment whose identity it renews: the certificate is issued as the successor of the one that the enrollment
    /// has then, and the device stays enrolled.
    pub renews: Option<EnrollmentId>,
    /// When it stops being good.
    pub expires_at: Timestamp,
}

/// A challenge as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct ChallengeRecord {
    /// Its row.
    pub id: ChallengeId,
    /// The tenant whose identity it gives.
    pub tenant: TenantId,
    /// The person that the identity is for.
    pub person: Option<Json>,
    /// What the gate and the directory said about the device.
    pub attributes: Json,
    /// The only serial number that may use it.
    pub bound_serial: Option<String>,
    /// The only UDID that may use it.
    pub bound_udid: Option<String>,
    /// The enrollment whose identity it renews.
    pub renews: Option<EnrollmentId>,
    /// When it stops being good.
    pub expires_at: Timestamp,
}

/// What became of a challenge that was shown.
#[derive(Clone, Debug, PartialEq)]
pub enum Consumed {
    /// It was good, and is now spent.
    Consumed(ChallengeRecord),
    /// It was spent by the same public key: the device repeats itself. The digest is that of the certificate it got.
    SameKeyAgain(ChallengeRecord, Option<Sha256>),
    /// Nobody handed this challenge out, or it was purged.
    Unknown,
    /// It was spent by another public key.
    AlreadyUsed,
    /// It was not used in time.
    Expired,
}

/// What became of an issued certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issued {
    /// It is stored and attached to the challenge.
    Stored,
    /// The challenge has a certificate already, of this digest: send that one.
    AlreadyIssued(Sha256),
}

impl Store {
    /// Stores a challenge, with the decisions that allowed it.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the digest is known already.
    pub async fn create_challenge(
        &self,
        challenge: NewChallenge,
        decisions: Vec<NewDecision>,
        now: Timestamp,
    ) -> Result<ChallengeId, StoreError> {
        self.write((challenge, decisions, now), |db, (challenge, decisions, now)| {
            Box::pin(async move {
                let row = db
                    .one(
                        "INSERT INTO scep_challenges (tenant_id, challenge_sha256, person, attributes, bound_serial, \
                         bound_udid, created_at, expires_at, renews_enrollment_id) \
                         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
                         ON CONFLICT DO NOTHING RETURNING id",
                        values![
                            challenge.tenant,
                            challenge.challenge_sha256.to_vec(),
                            challenge.person.as_ref().map(Json::to_string),
                            challenge.attributes.to_string(),
                            challenge.bound_serial.clone(),
                            challenge.bound_udid.clone(),
                            ms(*now),
                            ms(challenge.expires_at),
                            challenge.renews.map(|id| id.0),
                        ],
                    )
                    .await?;
                let id = row.ok_or(StoreError::Exists("challenge"))?.get(0).map(ChallengeId)?;
                record(db, challenge.tenant, None, decisions, *now).await?;
                Ok(id)
            })
        })
        .await
    }

    /// Spends a challenge for the request of a public key. Exactly one of any number of concurrent calls with
    /// different keys gets [`Consumed::Consumed`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn consume_challenge(
        &self,
        tenant: TenantId,
        challenge_sha256: &Sha256,
        public_key_sha256: &Sha256,
        now: Timestamp,
    ) -> Result<Consumed, StoreError> {
        let input = (tenant, *challenge_sha256, *public_key_sha256, now);
        self.write(input, |db, (tenant, challenge, key, now)| {
            Box::pin(consume(db, *tenant, challenge, key, *now))
        })
        .await
    }

    /// Stores the certificate that a challenge gave, in one transaction with the link between them. The certificate
    /// takes person, attributes and bounds from the challenge; if that is for a renewal, it renews the certificate that the
    /// enrollment has now.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the challenge was purged, [`StoreError::Exists`] when the certificate is stored
    /// already, [`StoreError::Removed`] when there is no enrollment to renew any more.
    pub async fn issue(
        &self,
        challenge: ChallengeId,
        certificate: NewCertificate,
        decisions: Vec<NewDecision>,
        now: Timestamp,
    ) -> Result<Issued, StoreError> {
        self.write(
            (challenge, certificate, decisions, now),
            |db, (challenge, certificate, decisions, now)| {
                Box::pin(async move {
                    let attached = db
                        .one(
                            "UPDATE scep_challenges SET certificate_sha256 = $1 \
                         WHERE id = $2 AND certificate_sha256 IS NULL \
                         RETURNING person, attributes, bound_serial, bound_udid, renews_enrollment_id",
                            values![certificate.sha256.to_vec(), *challenge],
                        )
                        .await?;
                    let Some(row) = attached else {
                        let row = db
                            .one(
                                "SELECT certificate_sha256 FROM scep_challenges WHERE id = $1",
                                values![*challenge],
                            )
                            .await?;
                        let row = row.ok_or(StoreError::NotFound("challenge"))?;
                        return Ok(Issued::AlreadyIssued(row.sha256(0)?));
                    };
                    let mut certificate = certificate.clone();
                    certificate.person = row.json_opt(0)?;
                    certificate.attributes = row.json(1)?;
                    certificate.bound_serial = row.get(2)?;
                    certificate.bound_udid = row.get(3)?;
                    if let Some(enrollment) = row.get::<Option<i64>>(4)? {
                        let sql = "SELECT certificate_sha256 FROM enrollments WHERE id = $1 AND tenant_id = $2 \
                                   AND state = 'active' AND certificate_sha256 IS NOT NULL";
                        let current = db.one(sql, values![enrollment, certificate.tenant]).await?;
                        certificate.renews = Some(current.ok_or(StoreError::Removed)?.sha256(0)?);
                    }
                    insert(db, &certificate, *now).await?;
                    record(db, certificate.tenant, None, decisions, *now).await?;
                    Ok(Issued::Stored)
                })
            },
        )
        .await
    }
}

const COLUMNS: &str = "id, tenant_id, person, attributes, bound_serial, bound_udid, expires_at, renews_enrollment_id";

fn challenge(row: &Row) -> Result<ChallengeRecord, StoreError> {
    Ok(ChallengeRecord {
        id: ChallengeId(row.get(0)?),
        tenant: TenantId(row.get(1)?),
        person: row.json_opt(2)?,
        attributes: row.json(3)?,
        bound_serial: row.get(4)?,
        bound_udid: row.get(5)?,
        expires_at: row.time(6)?,
        renews: row.get::<Option<i64>>(7)?.map(EnrollmentId),
    })
}

async fn consume(
    db: &Db,
    tenant: TenantId,
    sha256: &Sha256,
    key: &Sha256,
    now: Timestamp,
) -> Result<Consumed, StoreError> {
    // The condition is checked on the locked row, so that only one of two concurrent requests finds it unspent.
    let spent = db
        .one(
            format!(
                "UPDATE scep_challenges SET consumed_at = $1, public_key_sha256 = $2 \
                 WHERE challenge_sha256 = $3 AND tenant_id = $4 AND consumed_at IS NULL AND expires_at > $1 \
                 RETURNING {COLUMNS}"
            ),
            values![ms(now), key.to_vec(), sha256.to_vec(), tenant],
        )
        .await?;
    if let Some(row) = spent {
        return challenge(&row).map(Consumed::Consumed);
    }
    let found = db
        .one(
            format!(
                "SELECT {COLUMNS}, public_key_sha256, certificate_sha256 FROM scep_challenges \
                 WHERE challenge_sha256 = $1 AND tenant_id = $2"
            ),
            values![sha256.to_vec(), tenant],
        )
        .await?;
    let Some(row) = found else { return Ok(Consumed::Unknown) };
    Ok(match row.sha256_opt(8)? {
        None => Consumed::Expired,
        Some(used) if used == *key => Consumed::SameKeyAgain(challenge(&row)?, row.sha256_opt(9)?),
        Some(_) => Consumed::AlreadyUsed,
    })
}
