//! Tenants spread over several databases: a poll's work stays what it is, and a tenant moves from one to another whole.

use std::sync::Arc;

use jiff::Timestamp;
use russet_store::testing::PostgresCluster;
use russet_store::{SecretKind, Store, Targets, TenantId};
use tokio::task::JoinSet;

use super::costs::{command, poll};
use super::{Cost, Known, Meter, fill, moving, open, sample};
use crate::Failure;
use crate::report::{Figure, Section};
use crate::say;
use crate::scale::Scale;

/// The empty database that all shards are copies of: they share its authorities and its data key.
const FIRST: &str = "shard_template";

/// How far the rows of shards are numbered apart, so that a row keeps its number when its tenant moves.
const APART: u64 = 1 << 48;

/// How many databases there are at the most.
const SHARDS: usize = 8;

/// Tenants of each shard.
const TENANTS: usize = 4;

struct Shard {
    database: String,
    store: Store,
    tenants: Vec<TenantId>,
    devices: Arc<Vec<Known>>,
}

pub(super) async fn measure(cluster: &PostgresCluster, scale: Scale, section: &mut Section) -> Result<(), Failure> {
    cluster.create_database(FIRST)?;
    open(cluster, FIRST).await?.close().await?;
    let mut shards = Vec::new();
    for number in 0..SHARDS {
        say(&format!("  shard {} of {SHARDS}", number + 1));
        shards.push(shard(cluster, number, scale).await?);
        // 1, 2, 4, 8.
        if shards.len().is_power_of_two() {
            section.add(polls(cluster, &shards, scale).await?);
        }
    }
    section.add(in_one_database(cluster, scale).await?);
    section.add(move_one(cluster, &shards).await?);
    for shard in shards {
        shard.store.close().await?;
    }
    Ok(())
}

/// A database with tenants and their devices.
async fn shard(cluster: &PostgresCluster, number: usize, scale: Scale) -> Result<Shard, Failure> {
    let database = format!("shard_{number}");
    cluster.query("postgres", &format!("CREATE DATABASE {database} TEMPLATE {FIRST}"))?;
    moving::number_apart(cluster, &database, 1 + APART * number as u64)?;
    let store = open(cluster, &database).await?;
    let mut tenants = Vec::new();
    for tenant in 0..TENANTS {
        let name = format!("customer-{number}-{tenant}");
        let tenant = store.create_tenant(&name, Timestamp::now()).await?;
        fill(cluster, &database, tenant, scale.tenfold_devices() / TENANTS)?;
        tenants.push(tenant);
    }
    cluster.query(&database, "VACUUM ANALYZE")?;
    let devices = Arc::new(sample(cluster, &database, "TRUE", scale.tenfold_operations())?);
    Ok(Shard {
        database,
        store,
        tenants,
        devices,
    })
}

/// Devices of all shards poll at the same time.
async fn polls(cluster: &PostgresCluster, shards: &[Shard], scale: Scale) -> Result<Figure, Failure> {
    for shard in shards {
        for known in shard.devices.iter().take(20) {
            poll(&shard.store, known, None).await?;
        }
    }
    let meters = shards.iter().map(|shard| Meter::start(cluster, &shard.database));
    let meters = meters.collect::<Result<Vec<_>, _>>()?;
    let mut tasks = JoinSet::new();
    for shard in shards {
        let (store, devices) = (shard.store.clone(), Arc::clone(&shard.devices));
        tasks.spawn(async move {
            for known in devices.iter() {
                poll(&store, known, None).await?;
            }
            Ok::<_, Failure>(devices.len())
        });
    }
    let mut count = 0;
    while let Some(polled) = tasks.join_next().await {
        count += polled??;
    }
    let mut all = Cost::default();
    for meter in meters {
        let cost = meter.stop()?;
        all.statements += cost.statements;
        all.pages += cost.pages;
        // The log is the cluster's: the meters saw the same bytes.
        all.wal_bytes = all.wal_bytes.max(cost.wal_bytes);
    }
    let devices = scale.tenfold_devices() * shards.len();
    let what = format!("idle poll, {} databases, {devices} devices", shards.len());
    let how = format!("{TENANTS} tenants a database; all databases polled at the same time");
    Ok(all.figure(&what, count, &how))
}

/// The same number of devices as in all shards but one, in one database: what the shards are compared with.
async fn in_one_database(cluster: &PostgresCluster, scale: Scale) -> Result<Figure, Failure> {
    let database = "together";
    cluster.query("postgres", &format!("CREATE DATABASE {database} TEMPLATE {FIRST}"))?;
    let store = open(cluster, database).await?;
    let devices = scale.tenfold_devices() * SHARDS;
    say(&format!("  {devices} devices in one database"));
    fill(cluster, database, store.default_tenant(), devices)?;
    cluster.query(database, "VACUUM ANALYZE")?;
    let known = sample(cluster, database, "TRUE", scale.tenfold_operations())?;
    for known in known.iter().take(20) {
        poll(&store, known, None).await?;
    }
    let meter = Meter::start(cluster, database)?;
    for known in &known {
        poll(&store, known, None).await?;
    }
    let what = format!("idle poll, 1 database, {devices} devices");
    let figure = meter
        .stop()?
        .figure(&what, known.len(), "as many in one, for comparison");
    store.close().await?;
    Ok(figure)
}

/// A tenant moves to another database with everything that is its own; what waited for its devices is delivered there.
async fn move_one(cluster: &PostgresCluster, shards: &[Shard]) -> Result<Figure, Failure> {
    let (Some(from), Some(to)) = (shards.first(), shards.last()) else {
        return Err("there are no shards".into());
    };
    let tenant = *from.tenants.first().ok_or("there are no tenants")?;
    let now = Timestamp::now();
    let devices: Vec<Known> = from
        .devices
        .iter()
        .filter(|known| known.tenant == tenant)
        .take(20)
        .cloned()
        .collect();
    let asked = command(tenant);
    let uuid = asked.uuid;
    let targets: Vec<_> = devices.iter().map(|known| known.id).collect();
    from.store.enqueue(asked, Targets::Enrollments(targets), now).await?;
    let kind = SecretKind::Server;
    from.store
        .put_secret(tenant, kind, "moved", b"a secret of the tenant", now)
        .await?;

    let moved = moving::move_tenant(cluster, &from.database, &to.database, tenant)?;
    if moved.rows == 0 || moved.left != 0 {
        return Err(format!("{} rows were moved and {} were left behind", moved.rows, moved.left).into());
    }
    for known in &devices {
        if poll(&from.store, known, None).await.is_ok() {
            return Err("a device is still known where it was".into());
        }
        poll(&to.store, known, Some(uuid)).await?;
    }
    let secret = to.store.secret(tenant, kind, "moved").await?;
    if secret.as_deref().map(Vec::as_slice) != Some(b"a secret of the tenant") {
        return Err("a secret of the tenant does not open where it was moved to".into());
    }
    let how = "a tenant moved to another database: every row that is its own, with its number; its secrets open there, \
               and what waited for its devices was delivered there";
    Ok(Figure::new("rows of a tenant that moved", devices.len(), how)
        .with("", moved.rows as f64, "rows")
        .with("left behind", moved.left as f64, "rows"))
}
