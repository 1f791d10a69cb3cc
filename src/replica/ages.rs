//! How old history is, by the leader's clock.

use std::collections::VecDeque;
use std::time::Duration;

use crate::store::Revision;
use crate::time::Instant;

/// Which revision was reached when, as often as needed to know within a part of the whole. Whoever comes to lead begins
/// anew: history then is kept longer, never shorter.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ages {
    leads: bool,
    revision: Revision,
    reached: VecDeque<(Instant, Revision)>,
}

/// Into how many parts the time is divided for which history is kept.
const PARTS: u32 = 64;

impl Ages {
    /// Whether this member leads.
    #[inline]
    pub(super) fn lead(&mut self, leads: bool) {
        if self.leads != leads {
            self.leads = leads;
            self.reached.clear();
        }
    }

    /// History has come to `revision`.
    pub(super) fn note(&mut self, now: Instant, revision: Revision, kept: Option<Duration>) {
        let Some(kept) = kept else { return };
        let recent = self.reached.back().is_some_and(|(at, _)| *at + kept / PARTS > now);
        if self.leads && revision > self.revision && !recent {
            self.reached.push_back((now, revision));
        }
        self.revision = revision;
    }

    /// When something has grown old.
    pub(super) fn next_due(&self, kept: Option<Duration>) -> Option<Instant> {
        self.reached.front().zip(kept).map(|((at, _), kept)| *at + kept)
    }

    /// The last revision that is old enough.
    pub(super) fn take_old(&mut self, now: Instant, kept: Option<Duration>) -> Option<Revision> {
        let kept = kept?;
        let mut old = None;
        while let Some(&(_, revision)) = self.reached.front().filter(|(at, _)| *at + kept <= now) {
            self.reached.pop_front();
            old = Some(revision);
        }
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn what_was_reached_long_ago_is_old() {
        let kept = Some(Duration::from_secs(64));
        let mut ages = Ages::default();
        ages.note(at(0), 5, kept);
        assert_eq!(ages.next_due(kept), None, "it does not lead");
        ages.lead(true);
        for (seconds, revision) in [(1, 10), (1, 11), (2, 20), (3, 20), (50, 50)] {
            ages.note(at(seconds), revision, kept);
        }
        assert_eq!(ages.next_due(kept), Some(at(65)));
        assert_eq!(ages.take_old(at(64), kept), None);
        assert_eq!(ages.take_old(at(70), kept), Some(20));
        assert_eq!(ages.next_due(kept), Some(at(114)));
        ages.lead(false);
        assert_eq!(ages.next_due(kept), None);
    }
}
