//! What a shadow costs the calls and the requests beside it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use russet_plugin_host::{Actor, ComparisonReport, RolloutRequest, Staging};
use russet_simulator::apns::{ApnsOptions, ApnsStandIn};
use serde_json::{Value, json};

use crate::load::{self, Measured, Pair, Processes, share};
use crate::plugins::TENANT;
use crate::process::{Administrator, Installation, Server};
use crate::report::{Figure, Section};
use crate::scale::Scale;
use crate::stats::Samples;
use crate::swap::World;
use crate::{Failure, fleet, push, say};

const METHOD: &str = "A candidate is asked what the active revision is asked, beside the devices' requests: by one thread of low \
    priority, which uses a hundredth of one processor at most, and a sixtieth of that while devices' calls run. What it has no \
    time for is not compared, and counted. Turns with and without a candidate alternate, and the one that begins is another one \
    each time. A ratio is the median of the ratios of neighbouring turns, so that a slow moment of the machine does not decide.";

/// What a shadow may add to the slowest hundredth.
const MOST: f64 = 1.01;

/// Connections of the devices' load.
const CONNECTIONS: usize = 2;

const GATE: &str = "enrollment-gate";
const ROLLOUT: &str = "plugins/enrollment-gate/rollout";

/// How long to wait for the first comparison of a turn, and between two looks.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);

pub(crate) async fn section(scale: Scale) -> Result<Section, Failure> {
    let mut section = Section::new("Shadows", METHOD);
    calls(scale, &mut section).await?;
    requests(scale, &mut section).await?;
    Ok(section)
}

/// Turns with and without a candidate, in pairs.
#[derive(Default)]
struct Turns {
    without: Vec<Samples>,
    with: Vec<Samples>,
}

impl Turns {
    fn add(&mut self, shadowed: bool, samples: Samples) {
        let turns = if shadowed { &mut self.with } else { &mut self.without };
        turns.push(samples);
    }

    /// In which order the two take their turns.
    fn order(round: usize) -> [bool; 2] {
        let first = !round.is_multiple_of(2);
        [first, !first]
    }

    fn ratio(&self, percent: f64) -> f64 {
        let seconds = |samples: &Samples| samples.percentile(percent).as_secs_f64();
        let pairs = self.with.iter().zip(&self.without);
        let mut ratios: Vec<f64> = pairs.map(|(with, without)| seconds(with) / seconds(without)).collect();
        ratios.sort_by(f64::total_cmp);
        match (ratios.get(ratios.len().div_ceil(2) - 1), ratios.get(ratios.len() / 2)) {
            (Some(low), Some(high)) => (low + high) / 2.0,
            _ => f64::NAN,
        }
    }

    fn figures(&self, what: &str, how: [String; 2], section: &mut Section) {
        for (turns, (suffix, how)) in [&self.without, &self.with]
            .into_iter()
            .zip(["without a shadow", "with a shadow"].into_iter().zip(how))
        {
            let samples = turns.iter().fold(Samples::default(), |mut all, turn| {
                all.merge(turn.clone());
                all
            });
            section.add(Figure::new(format!("{what} {suffix}"), samples.len(), how).percentiles(&samples));
        }
        let ratio = self.ratio(99.0);
        section.add(
            Figure::new(format!("{what}: ratio with to without"), self.with.len(), "of turns")
                .with("p50", self.ratio(50.0), "×")
                .with("p99", ratio, "×")
                .at_most(&format!("p99 of {what}, with to without a shadow"), ratio, MOST, "×"),
        );
    }
}

/// Hook calls, one after the other as fast as they go: far more than can be compared.
async fn calls(scale: Scale, section: &mut Section) -> Result<(), Failure> {
    let cache = tempfile::tempdir()?;
    let world = Arc::new(World::new(cache.path()).await?);
    let (rounds, time) = scale.shadow_turns();
    let mut turns = Turns::default();
    let (mut compared, mut shed) = (0, 0);
    // Not counted: what is cold.
    world.calls(time).await?;
    for round in 0..rounds {
        for shadowed in Turns::order(round) {
            if shadowed {
                world.stage(round, Staging::Compare(RolloutRequest::default())).await?;
            }
            turns.add(shadowed, world.calls(time).await?);
            if shadowed {
                let comparison = compared_calls(&world).await?;
                compared += comparison.compared;
                shed += comparison.shed;
                world.manager.stop_rollout(TENANT, GATE, Actor::default()).await?;
            }
        }
    }
    let how = [
        format!("1 task, without a pause; {rounds} turns"),
        format!("the same; {compared} calls were compared and {shed} shed"),
    ];
    turns.figures("hook calls", how, section);
    Ok(())
}

/// What the shadow made of its turn. In one that is very short, the queue may have been full of the turn before all the time:
/// then something is asked until something was compared.
async fn compared_calls(world: &World) -> Result<ComparisonReport, Failure> {
    let started = Instant::now();
    loop {
        let comparison = world.manager.rollout(TENANT, GATE).await?.comparison;
        if comparison.compared > 0 {
            return Ok(comparison);
        }
        patience(started)?;
        tokio::time::sleep(PAUSE).await;
        world.calls(PAUSE).await?;
    }
}

/// The same of a server.
async fn compared_requests(administrator: &mut Administrator) -> Result<[u64; 2], Failure> {
    let started = Instant::now();
    loop {
        let status = administrator.send("GET", ROLLOUT, &Value::Null).await?;
        let [compared, shed] = ["compared", "shed"].map(|name| status["comparison"][name].as_u64());
        match (compared, shed) {
            (Some(compared), Some(shed)) if compared > 0 => return Ok([compared, shed]),
            _ => patience(started)?,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn patience(since: Instant) -> Result<(), Failure> {
    if since.elapsed() > PATIENCE {
        return Err("nothing was compared".into());
    }
    Ok(())
}

/// Enrollments of a real server, which ask the gate once each: few enough that most are compared.
async fn requests(scale: Scale, section: &mut Section) -> Result<(), Failure> {
    say("  enrolling beside a shadow");
    let apns = ApnsStandIn::start(ApnsOptions::default()).await?;
    let installation = Installation::in_memory(&apns)?;
    let server = installation.start().await?;
    let mut administrator = server.administrator().await?;
    let certificate = apns.issue_push_certificate(push::TOPIC)?;
    let certificate = json!({"certificate_pem": certificate.certificate, "private_key_pem": certificate.key});
    administrator.send("PUT", "push-certificates", &certificate).await?;
    administrator.install(GATE, Some(gate("active"))).await?;
    let devices = Arc::new(fleet::identified(&server.target, scale.sampled()).await?);
    let messages: Vec<Pair> = fleet::prepare(&devices, |device| {
        Ok((device.authenticate()?.into(), device.token_update()?.into()))
    })
    .await?;

    let (rounds, time) = scale.shadowed_requests();
    let mut turns = Turns::default();
    let mut used = [Duration::ZERO; 2];
    let (mut compared, mut shed) = (0, 0);
    enroll(&server, &messages, time).await?;
    for round in 0..rounds {
        for shadowed in Turns::order(round) {
            if shadowed {
                start_shadow(&mut administrator).await?;
            }
            let measured = enroll(&server, &messages, time).await?;
            used[usize::from(shadowed)] += measured.server;
            turns.add(shadowed, measured.samples);
            if shadowed {
                let [done, left_out] = compared_requests(&mut administrator).await?;
                compared += done;
                shed += left_out;
                administrator.send("DELETE", ROLLOUT, &Value::Null).await?;
            }
        }
    }
    server.stop().await?;
    let each = |of: usize, turns: &[Samples]| {
        let count: usize = turns.iter().map(Samples::len).sum();
        used[of].as_secs_f64() * 1e6 / count as f64
    };
    let (without, with) = (each(0, &turns.without), each(1, &turns.with));
    let how = [
        format!(
            "`russet serve` on SQLite, in memory where the system has a folder for that, because what a disk takes scatters by \
             more than this is about; Authenticate and TokenUpdate over TLS; {CONNECTIONS} connections; {rounds} turns; CPU of \
             the server {without:.0} µs each"
        ),
        format!("the same; {compared} were compared and {shed} shed; CPU of the server {with:.0} µs each"),
    ];
    turns.figures("enrollments", how, section);
    Ok(())
}

fn gate(label: &str) -> Value {
    json!({"serial_numbers": {"allow": ["BENCH*"]}, "attributes": {"label": label}})
}

async fn start_shadow(administrator: &mut Administrator) -> Result<(), Failure> {
    let candidate = json!({"settings": gate("candidate"), "rollout": {}});
    let report = administrator
        .send("PUT", &format!("plugins/{GATE}"), &candidate)
        .await?;
    match report["state"].as_str() {
        Some("shadow") => Ok(()),
        _ => Err(format!("the candidate is not compared: {report}").into()),
    }
}

async fn enroll(server: &Server, messages: &[Pair], time: Duration) -> Result<Measured, Failure> {
    let mut workers = Vec::new();
    let until = Instant::now() + time;
    for at in 0..CONNECTIONS {
        let connection = server.target.connect().await?;
        workers.push(load::enroll_until(connection, share(messages, at, CONNECTIONS), until));
    }
    Processes::new(server.process(), None)?.measure(workers).await
}
