//! What a call was asked and answered in full: kept sealed, for a shorter time than the record, to be run again.

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::db::values;
use crate::error::StoreError;
use crate::ids::{DecisionId, TenantId};
use crate::store::Store;
use crate::vault::{Binding, Kind};

/// The most bytes of one call that are kept; of a larger one only the digests are.
const MAX_CALL: usize = 1 << 20;

/// A call in full: three JSON texts.
#[derive(Clone, PartialEq, Eq)]
pub struct RecordedCall {
    /// What was asked.
    pub input: String,
    /// What the plugin asked the server, with the answers: an array.
    pub journal: String,
    /// What was answered.
    pub verdict: String,
}

impl std::fmt::Debug for RecordedCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Commands have PINs in them, and journals what directories know of people.
        f.write_str("RecordedCall(..)")
    }
}

/// A call as it is stored. Made by [`Store::sealed_call`].
#[derive(Clone, Debug)]
pub struct SealedCall {
    pub(crate) sealed: Vec<u8>,
    /// What the sealed bytes are bound to: the row has no number yet.
    pub(crate) name: Uuid,
}

impl Store {
    /// Seals a call, to be kept with its decision; `None` when it is too large to be kept.
    ///
    /// # Errors
    /// When the vault fails.
    pub fn sealed_call(&self, tenant: TenantId, call: &RecordedCall) -> Result<Option<SealedCall>, StoreError> {
        if call.input.len() + call.journal.len() + call.verdict.len() > MAX_CALL {
            return Ok(None);
        }
        let name = Uuid::new_v4();
        let parts = (&call.input, &call.journal, &call.verdict);
        let plain = Zeroizing::new(serde_json::to_vec(&parts).map_err(|_| StoreError::Corrupt("recorded call"))?);
        let sealed = self.vault().seal(binding(tenant, &name.to_string()), &plain)?;
        Ok(Some(SealedCall { sealed, name }))
    }

    /// The call of a decision in full; `None` when there is no such decision, or it was not kept or its time is over.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when the stored value was changed or moved.
    pub async fn recorded_call(
        &self,
        tenant: TenantId,
        decision: DecisionId,
    ) -> Result<Option<RecordedCall>, StoreError> {
        let sql = "SELECT sealed, sealed_as FROM decisions WHERE tenant_id = $1 AND id = $2 AND sealed IS NOT NULL";
        let Some(row) = self.read().one(sql, values![tenant, decision]).await? else {
            return Ok(None);
        };
        self.opened_call(tenant, &row.get::<Vec<u8>>(0)?, row.get(1)?).map(Some)
    }

    pub(super) fn opened_call(&self, tenant: TenantId, sealed: &[u8], name: Uuid) -> Result<RecordedCall, StoreError> {
        let plain = self.vault().open(binding(tenant, &name.to_string()), sealed)?;
        let (input, journal, verdict) =
            serde_json::from_slice(&plain).map_err(|_| StoreError::Corrupt("recorded call"))?;
        Ok(RecordedCall {
            input,
            journal,
            verdict,
        })
    }
}

fn binding(tenant: TenantId, row: &str) -> Binding<'_> {
    Binding {
        tenant,
        kind: Kind::RecordedCall,
        row,
    }
}
