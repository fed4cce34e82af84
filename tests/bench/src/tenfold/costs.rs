//! What one of everything costs in the database: an enrollment, a poll, a command over its life, a push; and what is kept of
//! each.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use russet_protocol::Channel;
use russet_store::testing::PostgresCluster;
use russet_store::{
    AuthenticateWrite, Caller, CommandOrigin, Consumed, DeviceFacts, EnrollmentId, NewCertificate, NewChallenge,
    NewCommand, NewDecision, PushOutcome, QueueAsk, ReportStatus, ReportWrite, Retention, Sha256, Store, Targets,
    TenantId, TokenTarget, TokenUpdateWrite,
};
use serde_json::json;
use uuid::Uuid;

use super::{Cost, Known, Meter, fill, numbers, open, sample};
use crate::Failure;
use crate::report::{Figure, Section};
use crate::scale::Scale;

const DATABASE: &str = "costs";

/// The size of an answer to DeviceInformation with the usual questions, as devices send it.
const ANSWER: usize = 1_800;

pub(super) async fn measure(cluster: &PostgresCluster, scale: Scale, section: &mut Section) -> Result<(), Failure> {
    cluster.create_database(DATABASE)?;
    let store = open(cluster, DATABASE).await?;
    let tenant = store.default_tenant();
    let before = table_sizes(cluster)?;
    fill(cluster, DATABASE, tenant, scale.tenfold_devices())?;
    at_rest(cluster, &before, scale.tenfold_devices(), section)?;

    let count = scale.tenfold_operations();
    // What the first calls alone cost (plans, caches of the catalogue) is not what is asked.
    let warm = sample(cluster, DATABASE, "TRUE", 20)?;
    for known in &warm {
        poll(&store, known, None).await?;
    }
    enrollments(cluster, &store, tenant, count, section).await?;
    // As autovacuum keeps it; the plans of an empty queue would read all of a full one.
    cluster.query(DATABASE, "VACUUM ANALYZE")?;

    let devices = sample(cluster, DATABASE, "serial_number NOT LIKE 'NEW%'", count)?;
    let meter = Meter::start(cluster, DATABASE)?;
    for known in &devices {
        poll(&store, known, None).await?;
    }
    let how = "who the certificate is, and whether anything waits";
    section.add(meter.stop()?.figure("idle poll", devices.len(), how));

    let now = Timestamp::now();
    for known in &devices {
        store.touch(known.id, now);
    }
    let meter = Meter::start(cluster, DATABASE)?;
    store.flush_touched().await?;
    let how = "when each device was last seen: one statement each five seconds, for all that polled meanwhile";
    section.add(meter.stop()?.figure("last seen", devices.len(), how));

    life_of_a_command(cluster, &store, tenant, &devices, section).await?;
    store.close().await?;
    Ok(())
}

/// Polls, and expects this command or none.
pub(super) async fn poll(store: &Store, known: &Known, expected: Option<Uuid>) -> Result<(), Failure> {
    let now = Timestamp::now();
    let caller = caller(store, known, QueueAsk::Idle, now).await?;
    let got = store.next_of(known.id, caller.queue, now).await?;
    let got = got.map(|delivery| delivery.uuid);
    if got == expected {
        Ok(())
    } else {
        Err(format!("a poll brought {got:?} and not {expected:?}").into())
    }
}

/// Who sends a message: as the server asks for it.
async fn caller(store: &Store, known: &Known, ask: QueueAsk, now: Timestamp) -> Result<Caller, Failure> {
    let caller = store
        .caller(&known.certificate, known.tenant, &known.key, ask, now)
        .await?;
    match &caller.enrollment {
        Some(enrollment) if enrollment.id == known.id && enrollment.certificate_matches => Ok(caller),
        Some(_) => Err("a device was taken for another one".into()),
        None => Err("a device that enrolled is not known".into()),
    }
}

fn decision(hook: &str) -> NewDecision {
    NewDecision {
        hook: hook.to_owned(),
        plugin: Some("enrollment-gate".to_owned()),
        revision: Some("ab".repeat(32)),
        subject: "C02TENFOLD01".to_owned(),
        verdict: "allow".to_owned(),
        reason: Some("serial-listed".to_owned()),
        duration_us: 21,
        input_sha256: Some([1; 32]),
        journal_sha256: Some([2; 32]),
        verdict_sha256: Some([3; 32]),
        ..NewDecision::default()
    }
}

/// Digests that are different for each number and kind, and in no order, as those of real certificates.
fn digest(kind: u8, number: usize) -> Sha256 {
    let mut digest = [kind; 32];
    let scattered = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    digest[..8].copy_from_slice(&scattered.to_be_bytes());
    digest
}

async fn enrollments(
    cluster: &PostgresCluster,
    store: &Store,
    tenant: TenantId,
    count: usize,
    section: &mut Section,
) -> Result<(), Failure> {
    let meter = Meter::start(cluster, DATABASE)?;
    for number in 0..count {
        enroll(store, tenant, number).await?;
    }
    store.chain_decisions().await?;
    let how = "challenge, identity, Authenticate, TokenUpdate, and the two decisions that let it in, chained";
    section.add(meter.stop()?.figure("enrollment", count, how));
    Ok(())
}

async fn enroll(store: &Store, tenant: TenantId, number: usize) -> Result<(), Failure> {
    let now = Timestamp::now();
    let later = now.checked_add(SignedDuration::from_hours(1))?;
    let (challenge, key, certificate) = (digest(0xC0, number), digest(0xC1, number), digest(0xC2, number));
    let person = json!({"user_name": format!("new{number}"), "full_name": "Ada Lovelace"});
    let new = NewChallenge {
        challenge_sha256: challenge,
        tenant,
        person: Some(person.clone()),
        attributes: json!({"group": "staff"}),
        bound_serial: Some(format!("NEW{number:09}")),
        bound_udid: None,
        renews: None,
        expires_at: later,
    };
    store
        .create_challenge(new, vec![decision("enrollment-gate")], now)
        .await?;
    let Consumed::Consumed(spent) = store.consume_challenge(tenant, &challenge, &key, now).await? else {
        return Err("a fresh challenge was refused".into());
    };
    let issued = NewCertificate {
        sha256: certificate,
        tenant,
        serial_number: format!("{number:032x}"),
        subject: format!("CN=russet-{number},O=Example"),
        der: vec![0x30; 880],
        not_before: now,
        not_after: later,
        person: None,
        attributes: json!({}),
        bound_serial: None,
        bound_udid: None,
        renews: None,
    };
    store.issue(spent.id, issued, Vec::new(), now).await?;
    let udid = Uuid::new_v4().to_string();
    let write = AuthenticateWrite {
        tenant,
        key: udid.clone(),
        channel: Channel::Device,
        facts: DeviceFacts {
            udid: Some(udid),
            serial_number: Some(format!("NEW{number:09}")),
            model_name: Some("MacBook Pro".to_owned()),
            product_name: Some("Mac15,3".to_owned()),
            os_version: Some("26.1".to_owned()),
            build_version: Some("25B78".to_owned()),
            device_name: Some("Ada's Mac".to_owned()),
            ..DeviceFacts::default()
        },
        certificate_sha256: certificate,
        person: Some(person),
        attributes: json!({"group": "staff"}),
        topic: Some("com.apple.mgmt.External.tenfold".to_owned()),
        renewal: false,
        decisions: vec![decision("enrollment-gate")],
    };
    let id = store.authenticate(write, now).await?;
    let token = TokenUpdateWrite {
        target: TokenTarget::Enrollment(id),
        topic: "com.apple.mgmt.External.tenfold".to_owned(),
        token: digest(0xC3, number).to_vec(),
        magic: Uuid::new_v4().to_string(),
        awaiting_configuration: false,
        certificate_sha256: Some(certificate),
        commands_at_first: Vec::new(),
        commands: Vec::new(),
    };
    store.token_update(token, now).await?;
    Ok(())
}

/// A command for devices, with a payload of the usual size.
pub(super) fn command(tenant: TenantId) -> NewCommand {
    NewCommand {
        uuid: Uuid::now_v7(),
        tenant,
        request_type: "DeviceInformation".to_owned(),
        payload: vec![b'x'; 600],
        profile_name: None,
        priority: 0,
        not_before: None,
        expires_at: None,
        dedupe_key: None,
        origin: CommandOrigin::Administrator,
        created_by: "tenfold".to_owned(),
        creator_token: None,
        pace: None,
        hold: None,
        warnings: Vec::new(),
    }
}

async fn life_of_a_command(
    cluster: &PostgresCluster,
    store: &Store,
    tenant: TenantId,
    devices: &[Known],
    section: &mut Section,
) -> Result<(), Failure> {
    let (count, now) = (devices.len(), Timestamp::now());
    let asked = command(tenant);
    let uuid = asked.uuid;
    let targets: Vec<EnrollmentId> = devices.iter().map(|known| known.id).collect();
    let mut life = Cost::default();
    let mut add = |what: &str, cost: Cost, how: &str| {
        life.statements += cost.statements;
        life.pages += cost.pages;
        life.wal_bytes += cost.wal_bytes;
        section.add(cost.figure(what, count, how));
    };

    let meter = Meter::start(cluster, DATABASE)?;
    store.enqueue(asked, Targets::Enrollments(targets), now).await?;
    let how = "one command for all of them: an entry of the queue and a row of the outbox each";
    add("command: queued", meter.stop()?, how);

    let meter = Meter::start(cluster, DATABASE)?;
    let pushed = push_all(store, now).await?;
    if pushed < count {
        return Err(format!("{pushed} of {count} pushes were claimed").into());
    }
    add(
        "command: pushed",
        meter.stop()?,
        "claimed from the outbox in batches, and settled",
    );

    let meter = Meter::start(cluster, DATABASE)?;
    for known in devices {
        poll(store, known, Some(uuid)).await?;
    }
    add("command: delivered", meter.stop()?, "the poll that brings it");

    let meter = Meter::start(cluster, DATABASE)?;
    for known in devices {
        let caller = caller(store, known, QueueAsk::Report(uuid), now).await?;
        let report = ReportWrite {
            uuid,
            status: ReportStatus::Acknowledged,
            error_chain: None,
            result: vec![b'r'; ANSWER],
        };
        let (_, next) = store.report_of(known.id, report, caller.queue, now).await?;
        if next.is_some() {
            return Err("a device got a command that nobody queued".into());
        }
    }
    add(
        "command: answered",
        meter.stop()?,
        "the report with its result, and the look for the next command",
    );

    let retention = Retention::default();
    let after = |days: u64| now.checked_add(Duration::from_secs(days * 86_400));
    let meter = Meter::start(cluster, DATABASE)?;
    store.purge(after(31)?, &retention).await?;
    store.purge(after(91)?, &retention).await?;
    add(
        "command: thrown away",
        meter.stop()?,
        "first the result, later its line, and what is left of the outbox",
    );
    let left = cluster.query(DATABASE, "SELECT COUNT(*) FROM queue_entries")?;
    if left != "0" {
        return Err(format!("{left} entries outlived their retention").into());
    }
    section.add(life.figure("command: its whole life", count, "the sum of the rows above"));
    Ok(())
}

/// Claims and settles every push that is due; how many there were.
async fn push_all(store: &Store, now: Timestamp) -> Result<usize, Failure> {
    let lease = now.checked_add(SignedDuration::from_mins(2))?;
    let mut pushed = 0;
    loop {
        let jobs = store.push_claim(256, lease, Timestamp::now()).await?;
        if jobs.is_empty() {
            return Ok(pushed);
        }
        pushed += jobs.len();
        let taken = jobs.into_iter().map(|job| (job, PushOutcome::Taken)).collect();
        store.push_settle(taken, Timestamp::now()).await?;
    }
}

/// The size of each table with its indexes, by name.
fn table_sizes(cluster: &PostgresCluster) -> Result<Vec<(String, f64, f64)>, Failure> {
    let rows = cluster.query(
        DATABASE,
        "SELECT relname, pg_table_size(oid), pg_indexes_size(oid) FROM pg_class \
         WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname",
    )?;
    let size = |row: &str| {
        let (name, sizes) = row.split_once('|').ok_or("a table without a size")?;
        let [table, indexes] = numbers(sizes)?;
        Ok::<_, Failure>((name.to_owned(), table, indexes))
    };
    rows.lines().map(size).collect()
}

/// What a device leaves in the tables, and what a command does that is kept for it.
fn at_rest(
    cluster: &PostgresCluster,
    before: &[(String, f64, f64)],
    devices: usize,
    section: &mut Section,
) -> Result<(), Failure> {
    let each = |after: &[(String, f64, f64)], wanted: &dyn Fn(&str) -> bool| {
        let sum = |sizes: &[(String, f64, f64)]| {
            let of_wanted = sizes.iter().filter(|(name, ..)| wanted(name));
            of_wanted.fold((0.0, 0.0), |sum, (_, table, indexes)| (sum.0 + table, sum.1 + indexes))
        };
        let (start, end) = (sum(before), sum(after));
        ((end.0 - start.0) / devices as f64, (end.1 - start.1) / devices as f64)
    };
    let row = |what: &str, (table, indexes): (f64, f64), how: &str| {
        Figure::new(what, devices, how)
            .with("table", table, "bytes")
            .with("indexes", indexes, "bytes")
    };
    let after = table_sizes(cluster)?;
    let how = "its row, its identity certificate, and what it is found by";
    section.add(row("kept of a device", each(&after, &|_| true), how));

    let queued = "INSERT INTO commands (uuid, tenant_id, request_type, payload, priority, created_by, warnings, created_at) \
         SELECT gen_random_uuid(), MIN(id), 'DeviceInformation', '', 0, 'tenfold', '[]', 0 FROM tenants; \
         INSERT INTO queue_entries (tenant_id, enrollment_id, command_id, state, priority, attempts, created_at) \
         SELECT e.tenant_id, e.id, c.id, 'pending', 0, 0, 0 FROM enrollments e, commands c";
    let answered = format!(
        "UPDATE queue_entries SET state = 'acknowledged', attempts = 1, sent_at = 1, answered_at = 1, finished_at = 1, \
         status = 'Acknowledged', result = decode(repeat(md5(id::text), {}), 'hex')",
        // Sealed: a nonce and a tag more, and not to be compressed.
        (ANSWER + 28) / 16
    );
    // What is sealed does not compress, as this would.
    let plain = "ALTER TABLE queue_entries ALTER COLUMN result SET STORAGE EXTERNAL";
    cluster.query(DATABASE, plain)?;
    for (what, sql, how) in [
        (
            "kept of a command that waits",
            queued,
            "its entry in the queue of one device",
        ),
        (
            "kept of a command with its answer",
            answered.as_str(),
            "for `retention.results_days`",
        ),
        (
            "kept of a command without its answer",
            "UPDATE queue_entries SET result = NULL",
            "for `retention.commands_days`",
        ),
    ] {
        cluster.query(DATABASE, sql)?;
        cluster.query(DATABASE, "VACUUM FULL queue_entries")?;
        let after = table_sizes(cluster)?;
        section.add(row(what, each(&after, &|name| name == "queue_entries"), how));
    }
    cluster.query(DATABASE, "DELETE FROM queue_entries; DELETE FROM commands")?;
    cluster.query(DATABASE, "VACUUM FULL queue_entries")?;
    Ok(())
}
