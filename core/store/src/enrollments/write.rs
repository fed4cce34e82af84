//! Authenticate, TokenUpdate, CheckOut: each one transaction.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value as Json, json};

use super::arrivals::{Arrival, is_plain, plain_token};
use super::at_once::{self, Before, enroll_values, insert_enrollment, update_token};
use super::{AuthenticateWrite, TokenTarget, TokenUpdateWrite, TokenUpdated};
use crate::certificates::bind;
use crate::commands::{cancel_open, enqueue};
use crate::db::{Db, ms, values};
use crate::decisions::record;
use crate::declarations::{self, request_first_plan, request_plan};
use crate::error::StoreError;
use crate::ids::{EnrollmentId, TenantId};
use crate::store::Store;
use crate::{events, push};

impl Store {
    /// Stores an accepted Authenticate and binds the certificate and the enrollment to each other.
    ///
    /// A new enrollment of a known device starts clean: queued commands are cancelled; push token, bootstrap and
    /// unlock tokens are cleared; its user channels are removed. A renewal keeps all of that.
    ///
    /// # Errors
    /// [`StoreError::CertificateBound`] when the certificate belongs to another enrollment; for a renewal
    /// [`StoreError::NotFound`] or [`StoreError::Removed`] when there is nothing to renew.
    pub async fn authenticate(&self, write: AuthenticateWrite, now: Timestamp) -> Result<EnrollmentId, StoreError> {
        let write = Arc::new(write);
        if is_plain(&write) && self.signals().wanted(write.tenant, AUTHENTICATED).is_none() {
            let arrived = self.arrive(Arrival::Authenticate(Arc::clone(&write), now)).await?;
            if let Some(arrived) = arrived {
                return Ok(arrived.id);
            }
        }
        self.write((write, now), |db, (write, now)| Box::pin(authenticate(db, write, *now)))
            .await
    }

    /// Stores a TokenUpdate: the enrollment is active, its token is live again. If commands wait, a push is requested.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such enrollment, [`StoreError::Removed`] when it (or its device) was
    /// removed.
    pub async fn token_update(&self, mut write: TokenUpdateWrite, now: Timestamp) -> Result<TokenUpdated, StoreError> {
        for commands in [&mut write.commands_at_first, &mut write.commands] {
            let sealed = commands.drain(..).map(|command| self.seal_command(command));
            *commands = sealed.collect::<Result<_, _>>()?;
        }
        let write = Arc::new(write);
        let told = [ENROLLED, TOKEN_UPDATED];
        if let Some(id) = plain_token(&write)
            && !told.iter().any(|kind| self.signals().wanted_anywhere(kind))
        {
            let arrived = self.arrive(Arrival::Token(id, Arc::clone(&write), now)).await?;
            if let Some(arrived) = arrived {
                return Ok(arrived);
            }
        }
        self.write((write, now), |db, (write, now)| Box::pin(token_update(db, write, *now)))
            .await
    }

    /// Stores a CheckOut, or the removal by an administrator: the enrollment and its user channels are removed, their
    /// queued commands cancelled, their tokens cleared. Recovery keys stay.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such enrollment.
    pub async fn check_out(&self, id: EnrollmentId, now: Timestamp) -> Result<(), StoreError> {
        self.write((id, now), |db, (id, now)| {
            Box::pin(async move {
                clear(db, *id, *now).await?;
                let changed = remove(db, "id = $2", *id, *now).await?;
                if changed == 0 {
                    let known = db.one("SELECT 1 FROM enrollments WHERE id = $1", values![*id]).await?;
                    known.ok_or(StoreError::NotFound("enrollment"))?;
                }
                remove(db, "parent_id = $2", *id, *now).await?;
                if changed > 0 {
                    let sql = "SELECT tenant_id FROM enrollments WHERE id = $1";
                    let tenant = db.row(sql, values![*id]).await?.get(0).map(TenantId)?;
                    events::tell(db, tenant, Some(*id), "enrollment.checked-out", || json!({}), *now).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Keeps the person that an enrollment belongs to, or forgets it. Its declarations are planned anew.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such enrollment.
    pub async fn set_person(&self, id: EnrollmentId, person: Option<Json>, now: Timestamp) -> Result<(), StoreError> {
        self.write((id, person, now), |db, (id, person, now)| {
            Box::pin(async move {
                let sql = "UPDATE enrollments SET person = $1 WHERE id = $2";
                let changed = db.exec(sql, values![person.as_ref().map(Json::to_string), *id]).await?;
                if changed == 0 {
                    return Err(StoreError::NotFound("enrollment"));
                }
                request_plan(db, &[*id], *now).await
            })
        })
        .await
    }

    /// Whether the device waits in Setup Assistant, once the command that lets it go on was acknowledged.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such enrollment.
    pub async fn set_awaiting_configuration(&self, id: EnrollmentId, awaiting: bool) -> Result<(), StoreError> {
        self.write((id, awaiting), |db, (id, awaiting)| {
            Box::pin(async move {
                let sql = "UPDATE enrollments SET awaiting_configuration = $1 WHERE id = $2";
                let changed = db.exec(sql, values![*awaiting, *id]).await?;
                if changed == 0 {
                    Err(StoreError::NotFound("enrollment"))
                } else {
                    Ok(())
                }
            })
        })
        .await
    }
}

/// The events of these messages.
const AUTHENTICATED: &str = "enrollment.authenticated";
const ENROLLED: &str = "enrollment.enrolled";
const TOKEN_UPDATED: &str = "enrollment.token-updated";

async fn authenticate(db: &Db, write: &AuthenticateWrite, now: Timestamp) -> Result<EnrollmentId, StoreError> {
    let told = db.wanted(write.tenant, AUTHENTICATED).is_some();
    if db.is_sqlite()
        && is_plain(write)
        && !told
        && let Some(id) = at_once::enroll(db, write, now).await.map_err(bound_already)?
    {
        return Ok(id);
    }
    let enrolled = if write.renewal {
        renew(db, write).await.map(|id| (id, false))
    } else {
        enroll(db, write, now).await
    };
    let (id, fresh) = enrolled.map_err(bound_already)?;
    bind(db, &write.certificate_sha256, id).await?;
    if write.renewal {
        // What a device says of itself may have changed.
        request_plan(db, &[id], now).await?;
    } else if !fresh {
        clear(db, id, now).await?;
        remove(db, "parent_id = $2", id, now).await?;
    }
    let detail = || json!({ "renewal": write.renewal, "topic": write.topic, "channel": write.channel.as_str() });
    events::tell(db, write.tenant, Some(id), AUTHENTICATED, detail, now).await?;
    record(db, write.tenant, Some(id), &write.decisions, now).await?;
    Ok(id)
}

/// The one index besides the key that can refuse an enrollment is the one of bound certificates.
fn bound_already(error: StoreError) -> StoreError {
    if error.is_duplicate() {
        StoreError::CertificateBound
    } else {
        error
    }
}

/// An enrollment that begins.
const ENROLL: &str = insert_enrollment!();

/// The enrollment, and whether nothing of it was there before.
async fn enroll(db: &Db, write: &AuthenticateWrite, now: Timestamp) -> Result<(EnrollmentId, bool), StoreError> {
    let values = enroll_values(write, now);
    // Most devices were never here, and have nothing to be cleared.
    let fresh = db
        .one(format!("{ENROLL} DO NOTHING RETURNING id"), values.clone())
        .await?;
    if let Some(row) = fresh {
        return Ok((EnrollmentId(row.get(0)?), true));
    }
    let again = db
        .row(
            format!(
                "{ENROLL} DO UPDATE SET \
                 channel = excluded.channel, parent_id = NULL, person = excluded.person, \
                 attributes = excluded.attributes, certificate_sha256 = excluded.certificate_sha256, \
                 push_topic = excluded.push_topic, last_seen_at = excluded.last_seen_at, state = 'pending', \
                 awaiting_configuration = FALSE, udid = excluded.udid, serial_number = excluded.serial_number, \
                 model = excluded.model, model_name = excluded.model_name, product_name = excluded.product_name, \
                 os_version = excluded.os_version, build_version = excluded.build_version, \
                 device_name = excluded.device_name, imei = excluded.imei, meid = excluded.meid, push_token = NULL, \
                 push_magic = NULL, token_parked_at = NULL, token_updated_at = NULL, enrolled_at = NULL, \
                 removed_at = NULL RETURNING id"
            ),
            values,
        )
        .await?;
    Ok((EnrollmentId(again.get(0)?), false))
}

async fn renew(db: &Db, write: &AuthenticateWrite) -> Result<EnrollmentId, StoreError> {
    let mut values = values![
        write.tenant,
        write.key.clone(),
        write.person.as_ref().map(Json::to_string),
        write.attributes.to_string(),
        write.certificate_sha256.to_vec(),
    ];
    values.extend(write.facts.values());
    let renewed = db
        .one(
            "UPDATE enrollments SET person = COALESCE($3, person), attributes = $4, certificate_sha256 = $5, \
             udid = COALESCE($6, udid), serial_number = COALESCE($7, serial_number), model = COALESCE($8, model), \
             model_name = COALESCE($9, model_name), product_name = COALESCE($10, product_name), \
             os_version = COALESCE($11, os_version), build_version = COALESCE($12, build_version), \
             device_name = COALESCE($13, device_name), imei = COALESCE($14, imei), meid = COALESCE($15, meid) \
             WHERE tenant_id = $1 AND enrollment_key = $2 AND state <> 'removed' RETURNING id",
            values,
        )
        .await?;
    if let Some(row) = renewed {
        return row.get(0).map(EnrollmentId);
    }
    let sql = "SELECT 1 FROM enrollments WHERE tenant_id = $1 AND enrollment_key = $2";
    let known = db.one(sql, values![write.tenant, write.key.clone()]).await?;
    Err(if known.is_some() {
        StoreError::Removed
    } else {
        StoreError::NotFound("enrollment")
    })
}

async fn token_update(db: &Db, write: &TokenUpdateWrite, now: Timestamp) -> Result<TokenUpdated, StoreError> {
    let id = match &write.target {
        TokenTarget::Enrollment(id) => *id,
        TokenTarget::User {
            parent,
            key,
            channel,
            user,
        } => {
            let (tenant, _) = at_once::lock(db, *parent).await?;
            // A user who was removed with the device's last enrollment, and is back, enrolls anew.
            db.row(
                "INSERT INTO enrollments (tenant_id, enrollment_key, channel, parent_id, user_id, user_short_name, \
                 user_long_name, person, attributes, created_at, state, awaiting_configuration) \
                 VALUES ($1, $2, $8, $3, $4, $5, $6, NULL, '{}', $7, 'pending', FALSE) \
                 ON CONFLICT (tenant_id, enrollment_key) DO UPDATE SET \
                 parent_id = excluded.parent_id, \
                 user_id = COALESCE(excluded.user_id, enrollments.user_id), \
                 user_short_name = COALESCE(excluded.user_short_name, enrollments.user_short_name), \
                 user_long_name = COALESCE(excluded.user_long_name, enrollments.user_long_name), \
                 enrolled_at = CASE WHEN enrollments.state = 'removed' THEN NULL ELSE enrollments.enrolled_at END, \
                 state = CASE WHEN enrollments.state = 'removed' THEN 'pending' ELSE enrollments.state END, \
                 removed_at = NULL \
                 RETURNING id",
                values![
                    tenant,
                    key.clone(),
                    *parent,
                    user.user_id.clone(),
                    user.short_name.clone(),
                    user.long_name.clone(),
                    ms(now),
                    channel.as_str(),
                ],
            )
            .await?
            .get(0)
            .map(EnrollmentId)?
        }
    };
    // A user's channel goes by its device's.
    let certificate = match write.target {
        TokenTarget::Enrollment(_) => write.certificate_sha256,
        TokenTarget::User { .. } => None,
    };
    let Before {
        tenant,
        first,
        waits,
        plans,
    } = update_token(db, id, write, certificate, now).await?;
    if first && plans {
        request_first_plan(db, id, now).await?;
    }
    let detail = || json!({ "topic": write.topic, "awaiting_configuration": write.awaiting_configuration });
    if first {
        events::tell(db, tenant, Some(id), ENROLLED, detail, now).await?;
    }
    events::tell(db, tenant, Some(id), TOKEN_UPDATED, detail, now).await?;
    let greeting = write.commands_at_first.iter().filter(|_| first);
    for command in greeting.chain(&write.commands) {
        enqueue(db, command, &[id], now).await?;
    }
    // What was queued while the token was missing or parked had nobody to wake.
    if waits {
        push::request(db, &[id], now).await?;
    }
    Ok(TokenUpdated { id, first })
}

/// Takes away what an enrollment, and the user channels under it, may not carry over into the next.
async fn clear(db: &Db, id: EnrollmentId, now: Timestamp) -> Result<(), StoreError> {
    cancel_open(db, id, now).await?;
    declarations::forget(db, id).await?;
    db.exec(
        "DELETE FROM push_outbox WHERE enrollment_id IN (SELECT id FROM enrollments WHERE id = $1 OR parent_id = $1)",
        values![id],
    )
    .await?;
    db.exec(
        "DELETE FROM escrow WHERE kind IN ('bootstrap-token', 'unlock-token') \
         AND enrollment_id IN (SELECT id FROM enrollments WHERE id = $1 OR parent_id = $1)",
        values![id],
    )
    .await?;
    Ok(())
}

async fn remove(db: &Db, which: &'static str, id: EnrollmentId, now: Timestamp) -> Result<u64, StoreError> {
    db.exec(
        format!(
            "UPDATE enrollments SET state = 'removed', removed_at = $1, push_token = NULL, push_magic = NULL, \
             token_parked_at = NULL, awaiting_configuration = FALSE WHERE {which} AND state <> 'removed'"
        ),
        values![ms(now), id],
    )
    .await
}
