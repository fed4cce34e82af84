//! Commands: queued for every device by one request, pushed for, fetched and reported on.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use russet_simulator::apns::ReceivedPush;
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

use super::{Bench, CONNECTIONS, connected, figure, rows};
use crate::load::{self, Measured, Pair, Request, share};
use crate::report::{Figure, Section};
use crate::stats::{Samples, per_second};
use crate::{Failure, fleet, say};

/// How long pushes may take to arrive before something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// What several rounds of one command to every device were like.
pub(super) struct Rounds {
    /// Queueing it, for each round.
    enqueued: Samples,
    /// From queueing it to the last push, all rounds together.
    pushed: Duration,
    pub(super) answered: Measured,
}

impl Bench {
    pub(super) async fn commands(&self, section: &mut Section) -> Result<(), Failure> {
        let (devices, rounds) = (self.devices.len(), self.scale.command_rounds());
        let count = devices * rounds;
        let before = self.processes.rows("bench", self.scale.statistics()).await?;
        let measured = self.rounds(rounds).await?;
        let after = self.processes.rows("bench", self.scale.statistics()).await?;
        let how = format!("a poll that brings the command, and the report of its result; {CONNECTIONS} connections");
        let answered = figure("command round trips", &measured.answered, "commands/s", how);
        let answered = match measured.answered.database {
            None => answered,
            Some(_) => {
                let rate = per_second(count, measured.answered.elapsed);
                let what = "command round trips, PostgreSQL, durable";
                answered.at_least(what, rate, 3_000.0, "commands/s")
            }
        };
        section.add(answered);
        if before.is_some() {
            let how = "of a command for one device: queued, pushed, delivered, answered";
            section.add(rows(Figure::new("rows written", count, how), before, after, count));
        }
        let how = format!("one DeviceInformation for {devices} devices by one API request, until it is answered");
        let median = measured.enqueued.median();
        section.add(Figure::new("enqueuing", rounds, how).duration("p50", median).with(
            "",
            devices as f64 / median.as_secs_f64(),
            "devices/s",
        ));
        let how = "from that API request until the last push is at the stand-in: queue, outbox, claim, push";
        section.add(Figure::new("pushes from the outbox", count, how).rate(count, measured.pushed, "pushes/s"));
        Ok(())
    }

    /// Queues a command for every device, and lets each fetch it and report; round after round.
    pub(super) async fn rounds(&self, rounds: usize) -> Result<Rounds, Failure> {
        let idle: Vec<Request> = fleet::prepare(&self.devices, |device| Ok(device.idle()?.into())).await?;
        let (mut enqueued, mut pushed) = (Samples::default(), Duration::ZERO);
        let mut answered: Option<Measured> = None;
        for round in 0..rounds {
            say(&format!("  commands, round {} of {rounds}", round + 1));
            let pushes = self.apns.subscribe();
            // Connected for each round: the server ends connections that are idle for long.
            let mut administrator = self.server.administrator().await?;
            let started = Instant::now();
            let report = administrator.send("POST", "commands", &self.question()).await?;
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
        Ok(Rounds {
            enqueued,
            pushed,
            answered: answered.ok_or("no commands were measured")?,
        })
    }

    /// One question for every device, by name.
    fn question(&self) -> Value {
        let names = self.devices.iter().map(|device| device.serial_number.as_str());
        json!({
            "devices": names.collect::<Vec<_>>(),
            "command": {"RequestType": "DeviceInformation", "Queries": ["DeviceName", "OSVersion", "SerialNumber"]},
        })
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
}
