//! Seeded numbers, the same in every run.

/// A generator of numbers (`SplitMix64`); the field is the seed.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next of 2^64 numbers.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        it ^ (it >> 31)
    }

    /// A number below `end`, which is above 0.
    pub fn below(&mut self, end: u32) -> u32 {
        // The remainder of a number below 2^32 fits.
        u32::try_from(self.number() % u64::from(end)).unwrap_or_default()
    }

    /// A whole number below `end`.
    pub fn integer(&mut self, end: u32) -> i64 {
        i64::from(self.below(end))
    }

    /// A number from 0 to `end` with two decimals.
    pub fn decimals(&mut self, end: u32) -> f64 {
        f64::from(self.below(end * 100)) / 100.0
    }

    /// A number from 0 to `end` with as many digits as a float has.
    pub fn float(&mut self, end: u32) -> f64 {
        let high = u32::try_from(self.number() >> 32).unwrap_or_default();
        f64::from(high) / f64::from(u32::MAX) * f64::from(end)
    }
}
