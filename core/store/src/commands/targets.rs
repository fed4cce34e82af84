//! Devices by the names that people use, many at a time.

use futures::{StreamExt, TryStreamExt, stream};
use sea_orm::{ConnectionTrait, DbBackend};

use super::TargetName;
use crate::backend::lanes;
use crate::db::{Sql, values};
use crate::enrollments::EnrollmentState;
use crate::error::StoreError;
use crate::ids::{EnrollmentId, TenantId};
use crate::store::Store;

/// The most names of one statement. Of more, several statements look at once: each name has to be looked for in three
/// indexes, which is all processor time.
const CHUNK: usize = 2_500;

/// Each name by each of the three columns that it may be in: of a key there is one, a serial number or UDID may be claimed
/// by several. SQLite reads a CROSS JOIN from left to right; left to itself it reads all enrollments for the names.
const FOUND: Sql = Sql::per(
    "WITH names AS (SELECT key AS at, value AS name FROM json_each($2)) \
     SELECT n.at, 0, e.id, e.state, e.parent_id FROM names n \
     CROSS JOIN enrollments e ON e.tenant_id = $1 AND e.enrollment_key = n.name \
     UNION ALL SELECT n.at, 1, e.id, e.state, e.parent_id FROM names n \
     CROSS JOIN enrollments e ON e.serial_number = n.name AND e.tenant_id = $1 \
     UNION ALL SELECT n.at, 2, e.id, e.state, e.parent_id FROM names n \
     CROSS JOIN enrollments e ON e.udid = n.name AND e.tenant_id = $1",
    "SELECT n.at - 1, 0::bigint, e.id, e.state, e.parent_id FROM unnest($2::text[]) WITH ORDINALITY AS n(name, at) \
     JOIN enrollments e ON e.tenant_id = $1 AND e.enrollment_key = n.name \
     UNION ALL SELECT n.at - 1, 1::bigint, e.id, e.state, e.parent_id FROM unnest($2::text[]) WITH ORDINALITY AS n(name, at) \
     JOIN enrollments e ON e.serial_number = n.name AND e.tenant_id = $1 \
     UNION ALL SELECT n.at - 1, 2::bigint, e.id, e.state, e.parent_id FROM unnest($2::text[]) WITH ORDINALITY AS n(name, at) \
     JOIN enrollments e ON e.udid = n.name AND e.tenant_id = $1",
);

/// Names as an array of the back end: of JSON, or of PostgreSQL, which reads its own in less time.
fn array_of(names: &[String], backend: DbBackend) -> Result<String, StoreError> {
    if backend != DbBackend::Postgres {
        return serde_json::to_string(names).map_err(|_| StoreError::Corrupt("name"));
    }
    let mut array = String::with_capacity(names.iter().map(|name| name.len() + 3).sum::<usize>() + 2);
    array.push('{');
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            array.push(',');
        }
        if name.contains('\0') {
            // No text there can have one, so nothing has that name.
            array.push_str("NULL");
            continue;
        }
        array.push('"');
        for character in name.chars() {
            if matches!(character, '"' | '\\') {
                array.push('\\');
            }
            array.push(character);
        }
        array.push('"');
    }
    array.push('}');
    Ok(array)
}

/// One enrollment that a name fits, in the order in which it is preferred: the device before the users on it, the enrolled
/// before the removed, the newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fit {
    is_user: bool,
    removed: bool,
    newest: std::cmp::Reverse<i64>,
}

/// The best of a column; an error if two enrolled devices fit.
fn best(fits: &mut [Fit]) -> Result<Option<Fit>, ()> {
    fits.sort_unstable();
    match fits {
        [_, second, ..] if !second.is_user && !second.removed => Err(()),
        [first, ..] => Ok(Some(*first)),
        [] => Ok(None),
    }
}

/// What a name means, of what fits it in each column.
fn meaning(columns: &mut [Vec<Fit>; 3]) -> TargetName {
    let mut found: Option<Fit> = None;
    for fits in columns {
        let other = match best(fits) {
            Ok(Some(fit)) => fit,
            Ok(None) => continue,
            Err(()) => return TargetName::Ambiguous,
        };
        found = match found {
            Some(first) if first.newest == other.newest || other.removed => Some(first),
            Some(first) if !first.removed => return TargetName::Ambiguous,
            _ => Some(other),
        };
    }
    match found {
        None => TargetName::Unknown,
        Some(fit) if fit.removed => TargetName::Removed,
        Some(fit) => TargetName::Enrollment(EnrollmentId(fit.newest.0)),
    }
}

impl Store {
    /// What each name means: an enrollment key, a serial number or a UDID, by the rules of
    /// [`enrollment`](Self::enrollment), in the order of the names. One statement for some thousands.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn resolve_names(&self, tenant: TenantId, names: &[String]) -> Result<Vec<TargetName>, StoreError> {
        let mut chunks = Vec::new();
        for chunk in names.chunks(CHUNK) {
            chunks.push(self.resolve_chunk(tenant, chunk));
        }
        stream::iter(chunks).buffered(lanes::count()).try_concat().await
    }

    async fn resolve_chunk(&self, tenant: TenantId, names: &[String]) -> Result<Vec<TargetName>, StoreError> {
        let list = array_of(names, self.read().get_database_backend())?;
        let mut fits: Vec<[Vec<Fit>; 3]> = vec![Default::default(); names.len()];
        for row in self.read().all(FOUND, values![tenant, list]).await? {
            let at = usize::try_from(row.get::<i64>(0)?).ok();
            let column = usize::try_from(row.get::<i64>(1)?).ok();
            let state = row.word(3, EnrollmentState::from_word, "enrollment state")?;
            let fit = Fit {
                is_user: row.get::<Option<i64>>(4)?.is_some(),
                removed: state == EnrollmentState::Removed,
                newest: std::cmp::Reverse(row.get(2)?),
            };
            let columns = at.and_then(|at| fits.get_mut(at));
            if let Some(column) = columns.zip(column).and_then(|(columns, at)| columns.get_mut(at)) {
                column.push(fit);
            }
        }
        Ok(fits.iter_mut().map(meaning).collect())
    }
}
