//! Secrets that the server keeps for a device: deposited and released as the escrow policies say.

use jiff::Timestamp;
use russet_hooks::{
    EscrowKind, EscrowOperation, EscrowRequest, EscrowVerdict, FailureRule, Outcome, Requester, Secret,
};
use russet_protocol::checkin::bootstrap_token_response;
use russet_store::{EnrollmentId, EnrollmentLookup, EnrollmentRecord};
use zeroize::Zeroizing;

use crate::error::RETRY_AFTER;
use crate::{Administrator, DeviceAnswer, DeviceError, Engine, EngineError, Request, decisions, subject};

impl Engine {
    /// A device hands over a secret, or asks to clear it with an absent or empty one.
    pub(crate) async fn deposit_from_device(
        &self,
        request: &Request,
        enrollment: EnrollmentId,
        kind: EscrowKind,
        secret: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<(), DeviceError> {
        let Some(secret) = secret.filter(|secret| !secret.is_empty()) else {
            self.inner
                .store
                .escrow_clear(enrollment, stored(kind), Vec::new(), now)
                .await?;
            return Ok(());
        };
        let device = self
            .inner
            .store
            .enrollment(request.tenant.id, EnrollmentLookup::Id(enrollment))
            .await?;
        let device = device.ok_or(DeviceError::NotEnrolled)?;
        let outcome = self
            .ask_escrow(request, &device, kind, EscrowOperation::Deposit, Requester::Device, now)
            .await?;
        let mut wrapped = None;
        let (held, refusal) = match outcome.verdict {
            Ok(EscrowVerdict::Allow) => (None, None),
            Ok(EscrowVerdict::AllowAs(secret)) => {
                wrapped = Some(secret);
                (None, None)
            }
            Ok(EscrowVerdict::Deny(message)) => (
                None,
                Some(DeviceError::Denied {
                    reason: "escrow-policy".to_owned(),
                    message,
                }),
            ),
            // It may never be handed over again: kept sealed, and marked for somebody to look at.
            Err(undecided) if undecided.rule == FailureRule::KeepMarked => (Some(undecided.to_string()), None),
            Err(_) => (None, Some(DeviceError::TryLater { after: RETRY_AFTER })),
        };
        let decisions = decisions::rows(&outcome.decisions);
        if let Some(refusal) = refusal {
            self.inner
                .store
                .record_decisions(request.tenant.id, decisions, now)
                .await?;
            return Err(refusal);
        }
        let secret = Zeroizing::new(wrapped.as_ref().map_or(secret, Secret::expose).to_vec());
        self.inner
            .store
            .escrow_put(enrollment, stored(kind), secret, held, decisions, now)
            .await?;
        Ok(())
    }

    /// A device asks for its bootstrap token. A refusal looks like the absence of a token.
    pub(crate) async fn bootstrap_token_for_device(
        &self,
        request: &Request,
        enrollment: EnrollmentId,
        now: Timestamp,
    ) -> Result<DeviceAnswer, DeviceError> {
        let device = self
            .inner
            .store
            .enrollment(request.tenant.id, EnrollmentLookup::Id(enrollment))
            .await?;
        let device = device.ok_or(DeviceError::NotEnrolled)?;
        let kind = EscrowKind::BootstrapToken;
        let outcome = self
            .ask_escrow(request, &device, kind, EscrowOperation::Release, Requester::Device, now)
            .await?;
        let decisions = decisions::rows(&outcome.decisions);
        let token = match outcome.verdict {
            Ok(EscrowVerdict::Allow) => {
                self.inner
                    .store
                    .escrow_get(enrollment, stored(kind), decisions, now)
                    .await?
            }
            refused => {
                self.inner
                    .store
                    .record_decisions(request.tenant.id, decisions, now)
                    .await?;
                if refused.is_err() {
                    return Err(DeviceError::TryLater { after: RETRY_AFTER });
                }
                None
            }
        };
        Ok(DeviceAnswer::Plist(bootstrap_token_response(
            token.as_ref().map(|token| token.as_slice()),
        )))
    }

    /// An administrator asks for a secret.
    ///
    /// # Errors
    ///
    /// Not found, refused by a policy, or undecided.
    pub async fn release_escrow(
        &self,
        request: &Request,
        device: &str,
        kind: EscrowKind,
        administrator: &Administrator,
        now: Timestamp,
    ) -> Result<Zeroizing<Vec<u8>>, EngineError> {
        let device = self.device(&request.tenant, device).await?;
        let requester = Requester::Administrator(administrator.name.clone());
        let outcome = self
            .ask_escrow(request, &device, kind, EscrowOperation::Release, requester, now)
            .await?;
        let decisions = decisions::rows(&outcome.decisions);
        let refusal = match outcome.verdict {
            Ok(EscrowVerdict::Allow) => {
                let secret = self
                    .inner
                    .store
                    .escrow_get(device.id, stored(kind), decisions, now)
                    .await?;
                return secret.ok_or(EngineError::NotFound("escrowed secret"));
            }
            Ok(EscrowVerdict::AllowAs(secret)) => {
                self.inner
                    .store
                    .record_decisions(request.tenant.id, decisions, now)
                    .await?;
                return Ok(Zeroizing::new(secret.expose().to_vec()));
            }
            Ok(EscrowVerdict::Deny(reason)) => EngineError::Refused(reason),
            Err(_) => EngineError::Undecided,
        };
        self.inner
            .store
            .record_decisions(request.tenant.id, decisions, now)
            .await?;
        Err(refusal)
    }

    async fn ask_escrow(
        &self,
        request: &Request,
        device: &EnrollmentRecord,
        kind: EscrowKind,
        operation: EscrowOperation,
        requester: Requester,
        now: Timestamp,
    ) -> Result<Outcome<EscrowVerdict>, russet_store::StoreError> {
        let info = self.inner.store.escrow_info(device.id, stored(kind)).await?;
        let age_seconds =
            info.map(|info| u64::try_from(now.duration_since(info.deposited_at).as_secs()).unwrap_or_default());
        let request_to_policies = EscrowRequest {
            operation,
            kind,
            device: subject::device(device),
            person: subject::person(device.person.as_ref()),
            requester,
            age_seconds,
            secret: None,
        };
        Ok(request.hooks.decide_escrow(&request.scope, request_to_policies).await)
    }
}

/// The kind of secret, as the store calls it.
fn stored(kind: EscrowKind) -> russet_store::EscrowKind {
    match kind {
        EscrowKind::BootstrapToken => russet_store::EscrowKind::BootstrapToken,
        EscrowKind::UnlockToken => russet_store::EscrowKind::UnlockToken,
    }
}
