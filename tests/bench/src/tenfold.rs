//! What the real schema costs, counted, and what that makes of ten million devices: the figures of `core/docs/scale.md`.
//!
//! Everything here is a count (statements, pages, bytes), so that it is the same on a slow machine and on a fast one. The
//! databases are filled by SQL and used through the store's own API; only the bytes on the wire come from a server process.

mod costs;
mod moving;
mod network;
mod shards;

use std::sync::Arc;

use russet_store::testing::{PostgresCluster, postgres_is_skipped};
use russet_store::{MasterKey, Store, StoreConfig, TenantId};

use crate::Failure;
use crate::report::{Figure, Section};
use crate::scale::Scale;

const METHOD: &str = "The store's own API on the real schema in PostgreSQL, with devices filled in by SQL. Counted by \
    `pg_stat_statements` (statements without what frames a transaction, and pages touched, cached or not) and by the position in the \
    write-ahead log. `full_page_writes` is off, so that the bytes do not depend on when the last checkpoint was: with it \
    on, the first change of a page after a checkpoint adds up to 8 KiB. Devices are chosen at random.";

pub(crate) async fn section(scale: Scale) -> Result<Section, Failure> {
    let title = "Ten times as much";
    if postgres_is_skipped() {
        return Ok(Section::new(title, "Left out, as the environment says."));
    }
    let settings = [
        ("shared_preload_libraries", "pg_stat_statements"),
        ("full_page_writes", "off"),
        ("max_wal_size", "4GB"),
    ];
    let cluster = Arc::new(PostgresCluster::start_with(&settings)?);
    cluster.query("postgres", "CREATE EXTENSION pg_stat_statements")?;
    let mut section = Section::new(title, METHOD);
    costs::measure(&cluster, scale, &mut section).await?;
    network::measure(scale, &mut section).await?;
    shards::measure(&cluster, scale, &mut section).await?;
    Ok(section)
}

/// The same for all databases, as it has to be where tenants move between them.
fn master() -> MasterKey {
    MasterKey::from_bytes([42; 32])
}

async fn open(cluster: &PostgresCluster, database: &str) -> Result<Store, Failure> {
    let config = StoreConfig {
        max_connections: 4,
        // Written when the bench says so: it is a figure of its own.
        touch_interval: std::time::Duration::from_secs(3600),
        ..StoreConfig::new(cluster.url(database))
    };
    Ok(Store::open(config, &master()).await?)
}

/// What some operations cost, all together.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    statements: f64,
    pages: f64,
    wal_bytes: f64,
}

/// Counts in one database from one moment to another.
struct Meter<'a> {
    cluster: &'a PostgresCluster,
    database: &'a str,
    wal: f64,
}

impl<'a> Meter<'a> {
    fn start(cluster: &'a PostgresCluster, database: &'a str) -> Result<Self, Failure> {
        cluster.query("postgres", "SELECT pg_stat_statements_reset()")?;
        let wal = wal_position(cluster)?;
        Ok(Self { cluster, database, wal })
    }

    fn stop(self) -> Result<Cost, Failure> {
        let wal_bytes = wal_position(self.cluster)? - self.wal;
        let counted = self.cluster.query(
            "postgres",
            &format!(
                "SELECT COALESCE(SUM(calls) FILTER (WHERE query !~* '^(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|SET)'), 0), \
                 COALESCE(SUM(shared_blks_hit + shared_blks_read), 0) FROM pg_stat_statements s \
                 JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = '{}'",
                self.database
            ),
        )?;
        let [statements, pages] = numbers(&counted)?;
        Ok(Cost {
            statements,
            pages,
            wal_bytes,
        })
    }
}

fn wal_position(cluster: &PostgresCluster) -> Result<f64, Failure> {
    let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')";
    Ok(cluster.query("postgres", sql)?.parse()?)
}

/// The columns of the one row that `psql` printed.
fn numbers<const N: usize>(row: &str) -> Result<[f64; N], Failure> {
    let columns = row.split('|').map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    columns
        .try_into()
        .map_err(|_| format!("the database answered with another number of columns: {row}").into())
}

impl Cost {
    /// A row of the table: what each of `count` operations cost.
    fn figure(self, what: &str, count: usize, how: &str) -> Figure {
        let each = |total: f64| total / count as f64;
        Figure::new(what, count, how)
            .with("statements", each(self.statements), "")
            .with("pages", each(self.pages), "")
            .with("WAL", each(self.wal_bytes), "bytes")
    }
}

/// Enrolled devices of a tenant: the rows that Authenticate, TokenUpdate and SCEP leave, with sizes as real ones have.
fn fill(cluster: &PostgresCluster, database: &str, tenant: TenantId, devices: usize) -> Result<(), Failure> {
    // A digest of the certificate that is different everywhere and in no order.
    let digest = format!("sha256(('{database}/{tenant}/' || n)::bytea)");
    let udid = "upper(md5(n::text)::uuid::text)";
    let sql = format!(
        "INSERT INTO enrollments (tenant_id, enrollment_key, channel, state, udid, serial_number, model, model_name, \
         product_name, os_version, build_version, device_name, person, attributes, certificate_sha256, push_topic, \
         push_token, push_magic, awaiting_configuration, created_at, enrolled_at, token_updated_at, last_seen_at) \
         SELECT {tenant}, {udid}, 'device', 'active', {udid}, 'C02' || lpad(n::text, 9, '0'), 'MR7K3', 'MacBook Pro', \
         'Mac15,3', '26.1', '25B78', 'Mac ' || n, '{{\"user_name\":\"person' || n || '\",\"full_name\":\"Person ' || n || '\"}}', \
         '{{\"group\":\"staff\"}}', {digest}, 'com.apple.mgmt.External.tenfold', sha256(n::text::bytea), \
         md5(n::text)::uuid::text, FALSE, 0, 0, 0, 0 FROM generate_series(1, {devices}) AS n; \
         INSERT INTO certificates (tenant_id, sha256, serial_number, subject, der, not_before, not_after, person, \
         attributes, enrollment_id, created_at) \
         SELECT e.tenant_id, e.certificate_sha256, md5(e.id::text), 'CN=russet-' || e.push_magic, \
         decode(repeat(md5(e.id::text), 55), 'hex'), 0, 4102444800000, e.person, e.attributes, e.id, 0 \
         FROM enrollments e WHERE e.tenant_id = {tenant}; ANALYZE"
    );
    cluster.query(database, &sql)?;
    Ok(())
}

/// A device, as the bench finds it in the table.
#[derive(Clone, Debug)]
struct Known {
    id: russet_store::EnrollmentId,
    tenant: TenantId,
    key: String,
    certificate: russet_store::Sha256,
}

/// Devices of a database, at random.
fn sample(cluster: &PostgresCluster, database: &str, condition: &str, count: usize) -> Result<Vec<Known>, Failure> {
    let rows = cluster.query(
        database,
        &format!(
            "SELECT id, tenant_id, enrollment_key, encode(certificate_sha256, 'hex') FROM enrollments WHERE {condition} \
             ORDER BY md5(id::text) LIMIT {count}"
        ),
    )?;
    let known = |row: &str| {
        let columns: Vec<&str> = row.split('|').collect();
        let &[id, tenant, key, certificate] = columns.as_slice() else {
            return Err(format!("a device with other columns: {row}").into());
        };
        let mut digest = [0; 32];
        for (at, byte) in digest.iter_mut().enumerate() {
            let digits = certificate.get(at * 2..at * 2 + 2).ok_or("a digest is too short")?;
            *byte = u8::from_str_radix(digits, 16)?;
        }
        Ok::<_, Failure>(Known {
            id: id.parse()?,
            tenant: tenant.parse()?,
            key: key.to_owned(),
            certificate: digest,
        })
    };
    rows.lines().map(known).collect()
}
