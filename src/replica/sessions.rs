//! The table of sessions: replicated state, so it is the same on every member (thesis §6.3).
//!
//! Nothing here depends on a clock, on randomness or on what one member happens to have in memory: which session
//! expires is a question of the log's order alone.

use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

use super::{Outcome, SessionId, SessionStamp};
use crate::raft::Index;
use crate::wire::{Decode, Encode, Malformed, Reader, write_count};

/// How much the members remember for their clients. All members of a cluster must be given the same: the bounds
/// decide what is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many sessions there are at most: one more, and the one that was used least recently (by the log's
    /// order) expires. Default 4,096; at least 1.
    pub sessions_max: usize,
    /// How many results one session may leave unanswered: one more, and its commands are refused. Default 8,192.
    pub results_max: usize,
    /// How many bytes of results all sessions keep together: beyond it the least recently used expire, and a
    /// session that is alone with so much is refused. Default 64 MiB.
    pub result_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { sessions_max: 4096, results_max: 8192, result_bytes_max: 64 << 20 }
    }
}

/// All open sessions.
#[derive(Clone, Debug)]
pub struct Sessions {
    limits: Limits,
    open: BTreeMap<SessionId, Session>,
    /// Each session once, under the index of some use of it, perhaps not the last: it is moved when it comes to
    /// the front, so that a use costs nothing here.
    uses: BTreeMap<Index, SessionId>,
    result_bytes: usize,
    /// Commands whose results are still to come: by their places, whose they are.
    waiting: BTreeMap<Index, (SessionId, u64)>,
}

#[derive(Clone, Debug)]
struct Session {
    last_used: Index,
    /// Where it stands in `Sessions::uses`.
    queued_at: Index,
    answered_below: u64,
    /// What was applied and may be asked again, in the order of the sequence numbers.
    results: VecDeque<Kept>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    sequence: u64,
    /// With [`WAITING`], its result is still to come.
    index: Index,
    result: Bytes,
}

/// Marks the place of a command whose result is still to come. No log is so long that it needs this bit.
const WAITING: Index = 1 << 63;

/// What is to be done with a stamped command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is new: apply it, and [`Sessions::keep`] the result.
    Fresh,
    /// This is the outcome; nothing is applied.
    Known(Outcome),
}

/// What a kept result weighs beside its bytes.
const KEPT_OVERHEAD: usize = 32;

impl Sessions {
    /// None yet.
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            open: BTreeMap::new(),
            uses: BTreeMap::new(),
            result_bytes: 0,
            waiting: BTreeMap::new(),
        }
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether this one is open.
    pub fn is_open(&self, session: SessionId) -> bool {
        self.open.contains_key(&session)
    }

    /// Opens the session that the entry at `index` asks for.
    pub fn open(&mut self, index: Index) -> Outcome {
        while self.open.len() >= self.limits.sessions_max.max(1) && self.expire_oldest_but(index) {}
        let session =
            Session { last_used: index, queued_at: index, answered_below: 0, results: VecDeque::new() };
        self.open.insert(index, session);
        self.uses.insert(index, index);
        Outcome::Opened(index)
    }

    /// Ends a session. Ending it twice is ending it.
    pub fn close(&mut self, session: SessionId) -> Outcome {
        if let Some(closed) = self.open.remove(&session) {
            self.uses.remove(&closed.queued_at);
            self.result_bytes -= closed.results.iter().map(Kept::weight).sum::<usize>();
            for waiting in closed.results.iter().filter_map(Kept::ticket) {
                self.waiting.remove(&waiting);
            }
        }
        Outcome::Closed
    }

    /// Looks at the stamp of the command at `index`.
    pub fn admit(&mut self, index: Index, stamp: SessionStamp) -> Verdict {
        let Some(session) = self.open.get_mut(&stamp.session) else {
            return Verdict::Known(Outcome::SessionExpired);
        };
        session.last_used = index;
        let waiting = &mut self.waiting;
        self.result_bytes -= session.forget_below(stamp.answered_below, |ticket| {
            waiting.remove(&ticket);
        });
        if stamp.sequence < session.answered_below {
            return Verdict::Known(Outcome::Answered);
        }
        if let Some(kept) = session.find(stamp.sequence) {
            if let Some(ticket) = kept.ticket() {
                return Verdict::Known(Outcome::Waiting { ticket });
            }
            return Verdict::Known(Outcome::Result { index: kept.index, result: kept.result.clone() });
        }
        if session.results.len() >= self.limits.results_max || !self.make_room(stamp.session) {
            return Verdict::Known(Outcome::TooManyResults);
        }
        Verdict::Fresh
    }

    /// Keeps the result of the command at `index`, which [`Sessions::admit`] has just called fresh.
    pub fn keep(&mut self, index: Index, stamp: SessionStamp, result: Bytes) {
        if let Some(session) = self.open.get_mut(&stamp.session) {
            let kept = Kept { sequence: stamp.sequence, index, result };
            self.result_bytes += kept.weight();
            session.insert(kept);
        }
    }

    /// The result of the command at `index`, which [`Sessions::admit`] has just called fresh, is still to come.
    pub fn keep_waiting(&mut self, index: Index, stamp: SessionStamp) {
        self.keep(index | WAITING, stamp, Bytes::new());
        self.waiting.insert(index, (stamp.session, stamp.sequence));
    }

    /// The command at `ticket` has its result.
    pub fn settle(&mut self, ticket: Index, result: &Bytes) {
        let Some((session, sequence)) = self.waiting.remove(&ticket) else { return };
        let Some(session) = self.open.get_mut(&session) else { return };
        if let Ok(at) = session.results.binary_search_by_key(&sequence, |kept| kept.sequence)
            && let Some(kept) = session.results.get_mut(at)
        {
            (kept.index, kept.result) = (ticket, result.clone());
            self.result_bytes += result.len();
        }
    }

    /// The result of the command that was applied at `index`, if it is still kept. Looks through all of them.
    pub fn result_at(&self, index: Index) -> Option<Bytes> {
        let mut kept = self.open.values().flat_map(|session| &session.results);
        kept.find(|kept| kept.index == index).map(|kept| kept.result.clone())
    }

    /// Makes room by expiring others; whether there is some.
    fn make_room(&mut self, asking: SessionId) -> bool {
        while self.result_bytes >= self.limits.result_bytes_max {
            if !self.expire_oldest_but(asking) {
                return false;
            }
        }
        true
    }

    /// Expires the least recently used session other than `spared`; whether there was one.
    fn expire_oldest_but(&mut self, spared: SessionId) -> bool {
        let mut later = Vec::new();
        let mut expired = None;
        while let Some((queued_at, id)) = self.uses.pop_first() {
            let Some(session) = self.open.get_mut(&id) else { continue };
            if session.last_used > queued_at {
                session.queued_at = session.last_used;
                self.uses.insert(session.last_used, id);
            } else if id == spared {
                later.push((queued_at, id));
            } else {
                expired = Some(id);
                break;
            }
        }
        self.uses.extend(later);
        let Some(id) = expired else { return false };
        self.close(id);
        true
    }
}

impl Session {
    fn forget_below(&mut self, answered_below: u64, mut forgotten: impl FnMut(Index)) -> usize {
        self.answered_below = self.answered_below.max(answered_below);
        let mut freed = 0;
        while self.results.front().is_some_and(|kept| kept.sequence < answered_below) {
            let Some(kept) = self.results.pop_front() else { break };
            freed += kept.weight();
            if let Some(ticket) = kept.ticket() {
                forgotten(ticket);
            }
        }
        freed
    }

    fn find(&self, sequence: u64) -> Option<&Kept> {
        // Mostly the command is the latest one.
        if self.results.back().is_none_or(|last| last.sequence < sequence) {
            return None;
        }
        let at = self.results.binary_search_by_key(&sequence, |kept| kept.sequence).ok()?;
        self.results.get(at)
    }

    fn insert(&mut self, kept: Kept) {
        let at = if self.results.back().is_none_or(|last| last.sequence < kept.sequence) {
            self.results.len()
        } else {
            self.results.partition_point(|other| other.sequence < kept.sequence)
        };
        self.results.insert(at, kept);
    }
}

impl Kept {
    /// Its place, if its result is still to come.
    fn ticket(&self) -> Option<Index> {
        (self.index & WAITING != 0).then_some(self.index & !WAITING)
    }

    const fn weight(&self) -> usize {
        KEPT_OVERHEAD + self.result.len()
    }
}

/// What they hold and will decide; where a session happens to stand in the queue of uses is nobody's business.
impl PartialEq for Sessions {
    fn eq(&self, other: &Self) -> bool {
        self.limits == other.limits && self.open == other.open
    }
}

impl PartialEq for Session {
    fn eq(&self, other: &Self) -> bool {
        let uses = (self.last_used, self.answered_below) == (other.last_used, other.answered_below);
        uses && self.results == other.results
    }
}

impl Encode for Sessions {
    fn encode(&self, out: &mut Vec<u8>) {
        // The bounds travel along, because they decide what is applied.
        for limit in [self.limits.sessions_max, self.limits.results_max, self.limits.result_bytes_max] {
            (limit as u64).encode(out);
        }
        write_count(self.open.len(), out);
        for (id, session) in &self.open {
            for word in [*id, session.last_used, session.answered_below] {
                word.encode(out);
            }
            write_count(session.results.len(), out);
            for kept in &session.results {
                kept.sequence.encode(out);
                kept.index.encode(out);
                kept.result.encode(out);
            }
        }
    }
}

impl Decode for Sessions {
    const SIZE_MIN: usize = 3 * u64::SIZE_MIN + u32::SIZE_MIN;

    fn decode(input: &mut Reader) -> Result<Self, Malformed> {
        let mut limit = || input.u64().map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let limits = Limits { sessions_max: limit()?, results_max: limit()?, result_bytes_max: limit()? };
        let mut sessions = Self::new(limits);
        for _ in 0..input.count(Session::SIZE_MIN)? {
            let id = input.u64()?;
            let session = Session::decode(input)?;
            sessions.result_bytes += session.results.iter().map(Kept::weight).sum::<usize>();
            for kept in &session.results {
                if let Some(ticket) = kept.ticket()
                    && sessions.waiting.insert(ticket, (id, kept.sequence)).is_some()
                {
                    return Err(input.malformed("a place in the log of its own before this"));
                }
            }
            let in_order = sessions.open.last_key_value().is_none_or(|(last, _)| *last < id);
            if !in_order || sessions.uses.insert(session.last_used, id).is_some() {
                return Err(input.malformed("a session of its own, in order, before this"));
            }
            sessions.open.insert(id, session);
        }
        Ok(sessions)
    }
}

impl Session {
    const SIZE_MIN: usize = 3 * u64::SIZE_MIN + u32::SIZE_MIN;

    fn decode(input: &mut Reader) -> Result<Self, Malformed> {
        let (last_used, answered_below) = (input.u64()?, input.u64()?);
        let mut results: VecDeque<Kept> = VecDeque::new();
        for _ in 0..input.count(2 * u64::SIZE_MIN + Bytes::SIZE_MIN)? {
            let (sequence, index, result) = (input.u64()?, input.u64()?, input.range()?);
            // Copied: a slice would keep the whole snapshot in memory.
            let kept = Kept { sequence, index, result: Bytes::copy_from_slice(&result) };
            if results.back().is_some_and(|last| last.sequence >= kept.sequence) {
                return Err(input.malformed("results in the order of their sequence before this"));
            }
            results.push_back(kept);
        }
        Ok(Self { last_used, queued_at: last_used, answered_below, results })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn stamp(session: SessionId, sequence: u64, answered_below: u64) -> SessionStamp {
        SessionStamp { session, sequence, answered_below }
    }

    fn apply(sessions: &mut Sessions, index: Index, stamp: SessionStamp) -> Outcome {
        match sessions.admit(index, stamp) {
            Verdict::Known(outcome) => outcome,
            Verdict::Fresh => {
                let result = Bytes::from(format!("at {index}"));
                sessions.keep(index, stamp, result.clone());
                Outcome::Result { index, result }
            }
        }
    }

    fn result(index: Index) -> Outcome {
        Outcome::Result { index, result: Bytes::from(format!("at {index}")) }
    }

    #[test]
    fn a_duplicate_gets_the_first_result_however_late_and_in_whatever_order() {
        let mut sessions = Sessions::new(Limits::default());
        assert_eq!(sessions.open(1), Outcome::Opened(1));
        for (index, sequence) in [(2, 5), (3, 3), (4, 4)] {
            assert_eq!(apply(&mut sessions, index, stamp(1, sequence, 0)), result(index));
        }
        for (index, sequence, first) in [(5, 3, 3), (6, 5, 2), (7, 4, 4)] {
            assert_eq!(apply(&mut sessions, index, stamp(1, sequence, 0)), result(first));
        }
    }

    #[test]
    fn a_duplicate_of_a_command_that_waits_waits_for_the_same() {
        let mut sessions = Sessions::new(Limits::default());
        sessions.open(1);
        assert_eq!(sessions.admit(2, stamp(1, 1, 0)), Verdict::Fresh);
        sessions.keep_waiting(2, stamp(1, 1, 0));
        let waits = Verdict::Known(Outcome::Waiting { ticket: 2 });
        assert_eq!(sessions.admit(3, stamp(1, 1, 0)), waits);
        let mut restored =
            Sessions::from_bytes(sessions.to_bytes(), crate::wire::VERSION).expect("what was written");
        for sessions in [&mut sessions, &mut restored] {
            assert_eq!(sessions.admit(4, stamp(1, 1, 0)), waits);
            assert_eq!(sessions.result_at(2), None);
            sessions.settle(2, &Bytes::from_static(b"at 2"));
            assert_eq!(sessions.admit(5, stamp(1, 1, 0)), Verdict::Known(result(2)));
            assert_eq!(sessions.result_at(2), Some(Bytes::from_static(b"at 2")));
            assert_eq!(sessions.result_bytes, KEPT_OVERHEAD + 4);
            sessions.close(1);
            sessions.settle(2, &Bytes::from_static(b"nobody asks any more"));
            assert_eq!((sessions.result_bytes, sessions.waiting.len()), (0, 0));
        }
    }

    #[test]
    fn an_answered_command_is_never_applied_again_though_its_result_is_forgotten() {
        let mut sessions = Sessions::new(Limits::default());
        sessions.open(1);
        apply(&mut sessions, 2, stamp(1, 1, 0));
        assert_eq!(apply(&mut sessions, 3, stamp(1, 2, 2)), result(3));
        assert_eq!(apply(&mut sessions, 4, stamp(1, 1, 0)), Outcome::Answered);
        assert_eq!(sessions.result_bytes, KEPT_OVERHEAD + "at 3".len());
    }

    #[test]
    fn the_least_recently_used_session_expires_by_the_order_of_the_log() {
        let mut sessions = Sessions::new(Limits { sessions_max: 3, ..Limits::default() });
        for index in 1..=3 {
            sessions.open(index);
        }
        apply(&mut sessions, 4, stamp(1, 1, 0));
        sessions.open(5);
        assert!(sessions.is_open(1) && !sessions.is_open(2) && sessions.is_open(3));
        assert_eq!(apply(&mut sessions, 6, stamp(2, 1, 0)), Outcome::SessionExpired);
        assert_eq!(sessions.close(2), Outcome::Closed);
        sessions.open(7);
        assert!(!sessions.is_open(3) && sessions.is_open(1) && sessions.is_open(5) && sessions.is_open(7));
    }

    #[test]
    fn results_are_bounded_and_none_is_dropped_while_it_may_be_asked_for() {
        let mut sessions = Sessions::new(Limits { results_max: 2, ..Limits::default() });
        sessions.open(1);
        apply(&mut sessions, 2, stamp(1, 1, 0));
        apply(&mut sessions, 3, stamp(1, 2, 0));
        assert_eq!(apply(&mut sessions, 4, stamp(1, 3, 0)), Outcome::TooManyResults);
        assert_eq!(apply(&mut sessions, 5, stamp(1, 1, 0)), result(2));
        assert_eq!(apply(&mut sessions, 6, stamp(1, 3, 2)), result(6));
    }

    #[test]
    fn bytes_of_results_are_bounded_at_the_expense_of_who_was_silent_longest() {
        let mut sessions = Sessions::new(Limits { result_bytes_max: 100, ..Limits::default() });
        sessions.open(1);
        sessions.open(2);
        for (index, sequence) in [(3, 1), (4, 2), (5, 3)] {
            assert_eq!(apply(&mut sessions, index, stamp(1, sequence, 0)), result(index));
        }
        assert!(sessions.is_open(2));
        assert_eq!(apply(&mut sessions, 6, stamp(2, 1, 0)), result(6), "1 was silent longer, and expires");
        assert!(!sessions.is_open(1));
        apply(&mut sessions, 7, stamp(2, 2, 0));
        apply(&mut sessions, 8, stamp(2, 3, 0));
        assert_eq!(apply(&mut sessions, 9, stamp(2, 4, 0)), Outcome::TooManyResults, "alone with too much");
        assert_eq!(apply(&mut sessions, 10, stamp(2, 4, 4)), result(10));
    }

    /// Found by the target `what_a_replica_keeps`.
    #[test]
    fn a_table_has_one_order() {
        let mut sessions = Sessions::new(Limits::default());
        for index in [1, 2] {
            sessions.open(index);
        }
        let bytes = sessions.to_bytes();
        let (head, each) = bytes.split_at(3 * u64::SIZE_MIN + u32::SIZE_MIN);
        let (first, second) = each.split_at(Session::SIZE_MIN);
        let read = |parts: [&[u8]; 3]| Sessions::from_bytes(parts.concat().into(), crate::wire::VERSION);
        assert_eq!(read([head, first, second]), Ok(sessions));
        assert!(read([head, second, first]).is_err());
        assert!(read([head, first, first]).is_err());
    }

    #[test]
    fn a_restored_table_decides_as_the_one_that_was_saved() {
        let mut random = crate::random::Random::new(4);
        let mut sessions = Sessions::new(Limits { sessions_max: 5, results_max: 4, result_bytes_max: 300 });
        let mut twin = sessions.clone();
        for index in 1..4_000u64 {
            if random.below(20) == 0 {
                let mut bytes = Vec::new();
                twin.encode(&mut bytes);
                let mut input = Reader::new(bytes.into(), 1);
                twin = Sessions::decode(&mut input).expect("what was just written");
                input.finish().expect("all of it");
            }
            let session = index.saturating_sub(random.below(40));
            if random.below(8) == 0 {
                assert_eq!(sessions.open(index), twin.open(index));
            } else if random.below(50) == 0 {
                assert_eq!(sessions.close(session), twin.close(session));
            } else {
                let sequence = random.below(12) + index / 100;
                let stamp = stamp(session, sequence, random.below(2) * sequence.saturating_sub(3));
                assert_eq!(apply(&mut sessions, index, stamp), apply(&mut twin, index, stamp), "{index}");
            }
            assert!(sessions == twin, "{index}");
            assert!(sessions.len() <= 5);
        }
    }
}
