//! Who enrolls: all that is known of a certificate, and the enrollment of a key. Asked along with the questions of the devices
//! that are enrolled: see [`crate::commands::Callers`].

use jiff::Timestamp;
use serde_json::Value as Json;

use russet_protocol::Channel;

use super::EnrollmentState;
use crate::commands::{Question, REST, certificate_of, enrollment_of};
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
        let question = Question::of_enrolling(*certificate_sha256, tenant, key.to_owned());
        let row = self.callers().ask(question).await?;
        let certificate = match certificate_of(&row)? {
            None => None,
            Some(known) => Some(ResolvedCertificate {
                tenant: known.tenant,
                enrollment: known.enrollment,
                revoked_at: known.revoked_at,
                not_after: row.time(REST)?,
                person: row.json_opt(REST + 1)?,
                attributes: row.json(REST + 2)?,
                bound_serial: row.get(REST + 3)?,
                bound_udid: row.get(REST + 4)?,
                renews: row.sha256_opt(REST + 5)?,
            }),
        };
        Ok(Resolved {
            certificate,
            enrollment: enrollment_of(&row, certificate_sha256)?,
        })
    }
}
