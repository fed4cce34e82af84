//! Few devices and many, side by side: what a poll and the memory are like where a million are enrolled, and what one
//! command for many takes.
//!
//! All but some devices are rows that SQL put into the real schema: their polls would say nothing that the real ones do not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use russet_simulator::apns::{ApnsOptions, ApnsStandIn};
use russet_store::testing::Inspection;
use russet_store::testing::{PostgresCluster, postgres_is_skipped};
use serde_json::{Value, json};

use crate::fleet::{self, Device};
use crate::load::{self, Pair, Processes, Request, share};
use crate::process::{Administrator, Installation, Server};
use crate::report::{Figure, Section};
use crate::scale::Scale;
use crate::start::{mebibytes, megabytes};
use crate::stats::{Samples, per_second};
use crate::{Failure, push, say};

const METHOD: &str = "Two servers on one back end, one with few devices and one with many; in both a few real ones, which poll \
    over 2 connections, and rows that SQL put into the real schema: enrollments, certificates, push tokens. The two take \
    turns, so that a slow moment of the machine does not hit one alone, and what is said of each is the median of its \
    turns. The servers have default settings.";

/// Connections of the load.
const CONNECTIONS: usize = 2;

/// How long a large wave of pushes may take before something is wrong.
const PATIENCE: Duration = Duration::from_secs(180);

/// Commands that need nothing but their name.
const QUESTIONS: [&str; 3] = ["SecurityInfo", "CertificateList", "ProvisioningProfileList"];

pub(crate) async fn sqlite(scale: Scale) -> Result<Section, Failure> {
    measure(Section::new("Many devices on SQLite", METHOD), None, scale).await
}

pub(crate) async fn postgres(scale: Scale) -> Result<Section, Failure> {
    let title = "Many devices on PostgreSQL";
    if postgres_is_skipped() {
        return Ok(Section::new(title, "Left out, as the environment says."));
    }
    let settings = [
        ("fsync", "on"),
        ("autovacuum", "on"),
        ("shared_buffers", "512MB"),
        ("max_wal_size", "4GB"),
    ];
    let cluster = Arc::new(PostgresCluster::start_with(&settings)?);
    measure(Section::new(title, METHOD), Some(cluster), scale).await
}

async fn measure(
    mut section: Section,
    cluster: Option<Arc<PostgresCluster>>,
    scale: Scale,
) -> Result<Section, Failure> {
    let apns = ApnsStandIn::start(ApnsOptions::default()).await?;
    let [few, many] = scale.populations();
    let few = Side::start(&apns, cluster.as_ref(), "few", few, scale).await?;
    let many = Side::start(&apns, cluster.as_ref(), "many", many, scale).await?;
    polls([&few, &many], &mut section, scale).await?;
    few.server.stop().await?;
    many.memory("after these polls", &mut section)?;
    many.enqueue_named(&apns, &mut section, scale).await?;
    many.enqueue_all(&apns, &mut section, scale).await?;
    many.memory("after all this", &mut section)?;
    many.server.stop().await?;
    Ok(section)
}

/// A server with so many devices.
struct Side {
    /// Holds the server's folder.
    _installation: Installation,
    server: Server,
    processes: Processes,
    devices: Arc<Vec<Device>>,
    enrolled: usize,
}

impl Side {
    async fn start(
        apns: &ApnsStandIn,
        cluster: Option<&Arc<PostgresCluster>>,
        name: &str,
        enrolled: usize,
        scale: Scale,
    ) -> Result<Self, Failure> {
        say(&format!("  {enrolled} devices"));
        let url = cluster.map(|cluster| cluster.create_database(name)).transpose()?;
        let installation = Installation::new(url.as_deref(), Some(apns))?;
        let server = installation.start().await?;
        let certificate = apns.issue_push_certificate(push::TOPIC)?;
        let certificate = json!({"certificate_pem": certificate.certificate, "private_key_pem": certificate.key});
        server
            .administrator()
            .await?
            .send("PUT", "push-certificates", &certificate)
            .await?;
        let devices = Arc::new(fleet::identified(&server.target, scale.sampled()).await?);
        let messages: Vec<Pair> = fleet::prepare(&devices, |device| {
            Ok((device.authenticate()?.into(), device.token_update()?.into()))
        })
        .await?;
        load::enroll(server.target.connect().await?, messages).await?;
        for device in devices.iter() {
            apns.register(&device.push_token, push::TOPIC);
        }
        // Filled while nobody uses it: one large transaction would keep the server from writing.
        server.stop().await?;
        let (from, awake) = (devices.len(), scale.awake().min(enrolled));
        match cluster {
            Some(cluster) => fill_postgres(cluster, name, from, enrolled, awake)?,
            None => {
                let file = installation.path("data").join("russet.sqlite");
                fill_sqlite(&format!("sqlite://{}", file.display()), from, enrolled, awake).await?;
            }
        }
        for number in from..awake {
            apns.register(&push::token(number), push::TOPIC);
        }
        let server = installation.start().await?;
        Ok(Self {
            processes: Processes::new(server.process(), cluster)?,
            _installation: installation,
            server,
            devices,
            enrolled,
        })
    }

    /// Polls for some time.
    async fn turn(&self, requests: &[Request], time: Duration) -> Result<load::Measured, Failure> {
        let mut workers = Vec::new();
        let until = Instant::now() + time;
        for at in 0..CONNECTIONS {
            let connection = self.server.target.connect().await?;
            workers.push(load::poll(connection, share(requests, at, CONNECTIONS), until));
        }
        self.processes.measure(workers).await
    }

    fn memory(&self, when: &str, section: &mut Section) -> Result<(), Failure> {
        let resident = self.server.resident()?;
        let how = format!("resident set of the server {when}");
        let figure = Figure::new(format!("memory, {} devices", self.enrolled), 1, how);
        let what = format!(
            "memory, {}, {} enrolled, {when}",
            self.processes.back_end(),
            self.enrolled
        );
        section.add(
            figure
                .with("", mebibytes(resident), "MiB")
                .at_most(&what, megabytes(resident), 300.0, "MB"),
        );
        Ok(())
    }

    async fn enqueue_named(&self, apns: &ApnsStandIn, section: &mut Section, scale: Scale) -> Result<(), Failure> {
        say("  one command for devices by name");
        let first = self.devices.len();
        let names: Vec<String> = (first..first + scale.named()).map(serial_number).collect();
        let mut samples = Samples::default();
        for request_type in QUESTIONS {
            quiet(apns).await;
            let ask = json!({"devices": names, "command": {"RequestType": request_type}});
            let (time, report) = enqueue(&mut self.server.administrator().await?, &ask).await?;
            if report["queued"].as_u64() != u64::try_from(names.len()).ok() {
                return Err(format!("not every device got the command: {report}").into());
            }
            samples.add(time);
        }
        let how = "by serial number, in one API request, until it is answered; each when the pushes of the one before have gone";
        let what = format!("enqueuing for {} named devices", names.len());
        let goal = format!("{what}, {}", self.processes.back_end());
        section.add(
            Figure::new(what, samples.len(), how)
                .duration("p50", samples.median())
                .at_most(&goal, samples.median().as_secs_f64(), 0.05, "s"),
        );
        Ok(())
    }

    /// One command for all, while a device writes; then its pushes, and its count.
    async fn enqueue_all(&self, apns: &ApnsStandIn, section: &mut Section, scale: Scale) -> Result<(), Failure> {
        say("  one command for all devices");
        let updates: Vec<Request> = fleet::prepare(&self.devices, |device| Ok(device.token_update()?.into())).await?;
        let delivered = quiet(apns).await;
        let connection = self.server.target.connect().await?;
        let (done, stop) = tokio::sync::oneshot::channel();
        let writer = tokio::spawn(load::until(connection, updates, stop));
        let mut administrator = self.server.administrator().await?;
        let ask = json!({"all": true, "command": {"RequestType": "InstalledApplicationList"}});
        let started = Instant::now();
        let (time, report) = enqueue(&mut administrator, &ask).await?;
        let _ = done.send(());
        let writes = writer.await??;
        if report["queued"].as_u64() != u64::try_from(self.enrolled).ok() {
            return Err(format!("not every device got the command: {report}").into());
        }
        let back_end = self.processes.back_end();
        let what = format!("enqueuing for all {} devices", self.enrolled);
        let goal = format!("{what}, {back_end}");
        section.add(
            Figure::new(what, 1, "by one API request, until it is answered")
                .duration("", time)
                .at_most(&goal, time.as_secs_f64(), 5.0, "s"),
        );
        section.add(
            Figure::new(
                "a device's writes meanwhile",
                writes.len(),
                "TokenUpdates, one after the other",
            )
            .percentiles(&writes)
            .duration("longest", writes.percentile(100.0)),
        );
        let uuid = report["command_uuid"].as_str().ok_or("no command_uuid")?;
        let asked = Instant::now();
        administrator
            .send("GET", &format!("commands/{uuid}"), &Value::Null)
            .await?;
        let how = "of that command: how many entries are in which state";
        section.add(Figure::new("counting", 1, how).duration("", asked.elapsed()));

        let awake = u64::try_from(scale.awake())?;
        let pushed = self.pushed(apns, delivered + awake).await?;
        let count = usize::try_from(pushed - delivered)?;
        let how = "from the answer to that API request until the last push is at the stand-in, which uses the same processors; \
            and from the request on";
        let whole = started.elapsed();
        section.add(
            Figure::new("pushes from the outbox", count, how)
                .rate(count, whole.saturating_sub(time), "pushes/s")
                .with("with the enqueuing", per_second(count, whole), "pushes/s"),
        );
        Ok(())
    }

    /// Waits until so many pushes were delivered; how many there are then.
    async fn pushed(&self, apns: &ApnsStandIn, wanted: u64) -> Result<u64, Failure> {
        let started = Instant::now();
        loop {
            let delivered = apns.counters().delivered;
            if delivered >= wanted {
                return Ok(delivered);
            }
            if started.elapsed() > PATIENCE {
                let log = self._installation.log();
                return Err(format!("{delivered} pushes came, not {wanted}; the server says: {log}").into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Waits until the pushes of earlier commands have come; how many there are then.
async fn quiet(apns: &ApnsStandIn) -> u64 {
    loop {
        let before = apns.counters().delivered;
        tokio::time::sleep(Duration::from_millis(500)).await;
        if apns.counters().delivered == before {
            return before;
        }
    }
}

async fn enqueue(administrator: &mut Administrator, ask: &Value) -> Result<(Duration, Value), Failure> {
    let started = Instant::now();
    let report = administrator.send("POST", "commands", ask).await?;
    Ok((started.elapsed(), report))
}

/// Both take turns.
async fn polls(sides: [&Side; 2], section: &mut Section, scale: Scale) -> Result<(), Failure> {
    say("  polling");
    let mut requests = Vec::new();
    for side in sides {
        let made: Vec<Request> = fleet::prepare(&side.devices, |device| Ok(device.idle()?.into())).await?;
        // The first request of a device checks its certificate's chain; later ones remember.
        load::each(side.server.target.connect().await?, made.clone()).await?;
        requests.push(made);
    }
    let (turns, time) = scale.turns();
    let mut medians = [Samples::default(), Samples::default()];
    let mut tails = [Samples::default(), Samples::default()];
    let (mut counts, mut used) = ([0, 0], [Duration::ZERO; 2]);
    for _ in 0..turns {
        for at in 0..sides.len() {
            let measured = sides[at].turn(&requests[at], time).await?;
            medians[at].add(measured.samples.median());
            tails[at].add(measured.samples.percentile(99.0));
            counts[at] += measured.samples.len();
            used[at] += measured.server + measured.database.unwrap_or_default();
        }
    }
    for at in 0..sides.len() {
        let what = format!("idle polls, {} devices enrolled", sides[at].enrolled);
        let how = format!("`Mdm-Signature`; medians of the p50 and p99 of {turns} turns");
        section.add(
            Figure::new(what, counts[at], how)
                .duration("p50", medians[at].median())
                .duration("p99", tails[at].median())
                .with(
                    "CPU: server and database",
                    used[at].as_secs_f64() * 1e3 / counts[at] as f64,
                    "ms",
                ),
        );
    }
    let ratio = |of: &[Samples; 2]| of[1].median().as_secs_f64() / of[0].median().as_secs_f64();
    let what = format!(
        "p99 of an idle poll, {} to {} enrolled, {}",
        sides[1].enrolled,
        sides[0].enrolled,
        sides[0].processes.back_end()
    );
    section.add(
        Figure::new("ratio: many to few", turns, "of these medians")
            .with("p50", ratio(&medians), "×")
            .with("p99", ratio(&tails), "×")
            .at_most(&what, ratio(&tails), 1.2, "×"),
    );
    Ok(())
}

fn serial_number(number: usize) -> String {
    format!("FILL{number:08}")
}

/// Columns that both back ends take the same values for.
const COLUMNS: &str = "tenant_id, channel, state, model, model_name, product_name, os_version, build_version, \
    device_name, attributes, push_magic, awaiting_configuration, created_at, enrolled_at, token_updated_at, last_seen_at, \
    enrollment_key, udid, serial_number, certificate_sha256, push_topic, push_token";

/// Their values, but for the last six.
const VALUES: &str = "1, 'device', 'active', 'MR7K3', 'MacBook Pro', 'Mac15,3', '27.1', '26B5032a', 'Ada''s Mac', '{}', \
    'bench-magic', FALSE, 1790000000000, 1790000000000, 1790000000000, 1790000000000";

const CERTIFICATES: &str = "INSERT INTO certificates (tenant_id, sha256, serial_number, subject, der, not_before, not_after, \
    attributes, enrollment_id, created_at) SELECT e.tenant_id, e.certificate_sha256, e.serial_number, \
    'CN=' || e.serial_number, e.certificate_sha256, 0, 4102444800000, '{}', e.id, 0 FROM enrollments e \
    WHERE e.serial_number LIKE 'FILL%'";

async fn fill_sqlite(url: &str, from: usize, until: usize, awake: usize) -> Result<(), Failure> {
    let database = Inspection::open(url).await?;
    let enrollments = format!(
        "WITH RECURSIVE n (i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {until}) \
         INSERT INTO enrollments ({COLUMNS}) SELECT {VALUES}, printf('00008112-FILL%011d', i), \
         printf('00008112-FILL%011d', i), printf('FILL%08d', i), randomblob(32), '{topic}', \
         CASE WHEN i < {awake} THEN unhex(printf('%016x', i) || '{rest}') END FROM n",
        topic = push::TOPIC,
        rest = "a5".repeat(24),
    );
    for sql in [
        "BEGIN",
        &enrollments,
        CERTIFICATES,
        "COMMIT",
        "PRAGMA wal_checkpoint(TRUNCATE)",
    ] {
        database.change(sql).await?;
    }
    database.close().await;
    Ok(())
}

fn fill_postgres(
    cluster: &PostgresCluster,
    name: &str,
    from: usize,
    until: usize,
    awake: usize,
) -> Result<(), Failure> {
    // Without triggers and keys to other tables, which a million rows take a minute for; there is nothing for them to do.
    let sql = format!(
        "SET session_replication_role = replica; INSERT INTO enrollments ({COLUMNS}) \
         SELECT {VALUES}, '00008112-FILL' || lpad(i::text, 11, '0'), '00008112-FILL' || lpad(i::text, 11, '0'), \
         'FILL' || lpad(i::text, 8, '0'), sha256(('{name}' || i)::bytea), '{topic}', \
         CASE WHEN i < {awake} THEN decode(lpad(to_hex(i), 16, '0') || '{rest}', 'hex') END \
         FROM generate_series({from}, {until} - 1) AS i; {CERTIFICATES}; ANALYZE; CHECKPOINT",
        topic = push::TOPIC,
        rest = "a5".repeat(24),
    );
    cluster.query(name, &sql)?;
    Ok(())
}
