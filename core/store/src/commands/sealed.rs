//! Commands hold PINs and passwords, and results hold recovery keys: both are sealed, like every other secret.

use uuid::Uuid;

use super::{Delivery, NewCommand, ReportWrite};
use crate::error::StoreError;
use crate::ids::{EnrollmentId, TenantId};
use crate::store::Store;
use crate::vault::{Binding, Kind};

/// An enrollment has one tenant, so that a result is bound to its tenant through its enrollment.
pub(crate) const OF_THE_ENROLLMENT: TenantId = TenantId(0);

impl Store {
    /// The command as it is stored.
    pub(crate) fn seal_command(&self, mut command: NewCommand) -> Result<NewCommand, StoreError> {
        command.payload = self.seal_payload(command.tenant, command.uuid, &command.payload)?;
        Ok(command)
    }

    pub(super) fn seal_payload(&self, tenant: TenantId, uuid: Uuid, payload: &[u8]) -> Result<Vec<u8>, StoreError> {
        let row = uuid.to_string();
        self.vault().seal(command_binding(tenant, &row), payload)
    }

    /// The opened payload; empty if it does not open. It is an error if this process has not taken over its data key yet.
    pub(super) fn open_command(&self, tenant: TenantId, uuid: Uuid, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        let row = uuid.to_string();
        match self.vault().open(command_binding(tenant, &row), sealed) {
            Ok(opened) => Ok(opened.to_vec()),
            Err(StoreError::DataKeyUnknown) => Err(StoreError::DataKeyUnknown),
            Err(error) => {
                tracing::error!(command.uuid = %row, error = %error, "store.command does not open");
                Ok(Vec::new())
            }
        }
    }

    /// A delivery as a device gets it. A command that does not open is delivered empty: whoever makes the message finds
    /// that it does not read and defers it, and the commands behind it go out.
    pub(super) fn open_delivery(&self, tenant: TenantId, mut delivery: Delivery) -> Result<Delivery, StoreError> {
        delivery.payload = self.open_command(tenant, delivery.uuid, &delivery.payload)?;
        Ok(delivery)
    }

    /// The report as it is stored.
    pub(super) fn seal_report(
        &self,
        enrollment: EnrollmentId,
        mut report: ReportWrite,
    ) -> Result<ReportWrite, StoreError> {
        let row = result_row(enrollment, report.uuid);
        report.result = self.vault().seal(result_binding(&row), &report.result)?;
        Ok(report)
    }

    pub(super) fn open_result(
        &self,
        enrollment: EnrollmentId,
        uuid: Uuid,
        sealed: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        let opened = self
            .vault()
            .open(result_binding(&result_row(enrollment, uuid)), sealed)?;
        Ok(opened.to_vec())
    }
}

fn command_binding(tenant: TenantId, row: &str) -> Binding<'_> {
    Binding {
        tenant,
        kind: Kind::Command,
        row,
    }
}

fn result_binding(row: &str) -> Binding<'_> {
    Binding {
        tenant: OF_THE_ENROLLMENT,
        kind: Kind::Result,
        row,
    }
}

pub(crate) fn result_row(enrollment: EnrollmentId, uuid: Uuid) -> String {
    format!("{enrollment}:{uuid}")
}
