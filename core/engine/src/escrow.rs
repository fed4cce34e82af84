//! Secrets that the server keeps for a device: deposited, released and removed as the escrow policies say.
//!
//! A policy may put another form in a secret's place (wrapped on a deposit, unwrapped on a release). A deposit that no policy
//! could decide about is kept and held: it is decided before it is handed out, on an administrator's word or when it is asked
//! for.

use jiff::Timestamp;
use russet_hooks::{
    EscrowKind, EscrowOperation, EscrowRequest, EscrowVerdict, FailureRule, Outcome, Requester, Secret,
};
use russet_protocol::checkin::bootstrap_token_response;
use russet_store::{
    Cursor, Decided, EnrollmentId, EnrollmentLookup, EnrollmentRecord, EscrowInfo, HeldDeposit, NewEvent, Page,
};
use serde_json::json;
use zeroize::Zeroizing;

use crate::error::RETRY_AFTER;
use crate::{Administrator, DeviceAnswer, DeviceError, Engine, EngineError, Request, TenantRef, subject};

/// What came of asking for a secret.
enum Released {
    Secret(Zeroizing<Vec<u8>>),
    /// There is none.
    Nothing,
    /// A policy refuses, with its reason.
    Refused(String),
    /// No policy could decide.
    Undecided,
}

impl Released {
    /// For an administrator: the secret, or why there is none; `missing` names what was looked for.
    fn secret_or_missing(self, missing: &'static str) -> Result<Zeroizing<Vec<u8>>, EngineError> {
        match self {
            Self::Secret(secret) => Ok(secret),
            Self::Nothing => Err(EngineError::NotFound(missing)),
            Self::Refused(reason) => Err(EngineError::Refused(reason)),
            Self::Undecided => Err(EngineError::Undecided),
        }
    }
}

/// What the policies are asked about.
struct Asked<'a> {
    device: &'a EnrollmentRecord,
    kind: EscrowKind,
    operation: EscrowOperation,
    requester: Requester,
    info: Option<&'a EscrowInfo>,
    secret: Option<&'a [u8]>,
}

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
        let store = &self.inner.store;
        let lookup = EnrollmentLookup::Id(enrollment);
        let device = store.enrollment(request.tenant.id, lookup).await?;
        let device = device.ok_or(DeviceError::NotEnrolled)?;
        let Some(secret) = secret.filter(|secret| !secret.is_empty()) else {
            return match self.clear(request, &device, kind, Requester::Device, now).await? {
                Released::Refused(message) => Err(refused(message)),
                Released::Undecided => Err(DeviceError::TryLater { after: RETRY_AFTER }),
                Released::Secret(_) | Released::Nothing => Ok(()),
            };
        };
        let info = store.escrow_info(enrollment, stored(kind)).await?;
        let asked = Asked {
            device: &device,
            kind,
            operation: EscrowOperation::Deposit,
            requester: Requester::Device,
            info: info.as_ref(),
            secret: Some(secret),
        };
        let outcome = self.ask_escrow(request, asked, now).await;
        let keep = |secret: &[u8]| Zeroizing::new(secret.to_vec());
        let (kept, held) = match outcome.verdict {
            Ok(EscrowVerdict::Allow) => (Ok(keep(secret)), None),
            Ok(EscrowVerdict::AllowAs(other)) => (Ok(keep(other.expose())), None),
            Ok(EscrowVerdict::Deny(message)) => (Err(refused(message)), None),
            // It may never be handed over again: kept sealed, and marked for somebody to look at.
            Err(undecided) if undecided.rule == FailureRule::KeepMarked => {
                (Ok(keep(secret)), Some(undecided.to_string()))
            }
            Err(_) => (Err(DeviceError::TryLater { after: RETRY_AFTER }), None),
        };
        let decisions = self.decided(request, outcome.decisions, Some(enrollment)).await?;
        let mut decided = Decided {
            decisions,
            events: Vec::new(),
        };
        match kept {
            Err(refusal) => {
                store.escrow_decided(enrollment, decided, now).await?;
                Err(refusal)
            }
            Ok(kept) => {
                decided.events = self.told(request, "escrow.deposited", kind, &Requester::Device, held.is_some());
                store
                    .escrow_put(enrollment, stored(kind), kept, held, decided, now)
                    .await?;
                Ok(())
            }
        }
    }

    /// A device asks for its bootstrap token. A refusal looks like the absence of a token.
    pub(crate) async fn bootstrap_token_for_device(
        &self,
        request: &Request,
        enrollment: EnrollmentId,
        now: Timestamp,
    ) -> Result<DeviceAnswer, DeviceError> {
        let store = &self.inner.store;
        let lookup = EnrollmentLookup::Id(enrollment);
        let device = store.enrollment(request.tenant.id, lookup).await?;
        let device = device.ok_or(DeviceError::NotEnrolled)?;
        let released = self
            .release(request, &device, EscrowKind::BootstrapToken, Requester::Device, now)
            .await?;
        let token = match released {
            Released::Secret(token) => Some(token),
            Released::Nothing | Released::Refused(_) => None,
            Released::Undecided => return Err(DeviceError::TryLater { after: RETRY_AFTER }),
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
        let released = self.release(request, &device, kind, requester, now).await?;
        released.secret_or_missing("escrowed secret")
    }

    /// An administrator removes a secret.
    ///
    /// # Errors
    ///
    /// Not found, refused by a policy, or undecided.
    pub async fn remove_escrow(
        &self,
        request: &Request,
        device: &str,
        kind: EscrowKind,
        administrator: &Administrator,
        now: Timestamp,
    ) -> Result<(), EngineError> {
        let device = self.device(&request.tenant, device).await?;
        let requester = Requester::Administrator(administrator.name.clone());
        let cleared = self.clear(request, &device, kind, requester, now).await?;
        cleared.secret_or_missing("escrowed secret").map(drop)
    }

    /// An administrator has a held deposit decided: the policies are asked about it again, with the administrator as the one
    /// who asks.
    ///
    /// # Errors
    ///
    /// No such deposit, refused by a policy, or undecided again; it stays held then.
    pub async fn accept_escrow(
        &self,
        request: &Request,
        device: &str,
        kind: EscrowKind,
        administrator: &Administrator,
        now: Timestamp,
    ) -> Result<(), EngineError> {
        let device = self.device(&request.tenant, device).await?;
        let found = self.inner.store.escrow_get(device.id, stored(kind)).await?;
        let (secret, info) = found
            .filter(|(_, info)| info.held.is_some())
            .ok_or(EngineError::NotFound("held deposit"))?;
        let requester = Requester::Administrator(administrator.name.clone());
        let decided = self
            .decide_held(request, &device, kind, requester, secret, &info, now)
            .await?;
        decided.secret_or_missing("held deposit").map(drop)
    }

    /// What is kept of a device's secrets; none of them is opened.
    ///
    /// # Errors
    ///
    /// No such device, or a failure of the store.
    pub async fn escrow_of(
        &self,
        tenant: &TenantRef,
        device: &str,
    ) -> Result<Vec<(russet_store::EscrowKind, EscrowInfo)>, EngineError> {
        let device = self.device(tenant, device).await?;
        Ok(self.inner.store.escrow_list(device.id).await?)
    }

    /// The deposits of a tenant that no policy could decide about.
    ///
    /// # Errors
    ///
    /// A failure of the store.
    pub async fn held_escrow(
        &self,
        tenant: &TenantRef,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<Page<HeldDeposit>, EngineError> {
        Ok(self.inner.store.escrow_held(tenant.id, after, limit).await?)
    }

    /// Asks the policies for a secret. Whatever they decide is on record before anything is handed out.
    async fn release(
        &self,
        request: &Request,
        device: &EnrollmentRecord,
        kind: EscrowKind,
        requester: Requester,
        now: Timestamp,
    ) -> Result<Released, EngineError> {
        let store = &self.inner.store;
        let mut found = store.escrow_get(device.id, stored(kind)).await?;
        if let Some((secret, info)) = found.take_if(|(_, info)| info.held.is_some()) {
            match self
                .decide_held(request, device, kind, requester.clone(), secret, &info, now)
                .await?
            {
                Released::Secret(secret) => found = Some((secret, EscrowInfo { held: None, ..info })),
                other => return Ok(other),
            }
        }
        let asked = Asked {
            device,
            kind,
            operation: EscrowOperation::Release,
            requester: requester.clone(),
            info: found.as_ref().map(|(_, info)| info),
            secret: found.as_ref().map(|(secret, _)| secret.as_slice()),
        };
        let outcome = self.ask_escrow(request, asked, now).await;
        let secret = found.map(|(secret, _)| secret);
        let released = match outcome.verdict {
            Ok(EscrowVerdict::Allow) => secret.map_or(Released::Nothing, Released::Secret),
            Ok(EscrowVerdict::AllowAs(other)) => match secret {
                Some(_) => Released::Secret(Zeroizing::new(other.expose().to_vec())),
                None => Released::Nothing,
            },
            Ok(EscrowVerdict::Deny(reason)) => Released::Refused(reason),
            Err(_) => Released::Undecided,
        };
        let mut decided = Decided {
            decisions: self.decided(request, outcome.decisions, Some(device.id)).await?,
            events: Vec::new(),
        };
        if matches!(released, Released::Secret(_)) {
            decided.events = self.told(request, "escrow.released", kind, &requester, false);
        }
        store.escrow_decided(device.id, decided, now).await?;
        Ok(released)
    }

    /// Asks the policies again about a deposit that they could not decide about; the secret as it is kept then.
    #[allow(
        clippy::too_many_arguments,
        reason = "each is another thing, and all of them are needed"
    )]
    async fn decide_held(
        &self,
        request: &Request,
        device: &EnrollmentRecord,
        kind: EscrowKind,
        requester: Requester,
        secret: Zeroizing<Vec<u8>>,
        info: &EscrowInfo,
        now: Timestamp,
    ) -> Result<Released, EngineError> {
        let asked = Asked {
            device,
            kind,
            operation: EscrowOperation::Deposit,
            requester: requester.clone(),
            // What is kept is the deposit itself, not one before it.
            info: None,
            secret: Some(&secret),
        };
        let outcome = self.ask_escrow(request, asked, now).await;
        let replacement = match outcome.verdict {
            Ok(EscrowVerdict::Allow) => Ok(None),
            Ok(EscrowVerdict::AllowAs(other)) => Ok(Some(Zeroizing::new(other.expose().to_vec()))),
            Ok(EscrowVerdict::Deny(reason)) => Err(Released::Refused(reason)),
            Err(_) => Err(Released::Undecided),
        };
        let mut decided = Decided {
            decisions: self.decided(request, outcome.decisions, Some(device.id)).await?,
            events: Vec::new(),
        };
        let store = &self.inner.store;
        match replacement {
            Err(refusal) => {
                store.escrow_decided(device.id, decided, now).await?;
                Ok(refusal)
            }
            Ok(replacement) => {
                decided.events = self.told(request, "escrow.deposited", kind, &requester, false);
                let kept = replacement.clone().unwrap_or(secret);
                let accepted = store
                    .escrow_accept(device.id, stored(kind), info.deposited_at, replacement, decided, now)
                    .await?;
                // Else the device deposited another one meanwhile: whoever asks again gets that.
                Ok(if accepted {
                    Released::Secret(kept)
                } else {
                    Released::Nothing
                })
            }
        }
    }

    /// Removes a secret, if the policies allow it. `Secret` stands for one that was removed.
    async fn clear(
        &self,
        request: &Request,
        device: &EnrollmentRecord,
        kind: EscrowKind,
        requester: Requester,
        now: Timestamp,
    ) -> Result<Released, EngineError> {
        let store = &self.inner.store;
        let Some(info) = store.escrow_info(device.id, stored(kind)).await? else {
            return Ok(Released::Nothing);
        };
        let asked = Asked {
            device,
            kind,
            operation: EscrowOperation::Clear,
            requester,
            info: Some(&info),
            secret: None,
        };
        let outcome = self.ask_escrow(request, asked, now).await;
        let refusal = match outcome.verdict {
            Ok(EscrowVerdict::Allow | EscrowVerdict::AllowAs(_)) => None,
            Ok(EscrowVerdict::Deny(reason)) => Some(Released::Refused(reason)),
            Err(_) => Some(Released::Undecided),
        };
        let decided = Decided {
            decisions: self.decided(request, outcome.decisions, Some(device.id)).await?,
            events: Vec::new(),
        };
        match refusal {
            Some(refusal) => {
                store.escrow_decided(device.id, decided, now).await?;
                Ok(refusal)
            }
            None => {
                store.escrow_clear(device.id, stored(kind), decided, now).await?;
                Ok(Released::Secret(Zeroizing::default()))
            }
        }
    }

    async fn ask_escrow(&self, request: &Request, asked: Asked<'_>, now: Timestamp) -> Outcome<EscrowVerdict> {
        let age = |info: &EscrowInfo| u64::try_from(now.duration_since(info.deposited_at).as_secs());
        let question = EscrowRequest {
            operation: asked.operation,
            kind: asked.kind,
            device: subject::device(asked.device),
            person: subject::person(asked.device.person.as_ref()),
            requester: asked.requester,
            age_seconds: asked.info.map(|info| age(info).unwrap_or_default()),
            secret: asked.secret.map(Secret::new),
        };
        request.hooks.decide_escrow(&request.scope, question).await
    }

    /// What observers are told of a secret: never the secret.
    fn told(
        &self,
        request: &Request,
        event: &'static str,
        kind: EscrowKind,
        requester: &Requester,
        held: bool,
    ) -> Vec<NewEvent> {
        let detail = json!({ "kind": kind, "requester": requester, "held": held });
        self.event(request, event, detail).into_iter().collect()
    }
}

fn refused(message: String) -> DeviceError {
    DeviceError::Denied {
        reason: "escrow-policy".to_owned(),
        message,
    }
}

/// The kind of secret, as the store calls it.
fn stored(kind: EscrowKind) -> russet_store::EscrowKind {
    match kind {
        EscrowKind::BootstrapToken => russet_store::EscrowKind::BootstrapToken,
        EscrowKind::UnlockToken => russet_store::EscrowKind::UnlockToken,
    }
}
