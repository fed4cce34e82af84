//! The identity query of every request: one statement, on a reader.

use jiff::Timestamp;
use serde_json::Value as Json;

use russet_protocol::Channel;

use super::EnrollmentState;
use crate::db::values;
use crate::error::StoreError;
use crate::ids::{EnrollmentId, Sha256, TenantId};
use crate::store::Store;

/// What is known of a request's certificate and of the enrollment that it speaks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The certificate's record; `None` when this server never stored it.
    pub certificate: Option<ResolvedCertificate>,
    /// The enrollment of the key in the tenant.
    pub enrollment: Option<ResolvedEnrollment>,
}

/// A certificate, as far as a request needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedCertificate {
    /// The tenant that it identifies a device to.
    pub tenant: TenantId,
    /// The enrollment that it was bound to at Authenticate.
    pub enrollment: Option<EnrollmentId>,
    /// Since when it is refused.
    pub revoked_at: Option<Timestamp>,
    /// End of its validity.
    pub not_after: Timestamp,
    /// The person that it was issued for.
    pub person: Option<Json>,
    /// What the gate and the directory said when it was issued.
    pub attributes: Json,
    /// The only serial number that may enroll with it.
    pub bound_serial: Option<String>,
    /// The only UDID that may enroll with it.
    pub bound_udid: Option<String>,
    /// The certificate that it renews.
    pub renews: Option<Sha256>,
}

/// An enrollment, as far as a request needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedEnrollment {
    /// Its row.
    pub id: EnrollmentId,
    /// The kind of channel.
    pub channel: Channel,
    /// How far it is.
    pub state: EnrollmentState,
    /// The device's enrollment, of a user channel.
    pub parent: Option<EnrollmentId>,
    /// The certificate that it (or its device, for a user channel) is bound to.
    pub certificate_sha256: Option<Sha256>,
    /// Whether that is the certificate of the request.
    pub certificate_matches: bool,
    /// Whether the device waits in Setup Assistant.
    pub awaiting_configuration: bool,
}

impl Store {
    /// What a request's certificate and key stand for. A certificate of another tenant is returned as it is: compare
    /// [`ResolvedCertificate::tenant`].
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn resolve(
        &self,
        certificate_sha256: &Sha256,
        tenant: TenantId,
        key: &str,
    ) -> Result<Resolved, StoreError> {
        let row = self
            .read()
            .row(
                "SELECT c.tenant_id, c.enrollment_id, c.revoked_at, c.not_after, c.person, c.attributes, \
                 c.bound_serial, c.bound_udid, c.renews_sha256, \
                 e.id, e.channel, e.state, e.parent_id, COALESCE(p.certificate_sha256, e.certificate_sha256), \
                 e.awaiting_configuration \
                 FROM (SELECT 1 AS one) AS base \
                 LEFT JOIN certificates c ON c.sha256 = $1 \
                 LEFT JOIN enrollments e ON e.tenant_id = $2 AND e.enrollment_key = $3 \
                 LEFT JOIN enrollments p ON p.id = e.parent_id",
                values![certificate_sha256.to_vec(), tenant, key.to_owned()],
            )
            .await?;
        let certificate = match row.get::<Option<i64>>(0)? {
            None => None,
            Some(tenant) => Some(ResolvedCertificate {
                tenant: TenantId(tenant),
                enrollment: row.get::<Option<i64>>(1)?.map(EnrollmentId),
                revoked_at: row.time_opt(2)?,
                not_after: row.time(3)?,
                person: row.json_opt(4)?,
                attributes: row.json(5)?,
                bound_serial: row.get(6)?,
                bound_udid: row.get(7)?,
                renews: row.sha256_opt(8)?,
            }),
        };
        let enrollment = match row.get::<Option<i64>>(9)? {
            None => None,
            Some(id) => {
                let bound = row.sha256_opt(13)?;
                Some(ResolvedEnrollment {
                    id: EnrollmentId(id),
                    channel: row.word(10, Channel::parse, "channel")?,
                    state: row.word(11, EnrollmentState::from_word, "enrollment state")?,
                    parent: row.get::<Option<i64>>(12)?.map(EnrollmentId),
                    certificate_sha256: bound,
                    certificate_matches: bound.as_ref() == Some(certificate_sha256),
                    awaiting_configuration: row.get(14)?,
                })
            }
        };
        Ok(Resolved {
            certificate,
            enrollment,
        })
    }
}
