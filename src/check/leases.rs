//! Leases: who grants one votes for nobody until it has run out, and who counts on one counts no longer than a quorum
//! has promised.
//!
//! All times are the world's. Clocks differ in speed, and the members allow for that; the judge only accuses where no
//! clock within a tenth of the right speed excuses.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Violation;
use crate::id::NodeId;
use crate::time::Instant;

/// A tenth: clocks that differ by more than that in speed are beyond what leases are made for.
const DRIFT: u32 = 10;

/// Judges leases.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    granted: BTreeMap<NodeId, Granted>,
    /// By leader: its term, and until when it certainly counts on its lease.
    counted: BTreeMap<NodeId, (u64, Instant)>,
    /// The latest term and round whose leases a leader has given back.
    ended: (u64, u64),
}

#[derive(Clone, Copy, Debug)]
struct Granted {
    /// The latest leader's term and round.
    given: (u64, u64),
    /// It votes for nobody before.
    binds_until: Instant,
    /// Nobody can count on it after.
    ends: Instant,
}

impl Leases {
    /// Nobody has granted one.
    pub fn new() -> Self {
        Self::default()
    }

    /// `member` promises, in `round` of `term`, to vote for nobody for `length`; it adds `margin` for its clock.
    pub fn granted(
        &mut self,
        member: NodeId,
        at: Instant,
        given: (u64, u64),
        length: Duration,
        margin: Duration,
    ) {
        let whole = length + margin;
        let fresh = Granted { given, binds_until: at + length, ends: at + whole + whole / DRIFT };
        let granted = self.granted.entry(member).or_insert(fresh);
        granted.given = granted.given.max(given);
        granted.binds_until = granted.binds_until.max(fresh.binds_until);
        granted.ends = granted.ends.max(fresh.ends);
    }

    /// The leader of `term` counts no lease of its rounds up to `round` any more, and lets members vote.
    pub fn given_back(&mut self, term: u64, round: u64) {
        self.ended = self.ended.max((term, round));
    }

    /// `member` votes.
    pub fn voted(&self, member: NodeId, at: Instant) -> Result<(), Violation> {
        match self.granted.get(&member) {
            Some(granted) if at < granted.binds_until && granted.given > self.ended => {
                let detail = format!(
                    "{member:?} votes {:?} before the lease ends that it granted in round {:?}",
                    granted.binds_until - at,
                    granted.given
                );
                Err(Violation::new("who grants a lease votes for nobody", detail))
            }
            _ => Ok(()),
        }
    }

    /// Until when `member` may have promised to vote for nobody.
    pub fn promised_until(&self, member: NodeId) -> Instant {
        self.granted.get(&member).map_or(Instant::ZERO, |granted| granted.ends)
    }

    /// `leader` of `term` counts on a lease for `left` more of its own time, of which a quorum has promised what lasts
    /// until `promised`.
    pub fn counts(
        &mut self,
        leader: NodeId,
        term: u64,
        at: Instant,
        left: Duration,
        promised: Instant,
    ) -> Result<(), Violation> {
        let until = at + left.saturating_sub(left / DRIFT);
        self.counted.insert(leader, (term, until));
        if until > promised {
            let detail = format!(
                "{leader:?} counts on a lease {:?} longer than a quorum has promised",
                until - promised
            );
            return Err(Violation::new("a lease is what a quorum has promised", detail));
        }
        Ok(())
    }

    /// `leader` counts on none.
    pub fn counts_on_none(&mut self, leader: NodeId) {
        self.counted.remove(&leader);
    }

    /// Somebody is elected in `term`: nobody of an earlier one may count on a lease.
    pub fn elected(&self, leader: NodeId, term: u64, at: Instant) -> Result<(), Violation> {
        let holder = self.counted.iter().find(|(_, (earlier, until))| *earlier < term && at < *until);
        match holder {
            Some((holder, (earlier, until))) => {
                let detail = format!(
                    "{leader:?} leads term {term}, and {holder:?} of term {earlier} has a lease for {:?} more",
                    *until - at
                );
                Err(Violation::new("one leader while a lease lasts", detail))
            }
            None => Ok(()),
        }
    }
}
