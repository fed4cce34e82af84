//! Enrollments for administration and for the hooks.

use russet_protocol::Channel;

use super::{DeviceFacts, EnrollmentRecord, EnrollmentState, PushState, UserFacts};
use crate::db::{Row, from_ms, ms, values};
use crate::error::StoreError;
use crate::ids::{EnrollmentId, TenantId};
use crate::page::{Cursor, Page, probe};
use crate::store::Store;

/// How an enrollment is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnrollmentLookup<'a> {
    /// By row.
    Id(EnrollmentId),
    /// By its normalised identity.
    Key(&'a str),
    /// By serial number: the device's own channel, the one that is still enrolled first.
    Serial(&'a str),
    /// By UDID, likewise.
    Udid(&'a str),
}

/// Which enrollments to list; the default is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnrollmentFilter {
    /// Only those in this state.
    pub state: Option<EnrollmentState>,
    /// Only those of this kind.
    pub channel: Option<Channel>,
    /// Only the user channels under this device.
    pub parent: Option<EnrollmentId>,
    /// Only those whose key, serial number, UDID, device name or user name contains this, in any case.
    pub search: Option<String>,
}

pub(super) const COLUMNS: &str = "id, tenant_id, enrollment_key, channel, parent_id, state, udid, serial_number, model, \
     model_name, product_name, os_version, build_version, device_name, imei, meid, user_id, user_short_name, \
     user_long_name, person, attributes, certificate_sha256, push_topic, push_token IS NOT NULL, token_parked_at, \
     token_updated_at, awaiting_configuration, created_at, enrolled_at, last_seen_at, removed_at";

impl Store {
    /// One enrollment of a tenant.
    ///
    /// # Errors
    /// [`StoreError::Ambiguous`] when several enrolled devices claim the serial number or UDID; otherwise when the database
    /// fails or a row does not read back.
    pub async fn enrollment(
        &self,
        tenant: TenantId,
        lookup: EnrollmentLookup<'_>,
    ) -> Result<Option<EnrollmentRecord>, StoreError> {
        let (condition, value) = match lookup {
            EnrollmentLookup::Id(id) => ("id = $2", id.into()),
            EnrollmentLookup::Key(key) => ("enrollment_key = $2", key.into()),
            EnrollmentLookup::Serial(serial) => ("serial_number = $2", serial.into()),
            EnrollmentLookup::Udid(udid) => ("udid = $2", udid.into()),
        };
        let rows = self
            .read()
            .all(
                format!(
                    "SELECT {COLUMNS} FROM enrollments WHERE tenant_id = $1 AND {condition} \
                     ORDER BY CASE WHEN parent_id IS NULL THEN 0 ELSE 1 END, \
                     CASE WHEN state = 'removed' THEN 1 ELSE 0 END, id DESC LIMIT 2"
                ),
                vec![tenant.into(), value],
            )
            .await?;
        let mut found = rows.iter().map(|row| self.enrollment_of(row));
        let first = found.next().transpose()?;
        // A device says its serial number itself: one that claims another's must not get what is meant for that one.
        if let Some(second) = found.next().transpose()?
            && second.parent.is_none()
            && second.state != EnrollmentState::Removed
        {
            return Err(StoreError::Ambiguous("device"));
        }
        Ok(first)
    }

    /// Enrollments of a tenant in the order in which they were made.
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn enrollments(
        &self,
        tenant: TenantId,
        filter: &EnrollmentFilter,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<Page<EnrollmentRecord>, StoreError> {
        let pattern = filter.search.as_ref().map(|search| {
            let escaped = search
                .to_lowercase()
                .replace('\\', "\\\\")
                .replace('%', "\\%")
                .replace('_', "\\_");
            format!("%{escaped}%")
        });
        let rows = self
            .read()
            .all(
                format!(
                    "SELECT {COLUMNS} FROM enrollments WHERE tenant_id = $1 AND id > $2 \
                     AND ($3 IS NULL OR state = $3) AND ($4 IS NULL OR channel = $4) \
                     AND ($5 IS NULL OR parent_id = $5) \
                     AND ($6 IS NULL OR LOWER(enrollment_key) LIKE $6 ESCAPE '\\' \
                          OR LOWER(serial_number) LIKE $6 ESCAPE '\\' OR LOWER(udid) LIKE $6 ESCAPE '\\' \
                          OR LOWER(device_name) LIKE $6 ESCAPE '\\' OR LOWER(user_short_name) LIKE $6 ESCAPE '\\') \
                     ORDER BY id LIMIT $7"
                ),
                values![
                    tenant,
                    after.map_or(0, |cursor| cursor.0),
                    filter.state.map(|state| state.as_str().to_owned()),
                    filter.channel.map(|channel| channel.as_str().to_owned()),
                    filter.parent.map(|id| id.0),
                    pattern,
                    probe(limit),
                ],
            )
            .await?;
        let records = rows
            .iter()
            .map(|row| self.enrollment_of(row))
            .collect::<Result<_, _>>()?;
        Ok(Page::cut(records, limit, |record: &EnrollmentRecord| record.id.0))
    }

    pub(super) fn enrollment_of(&self, row: &Row) -> Result<EnrollmentRecord, StoreError> {
        let id = EnrollmentId(row.get(0)?);
        let stored = row.time_opt(29)?.map(ms);
        // A poll leaves its time in memory until the next flush.
        let last_seen_at = stored.max(self.touched_at(id)).map(from_ms).transpose()?;
        let has_token: bool = row.get(23)?;
        let push = match row.get::<Option<String>>(22)? {
            Some(topic) if has_token => Some(PushState {
                topic,
                parked_at: row.time_opt(24)?,
                updated_at: row.time_opt(25)?,
            }),
            _ => None,
        };
        Ok(EnrollmentRecord {
            id,
            tenant: TenantId(row.get(1)?),
            key: row.get(2)?,
            channel: row.word(3, Channel::parse, "channel")?,
            parent: row.get::<Option<i64>>(4)?.map(EnrollmentId),
            state: row.word(5, EnrollmentState::from_word, "enrollment state")?,
            facts: DeviceFacts {
                udid: row.get(6)?,
                serial_number: row.get(7)?,
                model: row.get(8)?,
                model_name: row.get(9)?,
                product_name: row.get(10)?,
                os_version: row.get(11)?,
                build_version: row.get(12)?,
                device_name: row.get(13)?,
                imei: row.get(14)?,
                meid: row.get(15)?,
            },
            user: UserFacts {
                user_id: row.get(16)?,
                short_name: row.get(17)?,
                long_name: row.get(18)?,
            },
            person: row.json_opt(19)?,
            attributes: row.json(20)?,
            certificate_sha256: row.sha256_opt(21)?,
            push,
            awaiting_configuration: row.get(26)?,
            created_at: row.time(27)?,
            enrolled_at: row.time_opt(28)?,
            last_seen_at,
            removed_at: row.time_opt(30)?,
        })
    }
}
