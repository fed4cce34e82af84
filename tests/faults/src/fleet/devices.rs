//! What a device does of itself: it enrolls, polls, reports, escrows and misbehaves now and then.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use russet_protocol::codec;
use russet_protocol::plist::{Dictionary, Value as Plist};
use russet_simulator::device::Step;
use russet_tests::eventually;
use serde_json::json;

use super::{Fleet, Member, REST};
use crate::journal::lock;
use crate::random::Random;

/// How many of its older reports a device may repeat.
const REMEMBERED: usize = 50;

impl Fleet {
    /// Enrolls a device. One that fails begins anew, as the person at it would.
    pub async fn enroll(&self, member: &Member) -> bool {
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

    pub(super) async fn live(self: Arc<Self>, member: Arc<Member>, random: Random) {
        let going = || !self.stop.load(Ordering::SeqCst);
        while going() && !lock(&member.journal).enrolled && !self.enroll(&member).await {
            tokio::time::sleep(REST).await;
        }
        self.listen(&member);
        while going() {
            let went_well = self.one_thing(&member, &random).await;
            if !went_well || member.listens {
                tokio::time::sleep(REST).await;
            }
        }
    }

    /// Lets an enrolled device answer pushes, if it is one that does.
    pub fn listen(&self, member: &Member) {
        if member.listens && !member.is_listening.swap(true, Ordering::SeqCst) {
            let (device, pushes) = (member.device.clone(), self.apns.subscribe());
            // Goes on after the load ends: what waits for a push then has to come too.
            tokio::spawn(async move { device.listen(pushes).await });
        }
    }

    /// One thing that a device does; whether it went well.
    pub(super) async fn one_thing(&self, member: &Member, random: &Random) -> bool {
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
        if !random.percent(habits.not_now) {
            return self.poll(member).await;
        }
        member.device.answer_not_now_once();
        let went_well = self.poll(member).await;
        // One that nothing was fetched with would add up: a command that is put off again and again is offered in a minute.
        member.device.unscript();
        went_well
    }

    /// Lets each device come of itself, as one does that starts.
    pub async fn come(&self) {
        for member in self.members() {
            self.poll(&member).await;
        }
        tokio::time::sleep(REST).await;
    }

    /// A session of a device that polls by itself.
    pub(super) async fn poll(&self, member: &Member) -> bool {
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
    pub(super) async fn insist_on_push_token(&self, member: &Member) {
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
        // A device keeps one answer that was not taken yet. The command that comes for the repeated report would put its own
        // in that place, and nobody would ever tell the device that the server had the other one already.
        if reports.is_empty() || !self.poll(member).await {
            return reports.is_empty();
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
        // White space at the end may go, and so may a byte of a name that nobody reads; what is still a message is one, and if
        // its answer is lost, it may have been taken.
        if !report {
            lock(&member.journal).escrow.attempt(vec![1; 32]);
        }
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
                if !report {
                    let mut journal = lock(&member.journal);
                    match status {
                        200 => journal.escrow.acknowledge(),
                        400..500 => journal.escrow.refuse(),
                        _ => {}
                    }
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
