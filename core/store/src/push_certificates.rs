//! Push certificates by tenant and topic. The private key is sealed and leaves only through [`Store::push_identity`].

use jiff::Timestamp;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::json;
use zeroize::Zeroizing;

use crate::db::{from_ms, ms, values};
use crate::entity::push_certificate;
use crate::error::StoreError;
use crate::events;
use crate::ids::TenantId;
use crate::store::Store;
use crate::vault::{Binding, Kind};

/// A push certificate without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushCertificate {
    /// The topic: the UID attribute of the subject.
    pub topic: String,
    /// The certificate and its chain, as uploaded (PEM).
    pub certificate: Vec<u8>,
    /// Subject in the form of RFC 4514.
    pub subject: String,
    /// When it expires.
    pub not_after: Timestamp,
    /// When it was uploaded.
    pub updated_at: Timestamp,
}

/// A push certificate with its key, for the push client.
#[derive(Debug)]
pub struct PushIdentity {
    /// The certificate.
    pub certificate: PushCertificate,
    /// The private key, as uploaded (PEM).
    pub private_key: Zeroizing<Vec<u8>>,
}

impl PushCertificate {
    fn read(row: &push_certificate::Model) -> Result<Self, StoreError> {
        Ok(Self {
            topic: row.topic.clone(),
            certificate: row.certificate.clone(),
            subject: row.subject.clone(),
            not_after: from_ms(row.not_after)?,
            updated_at: from_ms(row.updated_at)?,
        })
    }
}

impl Store {
    /// Stores a push certificate and its key, in place of the topic's last one; `updated_at` is the time of the
    /// change. Pushes that waited because none was good are due at once.
    ///
    /// # Errors
    /// When sealing or the database fails.
    pub async fn put_push_certificate(
        &self,
        tenant: TenantId,
        certificate: PushCertificate,
        private_key: &[u8],
    ) -> Result<(), StoreError> {
        let sealed = self.vault().seal(binding(tenant, &certificate.topic), private_key)?;
        self.write((tenant, certificate, sealed), |db, (tenant, certificate, sealed)| {
            Box::pin(async move {
                db.exec(
                    "INSERT INTO push_certificates (tenant_id, topic, certificate, sealed_key, subject, not_after, \
                     updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant_id, topic) DO UPDATE SET \
                     certificate = excluded.certificate, sealed_key = excluded.sealed_key, \
                     subject = excluded.subject, not_after = excluded.not_after, updated_at = excluded.updated_at, \
                     reminded_days = NULL",
                    values![
                        *tenant,
                        certificate.topic.clone(),
                        certificate.certificate.clone(),
                        sealed.clone(),
                        certificate.subject.clone(),
                        ms(certificate.not_after),
                        ms(certificate.updated_at),
                    ],
                )
                .await?;
                let due = db
                    .exec(
                        "UPDATE push_outbox SET due_at = $3, attempts = 0 WHERE tenant_id = $1 AND attempts > 0 \
                         AND lease_until IS NULL AND due_at > $3 \
                         AND enrollment_id IN (SELECT id FROM enrollments WHERE tenant_id = $1 AND push_topic = $2)",
                        values![*tenant, certificate.topic.clone(), ms(certificate.updated_at)],
                    )
                    .await?;
                if due > 0 {
                    db.request_push();
                }
                Ok(())
            })
        })
        .await
    }

    /// The push certificates of a tenant, by topic.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn push_certificates(&self, tenant: TenantId) -> Result<Vec<PushCertificate>, StoreError> {
        let rows = push_certificate::Entity::find()
            .filter(push_certificate::Column::TenantId.eq(tenant.0))
            .order_by_asc(push_certificate::Column::Topic)
            .all(self.read())
            .await?;
        rows.iter().map(PushCertificate::read).collect()
    }

    /// Notes that somebody is reminded of a certificate's end so many days before it, and tells observers. Whether this is
    /// the first time: of several nodes, and of several starts, one reminds.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn remind_of_push_certificate(
        &self,
        tenant: TenantId,
        topic: &str,
        days: i64,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(
            (tenant, topic.to_owned(), days, now),
            |db, (tenant, topic, days, now)| {
                Box::pin(async move {
                    let row = db
                        .one(
                            "UPDATE push_certificates SET reminded_days = $3 WHERE tenant_id = $1 AND topic = $2 \
                         AND (reminded_days IS NULL OR reminded_days > $3) RETURNING not_after",
                            values![*tenant, topic.clone(), *days],
                        )
                        .await?;
                    let Some(row) = row else { return Ok(false) };
                    let not_after = row.time(0)?;
                    let detail = || json!({ "topic": topic, "not_after": not_after, "days": days });
                    events::tell(db, *tenant, None, "push-certificate.ending", detail, *now).await?;
                    Ok(true)
                })
            },
        )
        .await
    }

    /// When the push certificate of a topic was uploaded last: cheap to ask before each batch.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn push_certificate_updated_at(
        &self,
        tenant: TenantId,
        topic: &str,
    ) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT updated_at FROM push_certificates WHERE tenant_id = $1 AND topic = $2";
        self.read()
            .one(sql, values![tenant, topic.to_owned()])
            .await?
            .map(|row| row.time(0))
            .transpose()
    }

    /// The push certificate of a topic, with its key.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when the stored key was changed or moved.
    pub async fn push_identity(&self, tenant: TenantId, topic: &str) -> Result<Option<PushIdentity>, StoreError> {
        let row = push_certificate::Entity::find()
            .filter(push_certificate::Column::TenantId.eq(tenant.0))
            .filter(push_certificate::Column::Topic.eq(topic))
            .one(self.read())
            .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(PushIdentity {
            certificate: PushCertificate::read(&row)?,
            private_key: self.vault().open(binding(tenant, topic), &row.sealed_key)?,
        }))
    }
}

fn binding(tenant: TenantId, topic: &str) -> Binding<'_> {
    Binding {
        tenant,
        kind: Kind::PushKey,
        row: topic,
    }
}
