//! Enrollments of another server, taken over: what its devices last said is stored as if they had said it here, and each
//! is bound to the identity certificate that it goes on with.
//!
//! A message of another server says nothing of when it was sent, so what a device says here itself always wins: an import
//! never takes the place of a token that came from the device, and changes nothing else of a device that has been here.

mod adopt;
mod authorities;

use jiff::Timestamp;
use russet_protocol::Channel;
use serde_json::json;

use crate::db::{Db, Row, Sql, ms, values};
use crate::declarations::request_plan;
use crate::enrollments::{DeviceFacts, EnrollmentState, UserFacts};
use crate::error::StoreError;
use crate::ids::{EnrollmentId, Sha256, TenantId};
use crate::store::Store;
use crate::{events, push};

pub use adopt::Adopted;
pub use authorities::{IdentityAuthority, NewIdentityAuthority};

macro_rules! find {
    ($more:literal) => {
        concat!(
            "SELECT e.id, e.state, e.imported_at IS NOT NULL, \
             EXISTS (SELECT 1 FROM certificates c WHERE c.enrollment_id = e.id), e.certificate_sha256, \
             e.token_updated_at IS NOT NULL \
             FROM enrollments e WHERE e.tenant_id = $1 AND e.enrollment_key = $2",
            $more
        )
    };
}

/// A device of another server, as its Authenticate has it.
#[derive(Clone, Debug)]
pub struct ImportedDevice {
    /// The tenant that takes it over.
    pub tenant: TenantId,
    /// The enrollment's identity, normalised.
    pub key: String,
    /// The kind of channel; never a user's.
    pub channel: Channel,
    /// What the device said about itself.
    pub facts: DeviceFacts,
    /// The push topic that it listens to.
    pub topic: String,
    /// Digest of the only certificate that may speak for it. `None`: the first good one that its device comes with.
    pub certificate_sha256: Option<Sha256>,
    /// Whether observers are told as of an enrollment.
    pub tell: bool,
}

/// How a device or user of another server can be reached, as its TokenUpdate has it.
#[derive(Clone)]
pub struct ImportedToken {
    /// The tenant that takes it over.
    pub tenant: TenantId,
    /// The enrollment's identity, normalised.
    pub key: String,
    /// The kind of channel.
    pub channel: Channel,
    /// The key of the device that a user is on; `None` for a device.
    pub parent: Option<String>,
    /// Who the user is, of a user channel.
    pub user: UserFacts,
    /// `Topic`.
    pub topic: String,
    /// `Token`.
    pub token: Vec<u8>,
    /// `PushMagic`.
    pub magic: String,
    /// Whether observers are told as of an enrollment.
    pub tell: bool,
}

impl std::fmt::Debug for ImportedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Token and magic are secrets.
        f.debug_struct("ImportedToken")
            .field("key", &self.key)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

/// What an import did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imported {
    /// The enrollment is new here.
    Created,
    /// It was here from an import before, and has changed.
    Updated,
    /// It was here, just so.
    Unchanged,
    /// Nothing was changed: the device has been here itself.
    HasComeItself,
    /// Nothing was changed: the enrollment was removed here.
    Removed,
}

/// How far an import is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportStatus {
    /// How many devices were imported and not removed since.
    pub devices: u64,
    /// How many of them have come here themselves.
    pub arrived: u64,
    /// How many have no push token, so that nobody can wake them.
    pub without_token: u64,
    /// Some of those that have not come: enrollment key and serial number.
    pub waiting: Vec<(String, Option<String>)>,
}

/// The most devices that are named as waiting.
const WAITING: i64 = 100;

impl Store {
    /// Takes a device over. It can be reached when its token was imported too.
    ///
    /// # Errors
    /// [`StoreError::CertificateBound`] when the certificate is another enrollment's.
    pub async fn import_device(
        &self,
        device: ImportedDevice,
        now: Timestamp,
    ) -> Result<(EnrollmentId, Imported), StoreError> {
        self.write((device, now), |db, (device, now)| {
            Box::pin(import_device(db, device, *now))
        })
        .await
        .map_err(bound)
    }

    /// Takes over how a device or user is reached. A user that is not known is made.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the device is not known.
    pub async fn import_token(
        &self,
        token: ImportedToken,
        now: Timestamp,
    ) -> Result<(EnrollmentId, Imported), StoreError> {
        self.write((token, now), |db, (token, now)| Box::pin(import_token(db, token, *now)))
            .await
    }

    /// Whether an imported enrollment's device has been here itself, or it was no imported one at all; `None` when it is
    /// not known or removed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn has_come_itself(
        &self,
        tenant: TenantId,
        key: &str,
    ) -> Result<Option<(EnrollmentId, bool)>, StoreError> {
        let sql = find!(" AND e.state <> 'removed'");
        let row = self.read().one(sql, values![tenant, key]).await?;
        row.map(|row| Found::of(&row))
            .transpose()
            .map(|found| found.map(|found| (found.id, found.is_fixed())))
    }

    /// How far a tenant's imports are.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn import_status(&self, tenant: TenantId) -> Result<ImportStatus, StoreError> {
        const OF: &str = "FROM enrollments e WHERE e.tenant_id = $1 AND e.imported_at IS NOT NULL \
                          AND e.parent_id IS NULL AND e.state <> 'removed'";
        let arrived = "EXISTS (SELECT 1 FROM certificates c WHERE c.enrollment_id = e.id)";
        let sql = format!(
            "SELECT COUNT(*), COUNT(CASE WHEN {arrived} THEN 1 END), COUNT(CASE WHEN e.push_token IS NULL THEN 1 END) {OF}"
        );
        let counts = self.read().row(sql, values![tenant]).await?;
        let count = |at| counts.get::<i64>(at).map(i64::unsigned_abs);
        let sql = format!("SELECT e.enrollment_key, e.serial_number {OF} AND NOT {arrived} ORDER BY e.id LIMIT $2");
        let waiting = self.read().all(sql, values![tenant, WAITING]).await?;
        Ok(ImportStatus {
            devices: count(0)?,
            arrived: count(1)?,
            without_token: count(2)?,
            waiting: waiting
                .iter()
                .map(|row| Ok((row.get(0)?, row.get(1)?)))
                .collect::<Result<_, StoreError>>()?,
        })
    }
}

/// The one index besides the key that can refuse is the one of bound certificates.
fn bound(error: StoreError) -> StoreError {
    if error.is_duplicate() {
        StoreError::CertificateBound
    } else {
        error
    }
}

/// An enrollment, as an import finds it.
struct Found {
    id: EnrollmentId,
    state: EnrollmentState,
    imported: bool,
    /// A certificate that is stored is bound to it: its device has been here.
    arrived: bool,
    certificate: Option<Sha256>,
    has_own_token: bool,
}

/// Kept as it is until the transaction ends.
const FIND_AND_LOCK: Sql = Sql::per(find!(""), find!(" FOR UPDATE OF e"));

impl Found {
    async fn lock(db: &Db, tenant: TenantId, key: &str) -> Result<Option<Self>, StoreError> {
        let row = db.one(FIND_AND_LOCK, values![tenant, key]).await?;
        row.map(|row| Self::of(&row)).transpose()
    }

    fn of(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: EnrollmentId(row.get(0)?),
            state: row.word(1, EnrollmentState::from_word, "enrollment state")?,
            imported: row.get(2)?,
            arrived: row.get(3)?,
            certificate: row.sha256_opt(4)?,
            has_own_token: row.get(5)?,
        })
    }

    /// Whether an import may not change it.
    fn is_fixed(&self) -> bool {
        self.arrived || !self.imported
    }
}

async fn import_device(
    db: &Db,
    device: &ImportedDevice,
    now: Timestamp,
) -> Result<(EnrollmentId, Imported), StoreError> {
    let mut values = values![
        device.tenant,
        device.key.clone(),
        device.channel.as_str(),
        device.certificate_sha256.map(|sha256| sha256.to_vec()),
        device.topic.clone(),
        ms(now),
    ];
    values.extend(device.facts.values());
    let made = db
        .one(
            "INSERT INTO enrollments (tenant_id, enrollment_key, channel, attributes, certificate_sha256, push_topic, \
             created_at, imported_at, state, awaiting_configuration, udid, serial_number, model, model_name, \
             product_name, os_version, build_version, device_name, imei, meid) \
             VALUES ($1, $2, $3, '{}', $4, $5, $6, $6, 'pending', FALSE, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) \
             ON CONFLICT (tenant_id, enrollment_key) DO NOTHING RETURNING id",
            values,
        )
        .await?;
    if let Some(row) = made {
        let id = EnrollmentId(row.get(0)?);
        if device.tell {
            let detail = || json!({ "renewal": false, "topic": device.topic, "channel": device.channel.as_str() });
            events::tell(db, device.tenant, Some(id), "enrollment.authenticated", detail, now).await?;
        }
        return Ok((id, Imported::Created));
    }
    let found = Found::lock(db, device.tenant, &device.key)
        .await?
        .ok_or(StoreError::NotFound("enrollment"))?;
    if found.state == EnrollmentState::Removed {
        return Ok((found.id, Imported::Removed));
    }
    if found.is_fixed() {
        return Ok((found.id, Imported::HasComeItself));
    }
    let mut values = values![
        found.id,
        device
            .certificate_sha256
            .or(found.certificate)
            .map(|sha256| sha256.to_vec()),
    ];
    values.extend(device.facts.values());
    let changed = db
        .exec(
            "UPDATE enrollments SET certificate_sha256 = $2, udid = $3, serial_number = $4, model = $5, model_name = $6, \
             product_name = $7, os_version = $8, build_version = $9, device_name = $10, imei = $11, meid = $12 \
             WHERE id = $1 AND (certificate_sha256 IS DISTINCT FROM $2 OR udid IS DISTINCT FROM $3 \
             OR serial_number IS DISTINCT FROM $4 OR model IS DISTINCT FROM $5 OR model_name IS DISTINCT FROM $6 \
             OR product_name IS DISTINCT FROM $7 OR os_version IS DISTINCT FROM $8 OR build_version IS DISTINCT FROM $9 \
             OR device_name IS DISTINCT FROM $10 OR imei IS DISTINCT FROM $11 OR meid IS DISTINCT FROM $12)",
            values,
        )
        .await?;
    let what = if changed > 0 {
        Imported::Updated
    } else {
        Imported::Unchanged
    };
    Ok((found.id, what))
}

async fn import_token(db: &Db, token: &ImportedToken, now: Timestamp) -> Result<(EnrollmentId, Imported), StoreError> {
    if let Some(parent) = &token.parent {
        let device = Found::lock(db, token.tenant, parent)
            .await?
            .ok_or(StoreError::NotFound("device"))?;
        if device.state == EnrollmentState::Removed {
            return Ok((device.id, Imported::Removed));
        }
        db.exec(
            "INSERT INTO enrollments (tenant_id, enrollment_key, channel, parent_id, user_id, user_short_name, \
             user_long_name, attributes, created_at, imported_at, state, awaiting_configuration) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, '{}', $8, $8, 'pending', FALSE) \
             ON CONFLICT (tenant_id, enrollment_key) DO NOTHING",
            values![
                token.tenant,
                token.key.clone(),
                token.channel.as_str(),
                device.id,
                token.user.user_id.clone(),
                token.user.short_name.clone(),
                token.user.long_name.clone(),
                ms(now),
            ],
        )
        .await?;
    }
    let found = Found::lock(db, token.tenant, &token.key)
        .await?
        .ok_or(StoreError::NotFound("device"))?;
    if found.state == EnrollmentState::Removed {
        return Ok((found.id, Imported::Removed));
    }
    // A device that has been here may still have told its last token to the other server only.
    if !found.imported || found.has_own_token {
        return Ok((found.id, Imported::HasComeItself));
    }
    let changed = db
        .exec(
            "UPDATE enrollments SET state = 'active', push_topic = $2, push_token = $3, push_magic = $4, \
             token_parked_at = NULL, enrolled_at = COALESCE(enrolled_at, $5) WHERE id = $1 AND (state <> 'active' \
             OR push_topic IS DISTINCT FROM $2 OR push_token IS DISTINCT FROM $3 OR push_magic IS DISTINCT FROM $4)",
            values![
                found.id,
                token.topic.clone(),
                token.token.clone(),
                token.magic.clone(),
                ms(now)
            ],
        )
        .await?;
    if changed == 0 {
        return Ok((found.id, Imported::Unchanged));
    }
    let first = found.state == EnrollmentState::Pending;
    if first {
        request_plan(db, &[found.id], now).await?;
    }
    if first && token.tell {
        let detail = || json!({ "topic": token.topic, "awaiting_configuration": false });
        events::tell(db, token.tenant, Some(found.id), "enrollment.enrolled", detail, now).await?;
    }
    // What was queued while there was no token had nobody to wake.
    let sql = "SELECT 1 FROM queue_entries WHERE enrollment_id = $1 AND finished_at IS NULL LIMIT 1";
    if db.one(sql, values![found.id]).await?.is_some() {
        push::request(db, &[found.id], now).await?;
    }
    let what = if first { Imported::Created } else { Imported::Updated };
    Ok((found.id, what))
}
