//! Rows that another transaction has locked: on PostgreSQL, reports and deliveries of many devices share a statement, which
//! leaves such rows out. Their devices wait, alone, and nobody else does. On SQLite there are no such rows.

use std::time::Duration;

use russet_store::{
    EnrollmentId, EntryState, Poll, PushOutcome, QueueAsk, QueueView, ReportStatus, Reported, Sha256, TokenTarget,
};
use sea_orm::{ConnectionTrait, Database, DatabaseTransaction, TransactionTrait};
use tokio::task::{JoinHandle, JoinSet};
use uuid::Uuid;

use crate::behaviours;
use crate::bench::{Bench, at};
use crate::queue::report;

behaviours![
    a_report_waits_for_its_own_row_alone,
    a_report_finds_what_became_of_its_row,
    a_delivery_waits_for_its_own_row_alone,
    a_delivery_whose_row_was_taken_meanwhile_is_the_next_one,
    a_push_that_is_asked_for_while_the_last_one_is_forgotten_stays,
];

/// A device that was sent its first command, and has two more.
struct Device {
    id: EnrollmentId,
    certificate: Sha256,
    key: String,
    commands: [Uuid; 3],
}

impl Device {
    async fn new(bench: &Bench, key: &str) -> Self {
        let write = bench.authenticate_write(key).await;
        let certificate = write.certificate_sha256;
        let id = bench.store.authenticate(write, at(0)).await.unwrap();
        let token = bench.token(TokenTarget::Enrollment(id));
        bench.store.token_update(token, at(1)).await.unwrap();
        let mut commands = [Uuid::nil(); 3];
        for command in &mut commands {
            *command = bench.queued(id, "DeviceInformation").await;
        }
        let sent = bench.store.next(id, at(3), Poll::Idle).await.unwrap().unwrap();
        assert_eq!(sent.uuid, commands[0]);
        let key = key.to_owned();
        Self {
            id,
            certificate,
            key,
            commands,
        }
    }

    async fn queue(&self, bench: &Bench, ask: QueueAsk) -> QueueView {
        let caller = bench
            .store
            .caller(&self.certificate, bench.tenant, &self.key, ask, at(4));
        caller.await.unwrap().queue
    }

    /// Reports the first command.
    async fn reports(&self, bench: &Bench) -> JoinHandle<(Reported, Option<Uuid>)> {
        let queue = self.queue(bench, QueueAsk::Report(self.commands[0])).await;
        let (store, id) = (bench.store.clone(), self.id);
        let done = report(self.commands[0], ReportStatus::Acknowledged);
        tokio::spawn(async move {
            let (reported, next) = store.report_of(id, done, queue, at(4)).await.unwrap();
            (reported, next.map(|next| next.uuid))
        })
    }

    /// Polls, which brings the second command.
    async fn polls(&self, bench: &Bench) -> JoinHandle<Option<Uuid>> {
        let queue = self.queue(bench, QueueAsk::Idle).await;
        let (store, id) = (bench.store.clone(), self.id);
        tokio::spawn(async move { store.next_of(id, queue, at(4)).await.unwrap().map(|next| next.uuid) })
    }

    async fn state(&self, bench: &Bench, command: usize) -> (EntryState, i64) {
        let entry = bench.store.command_entry(self.id, self.commands[command]).await;
        let entry = entry.unwrap().unwrap();
        (entry.state, entry.attempts)
    }

    /// The condition for the entry of one of its commands.
    fn row(&self, command: usize) -> String {
        format!(
            "enrollment_id = {} AND command_id = (SELECT id FROM commands WHERE uuid = '{}')",
            self.id, self.commands[command]
        )
    }

    /// Another server's transaction, which has locked the entry of one of the commands.
    async fn lock(&self, bench: &Bench, command: usize) -> DatabaseTransaction {
        let other = another(bench).await;
        let sql = format!("SELECT id FROM queue_entries WHERE {} FOR UPDATE", self.row(command));
        let locked = other.execute_unprepared(&sql).await.unwrap();
        assert_eq!(locked.rows_affected(), 1);
        other
    }
}

/// Another server's transaction.
pub(crate) async fn another(bench: &Bench) -> DatabaseTransaction {
    Database::connect(bench.url()).await.unwrap().begin().await.unwrap()
}

/// Until a transaction waits for a lock. That it does is how one knows that it is not just slow.
pub(crate) async fn one_waits(bench: &Bench) {
    let waiting = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while bench.count(waiting).await != 1 {
        assert!(tokio::time::Instant::now() < deadline, "nobody waits for the lock");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn has_row_locks(bench: &Bench) -> bool {
    bench.per("no", "yes") == "yes"
}

async fn a_report_waits_for_its_own_row_alone(bench: Bench) {
    if !has_row_locks(&bench) {
        return;
    }
    let held = Device::new(&bench, "HELD").await;
    let mut others = Vec::new();
    for number in 0..20 {
        others.push(Device::new(&bench, &format!("D{number}")).await);
    }
    let holder = held.lock(&bench, 0).await;
    let waits = held.reports(&bench).await;
    let mut reporting = JoinSet::new();
    for other in &others {
        let (reports, second) = (other.reports(&bench).await, other.commands[1]);
        reporting.spawn(async move { (reports.await.unwrap(), second) });
    }
    for (answer, second) in reporting.join_all().await {
        assert_eq!(answer, (Reported::Recorded, Some(second)));
    }
    one_waits(&bench).await;
    assert!(!waits.is_finished());
    assert_eq!(held.state(&bench, 0).await, (EntryState::Sent, 1));
    assert_eq!(
        held.state(&bench, 1).await,
        (EntryState::Pending, 0),
        "only with the report"
    );

    holder.commit().await.unwrap();
    assert_eq!(waits.await.unwrap(), (Reported::Recorded, Some(held.commands[1])));
    assert_eq!(held.state(&bench, 0).await, (EntryState::Acknowledged, 1));
    assert_eq!(held.state(&bench, 1).await, (EntryState::Sent, 1));
}

async fn a_report_finds_what_became_of_its_row(bench: Bench) {
    if !has_row_locks(&bench) {
        return;
    }
    let device = Device::new(&bench, "D1").await;
    let holder = device.lock(&bench, 0).await;
    let waits = device.reports(&bench).await;
    one_waits(&bench).await;
    let sql = format!(
        "UPDATE queue_entries SET state = 'acknowledged', status = 'Acknowledged', result = 'first', \
         answered_at = 1, finished_at = 1 WHERE {}",
        device.row(0)
    );
    holder.execute_unprepared(&sql).await.unwrap();
    holder.commit().await.unwrap();
    // The first answer stays.
    assert_eq!(waits.await.unwrap(), (Reported::Duplicate, Some(device.commands[1])));
    assert_eq!(
        bench
            .count("queue_entries WHERE result = 'first' AND answered_at = 1")
            .await,
        1
    );
}

async fn a_delivery_waits_for_its_own_row_alone(bench: Bench) {
    if !has_row_locks(&bench) {
        return;
    }
    let (held, other) = (Device::new(&bench, "HELD").await, Device::new(&bench, "D1").await);
    let polling = Device::new(&bench, "D2").await;
    let holder = held.lock(&bench, 1).await;
    // The report is recorded with those of others; what comes after it waits.
    let waits = held.reports(&bench).await;
    assert_eq!(other.reports(&bench).await.await.unwrap().1, Some(other.commands[1]));
    assert_eq!(polling.polls(&bench).await.await.unwrap(), Some(polling.commands[1]));
    one_waits(&bench).await;
    assert_eq!(held.state(&bench, 0).await, (EntryState::Acknowledged, 1));
    assert_eq!(held.state(&bench, 1).await, (EntryState::Pending, 0));
    holder.rollback().await.unwrap();
    assert_eq!(waits.await.unwrap(), (Reported::Recorded, Some(held.commands[1])));
    assert_eq!(held.state(&bench, 1).await, (EntryState::Sent, 1));
}

async fn a_delivery_whose_row_was_taken_meanwhile_is_the_next_one(bench: Bench) {
    if !has_row_locks(&bench) {
        return;
    }
    let device = Device::new(&bench, "D1").await;
    let holder = device.lock(&bench, 1).await;
    let waits = device.polls(&bench).await;
    one_waits(&bench).await;
    let sql = format!(
        "UPDATE queue_entries SET state = 'cancelled', finished_at = 1 WHERE {}",
        device.row(1)
    );
    holder.execute_unprepared(&sql).await.unwrap();
    holder.commit().await.unwrap();
    assert_eq!(waits.await.unwrap(), Some(device.commands[2]));
    assert_eq!(device.state(&bench, 1).await, (EntryState::Cancelled, 0));
}

async fn a_push_that_is_asked_for_while_the_last_one_is_forgotten_stays(bench: Bench) {
    if !has_row_locks(&bench) {
        return;
    }
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let uuid = bench.queued(id, "DeviceInformation").await;
    let jobs = store.push_claim(10, at(60), at(3)).await.unwrap();
    let taken = jobs.into_iter().map(|job| (job, PushOutcome::Taken)).collect();
    store.push_settle(taken, at(3)).await.unwrap();
    store.next(id, at(4), Poll::Idle).await.unwrap();
    let answer = report(uuid, ReportStatus::Acknowledged);
    store.report(id, answer, at(5)).await.unwrap();

    // All is fetched. Another server queues something, and asks for a push, at the moment in which the row is to go.
    let other = another(&bench).await;
    for sql in [
        "UPDATE queue_entries SET state = 'pending', finished_at = NULL",
        "UPDATE push_outbox SET seq = seq + 1",
    ] {
        assert_eq!(other.execute_unprepared(sql).await.unwrap().rows_affected(), 1);
    }
    let claims = {
        let store = store.clone();
        tokio::spawn(async move { store.push_claim(10, at(90_060), at(90_000)).await.unwrap() })
    };
    one_waits(&bench).await;
    other.commit().await.unwrap();
    let pushed: Vec<_> = claims.await.unwrap().iter().map(|job| job.enrollment).collect();
    assert_eq!(pushed, [id]);
}
