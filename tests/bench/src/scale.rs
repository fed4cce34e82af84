//! How much is measured.

use std::time::Duration;

/// The sizes of a run. Figures of runs of different sizes are not comparable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    quick: bool,
}

impl Scale {
    pub(crate) fn new(quick: bool) -> Self {
        Self { quick }
    }

    fn pick<T>(self, whole: T, quick: T) -> T {
        if self.quick { quick } else { whole }
    }

    /// Hook calls of each kind in one of the rounds.
    pub(crate) fn hook_calls(self) -> usize {
        self.pick(10_000, 200)
    }

    /// How often the kinds of hook calls take turns.
    pub(crate) fn hook_rounds(self) -> usize {
        self.pick(5, 2)
    }

    /// How long hooks are called beside hostile plugins, in each round, in seconds: a turn of all of those takes about one.
    pub(crate) fn hostile_seconds(self) -> u64 {
        self.pick(4, 1)
    }

    /// Installs of a revision.
    pub(crate) fn swaps(self) -> usize {
        self.pick(500, 10)
    }

    /// Swaps one after the other, while requests are made.
    pub(crate) fn storm_swaps(self) -> usize {
        self.pick(10_000, 30)
    }

    /// How often calls with and without a shadow take turns, and for how long each.
    pub(crate) fn shadow_turns(self) -> (usize, Duration) {
        self.pick((20, Duration::from_secs(1)), (2, Duration::from_millis(100)))
    }

    /// The same of requests to a server.
    pub(crate) fn shadowed_requests(self) -> (usize, Duration) {
        self.pick((20, Duration::from_secs(3)), (2, Duration::from_millis(600)))
    }

    /// How long calls are made without and with swaps beside them.
    pub(crate) fn swap_load(self) -> Duration {
        self.pick(Duration::from_secs(5), Duration::from_millis(300))
    }

    /// Loads of each plugin, each with and without a warm cache.
    pub(crate) fn loads(self) -> usize {
        self.pick(10, 2)
    }

    /// Different plugins in one process.
    pub(crate) fn plugins(self) -> usize {
        self.pick(1_000, 5)
    }

    /// Pushes at each concurrency above one.
    pub(crate) fn pushes(self) -> usize {
        self.pick(100_000, 500)
    }

    /// Starts of the server.
    pub(crate) fn starts(self) -> usize {
        self.pick(15, 2)
    }

    /// After this time an idle server has done whatever it puts off.
    pub(crate) fn settling(self) -> Duration {
        self.pick(Duration::from_secs(3), Duration::from_millis(100))
    }

    /// Devices that enroll on each back end, without a gate and with one: for seconds, so that the first of each connection
    /// weigh little.
    pub(crate) fn enrolling(self) -> usize {
        self.pick(4_000, 16)
    }

    /// Those of them that poll and answer afterwards.
    pub(crate) fn devices(self) -> usize {
        self.pick(1_500, 24)
    }

    /// How long devices poll at each number of connections.
    pub(crate) fn polling(self) -> Duration {
        self.pick(Duration::from_secs(10), Duration::from_millis(300))
    }

    /// Rounds of one command to every device.
    pub(crate) fn command_rounds(self) -> usize {
        self.pick(15, 2)
    }

    /// Changes of a plugin's settings through the API while devices poll.
    pub(crate) fn api_swaps(self) -> usize {
        self.pick(50, 3)
    }

    /// Devices in each database where costs are counted and extrapolated.
    pub(crate) fn tenfold_devices(self) -> usize {
        self.pick(100_000, 400)
    }

    /// How often each operation is made there.
    pub(crate) fn tenfold_operations(self) -> usize {
        self.pick(2_000, 40)
    }

    /// Rounds of one command to every device while the command policy is asked.
    pub(crate) fn guarded_rounds(self) -> usize {
        self.pick(2, 1)
    }

    /// After this time the database has told what it did.
    pub(crate) fn statistics(self) -> Duration {
        self.pick(Duration::from_secs(11), Duration::from_millis(10))
    }

    /// Enrolled devices where there are few and where there are many.
    pub(crate) fn populations(self) -> [usize; 2] {
        self.pick([1_000, 1_000_000], [100, 3_000])
    }

    /// How many of them are real and poll.
    pub(crate) fn sampled(self) -> usize {
        self.pick(64, 8)
    }

    /// How many of the many can be pushed to.
    pub(crate) fn awake(self) -> usize {
        self.pick(100_000, 1_500)
    }

    /// How many devices are named for one command.
    pub(crate) fn named(self) -> usize {
        self.pick(10_000, 1_000)
    }

    /// How often the few and the many take turns, and for how long each.
    pub(crate) fn turns(self) -> (usize, Duration) {
        self.pick((7, Duration::from_secs(2)), (2, Duration::from_millis(200)))
    }
}
