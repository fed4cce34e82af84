//! Devices by the names that people use, many at a time.

use futures::{StreamExt, TryStreamExt, stream};
use sea_orm::{ConnectionTrait, DbBackend};

use super::TargetName;
use crate::backend::lanes;
use crate::db::{Sql, values};
use crate::error::StoreError;
use crate::ids::{EnrollmentId, TenantId};
use crate::store::Store;

/// The most names of one statement. Of more, several statements look at once: each name has to be looked for in three
/// indexes, which is all processor time.
const CHUNK: usize = 2_500;

/// A row of what a name fits: `at * 16 + column * 4 + is_user * 2 + removed`.
macro_rules! code {
    ($column:literal) => {
        concat!(
            "n.at * 16 + ",
            $column,
            " * 4 + CASE WHEN e.parent_id IS NULL THEN 0 ELSE 2 END + CASE WHEN e.state = 'removed' THEN 1 ELSE 0 END"
        )
    };
}

/// Each name by each of the three columns that it may be in: of a key there is one, a serial number or UDID may be claimed
/// by several. The answer is one row, of a list of codes and a list of ids: a row of its own for each name takes longer on
/// its way than the name takes to be found.
macro_rules! found {
    ($names:literal, $begin:literal, $end:literal, $join:literal) => {
        concat!(
            "WITH n AS ",
            $names,
            " SELECT ",
            $begin,
            "f.code",
            $end,
            ", ",
            $begin,
            "f.id",
            $end,
            " FROM (SELECT ",
            code!(0),
            " AS code, e.id FROM n",
            $join,
            "e.tenant_id = $1 AND e.enrollment_key = n.name UNION ALL SELECT ",
            code!(1),
            ", e.id FROM n",
            $join,
            "e.serial_number = n.name AND e.tenant_id = $1 UNION ALL SELECT ",
            code!(2),
            ", e.id FROM n",
            $join,
            "e.udid = n.name AND e.tenant_id = $1) AS f"
        )
    };
}

/// SQLite reads a CROSS JOIN from left to right; left to itself it reads all enrollments for the names. PostgreSQL reads what
/// is MATERIALIZED in this process only: it would start others for a few thousand names, which takes longer than the look-up.
const FOUND: Sql = Sql::per(
    found!(
        "(SELECT key AS at, value AS name FROM json_each($2))",
        "group_concat(",
        ")",
        " CROSS JOIN enrollments e ON "
    ),
    found!(
        "MATERIALIZED (SELECT t.at - 1 AS at, t.name FROM unnest($2::text[]) WITH ORDINALITY AS t(name, at))",
        "array_agg(",
        ")::text",
        " JOIN enrollments e ON "
    ),
);

/// The numbers of a list as either back end writes it; none is no list.
fn numbers(list: Option<String>) -> Result<Vec<i64>, StoreError> {
    let list = list.unwrap_or_default();
    let numbers = list
        .trim_matches(['{', '}'])
        .split(',')
        .filter(|number| !number.is_empty());
    numbers
        .map(|number| number.parse().map_err(|_| StoreError::Corrupt("number")))
        .collect()
}

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
        let row = self.read().row(FOUND, values![tenant, list]).await?;
        let (codes, ids) = (numbers(row.get(0)?)?, numbers(row.get(1)?)?);
        let mut fits: Vec<[Vec<Fit>; 3]> = vec![Default::default(); names.len()];
        for (code, id) in codes.into_iter().zip(ids) {
            let at = usize::try_from(code / 16).ok();
            let column = usize::try_from(code / 4 % 4).ok();
            let fit = Fit {
                is_user: code & 2 != 0,
                removed: code & 1 != 0,
                newest: std::cmp::Reverse(id),
            };
            let columns = at.and_then(|at| fits.get_mut(at));
            if let Some(column) = columns.zip(column).and_then(|(columns, at)| columns.get_mut(at)) {
                column.push(fit);
            }
        }
        Ok(fits.iter_mut().map(meaning).collect())
    }
}
