//! Commands that a policy holds: another administrator than the one who handed them in lets them go, or takes them back.

use jiff::Timestamp;
use russet_hooks::{CommandStage, Requester};
use russet_protocol::{Limits, codec};
use russet_store::{
    Approval, CommandCounts, CommandOrigin, CommandRecord, EnrollmentId, EntryState, StoreError, TenantId,
};
use uuid::Uuid;

use super::{PolicyAsk, PolicyVerdict};
use crate::{Administrator, Engine, EngineError, Request, TenantRef};

impl Engine {
    /// Lets a held command go, unless the policies, which are asked again and told who approves, still object; how many
    /// devices it was released for.
    ///
    /// # Errors
    ///
    /// [`EngineError::NotFound`]; [`EngineError::Conflict`] if it does not wait for an approval, or is held again;
    /// [`EngineError::Refused`] if the same token handed it in; [`EngineError::Denied`] if a policy now denies it, which
    /// takes it back for good; [`EngineError::Undecided`] if a policy failed, and the command still waits.
    pub async fn approve_command(
        &self,
        request: &Request,
        uuid: Uuid,
        by: &Administrator,
        now: Timestamp,
    ) -> Result<u64, EngineError> {
        let (command, counts) = self.held(&request.tenant, uuid).await?;
        if command.creator_token == Some(by.token) {
            return Err(EngineError::Refused(
                "another administrator has to approve: this token handed the command in".to_owned(),
            ));
        }
        let store = &self.inner.store;
        let tenant = request.tenant.id;
        if !request.hooks.has_command_policy() {
            let released = store.approve(tenant, uuid, &by.name, None, Vec::new(), now).await;
            return released.map_err(too_late);
        }
        let payload = store.command_payload(tenant, uuid).await?.unwrap_or_default();
        let dictionary = codec::decode(&payload, &Limits::default())
            .map_err(|_| EngineError::Conflict("the stored command does not read; reject it".to_owned()))?;
        let waiting = counts.get(&EntryState::Held).copied().unwrap_or(0);
        let one = self.only_target(tenant, uuid, &counts).await?;
        let device = match one {
            Some(id) => self.device_and_person(request, id).await?,
            None => None,
        };
        let ask = PolicyAsk {
            stage: CommandStage::Enqueue,
            uuid,
            request_type: &command.request_type,
            command: &dictionary,
            requester: requester(command.origin, command.created_by.clone()),
            approved_by: Some(by.name.clone()),
            targets: u32::try_from(waiting).unwrap_or(u32::MAX),
            device,
        };
        let (verdict, decisions) = self.ask_policies(request, ask).await;
        let decisions = self.decided(request, decisions, one).await?;
        let error = match verdict {
            PolicyVerdict::Unchanged => {
                let released = store.approve(tenant, uuid, &by.name, None, decisions, now).await;
                return released.map_err(too_late);
            }
            PolicyVerdict::Replaced(command) => {
                let payload = Some(codec::encode(&command));
                let released = store.approve(tenant, uuid, &by.name, payload, decisions, now).await;
                return released.map_err(too_late);
            }
            PolicyVerdict::Denied { reason, message } => {
                let taken_back = store
                    .reject(tenant, uuid, "a policy", Some(message.clone()), decisions, now)
                    .await;
                taken_back.map_err(too_late)?;
                return Err(EngineError::Denied { reason, message });
            }
            PolicyVerdict::Held(hold) => EngineError::Conflict(format!("the command is still held: {}", hold.message)),
            PolicyVerdict::Undecided(_) => EngineError::Undecided,
        };
        store.record_decisions(tenant, decisions, now).await?;
        Err(error)
    }

    /// Takes a held command back for good; how many devices it waited for. Whoever handed it in may do that too.
    ///
    /// # Errors
    ///
    /// [`EngineError::NotFound`], or [`EngineError::Conflict`] if it does not wait for an approval.
    pub async fn reject_command(
        &self,
        tenant: &TenantRef,
        uuid: Uuid,
        by: &Administrator,
        reason: Option<String>,
        now: Timestamp,
    ) -> Result<u64, EngineError> {
        self.held(tenant, uuid).await?;
        let rejected = self
            .inner
            .store
            .reject(tenant.id, uuid, &by.name, reason, Vec::new(), now)
            .await;
        rejected.map_err(too_late)
    }

    /// The enrollment that a command is for, if it is for one: the policies were told of it when the command was handed in,
    /// and have to be told again, or rules about devices would judge the approval otherwise.
    async fn only_target(
        &self,
        tenant: TenantId,
        uuid: Uuid,
        counts: &CommandCounts,
    ) -> Result<Option<EnrollmentId>, StoreError> {
        if counts.values().sum::<u64>() != 1 {
            return Ok(None);
        }
        let entries = self.inner.store.command_entries(tenant, uuid, None, 1).await?;
        Ok(entries.items.first().map(|entry| entry.enrollment))
    }

    async fn held(&self, tenant: &TenantRef, uuid: Uuid) -> Result<(CommandRecord, CommandCounts), EngineError> {
        let found = self.inner.store.command(tenant.id, uuid).await?;
        let (command, counts) = found.ok_or(EngineError::NotFound("command"))?;
        match command.approval {
            Some(Approval::Held) => Ok((command, counts)),
            Some(Approval::Approved) => Err(EngineError::Conflict("the command was approved already".to_owned())),
            Some(Approval::Rejected) => Err(EngineError::Conflict("the command was rejected already".to_owned())),
            None => Err(EngineError::Conflict(
                "the command does not wait for an approval".to_owned(),
            )),
        }
    }
}

/// Of two decisions at once, one comes too late.
fn too_late(error: StoreError) -> EngineError {
    match error {
        StoreError::NotFound(_) => {
            EngineError::Conflict("somebody else decided about the command in the meantime".to_owned())
        }
        other => other.into(),
    }
}

/// Who handed a stored command in, as policies are told.
pub(crate) fn requester(origin: CommandOrigin, created_by: String) -> Requester {
    match origin {
        CommandOrigin::Administrator => Requester::Administrator(created_by),
        CommandOrigin::Plugin => Requester::Plugin(created_by),
        CommandOrigin::Server => Requester::Server,
    }
}
