//! The load while it runs: its tasks, how it pauses, and how it comes to its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use russet_simulator::device::DeviceBuilder;
use russet_tests::eventually;
use tokio::task::JoinSet;

use super::{Fleet, Member, REST};
use crate::journal::lock;
use crate::random::Random;

/// A fleet at work.
#[derive(Debug)]
pub struct Running {
    fleet: Arc<Fleet>,
    actors: JoinSet<()>,
    random: Random,
}

impl Fleet {
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
    /// what the others are pushed for. Returns what did not arrive in time: UUID and serial number.
    ///
    /// # Panics
    /// When a device cannot even enroll.
    #[must_use = "what is missing is lost"]
    pub async fn settle(self) -> Vec<(String, String)> {
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
            if missing.is_empty() || Instant::now() > deadline {
                return missing;
            }
            tokio::time::sleep(REST).await;
        }
    }
}
