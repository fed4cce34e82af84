//! Commands hold PINs and passwords, and results hold recovery keys: both are sealed, like every other secret.

use uuid::Uuid;

use super::{Delivery, NewCommand, ReportWrite};
use crate::error::StoreError;
use crate::ids::{EnrollmentId, TenantId};
use crate::store::Store;
use crate::vault::Binding;

/// An enrollment has one tenant, so that a result is bound to its tenant through its enrollment.
const OF_THE_ENROLLMENT: TenantId = TenantId(0);

impl Store {
    /// The command as it is stored.
    pub(crate) fn seal_command(&self, mut command: NewCommand) -> Result<NewCommand, StoreError> {
        let row = command.uuid.to_string();
        command.payload = self
            .vault()
            .seal(command_binding(command.tenant, &row), &command.payload)?;
        Ok(command)
    }

    /// A delivery as a device gets it. A command that does not open is delivered empty: whoever makes the message finds
    /// that it does not read and defers it, and the commands behind it go out.
    pub(super) fn open_delivery(&self, tenant: TenantId, mut delivery: Delivery) -> Delivery {
        let row = delivery.uuid.to_string();
        match self.vault().open(command_binding(tenant, &row), &delivery.payload) {
            Ok(opened) => delivery.payload = opened.to_vec(),
            Err(error) => {
                tracing::error!(command.uuid = %row, error = %error, "store.command does not open");
                delivery.payload.clear();
            }
        }
        delivery
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
        kind: "command",
        row,
    }
}

fn result_binding(row: &str) -> Binding<'_> {
    Binding {
        tenant: OF_THE_ENROLLMENT,
        kind: "result",
        row,
    }
}

fn result_row(enrollment: EnrollmentId, uuid: Uuid) -> String {
    format!("{enrollment}:{uuid}")
}
