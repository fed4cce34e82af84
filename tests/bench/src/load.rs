//! Load: a number of connections, each with devices of its own, each sending its next request when the last is answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use russet_store::testing::PostgresCluster;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::stats::Samples;
use crate::wire::Connection;
use crate::{Failure, cpu};

/// A request of a device, made beforehand.
pub(crate) type Request = Arc<[u8]>;

/// Two that a device sends one after the other.
pub(crate) type Pair = (Request, Request);

/// Whose processor time counts, and who writes.
#[derive(Clone)]
pub(crate) struct Processes {
    server: u32,
    /// The database's server, and its first process; none for a database inside our server.
    database: Option<(Arc<PostgresCluster>, u32)>,
}

/// What a load was like.
pub(crate) struct Measured {
    pub(crate) samples: Samples,
    pub(crate) elapsed: Duration,
    pub(crate) server: Duration,
    pub(crate) database: Option<Duration>,
    pub(crate) generator: Duration,
    /// What was written, in bytes: to the write-ahead log of PostgreSQL, or by our server to its disk.
    pub(crate) written: u64,
}

impl Measured {
    /// Adds another part of the same load.
    pub(crate) fn merge(&mut self, other: Self) {
        self.samples.merge(other.samples);
        self.elapsed += other.elapsed;
        self.server += other.server;
        self.generator += other.generator;
        self.written += other.written;
        if let (Some(ours), Some(theirs)) = (&mut self.database, other.database) {
            *ours += theirs;
        }
    }
}

impl Processes {
    pub(crate) fn new(server: u32, cluster: Option<&Arc<PostgresCluster>>) -> Result<Self, Failure> {
        // The process that starts one for each connection.
        let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
        let first = |cluster: &Arc<PostgresCluster>| -> Result<_, Failure> {
            let checkpointer = cluster.query("postgres", sql)?.parse()?;
            Ok((Arc::clone(cluster), cpu::parent(checkpointer)?))
        };
        Ok(Self {
            server,
            database: cluster.map(first).transpose()?,
        })
    }

    pub(crate) fn back_end(&self) -> &'static str {
        if self.database.is_some() {
            "PostgreSQL"
        } else {
            "SQLite"
        }
    }

    fn used(&self) -> Result<[Duration; 3], Failure> {
        let database = self.database.as_ref().map(|(_, first)| cpu::used_by_family(*first));
        Ok([
            cpu::used(self.server)?,
            database.unwrap_or(Ok(Duration::ZERO))?,
            cpu::used(std::process::id())?,
        ])
    }

    fn written(&self) -> Result<u64, Failure> {
        match &self.database {
            None => cpu::written(self.server),
            Some((cluster, _)) => {
                let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')";
                Ok(cluster.query("postgres", sql)?.parse()?)
            }
        }
    }

    /// How many rows were written to the tables of a database so far; nothing of a database inside our server tells.
    pub(crate) async fn rows(&self, database: &str, settled: Duration) -> Result<Option<f64>, Failure> {
        let Some((cluster, _)) = &self.database else {
            return Ok(None);
        };
        // A connection tells what it did when it has had nothing to do for ten seconds, at the latest.
        tokio::time::sleep(settled).await;
        let sql = "SELECT COALESCE(SUM(n_tup_ins + n_tup_upd + n_tup_del), 0) FROM pg_stat_user_tables";
        Ok(Some(cluster.query(database, sql)?.parse()?))
    }

    /// Runs workers at the same time until all are done.
    pub(crate) async fn measure<W>(&self, workers: Vec<W>) -> Result<Measured, Failure>
    where
        W: Future<Output = Result<Samples, Failure>> + Send + 'static,
    {
        let (before, written) = (self.used()?, self.written()?);
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
            database: self.database.as_ref().map(|_| database),
            generator,
            written: self.written()?.saturating_sub(written),
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
    for messages in &messages {
        samples.add(enroll_one(&mut connection, messages).await?);
    }
    Ok(samples)
}

/// The same round and round until it is time: a device may enroll again.
pub(crate) async fn enroll_until(
    mut connection: Connection,
    messages: Vec<Pair>,
    until: Instant,
) -> Result<Samples, Failure> {
    let mut samples = Samples::default();
    for messages in messages.iter().cycle() {
        if Instant::now() >= until {
            break;
        }
        samples.add(enroll_one(&mut connection, messages).await?);
    }
    Ok(samples)
}

/// Enrolls a device; how long it took.
async fn enroll_one(connection: &mut Connection, (authenticate, token_update): &Pair) -> Result<Duration, Failure> {
    let started = Instant::now();
    empty(connection, authenticate).await?;
    empty(connection, token_update).await?;
    Ok(started.elapsed())
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

/// Sends one device's requests after the other, each once and whatever is answered, as long as it is accepted.
pub(crate) async fn each(mut connection: Connection, requests: Vec<Request>) -> Result<Samples, Failure> {
    let mut samples = Samples::with_capacity(requests.len());
    for request in requests {
        let started = Instant::now();
        connection.send(&request).await?.accepted("a device's message")?;
        samples.add(started.elapsed());
    }
    Ok(samples)
}

/// Sends requests round and round until told to stop; each has to be accepted.
pub(crate) async fn until(
    mut connection: Connection,
    requests: Vec<Request>,
    mut stop: oneshot::Receiver<()>,
) -> Result<Samples, Failure> {
    let mut samples = Samples::default();
    for request in requests.iter().cycle() {
        if !matches!(stop.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
            break;
        }
        let started = Instant::now();
        empty(&mut connection, request).await?;
        samples.add(started.elapsed());
    }
    Ok(samples)
}

/// Lets one device after the other deposit a secret and fetch it: the time of a sample is that of both requests.
pub(crate) async fn deposits(
    mut connection: Connection,
    messages: Vec<Pair>,
    expected: Arc<[u8]>,
) -> Result<Samples, Failure> {
    let mut samples = Samples::with_capacity(messages.len());
    for (deposit, fetch) in messages {
        let started = Instant::now();
        empty(&mut connection, &deposit).await?;
        let answer = connection.send(&fetch).await?.accepted("a fetched secret")?;
        if !answer.body.windows(expected.len()).any(|window| window == &*expected) {
            return Err("a device did not get its secret back".into());
        }
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
