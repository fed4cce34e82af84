//! The first visit of an imported device: the certificate that it comes with is bound to its enrollment, for good.

use russet_protocol::EnrollmentKey;
use russet_store::{Adopted, StoreError};

use crate::error::IdentityError;
use crate::scep::unbound;
use crate::{DeviceError, DeviceIdentity, Engine, Request};

impl Engine {
    /// Binds a certificate of another server, which is not stored here, to the imported enrollment that the message names;
    /// whether it did. Only a certificate of an authority that this tenant trusts is bound, to an enrollment that has none
    /// yet or that it was named for.
    pub(crate) async fn adopt(
        &self,
        request: &Request,
        identity: &DeviceIdentity,
        key: &EnrollmentKey,
    ) -> Result<bool, DeviceError> {
        let Some(foreign) = identity
            .foreign
            .as_ref()
            .filter(|foreign| foreign.is_for(request.tenant.id))
        else {
            return Ok(false);
        };
        let certificate = &identity.certificate;
        let new = unbound(certificate, request.tenant.id);
        // A user speaks with the certificate of the device.
        let device = key.parent();
        let device = device.as_ref().unwrap_or(key).as_str();
        match self.inner.store.adopt(device, new, foreign.verified_at).await {
            Ok(Adopted::Bound(_)) => {
                tracing::info!(
                    enrollment.key = device,
                    certificate.sha256 = %hex::encode(identity.sha256()),
                    "an imported device has come, and is bound to its certificate"
                );
                Ok(true)
            }
            Ok(Adopted::NotImported) => Ok(false),
            Ok(Adopted::HasAnother) | Err(StoreError::CertificateBound) => Err(IdentityError::OtherEnrollment.into()),
            Err(error) => Err(error.into()),
        }
    }
}
