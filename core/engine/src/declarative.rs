//! Declarative management as devices speak it: answered from the stored plan, and status reports stored.

use std::collections::BTreeMap;

use jiff::Timestamp;
use russet_protocol::checkin::DeclarativeManagement;
use russet_protocol::ddm::{
    Declaration, DeclarationItems, Endpoint, Manifest, ManifestItem, StatusReport, TokensResponse,
};
use russet_store::{EnrollmentId, PlanToken, StatusWrite, StoreError};

use crate::error::EngineError;
use crate::status::Changes;
use crate::{DeviceAnswer, DeviceError, DeviceIdentity, Engine, Request};

/// The largest status report that is taken.
const STATUS_REPORT_MAX: usize = 4 * 1024 * 1024;

/// How much is kept of a report that does not read.
const EXCERPT: usize = 4096;

impl Engine {
    pub(crate) async fn declarative(
        &self,
        request: &Request,
        identity: &DeviceIdentity,
        message: DeclarativeManagement,
        now: Timestamp,
    ) -> Result<DeviceAnswer, DeviceError> {
        let enrollment = self.enrolled(request, identity, &message.key, now).await?;
        self.inner.store.touch(enrollment, now);
        match Endpoint::parse(&message.endpoint) {
            Endpoint::Tokens => {
                let token = self.plan_of(request, enrollment, now).await?;
                let tokens = token.map_or_else(TokensResponse::empty, |plan| {
                    TokensResponse::new(plan.token, plan.changed_at)
                });
                Ok(DeviceAnswer::Json(tokens.encode()))
            }
            Endpoint::DeclarationItems => {
                self.plan_of(request, enrollment, now).await?;
                Ok(DeviceAnswer::Json(self.items(enrollment).await?.encode()))
            }
            Endpoint::Declaration { kind, identifier } => {
                let store = &self.inner.store;
                let Some(stored) = store.planned_declaration(enrollment, kind, &identifier).await? else {
                    return Ok(DeviceAnswer::NotFound);
                };
                let declaration = Declaration {
                    declaration_type: stored.declaration_type,
                    identifier,
                    server_token: stored.server_token,
                    payload: stored.payload,
                };
                Ok(DeviceAnswer::Json(declaration.encode()))
            }
            Endpoint::Status => {
                let data = message.data.unwrap_or_default();
                self.status_report(request, enrollment, &data, now).await?;
                Ok(DeviceAnswer::Empty)
            }
            Endpoint::Unknown(_) => Ok(DeviceAnswer::NotFound),
        }
    }

    /// The plan of an enrollment; made now if there was none yet.
    async fn plan_of(
        &self,
        request: &Request,
        enrollment: EnrollmentId,
        now: Timestamp,
    ) -> Result<Option<PlanToken>, DeviceError> {
        let store = &self.inner.store;
        if let Some(token) = store.plan_token(enrollment).await? {
            return Ok(Some(token));
        }
        match self.first_plan(request, enrollment, now).await {
            Ok(()) => Ok(store.plan_token(enrollment).await?),
            Err(EngineError::NotFound(_)) => Err(DeviceError::NotEnrolled),
            Err(error) => Err(error.into()),
        }
    }

    async fn items(&self, enrollment: EnrollmentId) -> Result<DeclarationItems, StoreError> {
        let Some(plan) = self.inner.store.plan(enrollment, false).await? else {
            return Ok(DeclarationItems::empty());
        };
        let mut declarations = Manifest::default();
        let had = plan.items.into_iter().map(|planned| planned.item);
        for item in had.filter(|item| !item.kept_out) {
            declarations.of_mut(item.kind).push(ManifestItem {
                identifier: item.identifier,
                server_token: item.server_token,
            });
        }
        Ok(DeclarationItems {
            declarations,
            declarations_token: plan.token.token,
        })
    }

    /// Stores what a report changes. One that does not read is kept too: refusing it would make the device repeat it for
    /// ever.
    async fn status_report(
        &self,
        request: &Request,
        enrollment: EnrollmentId,
        data: &[u8],
        now: Timestamp,
    ) -> Result<(), DeviceError> {
        let store = &self.inner.store;
        let mut write = StatusWrite {
            enrollment,
            tenant: request.tenant.id,
            set: Vec::new(),
            removed: Vec::new(),
            problems: Vec::new(),
            excerpt: None,
            replan: false,
            events: Vec::new(),
        };
        match StatusReport::decode(data, STATUS_REPORT_MAX) {
            Err(error) => {
                tracing::warn!(enrollment.id = %enrollment, error = %error, "a status report does not read");
                write.problems.push(error.to_string());
                write.excerpt = Some(data[..data.len().min(EXCERPT)].to_vec());
            }
            Ok(report) => {
                let known = store.status_items(enrollment).await?;
                let known: BTreeMap<_, _> = known.into_iter().map(|item| (item.item, item.value)).collect();
                let changes = Changes::of(report, &known);
                if changes.is_empty() {
                    return Ok(());
                }
                if let Some(detail) = changes.told(&known) {
                    write.replan = request.hooks.has_planner();
                    write.events.extend(self.event(request, "declaration.status", detail));
                }
                write.set = changes.set;
                write.removed = changes.removed;
                write.problems = changes.problems;
            }
        }
        Ok(store.put_status(write, now).await?)
    }
}
