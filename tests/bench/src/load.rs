//! Load: a number of connections, each with devices of its own, each sending its next request when the last is answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::stats::Samples;
use crate::wire::Connection;
use crate::{Failure, cpu};

/// A request of a device, made beforehand.
pub(crate) type Request = Arc<[u8]>;

/// Two that a device sends one after the other.
pub(crate) type Pair = (Request, Request);

/// Whose processor time counts.
#[derive(Clone, Copy)]
pub(crate) struct Processes {
    pub(crate) server: u32,
    /// The first process of the database's server; none for a database inside our server.
    pub(crate) database: Option<u32>,
}

/// What a load was like.
pub(crate) struct Measured {
    pub(crate) samples: Samples,
    pub(crate) elapsed: Duration,
    pub(crate) server: Duration,
    pub(crate) database: Option<Duration>,
    pub(crate) generator: Duration,
}

impl Measured {
    /// Adds another part of the same load.
    pub(crate) fn merge(&mut self, other: Self) {
        self.samples.merge(other.samples);
        self.elapsed += other.elapsed;
        self.server += other.server;
        self.generator += other.generator;
        if let (Some(ours), Some(theirs)) = (&mut self.database, other.database) {
            *ours += theirs;
        }
    }
}

impl Processes {
    fn used(&self) -> Result<[Duration; 3], Failure> {
        Ok([
            cpu::used(self.server)?,
            self.database.map_or(Ok(Duration::ZERO), cpu::used_by_family)?,
            cpu::used(std::process::id())?,
        ])
    }

    /// Runs workers at the same time until all are done.
    pub(crate) async fn measure<W>(&self, workers: Vec<W>) -> Result<Measured, Failure>
    where
        W: Future<Output = Result<Samples, Failure>> + Send + 'static,
    {
        let before = self.used()?;
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        for worker in workers {
            tasks.spawn(worker);
        }
        let mut samples = Samples::default();
        while let Some(some) = tasks.join_next().await {
            samples.merge(some??);
        }
        let elapsed = started.elapsed();
        let after = self.used()?;
        let [server, database, generator] = [0, 1, 2].map(|at| after[at].saturating_sub(before[at]));
        Ok(Measured {
            samples,
            elapsed,
            server,
            database: self.database.map(|_| database),
            generator,
        })
    }
}

/// A connection's share of the devices: each `connections`th of what was made for them.
pub(crate) fn share<T: Clone>(all: &[T], connection: usize, connections: usize) -> Vec<T> {
    all.iter().skip(connection).step_by(connections).cloned().collect()
}

/// Sends requests round and round until it is time. Each has to be answered with nothing.
pub(crate) async fn poll(
    mut connection: Connection,
    requests: Vec<Request>,
    until: Instant,
) -> Result<Samples, Failure> {
    let mut samples = Samples::default();
    for request in requests.iter().cycle() {
        let started = Instant::now();
        if started >= until {
            break;
        }
        empty(&mut connection, request).await?;
        samples.add(started.elapsed());
    }
    Ok(samples)
}

/// Enrolls one device after the other: the time of a sample is that of both messages.
pub(crate) async fn enroll(mut connection: Connection, messages: Vec<Pair>) -> Result<Samples, Failure> {
    let mut samples = Samples::with_capacity(messages.len());
    for (authenticate, token_update) in messages {
        let started = Instant::now();
        empty(&mut connection, &authenticate).await?;
        empty(&mut connection, &token_update).await?;
        samples.add(started.elapsed());
    }
    Ok(samples)
}

/// Lets one device after the other fetch the one command that waits for it and report on it: the time of a sample is that
/// of both requests.
pub(crate) async fn round_trips(
    mut connection: Connection,
    messages: Vec<Pair>,
    command: String,
) -> Result<Samples, Failure> {
    let mut samples = Samples::with_capacity(messages.len());
    for (idle, acknowledged) in messages {
        let started = Instant::now();
        let answer = connection.send(&idle).await?.accepted("a poll")?;
        let expected = command.as_bytes();
        if !answer.body.windows(expected.len()).any(|window| window == expected) {
            return Err(format!("a device did not get the command {command}").into());
        }
        empty(&mut connection, &acknowledged).await?;
        samples.add(started.elapsed());
    }
    Ok(samples)
}

async fn empty(connection: &mut Connection, request: &[u8]) -> Result<(), Failure> {
    let answer = connection.send(request).await?.accepted("a device's message")?;
    if answer.body.is_empty() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(answer.body);
    Err(format!("an answer that should be empty is: {text}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_share_the_devices_and_no_device() {
        let devices: Vec<usize> = (0..10).collect();
        let mut shared: Vec<usize> = (0..3).flat_map(|connection| share(&devices, connection, 3)).collect();
        assert_eq!(shared.len(), 10);
        shared.sort_unstable();
        assert_eq!(shared, devices);
    }
}
