//! The server under load, on one back end: enrollments, polls, commands, pushes and swaps.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use russet_simulator::apns::{ApnsOptions, ApnsStandIn, ReceivedPush};
use russet_store::testing::{PostgresCluster, postgres_is_skipped};
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

use crate::fleet::{self, Device};
use crate::load::{self, Measured, Pair, Processes, Request, share};
use crate::process::{Installation, Server};
use crate::report::{Figure, Section};
use crate::scale::Scale;
use crate::start::mebibytes;
use crate::stats::{Samples, per_second};
use crate::wire::{Connection, Target};
use crate::{Failure, cpu, push, say};

const METHOD: &str = "`russet serve` as a process with its default settings, asked over TLS 1.3 and HTTP/1.1 on \
    loopback, connections kept open, by a load generator on the same cores: what it, the database and the stand-in of \
    APNs use is missing to the server. Every connection has devices of its own and sends its next request when the last is \
    answered. Requests are made and signed (RSA-2048, SHA-256) beforehand, and every answer is checked. CPU is user and \
    system time of all threads, per poll, enrollment or command.";

/// Connections of the load at its most.
const CONNECTIONS: usize = 16;

/// How long pushes may take to arrive before something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lets in what calls itself a device of the bench.
fn gate(label: usize) -> serde_json::Value {
    json!({"serial_numbers": {"allow": ["BENCH*"]}, "attributes": {"label": label.to_string()}})
}

pub(crate) async fn sqlite(scale: Scale) -> Result<Section, Failure> {
    let section = Section::new(
        "The server on SQLite",
        format!("{METHOD} SQLite as the server sets it up: in WAL mode, durable (`synchronous=FULL`)."),
    );
    measure(section, None, scale).await
}

pub(crate) async fn postgres(scale: Scale) -> Result<Section, Failure> {
    let title = "The server on PostgreSQL";
    if postgres_is_skipped() {
        return Ok(Section::new(title, "Left out, as the environment says."));
    }
    let durable = [("fsync", "on"), ("autovacuum", "on"), ("shared_buffers", "256MB")];
    let cluster = Arc::new(PostgresCluster::start_with(&durable)?);
    cluster.create_database("bench")?;
    let section = Section::new(
        title,
        format!(
            "{METHOD} PostgreSQL on the same machine over a Unix socket, durable (`fsync=on`), with 8 connections; \
             analyzed once after the devices enrolled, as it does by itself within a minute."
        ),
    );
    measure(section, Some(cluster), scale).await
}

async fn measure(
    mut section: Section,
    cluster: Option<Arc<PostgresCluster>>,
    scale: Scale,
) -> Result<Section, Failure> {
    let apns = ApnsStandIn::start(ApnsOptions::default()).await?;
    let url = cluster.as_ref().map(|cluster| cluster.url("bench"));
    let installation = Installation::new(url.as_deref(), Some(&apns))?;
    let server = installation.start().await?;
    let mut administrator = server.administrator().await?;
    let certificate = apns.issue_push_certificate(push::TOPIC)?;
    let certificate = json!({"certificate_pem": certificate.certificate, "private_key_pem": certificate.key});
    administrator.send("PUT", "push-certificates", &certificate).await?;
    administrator.install("enrollment-gate", Some(gate(0))).await?;

    say("  getting identities");
    let devices = Arc::new(fleet::identified(&server.target, scale.devices()).await?);
    for device in devices.iter() {
        apns.register(&device.push_token, push::TOPIC);
    }
    let processes = Processes {
        server: server.process(),
        database: cluster.as_deref().map(first_process).transpose()?,
    };
    let bench = Bench {
        installation,
        server,
        apns,
        devices,
        processes,
        scale,
    };
    bench.enrollments(&mut section).await?;
    if let Some(cluster) = &cluster {
        // What autovacuum does within a minute. Until then the database has no idea of how large the tables are.
        cluster.query("bench", "ANALYZE")?;
    }
    bench.polls(&mut section).await?;
    bench.commands(&mut section).await?;
    bench.swaps(&mut section).await?;
    let how = format!(
        "resident set of the server after all this, {} devices enrolled",
        bench.devices.len()
    );
    section.add(Figure::new("memory", 1, how).with("", mebibytes(bench.server.resident()?), "MiB"));
    bench.server.stop().await?;
    Ok(section)
}

/// The process that starts one for each connection.
fn first_process(cluster: &PostgresCluster) -> Result<u32, Failure> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
    cpu::parent(cluster.query("postgres", sql)?.parse()?)
}

/// A server with devices.
struct Bench {
    installation: Installation,
    server: Server,
    apns: ApnsStandIn,
    devices: Arc<Vec<Device>>,
    processes: Processes,
    scale: Scale,
}

impl Bench {
    async fn enrollments(&self, section: &mut Section) -> Result<(), Failure> {
        say("  enrolling");
        let messages = fleet::prepare(&self.devices, |device| {
            Ok((device.authenticate()?.into(), device.token_update()?.into()))
        })
        .await?;
        let mut workers = Vec::new();
        for (at, connection) in connected(&self.server.target, CONNECTIONS)
            .await?
            .into_iter()
            .enumerate()
        {
            workers.push(load::enroll(connection, share(&messages, at, CONNECTIONS)));
        }
        let measured = self.processes.measure(workers).await?;
        let how =
            format!("Authenticate and TokenUpdate; the `enrollment-gate` plugin is asked; {CONNECTIONS} connections");
        section.add(figure("enrollments", &measured, "enrollments/s", how));
        Ok(())
    }

    async fn polls(&self, section: &mut Section) -> Result<(), Failure> {
        let requests = fleet::prepare(&self.devices, |device| Ok(device.idle()?.into())).await?;
        for connections in [1, CONNECTIONS] {
            say(&format!("  polling over {connections} connections"));
            let targets = vec![self.server.target.clone(); connections];
            let measured = self.poll(&targets, &requests).await?;
            let how = format!(
                "`Mdm-Signature`; {connections} connections; {} devices",
                self.devices.len()
            );
            section.add(figure("idle polls", &measured, "polls/s", how));
        }
        let requests = fleet::prepare(&self.devices, |device| Ok(device.unsigned_idle()?.into())).await?;
        let requests: Vec<Request> = requests.into_iter().take(CONNECTIONS).collect();
        let mut targets = Vec::new();
        for device in self.devices.iter().take(requests.len()) {
            targets.push(device.target(&self.server.target)?);
        }
        let measured = self.poll(&targets, &requests).await?;
        let how = format!(
            "TLS client certificate, kept open; {} devices with a connection each",
            targets.len()
        );
        section.add(figure("idle polls", &measured, "polls/s", how));
        Ok(())
    }

    /// Polls for the time of the scale, over one connection to each target.
    async fn poll(&self, targets: &[Target], requests: &[Request]) -> Result<Measured, Failure> {
        let mut connections = Vec::new();
        for (at, target) in targets.iter().enumerate() {
            let mut connection = target.connect().await?;
            let share = share(requests, at, targets.len());
            // The first request of a device checks its certificate's chain; later ones remember.
            for request in &share {
                connection.send(request).await?.accepted("a first poll")?;
            }
            connections.push((connection, share));
        }
        let until = Instant::now() + self.scale.polling();
        let workers = connections
            .into_iter()
            .map(|(connection, requests)| load::poll(connection, requests, until))
            .collect();
        self.processes.measure(workers).await
    }

    async fn commands(&self, section: &mut Section) -> Result<(), Failure> {
        let serial_numbers: Vec<&str> = self
            .devices
            .iter()
            .map(|device| device.serial_number.as_str())
            .collect();
        let ask = json!({
            "devices": serial_numbers,
            "command": {"RequestType": "DeviceInformation", "Queries": ["DeviceName", "OSVersion", "SerialNumber"]},
        });
        let idle: Vec<Request> = fleet::prepare(&self.devices, |device| Ok(device.idle()?.into())).await?;
        let (mut enqueued, mut pushed) = (Samples::default(), Duration::ZERO);
        let mut answered: Option<Measured> = None;
        for round in 0..self.scale.command_rounds() {
            say(&format!(
                "  commands, round {} of {}",
                round + 1,
                self.scale.command_rounds()
            ));
            let pushes = self.apns.subscribe();
            // Connected for each round: the server ends connections that are idle for long.
            let mut administrator = self.server.administrator().await?;
            let started = Instant::now();
            let report = administrator.send("POST", "commands", &ask).await?;
            enqueued.add(started.elapsed());
            self.arrived(pushes).await?;
            pushed += started.elapsed();
            let command = report["command_uuid"].as_str().ok_or("no command_uuid")?.to_uppercase();
            let measured = self.answers(&idle, command).await?;
            match &mut answered {
                Some(all) => all.merge(measured),
                None => answered = Some(measured),
            }
        }
        let answered = answered.ok_or("no commands were measured")?;
        let devices = self.devices.len();
        let how = format!("a poll that brings the command, and the report of its result; {CONNECTIONS} connections");
        section.add(figure("command round trips", &answered, "commands/s", how));
        let how = format!("one DeviceInformation for {devices} devices by one API request, until it is answered");
        section.add(
            Figure::new("enqueuing", enqueued.len(), how)
                .duration("p50", enqueued.median())
                .with("", devices as f64 / enqueued.median().as_secs_f64(), "devices/s"),
        );
        let count = devices * self.scale.command_rounds();
        let how = "from that API request until the last push is at the stand-in: queue, outbox, claim, push, mark done";
        section.add(Figure::new("pushes from the outbox", count, how).rate(count, pushed, "pushes/s"));
        Ok(())
    }

    /// Waits until as many pushes have come as there are devices.
    async fn arrived(&self, mut pushes: Receiver<ReceivedPush>) -> Result<(), Failure> {
        let wanted = self.devices.len();
        let mut devices = HashSet::with_capacity(wanted);
        let all = timeout(PATIENCE, async {
            while devices.len() < wanted {
                devices.insert(pushes.recv().await?.token);
            }
            Ok(())
        });
        all.await.unwrap_or_else(|_| {
            let log = self.installation.log();
            Err(format!(
                "{} of {wanted} devices were pushed to; the server says: {log}",
                devices.len()
            )
            .into())
        })
    }

    async fn answers(&self, idle: &[Request], command: String) -> Result<Measured, Failure> {
        let uuid = command.clone();
        let reports = fleet::prepare(&self.devices, move |device| Ok(device.acknowledged(&uuid)?.into())).await?;
        let messages: Vec<Pair> = idle.iter().cloned().zip(reports).collect();
        let mut workers = Vec::new();
        for (at, connection) in connected(&self.server.target, CONNECTIONS)
            .await?
            .into_iter()
            .enumerate()
        {
            workers.push(load::round_trips(
                connection,
                share(&messages, at, CONNECTIONS),
                command.clone(),
            ));
        }
        self.processes.measure(workers).await
    }

    /// Changes the gate's settings through the API while devices poll.
    async fn swaps(&self, section: &mut Section) -> Result<(), Failure> {
        say("  swapping under load");
        let requests: Vec<Request> = fleet::prepare(&self.devices, |device| Ok(device.idle()?.into())).await?;
        let connections = 4;
        let polling = {
            let until = Instant::now() + self.scale.polling();
            let mut workers = Vec::new();
            for (at, connection) in connected(&self.server.target, connections)
                .await?
                .into_iter()
                .enumerate()
            {
                workers.push(load::poll(connection, share(&requests, at, connections), until));
            }
            let processes = self.processes;
            tokio::spawn(async move { processes.measure(workers).await })
        };
        let mut administrator = self.server.administrator().await?;
        let mut swaps = Samples::default();
        for label in 1..=self.scale.api_swaps() {
            let started = Instant::now();
            administrator.configure("enrollment-gate", &gate(label)).await?;
            swaps.add(started.elapsed());
        }
        let polls = polling.await??;
        let how = format!(
            "new settings for the gate by one API request, until it is in force; {connections} connections poll"
        );
        section.add(Figure::new("plugin swap", swaps.len(), how).percentiles(&swaps));
        let how = "the polls beside these swaps; none failed".to_owned();
        section.add(figure("idle polls while swapping", &polls, "polls/s", how));
        Ok(())
    }
}

fn figure(what: &str, measured: &Measured, unit: &'static str, how: String) -> Figure {
    let count = measured.samples.len();
    let each = |time: Duration| time.as_secs_f64() * 1e3 / count as f64;
    let figure = Figure::new(what, count, how)
        .with("", per_second(count, measured.elapsed), unit)
        .percentiles(&measured.samples)
        .with("CPU: server", each(measured.server), "ms");
    let figure = match measured.database {
        Some(database) => figure.with("database", each(database), "ms"),
        None => figure,
    };
    figure.with("load generator", each(measured.generator), "ms")
}

async fn connected(target: &Target, count: usize) -> Result<Vec<Connection>, Failure> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        connections.push(target.connect().await?);
    }
    Ok(connections)
}
