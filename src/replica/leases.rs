//! Which leases there are, as this member's application has said, and, while it leads, when each of them is over.
//!
//! ```text
//!   granted, attached, renewed, or come to lead ──► ttl ────┐
//!                                                           ├──► over: proposed, and asked about in vain meanwhile
//!   connection ended, or the member that had it ──► grace ──┘
//! ```
//!
//! Whoever leads counts by its own clock alone, and a new leader gives each lease its full time: it cannot know what the
//! one before it has confirmed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::id::NodeId;
use crate::protocol::Link;
use crate::raft::Term;
use crate::store::{LeaseChange, LeaseId, LeaseTerms};
use crate::time::Instant;

/// All leases.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Leases {
    terms: BTreeMap<LeaseId, LeaseTerms>,
    /// By lease: the attachment that has ended without goodbye, here or, while it leads, elsewhere.
    detached: BTreeMap<LeaseId, u64>,
    /// Those of them that ended here: every new leader must hear of them.
    ended_here: BTreeMap<LeaseId, u64>,
    /// Whom the leader has not told of them yet.
    pub(super) untold: bool,
    /// Whose connections have ended.
    down: BTreeSet<NodeId>,
    lead: Option<Lead>,
}

/// What a leader counts.
#[derive(Clone, Debug, Default, PartialEq)]
struct Lead {
    term: Term,
    due: BTreeMap<LeaseId, Instant>,
    queue: BTreeSet<(Instant, LeaseId)>,
    /// Proposed to be over.
    ending: BTreeSet<LeaseId>,
    /// Members that seem lost, and when that is certain enough.
    lost: BTreeMap<NodeId, Instant>,
}

/// How it is with a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It lives until then, unless it is renewed.
    Alive(LeaseTerms, Instant),
    /// It is proposed to be over: nobody knows yet.
    Ending,
    /// There is none of that name.
    Over,
}

/// What peers say of leases that are not known here yet is kept up to this bound.
const DETACHED_MAX: usize = 1 << 14;

impl Leases {
    /// The application has said what has changed.
    pub(super) fn note(
        &mut self,
        now: Instant,
        anew: bool,
        changes: Vec<LeaseChange>,
        grace: Option<Duration>,
    ) {
        if anew {
            let gone: Vec<LeaseId> = self.terms.keys().copied().collect();
            for lease in gone {
                self.change(now, LeaseChange { lease, terms: None }, grace);
            }
        }
        for change in changes {
            self.change(now, change, grace);
        }
    }

    fn change(&mut self, now: Instant, LeaseChange { lease, terms }: LeaseChange, grace: Option<Duration>) {
        let Some(terms) = terms else {
            self.terms.remove(&lease);
            self.detached.remove(&lease);
            self.ended_here.remove(&lease);
            if let Some(lead) = &mut self.lead {
                lead.forget(lease);
            }
            return;
        };
        self.terms.insert(lease, terms);
        for ended in [&mut self.detached, &mut self.ended_here] {
            if ended.get(&lease).is_some_and(|attachment| *attachment < terms.attachment) {
                ended.remove(&lease);
            }
        }
        if let Some(lead) = &mut self.lead {
            lead.forget(lease);
        }
        self.count(now, lease, terms, grace);
    }

    /// A lease begins to count, if this member leads.
    fn count(&mut self, now: Instant, lease: LeaseId, terms: LeaseTerms, grace: Option<Duration>) {
        let ended = self.detached.get(&lease) == Some(&terms.attachment);
        let span = grace.filter(|_| ended).map_or(terms.ttl, |grace| grace.min(terms.ttl));
        if let Some(lead) = &mut self.lead {
            lead.set(lease, now + span);
        }
    }

    /// This member leads that term, or none. Each lease has its full time then.
    pub(super) fn lead(&mut self, now: Instant, term: Option<Term>, grace: Option<Duration>, no_time: bool) {
        if self.lead.as_ref().map(|lead| lead.term) == term {
            return;
        }
        self.untold = !self.ended_here.is_empty();
        let Some(term) = term else {
            self.lead = None;
            // What others have said was said to a leader.
            self.detached = self.ended_here.clone();
            return;
        };
        self.lead = Some(Lead { term, ..Lead::default() });
        self.detached = self.ended_here.clone();
        for (lease, terms) in self.terms.clone() {
            let terms = if no_time { LeaseTerms { ttl: terms.ttl / 16, ..terms } } else { terms };
            self.count(now, lease, terms, grace);
        }
        for peer in self.down.clone() {
            self.lose(now, peer, grace);
        }
    }

    /// The holder's connection has ended without goodbye: here, or where a peer says.
    pub(super) fn detach(
        &mut self,
        now: Instant,
        (lease, attachment): (LeaseId, u64),
        here: bool,
        grace: Option<Duration>,
    ) {
        let known = self.terms.get(&lease).copied();
        if known.is_some_and(|terms| terms.attachment > attachment) || self.detached.len() >= DETACHED_MAX {
            return;
        }
        let news = self.detached.insert(lease, attachment) != Some(attachment);
        if here {
            self.ended_here.insert(lease, attachment);
            self.untold = true;
        }
        if news
            && let (Some(terms), Some(grace)) = (known, grace)
            && terms.attachment == attachment
            && let Some(lead) = &mut self.lead
        {
            lead.hasten(lease, now + grace);
        }
    }

    /// What ended here, for a new leader.
    pub(super) fn ended_here(&self) -> Vec<(LeaseId, u64)> {
        self.ended_here.iter().map(|(lease, attachment)| (*lease, *attachment)).collect()
    }

    /// What is known of the connection to a peer.
    pub(super) fn link(&mut self, now: Instant, peer: NodeId, link: Link, grace: Option<Duration>) {
        if link == Link::Up {
            self.heard(peer);
        } else if self.down.insert(peer) {
            self.lose(now, peer, grace);
        }
    }

    /// A peer speaks: it is not lost.
    #[inline]
    pub(super) fn heard(&mut self, peer: NodeId) {
        if !self.down.is_empty()
            && self.down.remove(&peer)
            && let Some(lead) = &mut self.lead
        {
            lead.lost.remove(&peer);
        }
    }

    fn lose(&mut self, now: Instant, peer: NodeId, grace: Option<Duration>) {
        if let (Some(lead), Some(grace)) = (&mut self.lead, grace) {
            lead.lost.insert(peer, now + grace);
        }
    }

    /// How it is with a lease, as far as a leader's clock says; `None`: this member does not lead.
    pub(super) fn standing(&self, lease: LeaseId) -> Option<Standing> {
        let lead = self.lead.as_ref()?;
        Some(match (self.terms.get(&lease), lead.due.get(&lease)) {
            (Some(_), _) if lead.ending.contains(&lease) => Standing::Ending,
            (Some(terms), Some(due)) => Standing::Alive(*terms, *due),
            _ => Standing::Over,
        })
    }

    /// The holder has said that it lives. Too early to promise anything: but what it was granted before does not end now.
    pub(super) fn renew(&mut self, now: Instant, lease: LeaseId) {
        let Some(terms) = self.terms.get(&lease) else { return };
        // Once a connection has ended, a new one must be named: what comes now may have left before it ended.
        let ended = self.detached.get(&lease) == Some(&terms.attachment);
        if let Some(lead) = &mut self.lead
            && !ended
            && !lead.ending.contains(&lease)
            && lead.due.get(&lease).is_some_and(|due| *due < now + terms.ttl)
        {
            lead.set(lease, now + terms.ttl);
        }
    }

    /// When there is something to do next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let lead = self.lead.as_ref()?;
        let lost = lead.lost.values().min().copied();
        lead.queue.first().map(|(due, _)| *due).into_iter().chain(lost).min()
    }

    /// The leases that are over now, by their attachments. They come again after `patience`, unless something changes.
    pub(super) fn take_due(&mut self, now: Instant, patience: Duration) -> Vec<(LeaseId, u64)> {
        let Some(lead) = &mut self.lead else { return Vec::new() };
        let lost: Vec<NodeId> =
            lead.lost.iter().filter(|(_, at)| **at <= now).map(|(peer, _)| *peer).collect();
        for peer in lost {
            lead.lost.remove(&peer);
            for (lease, _) in self.terms.iter().filter(|(_, terms)| terms.home == peer.0) {
                lead.hasten(*lease, now);
            }
        }
        let mut over = Vec::new();
        while let Some(&(due, lease)) = lead.queue.first().filter(|(due, _)| *due <= now) {
            lead.queue.remove(&(due, lease));
            let Some(terms) = self.terms.get(&lease) else { continue };
            lead.set(lease, now + patience);
            lead.ending.insert(lease);
            over.push((lease, terms.attachment));
        }
        over
    }
}

impl Lead {
    fn set(&mut self, lease: LeaseId, due: Instant) {
        if let Some(before) = self.due.insert(lease, due) {
            self.queue.remove(&(before, lease));
        }
        self.queue.insert((due, lease));
    }

    fn hasten(&mut self, lease: LeaseId, due: Instant) {
        if self.due.get(&lease).is_none_or(|before| due < *before) {
            self.set(lease, due);
        }
    }

    fn forget(&mut self, lease: LeaseId) {
        if let Some(due) = self.due.remove(&lease) {
            self.queue.remove(&(due, lease));
        }
        self.ending.remove(&lease);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);
    const GRACE: Option<Duration> = Some(Duration::from_millis(30));
    const PATIENCE: Duration = Duration::from_millis(300);
    const HOME: NodeId = NodeId(2);

    fn at(milliseconds: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(milliseconds)
    }

    fn granted(lease: LeaseId, attachment: u64) -> LeaseChange {
        LeaseChange { lease, terms: Some(LeaseTerms { ttl: TTL, home: HOME.0, attachment }) }
    }

    fn leading() -> Leases {
        let mut leases = Leases::default();
        leases.lead(at(0), Some(1), GRACE, false);
        leases.note(at(0), false, vec![granted(7, 3)], GRACE);
        leases
    }

    #[test]
    fn a_lease_is_over_when_it_was_not_renewed_for_its_time_to_live() {
        let mut leases = leading();
        leases.renew(at(9_000), 7);
        assert_eq!(leases.take_due(at(10_000), PATIENCE), []);
        assert_eq!(leases.next_due(), Some(at(19_000)));
        assert_eq!(leases.take_due(at(19_000), PATIENCE), [(7, 3)]);
        assert_eq!(leases.standing(7), Some(Standing::Ending));
        leases.renew(at(19_100), 7);
        assert_eq!(leases.take_due(at(19_300), PATIENCE), [(7, 3)], "the proposal may be lost");
        leases.note(at(19_400), false, vec![LeaseChange { lease: 7, terms: None }], GRACE);
        assert_eq!(leases.standing(7), Some(Standing::Over));
        assert_eq!(leases.next_due(), None);
    }

    #[test]
    fn a_new_leader_grants_full_time() {
        let mut leases = leading();
        leases.lead(at(9_999), None, GRACE, false);
        assert_eq!((leases.standing(7), leases.next_due()), (None, None));
        leases.lead(at(12_000), Some(3), GRACE, false);
        assert_eq!(leases.next_due(), Some(at(22_000)));
    }

    #[test]
    fn who_went_without_goodbye_has_the_grace_to_come_back() {
        let mut leases = leading();
        leases.detach(at(100), (7, 3), true, GRACE);
        assert_eq!(leases.next_due(), Some(at(130)));
        leases.renew(at(110), 7);
        assert_eq!(leases.next_due(), Some(at(130)), "that may have left before the connection ended");
        leases.note(at(120), false, vec![granted(7, 5)], GRACE);
        assert_eq!(leases.next_due(), Some(at(10_120)));
        leases.detach(at(200), (7, 3), false, GRACE);
        assert_eq!(leases.next_due(), Some(at(10_120)), "that is an old story");
        leases.detach(at(300), (7, 9), false, GRACE);
        leases.note(at(310), false, vec![granted(7, 9)], GRACE);
        assert_eq!(leases.next_due(), Some(at(340)), "it ended before the leader knew that it began");
    }

    #[test]
    fn every_new_leader_hears_of_what_ended_here() {
        let mut leases = Leases::default();
        leases.note(at(0), false, vec![granted(7, 3), granted(8, 4)], GRACE);
        leases.detach(at(5), (7, 3), true, GRACE);
        assert!(leases.untold);
        assert_eq!(leases.ended_here(), [(7, 3)]);
        leases.lead(at(10), Some(4), GRACE, false);
        assert_eq!(leases.take_due(at(40), PATIENCE), [(7, 3)]);
        leases.note(at(50), true, vec![granted(8, 4)], GRACE);
        assert_eq!(leases.ended_here(), []);
    }

    #[test]
    fn leases_of_a_lost_member_end_unless_it_is_heard_of() {
        let mut leases = leading();
        leases.link(at(1_000), HOME, Link::Down, GRACE);
        assert_eq!(leases.next_due(), Some(at(1_030)));
        leases.heard(HOME);
        assert_eq!(leases.next_due(), Some(at(10_000)));
        leases.link(at(2_000), HOME, Link::Refused, GRACE);
        leases.lead(at(2_010), Some(2), GRACE, false);
        assert_eq!(leases.next_due(), Some(at(2_040)), "a new leader knows it, too, and waits as long");
        assert_eq!(leases.take_due(at(2_040), PATIENCE), [(7, 3)]);
    }

    #[test]
    fn without_a_grace_only_time_counts() {
        let mut leases = leading();
        leases.detach(at(100), (7, 3), true, None);
        leases.link(at(100), HOME, Link::Down, None);
        assert_eq!(leases.next_due(), Some(at(10_000)));
    }
}
