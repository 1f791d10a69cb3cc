//! Small sets of small numbers, copied by value.

/// A set of numbers below `64 * N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bits<const N: usize>([u64; N]);

impl<const N: usize> Bits<N> {
    pub(super) const EMPTY: Self = Self([0; N]);

    #[inline]
    pub(super) const fn has(&self, member: u32) -> bool {
        self.0[member as usize / 64] >> (member % 64) & 1 == 1
    }

    #[inline]
    pub(super) const fn with(mut self, member: u32) -> Self {
        self.0[member as usize / 64] |= 1 << (member % 64);
        self
    }

    #[inline]
    pub(super) const fn without(mut self, member: u32) -> Self {
        self.0[member as usize / 64] &= !(1 << (member % 64));
        self
    }

    /// Whether all of it is in `other`.
    #[inline]
    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(mine, theirs)| mine & !theirs == 0)
    }

    /// Mixes it into a hash.
    #[inline]
    pub(super) fn hash(&self, seed: u64) -> u64 {
        self.0
            .iter()
            .fold(seed, |hash, word| (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
    }
}
