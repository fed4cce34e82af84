//! The load: simulated devices that enroll, poll, report, escrow and misbehave now and then, and an administrator who keeps
//! them busy. Each notes what it was told in a journal; what no server may do is a complaint at once.
//!
//! Half of the devices poll by themselves; the others only when they are pushed, so that a lost push shows as a command that
//! never arrives.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use russet_protocol::plist::{Dictionary, Value as Plist};
use russet_protocol::{ReportStatus, codec};
use russet_simulator::SimulatedDevice;
use russet_simulator::apns::ApnsStandIn;
use russet_simulator::device::{Answer, DeviceBuilder, DeviceError, DeviceEvent, Scripted, Step};
use russet_tests::{ApiUser, World, eventually};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::journal::{Accepted, Books, DeviceJournal, lock};
use crate::random::Random;

/// How many deliveries may wait for answers before the administrator queues more.
const BACKLOG: u64 = 100;

/// How many of its older reports a device may repeat.
const REMEMBERED: usize = 50;

/// How long an actor rests after a failure: a server that is down should not be asked a thousand times a second.
const REST: Duration = Duration::from_millis(20);

/// What a server says of an identity whose time is not now.
const NOT_VALID_NOW: &str = "not valid at this time";

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

/// A fleet at work.
#[derive(Debug)]
pub struct Running {
    fleet: Arc<Fleet>,
    actors: JoinSet<()>,
    random: Random,
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

    /// Sets everybody to work.
    #[must_use]
    pub fn run(self: &Arc<Self>, random: &Random) -> Running {
        self.stop.store(false, Ordering::SeqCst);
        let mut running = Running {
            fleet: Arc::clone(self),
            actors: JoinSet::new(),
            random: random.split(),
        };
        for member in self.members() {
            running.start(member);
        }
        let fleet = Arc::clone(self);
        let own = random.split();
        running.actors.spawn(async move { fleet.administrate(&own).await });
        running
    }

    /// Enrolls a device. One that fails begins anew, as the person at it would.
    async fn enroll(&self, member: &Member) -> bool {
        // What the server may have from now on is known only once the profile has come.
        let enrolled = member.device.enroll().await;
        member.note_push();
        if let Some(token) = member.device.bootstrap_token() {
            lock(&member.journal).escrow.attempt(token.expose().to_vec());
        }
        match enrolled {
            Ok(()) => {
                let mut journal = lock(&member.journal);
                journal.push.acknowledge();
                journal.enrolled = true;
                drop(journal);
                self.done();
                true
            }
            Err(error) => {
                self.judge(member, "enroll", &error);
                false
            }
        }
    }

    /// Looks at a failure: the server may be away, or say that it cannot at the moment; nothing else is right.
    fn judge(&self, member: &Member, what: &str, error: &DeviceError) {
        let serial = member.serial();
        if let Some(reason) = member.device.unenrolled() {
            self.books
                .complain(format!("{serial} was thrown out at {what}: {reason}"));
        } else if error.status() == Some(503) {
            self.refused.send_modify(|count| *count += 1);
        } else if let Some(status) = error.status()
            && status != 429
            && !(self.clock_is_wrong.load(Ordering::SeqCst) && error.with_causes().contains(NOT_VALID_NOW))
        {
            self.books.complain(format!(
                "{serial} was answered {status} at {what}: {}",
                error.with_causes()
            ));
        }
    }

    async fn live(self: Arc<Self>, member: Arc<Member>, random: Random) {
        let going = || !self.stop.load(Ordering::SeqCst);
        while going() && !lock(&member.journal).enrolled && !self.enroll(&member).await {
            tokio::time::sleep(REST).await;
        }
        if member.listens && !member.is_listening.swap(true, Ordering::SeqCst) {
            let (device, pushes) = (member.device.clone(), self.apns.subscribe());
            // Goes on after the load ends: what waits for a push then has to come too.
            tokio::spawn(async move { device.listen(pushes).await });
        }
        while going() {
            let went_well = self.one_thing(&member, &random).await;
            if !went_well || member.listens {
                tokio::time::sleep(REST).await;
            }
        }
    }

    /// One thing that a device does; whether it went well.
    async fn one_thing(&self, member: &Member, random: &Random) -> bool {
        let (habits, chance) = (self.habits, random.below(100));
        let mut edge = habits.new_push_token;
        if chance < edge {
            return self.new_push_token(member).await;
        }
        edge += habits.repeat_report;
        if chance < edge && !member.listens {
            return self.repeat_a_report(member, random).await;
        }
        edge += habits.damaged_body;
        if chance < edge {
            return self.damaged(member, random).await;
        }
        if chance < edge + 4 {
            return self.deposit(member, random).await;
        }
        if chance < edge + 8 {
            return self.ask_for_escrow(member).await;
        }
        if member.listens {
            return true;
        }
        if random.percent(habits.not_now) {
            member.device.script(None, Scripted::NotNow);
        }
        self.poll(member).await
    }

    /// A session of a device that polls by itself.
    async fn poll(&self, member: &Member) -> bool {
        match member.device.run_until_idle().await {
            Ok(session) => {
                self.done();
                let mut reports = lock(&member.reports);
                reports.extend(session.answered.into_iter().map(|answered| answered.answer));
                let over = reports.len().saturating_sub(REMEMBERED);
                reports.drain(..over);
                true
            }
            Err(error) => {
                self.judge(member, "a session", &error);
                false
            }
        }
    }

    async fn new_push_token(&self, member: &Member) -> bool {
        let _between = member.device.between_sessions().await;
        let Ok(old) = member.device.push_credentials() else {
            return false;
        };
        // As Apple does it: the new token works before the server knows it, and the old one is dead soon.
        member.device.renew_push_credentials();
        let registered = member.device.register_for_push(&self.apns);
        self.apns.unregister(old.token.expose());
        member.note_push();
        let updated = match registered {
            Ok(()) => member.device.token_update().await,
            Err(error) => Err(error),
        };
        let result = self.told(member, "TokenUpdate", updated);
        if result {
            lock(&member.journal).push.acknowledge();
        }
        result
    }

    /// Sends the push credentials until the server has taken them: a device does not let go of that.
    async fn insist_on_push_token(&self, member: &Member) {
        eventually("the server takes the push token", || async {
            let _between = member.device.between_sessions().await;
            member.note_push();
            let updated = member.device.token_update().await;
            let told = self.told(member, "TokenUpdate", updated);
            if told {
                lock(&member.journal).push.acknowledge();
            }
            told.then_some(())
        })
        .await;
    }

    async fn deposit(&self, member: &Member, random: &Random) -> bool {
        let _between = member.device.between_sessions().await;
        let token = random.bytes(32);
        lock(&member.journal).escrow.attempt(token.clone());
        let sent = member
            .device
            .raw_check_in(check_in(
                member,
                "SetBootstrapToken",
                [("BootstrapToken", Plist::Data(token))],
            ))
            .await;
        let sent = sent.and_then(|answer| answer.accepted(Step::CheckIn("SetBootstrapToken")));
        let result = self.told(member, "SetBootstrapToken", sent);
        if result {
            lock(&member.journal).escrow.acknowledge();
        }
        result
    }

    /// Asks for the bootstrap token and compares it.
    pub async fn ask_for_escrow(&self, member: &Member) -> bool {
        let _between = member.device.between_sessions().await;
        let asked = member.device.get_bootstrap_token().await;
        let token = match asked {
            Ok(token) => token.map(|token| token.expose().to_vec()),
            Err(error) => {
                self.judge(member, "GetBootstrapToken", &error);
                return false;
            }
        };
        let expected = lock(&member.journal).escrow.may_be(token.as_ref());
        if !expected {
            let what = if token.is_some() { "another token" } else { "no token" };
            self.books.complain(format!(
                "{} deposited a bootstrap token and got {what} back",
                member.serial()
            ));
        }
        self.done();
        true
    }

    /// Repeats a report that was answered long ago, or lately: out of order, and again.
    async fn repeat_a_report(&self, member: &Member, random: &Random) -> bool {
        let reports = lock(&member.reports).clone();
        if reports.is_empty() {
            return true;
        }
        let old = random.one(&reports).clone();
        let repeated = member.device.poll(&old).await;
        match repeated {
            Ok(None) => true,
            Ok(Some(command)) => {
                // The answer of a repeated report is a command like any other.
                let polled = member.device.answer(&command).await;
                // What comes now is lost, as if the connection had ended: it is offered again.
                self.told(member, "a report", polled)
            }
            Err(error) => {
                self.judge(member, "a repeated report", &error);
                false
            }
        }
    }

    /// Sends a body that was cut, or changed, and expects to be refused without harm.
    async fn damaged(&self, member: &Member, random: &Random) -> bool {
        // One that is still a poll is answered with a command that nobody reads. Who polls by itself soon comes again.
        let report = !member.listens && random.percent(50);
        let body = match report {
            true => idle(member),
            false => check_in(
                member,
                "SetBootstrapToken",
                [("BootstrapToken", Plist::Data(vec![1; 32]))],
            ),
        };
        let mut damaged = body.clone();
        let length = u64::try_from(body.len()).expect("a body is not so long");
        let at = usize::try_from(random.below(length)).expect("an index of the body");
        match random.below(3) {
            0 => damaged.truncate(at),
            1 => damaged[at] = 0,
            _ => damaged.splice(at..at, random.bytes(16)).for_each(drop),
        }
        // White space at the end may go, and so may a byte of a name that nobody reads; what is still a message is one.
        let sent = match report {
            true => member.device.raw_connect(damaged).await,
            false => member.device.raw_check_in(damaged).await,
        };
        match sent {
            Err(_) => false,
            Ok(answer) => {
                let status = answer.status.as_u16();
                if !matches!(status, 200 | 400 | 403 | 413 | 415 | 422 | 429 | 503) {
                    self.books
                        .complain(format!("a damaged body was answered {status}: {}", answer.text()));
                }
                if !report && status == 200 {
                    let mut journal = lock(&member.journal);
                    journal.escrow.attempt(vec![1; 32]);
                    journal.escrow.acknowledge();
                }
                true
            }
        }
    }

    /// Lets an administrator renew a device's identity, and the device do it.
    ///
    /// # Panics
    /// When it does not get another certificate.
    pub async fn renew(&self, member: &Member) {
        let certificate = || member.device.identity().map(|identity| identity.certificate().sha256());
        let before = certificate();
        let path = format!("/devices/{}/renew", member.serial());
        let what = format!("{} renews its identity", member.serial());
        eventually(&what, || async {
            // One that is under way already is as good.
            let _ = self.ask(&path, &json!({})).await;
            if !member.listens {
                self.poll(member).await;
            }
            (certificate() != before).then_some(())
        })
        .await;
    }

    fn told<T>(&self, member: &Member, what: &str, result: Result<T, DeviceError>) -> bool {
        match result {
            Ok(_) => {
                self.done();
                true
            }
            Err(error) => {
                self.judge(member, what, &error);
                false
            }
        }
    }

    async fn administrate(&self, random: &Random) {
        let mut number = 0;
        while !self.stop.load(Ordering::SeqCst) {
            number += 1;
            if !self.administrate_once(random, number).await {
                tokio::time::sleep(REST).await;
            }
        }
    }

    /// Queues a command, or takes one back; whether it went well.
    async fn administrate_once(&self, random: &Random, number: u64) -> bool {
        let members: Vec<_> = self
            .members()
            .into_iter()
            .filter(|member| lock(&member.journal).enrolled)
            .collect();
        if members.is_empty() || self.open() > BACKLOG {
            return false;
        }
        if random.percent(self.habits.take_back) {
            let accepted = self.books.accepted();
            let Some(last) = accepted.last() else { return true };
            self.books.take_back(&last.uuid);
            let path = format!("/commands/{}/cancel", last.uuid);
            return self.ask(&path, &json!({})).await.is_some();
        }
        if random.percent(self.habits.renew) {
            let path = format!("/devices/{}/renew", random.one(&members).serial());
            return self.ask(&path, &json!({})).await.is_some();
        }
        let count = random.between(1, u64::try_from(members.len()).expect("few devices"));
        let mut devices: Vec<_> = members.iter().map(|member| member.serial().to_owned()).collect();
        while u64::try_from(devices.len()).expect("few devices") > count {
            let at = usize::try_from(random.below(u64::try_from(devices.len()).expect("few devices")));
            devices.remove(at.expect("an index"));
        }
        // Types that are not asked for twice while one waits would be dropped as duplicates: these differ.
        let command = json!({
            "RequestType": "InstalledApplicationList", "Identifiers": [format!("org.example.app{number}")],
        });
        let answer = self
            .ask("/commands", &json!({"devices": devices, "command": command}))
            .await;
        let Some(answer) = answer else { return false };
        let Some(uuid) = answer["command_uuid"].as_str() else {
            self.books.complain(format!("a queued command has no UUID: {answer}"));
            return false;
        };
        let count = u64::try_from(devices.len()).expect("few devices");
        self.asked.fetch_add(count, Ordering::SeqCst);
        self.books.accept(Accepted {
            uuid: uuid.to_owned(),
            devices,
            taken_back: false,
        });
        self.done();
        true
    }

    /// How many deliveries wait for an answer.
    fn open(&self) -> u64 {
        let answered = self.answered.load(Ordering::SeqCst);
        self.asked.load(Ordering::SeqCst).saturating_sub(answered)
    }

    /// The answer to a request of the administrator's, if the server is there and can.
    async fn ask(&self, path: &str, body: &Value) -> Option<Value> {
        let request = self.admin.of_tenant(Method::POST, path).json(body).timeout(ANSWER);
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        let text = answer.text().await.ok()?;
        match status {
            200..300 => serde_json::from_str(&text).ok(),
            // A device that has not answered its last renewal is not asked again; a command may be over already.
            404 | 409 | 422 | 429 => None,
            503 => {
                self.refused.send_modify(|count| *count += 1);
                None
            }
            _ => {
                self.books
                    .complain(format!("the API answered {status} at {path}: {text}"));
                None
            }
        }
    }
}

impl Running {
    /// Adds a device to the fleet, which begins by enrolling.
    pub fn join(&mut self, builder: DeviceBuilder, listens: bool) {
        let member = self.fleet.add(builder, listens);
        self.start(member);
    }

    fn start(&mut self, member: Arc<Member>) {
        let random = self.random.split();
        self.actors.spawn(Arc::clone(&self.fleet).live(member, random));
    }

    /// Lets all come to rest, but for the devices that listen. [`go_on`](Self::go_on) sets them to work again.
    pub async fn pause(&mut self) {
        self.fleet.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.actors.join_next().await {
            ended.expect("no actor panics");
        }
    }

    /// Sets all to work again after a [pause](Self::pause).
    pub fn go_on(&mut self) {
        let again = self.fleet.run(&self.random);
        self.actors = again.actors;
    }

    /// Ends the load; the devices that listen go on listening.
    pub async fn stop(mut self) {
        self.pause().await;
    }

    /// Ends the load and waits until all that was accepted has been answered: by what the devices that poll fetch, and by
    /// what the others are pushed for.
    ///
    /// # Panics
    /// When that does not happen; the message says what is missing.
    pub async fn settle(self) {
        let fleet = Arc::clone(&self.fleet);
        self.stop().await;
        fleet.admin.reach().await;
        for member in fleet.members() {
            eventually("every device enrolls at last", || async {
                let enrolled = lock(&member.journal).enrolled;
                (enrolled || fleet.enroll(&member).await).then_some(())
            })
            .await;
            fleet.insist_on_push_token(&member).await;
        }
        let deadline = Instant::now() + russet_tests::PATIENCE;
        loop {
            for member in fleet.members().iter().filter(|member| !member.listens) {
                fleet.poll(member).await;
            }
            let missing = fleet.missing();
            if missing.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "commands never arrived: {missing:?}");
            tokio::time::sleep(REST).await;
        }
    }
}

impl Fleet {
    /// What was accepted and not answered by the device that it is for.
    pub fn missing(&self) -> Vec<String> {
        let members = self.members();
        let mut missing = Vec::new();
        for member in members {
            let finished: std::collections::BTreeSet<_> = member.finished().into_iter().map(|(uuid, _)| uuid).collect();
            for command in self.books.accepted() {
                let is_for = command.devices.iter().any(|serial| serial == member.serial());
                if is_for && !command.taken_back && !finished.contains(&command.uuid) {
                    missing.push(format!("{} for {}", command.uuid, member.serial()));
                }
            }
        }
        missing
    }
}

/// The bytes of a check-in message of a device.
fn check_in<const N: usize>(member: &Member, message_type: &str, fields: [(&str, Plist); N]) -> Vec<u8> {
    let mut message = Dictionary::from_iter(
        [
            ("MessageType", Plist::from(message_type)),
            ("UDID", Plist::from(member.device.facts().udid.as_str())),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    message.extend(fields.map(|(key, value)| (key.to_owned(), value)));
    codec::encode(&message)
}

/// The bytes of a poll.
fn idle(member: &Member) -> Vec<u8> {
    let message = Dictionary::from_iter(
        [
            ("Status", Plist::from("Idle")),
            ("UDID", Plist::from(member.device.facts().udid.as_str())),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    codec::encode(&message)
}
