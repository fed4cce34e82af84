//! Binding an imported enrollment to the certificate that its device comes with.

use jiff::Timestamp;

use super::{Found, bound};
use crate::certificates::{NewCertificate, bind, insert};
use crate::db::values;
use crate::enrollments::EnrollmentState;
use crate::error::StoreError;
use crate::ids::EnrollmentId;
use crate::store::Store;

/// What became of a certificate that an imported device came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adopted {
    /// It speaks for this enrollment from now on, and no other certificate of another server does.
    Bound(EnrollmentId),
    /// No device of this key was imported, or it was removed.
    NotImported,
    /// The enrollment has another certificate.
    HasAnother,
}

impl Store {
    /// Stores the certificate of another server that an imported device came with, and binds the device's enrollment to it:
    /// if it has none yet, or this one was named when it was imported. The caller has verified the certificate.
    ///
    /// # Errors
    /// [`StoreError::CertificateBound`] when the certificate is another enrollment's.
    pub async fn adopt(&self, key: &str, certificate: NewCertificate, now: Timestamp) -> Result<Adopted, StoreError> {
        let adopted = self.write((key.to_owned(), certificate, now), |db, (key, certificate, now)| {
            Box::pin(async move {
                let found = Found::lock(db, certificate.tenant, key).await?;
                let found = found.filter(|found| found.imported && found.state != EnrollmentState::Removed);
                let Some(found) = found else {
                    return Ok(Adopted::NotImported);
                };
                if found.certificate.is_some_and(|named| named != certificate.sha256) {
                    return Ok(Adopted::HasAnother);
                }
                match insert(db, certificate, *now).await {
                    // Two requests of one device at the same time: the one that came first has stored it.
                    Ok(_) | Err(StoreError::Exists(_)) => {}
                    Err(error) => return Err(error),
                }
                bind(db, &certificate.sha256, found.id).await?;
                let sql = "UPDATE enrollments SET certificate_sha256 = $2 WHERE id = $1";
                db.exec(sql, values![found.id, certificate.sha256.to_vec()]).await?;
                Ok(Adopted::Bound(found.id))
            })
        });
        adopted.await.map_err(bound)
    }
}
