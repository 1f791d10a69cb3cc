//! Arithmetic on sets of voters: majorities, and two at once (joint consensus, thesis §4.3).
//!
//! A [`Quorum`] is a set of voters, and while a membership changes a second one, the *outgoing* voters; then what
//! is decided must be decided by a majority of each.

use crate::id::NodeId;

/// How a vote stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteResult {
    /// Enough voters said yes.
    Won,
    /// So many said no that it cannot be won any more.
    Lost,
    /// The voters who have not spoken decide.
    Pending,
}

/// The smallest number of `voters` that any two such groups share a member: more than half.
#[inline]
pub const fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The greatest value that a majority of `voters` has reached, when each has reached `reached(voter)`; `None` when
/// there are no voters: then nothing is asked for.
#[inline]
pub fn reached_by_majority<V: Ord + Copy>(
    voters: impl ExactSizeIterator<Item = NodeId>,
    mut reached: impl FnMut(NodeId) -> V,
) -> Option<V> {
    const STACK: usize = 16;
    let count = voters.len();
    let place = count.checked_sub(majority(count))?;
    if count <= STACK {
        // Sorted by insertion: quicker than any library's sort for so few, and without memory of its own.
        let mut sorted: smallvec::SmallVec<[V; STACK]> = smallvec::SmallVec::new();
        for voter in voters {
            let value = reached(voter);
            let at = sorted.iter().position(|&other| value < other).unwrap_or(sorted.len());
            sorted.insert(at, value);
        }
        return sorted.get(place).copied();
    }
    let mut all: Vec<V> = voters.map(reached).collect();
    Some(*all.select_nth_unstable(place).1)
}

/// How the vote of `voters` stands, when each has answered `answer(voter)`. Without voters it is won.
pub fn majority_vote(
    voters: impl ExactSizeIterator<Item = NodeId>,
    mut answer: impl FnMut(NodeId) -> Option<bool>,
) -> VoteResult {
    let count = voters.len();
    if count == 0 {
        return VoteResult::Won;
    }
    let (mut yes, mut no) = (0, 0);
    for voter in voters {
        match answer(voter) {
            Some(true) => yes += 1,
            Some(false) => no += 1,
            None => {}
        }
    }
    if yes >= majority(count) {
        VoteResult::Won
    } else if count - no < majority(count) {
        VoteResult::Lost
    } else {
        VoteResult::Pending
    }
}

/// How two votes stand that must both be won.
pub const fn both(one: VoteResult, other: VoteResult) -> VoteResult {
    match (one, other) {
        (VoteResult::Lost, _) | (_, VoteResult::Lost) => VoteResult::Lost,
        (VoteResult::Won, VoteResult::Won) => VoteResult::Won,
        _ => VoteResult::Pending,
    }
}
