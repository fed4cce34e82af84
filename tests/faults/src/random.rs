//! Random numbers that a seed makes again: SplitMix64, which needs no state but a number. Nothing here is secret.

use std::sync::atomic::{AtomicU64, Ordering};

/// A source of numbers. Every part of a scenario gets [one of its own](Self::split), so that the parts do not disturb each
/// other's.
#[derive(Debug)]
pub struct Random(AtomicU64);

impl Random {
    /// From a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// Any number.
    pub fn any(&self) -> u64 {
        let mut z = self
            .0
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
            .wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is above 0.
    pub fn below(&self, end: u64) -> u64 {
        self.any() % end
    }

    /// A number of this range, both ends included.
    pub fn between(&self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// True this often in a hundred.
    pub fn percent(&self, often: u64) -> bool {
        self.below(100) < often
    }

    /// One of these.
    pub fn one<'a, T>(&self, of: &'a [T]) -> &'a T {
        let count = u64::try_from(of.len()).expect("a list has fewer items than a number can say");
        let at = usize::try_from(self.below(count)).expect("an index of a list");
        &of[at]
    }

    /// So many bytes.
    pub fn bytes(&self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.any().to_le_bytes()[0]).collect()
    }

    /// A source for another part.
    #[must_use]
    pub fn split(&self) -> Self {
        Self::new(self.any())
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn a_seed_makes_the_same_numbers_again() {
        let numbers = |seed| {
            let random = Random::new(seed);
            let part = random.split();
            [random.any(), part.any(), random.between(3, 5), random.below(10)]
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
        assert!((3..=5).contains(&numbers(9)[2]));
    }
}
