//! The load: simulated devices that enroll, poll, report, escrow and misbehave now and then, and an administrator who keeps
//! them busy. Each notes what it was told in a journal; what no server may do is a complaint at once.
//!
//! Half of the devices poll by themselves; the others only when they are pushed, so that a lost push shows as a command that
//! never arrives.

mod administrator;
mod days;
mod devices;
mod judge;
mod running;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use russet_protocol::ReportStatus;
use russet_simulator::SimulatedDevice;
use russet_simulator::apns::ApnsStandIn;
use russet_simulator::device::{Answer, DeviceBuilder, DeviceEvent};
use russet_tests::{ApiUser, World};
use tokio::sync::watch;

pub use self::days::Day;
pub use self::running::Running;
use crate::journal::{Books, DeviceJournal, lock};

/// How long an actor rests after a failure: a server that is down should not be asked a thousand times a second.
const REST: Duration = Duration::from_millis(20);

/// How long anybody waits for an answer.
pub const ANSWER: Duration = Duration::from_secs(5);

/// What an actor does beside its work.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// How often in a hundred rounds a device gets new push credentials, and its old token dies.
    pub new_push_token: u64,
    /// How often it repeats one of its older reports, whichever.
    pub repeat_report: u64,
    /// How often it sends a body that was damaged on the way.
    pub damaged_body: u64,
    /// How often it says "not now".
    pub not_now: u64,
    /// How often the administrator lets a device renew its identity.
    pub renew: u64,
    /// How often the administrator takes a command back.
    pub take_back: u64,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            new_push_token: 4,
            repeat_report: 6,
            damaged_body: 4,
            not_now: 2,
            renew: 1,
            take_back: 2,
        }
    }
}

/// A device and what it was told.
#[derive(Debug)]
pub struct Member {
    /// The device.
    pub device: SimulatedDevice,
    /// Its journal.
    pub journal: Mutex<DeviceJournal>,
    /// It polls when it is pushed, and only then.
    pub listens: bool,
    /// Reports that the server took.
    reports: Mutex<Vec<Answer>>,
    is_listening: AtomicBool,
}

impl Member {
    /// Its serial number.
    pub fn serial(&self) -> &str {
        &self.device.facts().serial_number
    }

    /// The commands that the server knows to be over, in the order in which the server took the answers; a "not now" is no
    /// end. UUIDs are in lower case.
    pub fn finished(&self) -> Vec<(String, ReportStatus)> {
        let answered = self.device.answered().into_iter();
        answered
            .filter(|answered| answered.answer.status != ReportStatus::NotNow)
            .map(|answered| (answered.command_uuid.to_lowercase(), answered.answer.status))
            .collect()
    }

    fn note_push(&self) {
        if let Ok(push) = self.device.push_credentials() {
            let value = (push.token.expose().to_vec(), push.magic.expose().to_owned());
            lock(&self.journal).push.attempt(value);
        }
    }
}

/// The devices and the administrator around one server.
#[derive(Debug)]
pub struct Fleet {
    members: Mutex<Vec<Arc<Member>>>,
    /// What the administrator was told, and complaints.
    pub books: Books,
    apns: ApnsStandIn,
    admin: ApiUser,
    habits: Habits,
    stop: AtomicBool,
    /// Counts everything that the server said yes to.
    progress: Arc<watch::Sender<u64>>,
    /// How many deliveries the administrator asked for, and how many answers the server took.
    asked: AtomicU64,
    answered: Arc<AtomicU64>,
    /// Counts the answers that said "not now, try again".
    refused: watch::Sender<u64>,
    /// The server may find that an identity is not valid yet, or not any more.
    clock_is_wrong: AtomicBool,
}

impl Fleet {
    /// Devices of these habits at a server, none of them enrolled.
    #[must_use]
    pub fn new(world: &World, habits: Habits) -> Arc<Self> {
        Arc::new(Self {
            members: Mutex::default(),
            books: Books::default(),
            apns: world.apns.clone(),
            admin: world.admin.clone(),
            habits,
            stop: AtomicBool::new(false),
            progress: Arc::new(watch::Sender::new(0)),
            asked: AtomicU64::new(0),
            answered: Arc::default(),
            refused: watch::Sender::new(0),
            clock_is_wrong: AtomicBool::new(false),
        })
    }

    /// The devices.
    pub fn members(&self) -> Vec<Arc<Member>> {
        lock(&self.members).clone()
    }

    /// How much the server said yes to.
    pub fn progress(&self) -> u64 {
        *self.progress.borrow()
    }

    /// Waits until the server has said yes so often more.
    pub async fn advances(&self, by: u64) {
        let mut seen = self.progress.subscribe();
        let goal = self.progress() + by;
        let what = format!("the server says yes {by} times more");
        let reached = tokio::time::timeout(russet_tests::PATIENCE, seen.wait_for(|count| *count >= goal));
        assert!(reached.await.is_ok(), "did not happen in time: {what}");
    }

    /// Whether the server may refuse identities because it takes them to be of another time.
    pub fn expect_wrong_clock(&self, wrong: bool) {
        self.clock_is_wrong.store(wrong, Ordering::SeqCst);
    }

    /// Waits until the server has said so often more that it cannot at the moment.
    pub async fn is_refused(&self, by: u64) {
        let mut seen = self.refused.subscribe();
        let goal = *seen.borrow_and_update() + by;
        let refused = tokio::time::timeout(russet_tests::PATIENCE, seen.wait_for(|count| *count >= goal));
        assert!(refused.await.is_ok(), "the server never said that it cannot");
    }

    fn done(&self) {
        self.progress.send_modify(|count| *count += 1);
    }

    /// Adds a device, which is not enrolled.
    ///
    /// # Panics
    /// When the device cannot be made.
    pub fn add(&self, builder: DeviceBuilder, listens: bool) -> Arc<Member> {
        let (progress, answered) = (Arc::clone(&self.progress), Arc::clone(&self.answered));
        let count = move |_: &_, event: &DeviceEvent| {
            if matches!(event, DeviceEvent::Answered { .. }) {
                answered.fetch_add(1, Ordering::SeqCst);
                progress.send_modify(|count| *count += 1);
            }
        };
        let device = builder
            .observe(count)
            .timeout(ANSWER)
            .retry_after(Duration::from_millis(200))
            .build()
            .expect("a device");
        let member = Arc::new(Member {
            device,
            journal: Mutex::default(),
            listens,
            reports: Mutex::default(),
            is_listening: AtomicBool::new(false),
        });
        lock(&self.members).push(Arc::clone(&member));
        member
    }

    /// What was accepted and not answered by the device that it is for: UUID and serial number.
    pub fn missing(&self) -> Vec<(String, String)> {
        let members = self.members();
        let mut missing = Vec::new();
        for member in members {
            let finished: BTreeSet<_> = member.finished().into_iter().map(|(uuid, _)| uuid).collect();
            for command in self.books.accepted() {
                let is_for = command.devices.iter().any(|serial| serial == member.serial());
                if is_for && !command.taken_back && !finished.contains(&command.uuid) {
                    missing.push((command.uuid.clone(), member.serial().to_owned()));
                }
            }
        }
        missing
    }
}
