//! The plan of an enrollment: which declarations it has, from which sources, and the token over all of them.
//!
//! A declaration's content is kept once, under its token, for all plans that have it. A plan that comes out as it was
//! writes nothing.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use russet_protocol::ddm::DeclarationKind;
use serde_json::{Map, Value as Json};

use super::requests::{PlanJob, again, done};
use crate::commands::enqueue;
use crate::db::{Db, Row, Sql, ms, values};
use crate::decisions::{NewDecision, record};
use crate::effects::SealedCommand;
use crate::error::StoreError;
use crate::ids::{EnrollmentId, TenantId};
use crate::store::Store;

/// What the dedupe keys of the commands that announce a plan begin with. The plan's token follows: a device may already be
/// at work on the plan before.
const SYNC_KEY: &str = "russet:DeclarativeManagement:";

/// A declaration in a plan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlanItem {
    /// Where it comes from: `set:NAME` or `planner:NAME`.
    pub source: String,
    /// Its identifier.
    pub identifier: String,
    /// Its kind.
    pub kind: DeclarationKind,
    /// The digest of its content.
    pub server_token: String,
    /// Another source has this identifier: with the same content it does not matter, with another it is a conflict.
    pub kept_out: bool,
}

/// The content of a declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedContent {
    /// The digest of identifier, type and payload.
    pub server_token: String,
    /// The type.
    pub declaration_type: String,
    /// The payload: a JSON object.
    pub payload: String,
}

/// A plan to store.
#[derive(Clone, Debug)]
pub struct NewPlan {
    /// Whose plan.
    pub enrollment: EnrollmentId,
    /// Its tenant.
    pub tenant: TenantId,
    /// The token over all declarations that are not kept out.
    pub token: String,
    /// What each source gives.
    pub items: Vec<PlanItem>,
    /// The contents of the items; those that are stored already may be missing.
    pub contents: Vec<PlannedContent>,
    /// Planners that failed, with what failed. What they planned before stays among the items.
    pub faults: BTreeMap<String, String>,
    /// Tells the device; queued if its declarations change, in place of one that waits. Its dedupe key is set then.
    pub announcement: SealedCommand,
    /// What the planners decided; recorded if the plan or its faults changed, or if they want something done.
    pub decisions: Vec<NewDecision>,
    /// When to try again, if planners failed.
    pub again_at: Option<Timestamp>,
}

/// What storing a plan changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanChange {
    /// Nothing: it is as it was.
    None,
    /// The declarations are the same; from where they come, what is kept out, or what failed is not.
    Detail,
    /// The declarations: the device is told.
    Declarations,
}

/// The token of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanToken {
    /// The token over all declarations.
    pub token: String,
    /// When it changed last.
    pub changed_at: Timestamp,
}

/// A plan as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanView {
    /// Its token.
    pub token: PlanToken,
    /// Planners that failed, with what failed.
    pub faults: BTreeMap<String, String>,
    /// What each source gives, by identifier, what is kept out last.
    pub items: Vec<PlannedItem>,
}

/// A declaration of a stored plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedItem {
    /// What the plan says of it.
    pub item: PlanItem,
    /// Its type.
    pub declaration_type: String,
    /// Its payload as JSON text; only where it was asked for.
    pub payload: Option<String>,
}

/// A declaration as a device gets it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredDeclaration {
    /// Its type.
    pub declaration_type: String,
    /// The digest of its content.
    pub server_token: String,
    /// Its content.
    pub payload: Map<String, Json>,
}

impl Store {
    /// Stores a plan, and settles the request that it was made for. Writes only what changed.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such enrollment, [`StoreError::Removed`] when it is gone.
    pub async fn put_plan(
        &self,
        plan: NewPlan,
        job: Option<PlanJob>,
        now: Timestamp,
    ) -> Result<PlanChange, StoreError> {
        self.write((plan, job, now), |db, (plan, job, now)| {
            Box::pin(async move {
                let change = put(db, plan, *now).await?;
                match (job, plan.again_at) {
                    (Some(job), Some(at)) => again(db, job, at, true).await?,
                    (Some(job), None) => done(db, job).await?,
                    (None, _) => {}
                }
                Ok(change)
            })
        })
        .await
    }

    /// Settles a request whose enrollment is gone.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn plan_done(&self, job: PlanJob) -> Result<(), StoreError> {
        self.write(job, |db, job| Box::pin(done(db, job))).await
    }

    /// The token of an enrollment's plan; `None` when none was made.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn plan_token(&self, enrollment: EnrollmentId) -> Result<Option<PlanToken>, StoreError> {
        let sql = "SELECT token, changed_at FROM declaration_plans WHERE enrollment_id = $1";
        let row = self.read().one(sql, values![enrollment]).await?;
        row.map(|row| {
            Ok(PlanToken {
                token: row.get(0)?,
                changed_at: row.time(1)?,
            })
        })
        .transpose()
    }

    /// The plan of an enrollment, with the payloads if they are wanted; `None` when none was made.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn plan(&self, enrollment: EnrollmentId, payloads: bool) -> Result<Option<PlanView>, StoreError> {
        view(self.read(), enrollment, payloads).await
    }

    /// One declaration of an enrollment's plan.
    ///
    /// # Errors
    /// When the database fails or the content does not read back.
    pub async fn planned_declaration(
        &self,
        enrollment: EnrollmentId,
        kind: DeclarationKind,
        identifier: &str,
    ) -> Result<Option<StoredDeclaration>, StoreError> {
        let sql = "SELECT c.declaration_type, c.server_token, c.payload FROM declaration_plan_items i \
                   JOIN declaration_contents c ON c.tenant_id = i.tenant_id AND c.server_token = i.server_token \
                   WHERE i.enrollment_id = $1 AND i.identifier = $2 AND i.kind = $3 AND i.kept_out = FALSE";
        let row = self
            .read()
            .one(sql, values![enrollment, identifier, kind.as_str()])
            .await?;
        row.map(|row| {
            let Json::Object(payload) = row.json(2)? else {
                return Err(StoreError::Corrupt("declaration"));
            };
            Ok(StoredDeclaration {
                declaration_type: row.get(0)?,
                server_token: row.get(1)?,
                payload,
            })
        })
        .transpose()
    }
}

async fn view(db: &Db, enrollment: EnrollmentId, payloads: bool) -> Result<Option<PlanView>, StoreError> {
    // One statement, so that token and list are of one plan.
    let payload = if payloads { "c.payload" } else { "NULL" };
    let rows = db
        .all(
            format!(
                "SELECT p.token, p.changed_at, p.faults, i.source, i.identifier, i.kind, i.server_token, i.kept_out, \
                 c.declaration_type, {payload} FROM declaration_plans p \
                 LEFT JOIN declaration_plan_items i ON i.enrollment_id = p.enrollment_id \
                 LEFT JOIN declaration_contents c ON c.tenant_id = i.tenant_id AND c.server_token = i.server_token \
                 WHERE p.enrollment_id = $1 ORDER BY i.identifier, i.kept_out, i.source"
            ),
            values![enrollment],
        )
        .await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let token = PlanToken {
        token: first.get(0)?,
        changed_at: first.time(1)?,
    };
    let faults = serde_json::from_value(first.json(2)?).map_err(|_| StoreError::Corrupt("plan"))?;
    let items = rows
        .iter()
        .filter_map(|row| planned(row, payloads).transpose())
        .collect::<Result<_, _>>()?;
    Ok(Some(PlanView { token, faults, items }))
}

fn planned(row: &Row, payloads: bool) -> Result<Option<PlannedItem>, StoreError> {
    let Some(source) = row.get::<Option<String>>(3)? else {
        return Ok(None);
    };
    Ok(Some(PlannedItem {
        item: PlanItem {
            source,
            identifier: row.get(4)?,
            kind: row.word(5, DeclarationKind::parse, "declaration kind")?,
            server_token: row.get(6)?,
            kept_out: row.get(7)?,
        },
        declaration_type: row.get::<Option<String>>(8)?.unwrap_or_default(),
        payload: if payloads { row.get(9)? } else { None },
    }))
}

/// The enrollment, locked: of two plans that are stored at the same time the later one sees the earlier.
const LOCK: Sql = Sql::per(
    "SELECT state FROM enrollments WHERE id = $1 AND tenant_id = $2",
    "SELECT state FROM enrollments WHERE id = $1 AND tenant_id = $2 FOR UPDATE",
);

const CONTENTS: Sql = Sql::per(
    "INSERT INTO declaration_contents (tenant_id, server_token, declaration_type, payload, used_at) \
     SELECT $1, json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), $3 \
     FROM json_each($2) WHERE TRUE ON CONFLICT (tenant_id, server_token) DO UPDATE SET used_at = excluded.used_at \
     WHERE declaration_contents.used_at < $4",
    "INSERT INTO declaration_contents (tenant_id, server_token, declaration_type, payload, used_at) \
     SELECT $1, value ->> 0, value ->> 1, value ->> 2, $3 FROM json_array_elements($2::json) AS list(value) \
     ORDER BY value ->> 0 ON CONFLICT (tenant_id, server_token) DO UPDATE SET used_at = excluded.used_at \
     WHERE declaration_contents.used_at < $4",
);

const ITEMS: Sql = Sql::per(
    "INSERT INTO declaration_plan_items (enrollment_id, tenant_id, source, identifier, kind, server_token, kept_out) \
     SELECT $1, $2, json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), \
     json_extract(value, '$[3]'), json_extract(value, '$[4]') FROM json_each($3) WHERE TRUE \
     ON CONFLICT (enrollment_id, source, identifier) DO UPDATE SET kind = excluded.kind, \
     server_token = excluded.server_token, kept_out = excluded.kept_out",
    "INSERT INTO declaration_plan_items (enrollment_id, tenant_id, source, identifier, kind, server_token, kept_out) \
     SELECT $1, $2, value ->> 0, value ->> 1, value ->> 2, value ->> 3, (value ->> 4)::boolean \
     FROM json_array_elements($3::json) AS list(value) \
     ON CONFLICT (enrollment_id, source, identifier) DO UPDATE SET kind = excluded.kind, \
     server_token = excluded.server_token, kept_out = excluded.kept_out",
);

/// Deletes contents that no plan has and that were last put into one so long ago.
pub(crate) const UNUSED_CONTENTS: &str = "DELETE FROM declaration_contents WHERE (tenant_id, server_token) IN \
     (SELECT c.tenant_id, c.server_token FROM declaration_contents c WHERE c.used_at <= $1 AND NOT EXISTS \
      (SELECT 1 FROM declaration_plan_items i WHERE i.tenant_id = c.tenant_id AND i.server_token = c.server_token) \
      LIMIT 1000) AND used_at <= $1";

/// How long ago a content may have been used last before its use is noted again. Far less than it is kept for.
const NOTE_USE_AFTER: i64 = 6 * 60 * 60 * 1000;

async fn put(db: &Db, plan: &NewPlan, now: Timestamp) -> Result<PlanChange, StoreError> {
    let state = db.one(LOCK, values![plan.enrollment, plan.tenant]).await?;
    let state: String = state.ok_or(StoreError::NotFound("enrollment"))?.get(0)?;
    if state == "removed" {
        return Err(StoreError::Removed);
    }
    let before = view(db, plan.enrollment, false).await?;
    if before.is_none() && plan.items.is_empty() && plan.faults.is_empty() {
        return unchanged(db, plan, now).await;
    }
    let (token, faults, before) = match before {
        Some(before) => (
            Some(before.token.token),
            before.faults,
            before.items.into_iter().map(|planned| planned.item).collect(),
        ),
        None => (None, BTreeMap::new(), BTreeSet::new()),
    };
    let after: BTreeSet<PlanItem> = plan.items.iter().cloned().collect();
    let change = if token
        .as_deref()
        .unwrap_or(russet_protocol::ddm::EMPTY_DECLARATIONS_TOKEN)
        != plan.token
    {
        PlanChange::Declarations
    } else if after != before || faults != plan.faults || token.is_none() {
        PlanChange::Detail
    } else {
        return unchanged(db, plan, now).await;
    };
    write_items(db, plan, &before, &after, now).await?;
    let faults = serde_json::to_string(&plan.faults).map_err(|_| StoreError::Corrupt("JSON value"))?;
    db.exec(
        "INSERT INTO declaration_plans (enrollment_id, tenant_id, token, faults, changed_at) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (enrollment_id) DO UPDATE SET faults = excluded.faults, \
         changed_at = CASE WHEN declaration_plans.token = excluded.token THEN declaration_plans.changed_at \
         ELSE excluded.changed_at END, token = excluded.token",
        values![plan.enrollment, plan.tenant, plan.token.clone(), faults, ms(now)],
    )
    .await?;
    if change == PlanChange::Declarations {
        announce(db, plan, now).await?;
    }
    record(db, plan.tenant, Some(plan.enrollment), &plan.decisions, now).await?;
    Ok(change)
}

/// A plan that is as it was is not worth a record, unless its planners want something done.
async fn unchanged(db: &Db, plan: &NewPlan, now: Timestamp) -> Result<PlanChange, StoreError> {
    let wanting = plan.decisions.iter().filter(|decision| !decision.effects.is_empty());
    let wanting: Vec<_> = wanting.cloned().collect();
    record(db, plan.tenant, Some(plan.enrollment), &wanting, now).await?;
    Ok(PlanChange::None)
}

async fn write_items(
    db: &Db,
    plan: &NewPlan,
    before: &BTreeSet<PlanItem>,
    after: &BTreeSet<PlanItem>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let fresh: Vec<_> = after.difference(before).collect();
    let tokens: BTreeSet<_> = fresh.iter().map(|item| item.server_token.as_str()).collect();
    let contents: Vec<_> = plan
        .contents
        .iter()
        .filter(|content| tokens.contains(content.server_token.as_str()))
        .map(|content| [&content.server_token, &content.declaration_type, &content.payload])
        .collect();
    let json = |rows: serde_json::Result<String>| rows.map_err(|_| StoreError::Corrupt("JSON value"));
    if !contents.is_empty() {
        let rows = json(serde_json::to_string(&contents))?;
        let now = ms(now);
        db.exec(CONTENTS, values![plan.tenant, rows, now, now - NOTE_USE_AFTER])
            .await?;
    }
    if !fresh.is_empty() {
        let rows: Vec<_> = fresh
            .iter()
            .map(|item| {
                (
                    &item.source,
                    &item.identifier,
                    item.kind.as_str(),
                    &item.server_token,
                    item.kept_out,
                )
            })
            .collect();
        let rows = json(serde_json::to_string(&rows))?;
        db.exec(ITEMS, values![plan.enrollment, plan.tenant, rows]).await?;
    }
    let kept: BTreeSet<_> = after.iter().map(|item| (&item.source, &item.identifier)).collect();
    for gone in before
        .iter()
        .filter(|item| !kept.contains(&(&item.source, &item.identifier)))
    {
        let sql = "DELETE FROM declaration_plan_items WHERE enrollment_id = $1 AND source = $2 AND identifier = $3";
        db.exec(
            sql,
            values![plan.enrollment, gone.source.clone(), gone.identifier.clone()],
        )
        .await?;
    }
    Ok(())
}

/// Queues the command that tells the device, in place of one that it has not been sent yet.
async fn announce(db: &Db, plan: &NewPlan, now: Timestamp) -> Result<(), StoreError> {
    db.exec(
        "UPDATE queue_entries SET state = 'cancelled', finished_at = $2 WHERE enrollment_id = $1 \
         AND finished_at IS NULL AND state IN ('pending', 'held', 'not_now') \
         AND dedupe_key LIKE $3",
        values![plan.enrollment, ms(now), format!("{SYNC_KEY}%")],
    )
    .await?;
    let mut command = plan.announcement.0.clone();
    command.dedupe_key = Some(format!("{SYNC_KEY}{}", plan.token));
    enqueue(db, &command, &[plan.enrollment], now).await.map(|_| ())
}

/// Forgets the plans, sets and reports of an enrollment and of the users under it, within a transaction: what it enrolls
/// with next begins anew.
pub(crate) async fn forget(db: &Db, id: EnrollmentId) -> Result<(), StoreError> {
    for table in [
        "declaration_assignments",
        "declaration_plans",
        "declaration_plan_items",
        "declaration_plan_requests",
        "declaration_status",
        "declaration_status_problems",
        "profile_assignments",
    ] {
        db.exec(
            format!(
                "DELETE FROM {table} WHERE enrollment_id IN (SELECT id FROM enrollments WHERE id = $1 OR parent_id = $1)"
            ),
            values![id],
        )
        .await?;
    }
    Ok(())
}
