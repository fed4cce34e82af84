//! The chain of a tenant's decision records: each carries the SHA-256 of the one before it and of itself, so that a
//! record that was changed, taken out or put in afterwards shows.
//!
//! Records join the chain some moments after they were written, in one order for all nodes, so that deciding takes no
//! lock. The chain proves nothing against somebody who computes all of it anew; for that, its head is noted elsewhere now
//! and then, and given to [`Store::verify_decisions`].

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use jiff::Timestamp;
use serde_json::{Value as Json, json};

use crate::db::{Db, Row, Sql, values};
use crate::error::StoreError;
use crate::ids::{DecisionId, Sha256, TenantId};
use crate::store::Store;

/// Begins every record's hash, so that it can be the hash of nothing else.
const DOMAIN: &[u8] = b"russet decision 1\n";

/// How many records join in one transaction.
const BATCH: i64 = 500;

/// How many records are read at once when a chain is verified.
const PAGE: i64 = 1_000;

/// A place in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// The number of the record in its tenant: 1 for the first; 0 stands for the beginning.
    pub seq: i64,
    /// The hash of the record and all before it.
    pub hash: Sha256,
}

impl ChainHead {
    /// Before the first record.
    const BEGINNING: Self = Self { seq: 0, hash: [0; 32] };
}

/// `SEQ:HASH`, the hash as hexadecimal digits.
impl fmt::Display for ChainHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, hex(&self.hash))
    }
}

/// What is wrong with a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainBreak {
    /// The record is not as it was when it joined.
    Changed {
        /// Its number in the chain.
        seq: i64,
        /// Its row.
        id: DecisionId,
        /// When it says that it was recorded.
        created_at: Timestamp,
    },
    /// There is no record of this number.
    Missing {
        /// The number.
        seq: i64,
    },
    /// The head that was noted elsewhere is older than the records that are kept: nothing can be said about it.
    HeadGone {
        /// The number of the head.
        seq: i64,
    },
    /// The chain does not end as it is noted in the database, or does not contain the head that was noted elsewhere.
    OtherHead {
        /// The number of the head.
        seq: i64,
    },
}

/// What came of verifying a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainReport {
    /// How many records were verified.
    pub verified: u64,
    /// How many are not in the chain yet.
    pub waiting: u64,
    /// Where the chain begins: what was before it is gone with its time.
    pub anchor: ChainHead,
    /// Where it ends.
    pub head: ChainHead,
    /// The first thing that is wrong.
    pub broken: Option<ChainBreak>,
}

const COLUMNS: &str = "id, tenant_id, enrollment_id, hook, plugin, revision, subject, verdict, reason, fault, \
     failure_rule, duration_us, created_at, effects, input_sha256, journal_sha256, verdict_sha256, host_calls, \
     cpu_ticks, memory_bytes";

/// The record as it is hashed: every column that does not change, as a JSON array.
fn canonical(row: &Row) -> Result<Vec<u8>, StoreError> {
    let number = |at| Ok::<Json, StoreError>(row.get::<Option<i64>>(at)?.into());
    let text = |at| Ok::<Json, StoreError>(row.get::<Option<String>>(at)?.into());
    let digest = |at| {
        let digest = row.sha256_opt(at)?;
        Ok::<Json, StoreError>(digest.map(|digest| hex(&digest)).into())
    };
    let fields = json!([
        number(0)?,
        number(1)?,
        number(2)?,
        text(3)?,
        text(4)?,
        text(5)?,
        text(6)?,
        text(7)?,
        text(8)?,
        text(9)?,
        text(10)?,
        number(11)?,
        number(12)?,
        text(13)?,
        digest(14)?,
        digest(15)?,
        digest(16)?,
        number(17)?,
        number(18)?,
        number(19)?,
    ]);
    serde_json::to_vec(&fields).map_err(|_| StoreError::Corrupt("decision"))
}

fn next(before: &Sha256, row: &Row) -> Result<Sha256, StoreError> {
    let mut hash = Context::new(&SHA256);
    hash.update(DOMAIN);
    hash.update(before);
    hash.update(&canonical(row)?);
    hash.finish()
        .as_ref()
        .try_into()
        .map_err(|_| StoreError::Corrupt("decision"))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string can not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// One at a time in a cluster, whoever holds the lease: the order must have one author. Ends with the transaction.
const LOCK: Sql = Sql::per("SELECT '1'", "SELECT pg_advisory_xact_lock(7246100516)::text");

const JOIN: Sql = Sql::per(
    "UPDATE decisions SET chain_seq = v.seq, chain_hash = unhex(v.hash) \
     FROM (SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS seq, \
           json_extract(value, '$[2]') AS hash FROM json_each($1)) AS v WHERE decisions.id = v.id",
    "UPDATE decisions SET chain_seq = v.seq, chain_hash = decode(v.hash, 'hex') \
     FROM (SELECT (value ->> 0)::bigint AS id, (value ->> 1)::bigint AS seq, value ->> 2 AS hash \
           FROM json_array_elements($1::json) AS rows(value)) AS v WHERE decisions.id = v.id",
);

impl Store {
    /// Lets records that were committed join their tenants' chains, all of them; how many did.
    ///
    /// # Errors
    /// When the database fails; what joined until then stays.
    pub async fn chain_decisions(&self) -> Result<u64, StoreError> {
        let mut total = 0;
        loop {
            if !self.unchained_decisions().await? {
                return Ok(total);
            }
            let joined = self.write((), |db, ()| Box::pin(join(db))).await?;
            total += joined;
            if joined == 0 {
                return Ok(total);
            }
        }
    }

    /// Whether records wait to join a chain. Writes nothing.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn unchained_decisions(&self) -> Result<bool, StoreError> {
        let horizon = self.read().horizon().await?;
        let sql = "SELECT 1 FROM decisions WHERE chain_seq IS NULL AND tx < $1 LIMIT 1";
        Ok(self.read().one(sql, values![horizon]).await?.is_some())
    }

    /// Where the chain of each tenant ends that has one, by the tenant's name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn decision_heads(&self) -> Result<Vec<(String, ChainHead)>, StoreError> {
        let sql =
            "SELECT t.name, c.seq, c.hash FROM decision_chains c JOIN tenants t ON t.id = c.tenant_id ORDER BY t.id";
        let rows = self.read().all(sql, values![]).await?;
        let head = |row: &Row| {
            let (seq, hash) = (row.get(1)?, row.sha256(2)?);
            Ok((row.get(0)?, ChainHead { seq, hash }))
        };
        rows.iter().map(head).collect()
    }

    /// Computes a tenant's chain anew and compares; a head that was noted elsewhere must be in it.
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn verify_decisions(
        &self,
        tenant: TenantId,
        noted: Option<ChainHead>,
    ) -> Result<ChainReport, StoreError> {
        let db = self.read();
        let (mut anchor, head) = ends(db, tenant)
            .await?
            .unwrap_or((ChainHead::BEGINNING, ChainHead::BEGINNING));
        let waiting: i64 = db
            .row(
                "SELECT COUNT(*) FROM decisions WHERE tenant_id = $1 AND chain_seq IS NULL",
                values![tenant],
            )
            .await?
            .get(0)?;
        let mut at = anchor;
        let mut broken = None;
        let mut verified = 0;
        let mut contains_noted = noted.is_none_or(|noted| noted == at);
        'pages: while at.seq < head.seq {
            let rows = db
                .all(
                    format!(
                        "SELECT {COLUMNS}, chain_seq, chain_hash FROM decisions \
                         WHERE tenant_id = $1 AND chain_seq > $2 AND chain_seq <= $3 ORDER BY chain_seq LIMIT {PAGE}"
                    ),
                    values![tenant, at.seq, head.seq],
                )
                .await?;
            let first: Option<i64> = rows.first().map(|row| row.get(20)).transpose()?;
            if first != Some(at.seq + 1) {
                // Retention may have taken it a moment ago, and noted where the chain begins since.
                match ends(db, tenant).await? {
                    Some((later, _)) if later.seq > at.seq => (anchor, at) = (later, later),
                    _ => {
                        broken = Some(ChainBreak::Missing { seq: at.seq + 1 });
                        break;
                    }
                }
                continue;
            }
            for row in &rows {
                let seq: i64 = row.get(20)?;
                if seq != at.seq + 1 {
                    continue 'pages;
                }
                let hash = next(&at.hash, row)?;
                if row.sha256(21)? != hash {
                    broken = Some(ChainBreak::Changed {
                        seq,
                        id: DecisionId(row.get(0)?),
                        created_at: row.time(12)?,
                    });
                    break 'pages;
                }
                at = ChainHead { seq, hash };
                verified += 1;
                contains_noted |= noted == Some(at);
            }
        }
        if broken.is_none() && at.seq == head.seq && at.hash != head.hash {
            broken = Some(ChainBreak::OtherHead { seq: head.seq });
        }
        if let (None, false, Some(noted)) = (&broken, contains_noted, noted) {
            let seq = noted.seq;
            broken = Some(match seq < anchor.seq {
                true => ChainBreak::HeadGone { seq },
                false => ChainBreak::OtherHead { seq },
            });
        }
        Ok(ChainReport {
            verified,
            waiting: u64::try_from(waiting).unwrap_or_default(),
            anchor,
            head,
            broken,
        })
    }
}

/// Where a tenant's chain begins and ends.
async fn ends(db: &Db, tenant: TenantId) -> Result<Option<(ChainHead, ChainHead)>, StoreError> {
    let sql = "SELECT anchor_seq, anchor_hash, seq, hash FROM decision_chains WHERE tenant_id = $1";
    let row = db.one(sql, values![tenant]).await?;
    row.map(|row| {
        let anchor = ChainHead {
            seq: row.get(0)?,
            hash: row.sha256(1)?,
        };
        let head = ChainHead {
            seq: row.get(2)?,
            hash: row.sha256(3)?,
        };
        Ok((anchor, head))
    })
    .transpose()
}

async fn join(db: &Db) -> Result<u64, StoreError> {
    db.one(LOCK, values![]).await?;
    let horizon = db.horizon().await?;
    let rows = db
        .all(
            format!(
                "SELECT {COLUMNS} FROM decisions WHERE chain_seq IS NULL AND tx < $1 ORDER BY tx, id LIMIT {BATCH}"
            ),
            values![horizon],
        )
        .await?;
    let mut heads = std::collections::BTreeMap::new();
    let mut joined = Vec::with_capacity(rows.len());
    for row in &rows {
        let tenant: i64 = row.get(1)?;
        let head = match heads.entry(tenant) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let ends = ends(db, TenantId(tenant)).await?;
                entry.insert(ends.map_or(ChainHead::BEGINNING, |(_, head)| head))
            }
        };
        *head = ChainHead {
            seq: head.seq + 1,
            hash: next(&head.hash, row)?,
        };
        joined.push(json!([row.get::<i64>(0)?, head.seq, hex(&head.hash)]));
    }
    db.exec(JOIN, values![Json::Array(joined).to_string()]).await?;
    for (tenant, head) in heads {
        db.exec(
            "INSERT INTO decision_chains (tenant_id, seq, hash, anchor_seq, anchor_hash) VALUES ($1, $2, $3, 0, $4) \
             ON CONFLICT (tenant_id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
            values![tenant, head.seq, head.hash.to_vec(), ChainHead::BEGINNING.hash.to_vec()],
        )
        .await?;
    }
    Ok(rows.len() as u64)
}
