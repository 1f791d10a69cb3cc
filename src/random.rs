//! Seeded, splittable randomness: the same seed tells the same story on every platform.
//!
//! `SplitMix64` (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, figure 16):
//! a Weyl sequence whose terms are mixed. It passes `BigCrush`, needs one addition and a mix for each draw, and
//! `split` gives an independent stream, so that one component's draws never shift another's.

/// The odd integer nearest to 2^64 divided by the golden ratio: the default step of the sequence.
pub const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// One term of the sequence, mixed: a bijection of 64-bit words (Stafford's variant 13).
#[inline]
pub const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A word scaled to `0..bound`; the bias is below `bound / 2^64` (Lemire 2019, without the rejection).
#[inline]
pub const fn scale(word: u64, bound: u64) -> u64 {
    ((word as u128 * bound as u128) >> 64) as u64
}

/// A word as a float in `[0, 1)`, of 53 bits.
#[inline]
pub const fn unit(word: u64) -> f64 {
    (word >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// A seeded generator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Random {
    state: u64,
    step: u64,
}

impl Random {
    /// The generator of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed, step: GOLDEN }
    }

    /// The next 64 bits.
    #[inline]
    pub const fn word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(self.step);
        mix(self.state)
    }

    /// An integer in `0..bound`; 0 when `bound` is 0.
    #[inline]
    pub const fn below(&mut self, bound: u64) -> u64 {
        scale(self.word(), bound)
    }

    /// A float in `[0, 1)`.
    #[inline]
    pub const fn unit(&mut self) -> f64 {
        unit(self.word())
    }

    /// A generator whose draws are independent of all that this one draws from here on.
    #[must_use]
    pub const fn split(&mut self) -> Self {
        let state = self.word();
        Self { state, step: odd_step(self.word()) }
    }
}

/// A step must be odd, and its bits must alternate enough for the mix to work on (the paper's `mixGamma`).
const fn odd_step(word: u64) -> u64 {
    let word = (word ^ (word >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let word = (word ^ (word >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    let step = (word ^ (word >> 33)) | 1;
    if (step ^ (step >> 1)).count_ones() < 24 { step ^ 0xaaaa_aaaa_aaaa_aaaa } else { step }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_of_seed_1234567_is_the_published_one() {
        // Rosetta Code, "Pseudo-random numbers/Splitmix64".
        let mut random = Random::new(1_234_567);
        let drawn: Vec<u64> = (0..5).map(|_| random.word()).collect();
        assert_eq!(
            drawn,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821
            ]
        );
    }

    #[test]
    fn a_split_stream_does_not_shift_when_its_parent_draws() {
        let mut parent = Random::new(7);
        let mut child = parent.split();
        let mut again = Random::new(7);
        let mut twin = again.split();
        for _ in 0..10 {
            parent.word();
        }
        for _ in 0..100 {
            assert_eq!(child.word(), twin.word());
        }
    }

    #[test]
    fn below_covers_its_range_evenly() {
        let mut random = Random::new(3);
        let mut seen = [0u32; 7];
        for _ in 0..70_000 {
            seen[random.below(7) as usize] += 1;
        }
        assert!(seen.iter().all(|&count| (9_600..10_400).contains(&count)), "{seen:?}");
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn unit_stays_below_one() {
        assert!(unit(u64::MAX) < 1.0);
        assert!(unit(0).abs() < f64::EPSILON);
    }
}
