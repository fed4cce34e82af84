//! The server under load, on one back end: enrollments, polls, commands, pushes, swaps, and what plugins add to each.

mod commands;
mod policies;

use std::sync::Arc;
use std::time::{Duration, Instant};

use russet_simulator::apns::{ApnsOptions, ApnsStandIn};
use russet_store::testing::{PostgresCluster, postgres_is_skipped};
use serde_json::json;

use crate::fleet::{self, Device};
use crate::load::{self, Measured, Pair, Processes, Request, share};
use crate::process::{Installation, Server};
use crate::report::{Figure, Section};
use crate::scale::Scale;
use crate::start::mebibytes;
use crate::stats::{Samples, per_second};
use crate::wire::{Connection, Target};
use crate::{Failure, push, say};

const METHOD: &str = "`russet serve` as a process with its default settings, asked over TLS 1.3 and HTTP/1.1 on \
    loopback, connections kept open, by a load generator on the same cores: what it, the database and the stand-in of \
    APNs use is missing to the server. Every connection has devices of its own and sends its next request when the last is \
    answered. Requests are made and signed (RSA-2048, SHA-256) beforehand, and every answer is checked. CPU is user and \
    system time of all threads, per poll, enrollment or command; so is what was written: with what the server writes on \
    its own, such as last-seen times.";

/// Connections of the load at its most.
const CONNECTIONS: usize = 16;

/// Lets in what calls itself a device of the bench.
fn gate(label: usize) -> serde_json::Value {
    json!({"serial_numbers": {"allow": ["BENCH*"]}, "attributes": {"label": label.to_string()}})
}

pub(crate) async fn sqlite(scale: Scale) -> Result<Section, Failure> {
    let section = Section::new(
        "The server on SQLite",
        format!(
            "{METHOD} SQLite as the server sets it up: in WAL mode, durable (`synchronous=FULL`); `disk` is what its \
             process had the disk write, log and tables together."
        ),
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
             analyzed once after the devices enrolled, as it does by itself within a minute; `WAL` is what its \
             write-ahead log grew by, `rows` is how many it inserted, updated or deleted."
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

    say("  getting identities");
    let devices = Arc::new(fleet::identified(&server.target, 2 * scale.enrolling()).await?);
    for device in devices.iter() {
        apns.register(&device.push_token, push::TOPIC);
    }
    let processes = Processes::new(server.process(), cluster.as_ref())?;
    let mut bench = Bench {
        installation,
        server,
        apns,
        devices,
        processes,
        scale,
    };
    bench.enrollments(&mut section).await?;
    let enrolled = bench.devices.len();
    let devices = Arc::get_mut(&mut bench.devices).ok_or("the devices are still at work")?;
    devices.truncate(scale.devices());
    if let Some(cluster) = &cluster {
        // What autovacuum does within a minute. Until then the database has no idea of how large the tables are.
        cluster.query("bench", "ANALYZE")?;
    }
    bench.polls(&mut section).await?;
    bench.commands(&mut section).await?;
    bench.swaps(&mut section).await?;
    let how = format!("resident set of the server after all this, {enrolled} devices enrolled");
    section.add(Figure::new("memory", 1, how).with("", mebibytes(bench.server.resident()?), "MiB"));
    bench.policies(&mut section).await?;
    bench.server.stop().await?;
    Ok(section)
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
    /// Half of the devices enroll where there is no gate, the others where there is one.
    async fn enrollments(&self, section: &mut Section) -> Result<(), Failure> {
        say("  enrolling");
        let mut messages: Vec<Pair> = fleet::prepare(&self.devices, |device| {
            Ok((device.authenticate()?.into(), device.token_update()?.into()))
        })
        .await?;
        let gated = messages.split_off(self.scale.enrolling());
        let how = format!("Authenticate and TokenUpdate; no plugin; {CONNECTIONS} connections");
        let without = self.enroll(messages).await?;
        section.add(figure("enrollments without a gate", &without, "enrollments/s", how));

        let mut administrator = self.server.administrator().await?;
        administrator.install("enrollment-gate", Some(gate(0))).await?;
        let count = gated.len();
        let before = self.processes.rows("bench", self.scale.statistics()).await?;
        let with = self.enroll(gated).await?;
        let after = self.processes.rows("bench", self.scale.statistics()).await?;
        let how =
            format!("Authenticate and TokenUpdate; the `enrollment-gate` plugin is asked; {CONNECTIONS} connections");
        let rate = per_second(count, with.elapsed);
        let what = format!("enrollments, {}, gate asked", self.back_end());
        let figure = figure("enrollments", &with, "enrollments/s", how);
        let figure = rows(figure, before, after, count).at_least(&what, rate, 2_000.0, "enrollments/s");
        section.add(figure);
        section.add(difference("enrollment", "the gate", &without, &with));
        Ok(())
    }

    async fn enroll(&self, messages: Vec<Pair>) -> Result<Measured, Failure> {
        let mut workers = Vec::new();
        for (at, connection) in connected(&self.server.target, CONNECTIONS)
            .await?
            .into_iter()
            .enumerate()
        {
            workers.push(load::enroll(connection, share(&messages, at, CONNECTIONS)));
        }
        self.processes.measure(workers).await
    }

    fn back_end(&self) -> &'static str {
        self.processes.back_end()
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
            let figure = figure("idle polls", &measured, "polls/s", how);
            section.add(match connections {
                CONNECTIONS => self.with_goals(figure, &measured),
                _ => figure,
            });
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
        let rate = per_second(measured.samples.len(), measured.elapsed);
        let what = format!("idle polls, {}, mTLS", self.back_end());
        let figure = figure("idle polls", &measured, "polls/s", how);
        section.add(figure.at_least(&what, rate, 20_000.0, "polls/s"));
        Ok(())
    }

    /// What idle polls with a signature should be like.
    fn with_goals(&self, figure: Figure, measured: &Measured) -> Figure {
        let count = measured.samples.len();
        let rate = per_second(count, measured.elapsed);
        let what = format!("idle polls, {}, `Mdm-Signature`", self.back_end());
        match measured.database {
            None => figure.at_least(&what, rate, 9_000.0, "polls/s"),
            Some(database) => {
                let each = (measured.server + database).as_secs_f64() * 1e3 / count as f64;
                let cpu = format!("{what}: CPU of server and database");
                figure
                    .at_least(&what, rate, 8_000.0, "polls/s")
                    .at_most(&cpu, each, 0.2, "ms")
            }
        }
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
            let processes = self.processes.clone();
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
    let log = if measured.database.is_some() { "WAL" } else { "disk" };
    figure.with("load generator", each(measured.generator), "ms").with(
        log,
        measured.written as f64 / count as f64,
        "bytes",
    )
}

/// Adds how many rows were written for each.
fn rows(figure: Figure, before: Option<f64>, after: Option<f64>, count: usize) -> Figure {
    match before.zip(after) {
        Some((before, after)) => figure.with("rows", (after - before) / count as f64, ""),
        None => figure,
    }
}

/// What a plugin adds to something, in processor time of server and database.
fn difference(of: &str, plugin: &str, without: &Measured, with: &Measured) -> Figure {
    let each = |measured: &Measured| {
        let used = measured.server + measured.database.unwrap_or_default();
        used.as_secs_f64() * 1e3 / measured.samples.len() as f64
    };
    let how = "CPU of server and database with it, less the same without; the whole path, with its decision records";
    Figure::new(format!("cost of {plugin}, per {of}"), with.samples.len(), how)
        .with("", each(with) - each(without), "ms")
        .with("with to without", each(with) / each(without), "×")
}

async fn connected(target: &Target, count: usize) -> Result<Vec<Connection>, Failure> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        connections.push(target.connect().await?);
    }
    Ok(connections)
}
