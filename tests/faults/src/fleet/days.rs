//! The load by the day: everybody does a certain number of things, the same each day, and is done. For scenarios that
//! compare one day with another.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::Fleet;
use crate::random::Random;

/// What a device and the administrator do in a day.
#[derive(Clone, Copy, Debug)]
pub struct Day {
    /// Makes the choices, each day the same.
    pub seed: u64,
    /// How many things a device does.
    pub things: u64,
    /// How often the administrator queues a command, or takes one back.
    pub commands: u64,
}

impl Fleet {
    /// Lets a day pass, as its clock has it.
    ///
    /// # Panics
    /// When an actor does.
    pub async fn day(self: &Arc<Self>, day: Day) {
        let mut actors = JoinSet::new();
        let random = Random::new(day.seed);
        for member in self.members() {
            let (fleet, random) = (Arc::clone(self), random.split());
            actors.spawn(async move {
                for _ in 0..day.things {
                    fleet.one_thing(&member, &random).await;
                }
            });
        }
        let (fleet, random) = (Arc::clone(self), random.split());
        actors.spawn(async move {
            for number in 1..=day.commands {
                fleet.administrate_once(&random, number).await;
            }
        });
        while let Some(ended) = actors.join_next().await {
            ended.expect("no actor panics");
        }
    }

    /// Lets the devices that poll by themselves fetch what there is; whether all could.
    pub async fn fetch(&self) -> bool {
        let mut all = true;
        for member in self.members().iter().filter(|member| !member.listens) {
            all &= self.poll(member).await;
        }
        all
    }
}
