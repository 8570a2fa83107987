//! Numbers that look random and can be had again.

use std::time::{SystemTime, UNIX_EPOCH};

/// A small generator (splitmix64): what follows from a seed is the same on every machine.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// With the seed that the environment variable names, else with one of this moment. Prints which, so that the run
    /// can be repeated.
    pub fn seeded(variable: &str) -> Self {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        let seed = number(variable).unwrap_or_else(|| now() % 1_000_000);
        println!("{variable}={seed}");
        Self(seed)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound.max(1) as u64) as usize
    }

    /// One of two.
    pub fn chance(&mut self) -> bool {
        self.below(2) == 0
    }

    /// One of these; nothing of none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }

    /// A range of `length` items, at most `most` long.
    pub fn range(&mut self, length: usize, most: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        start..(start + self.below(most + 1)).min(length)
    }
}

/// The number that an environment variable holds; nothing where it is not set.
///
/// # Panics
/// When it holds something else: a run with another number than the one asked for would mislead.
#[expect(clippy::panic, reason = "a test that cannot go on panics")]
pub fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}
