//! The machine: its state, its verbs, its terms and its alarms. What it does in each role is in the files beside.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::election::LeasePromise;
use super::leader::{Pending, Transfer};
use super::log::Log;
use super::progress::Progress;
use super::reads::{FollowerReads, LeaderRead, LocalRead};
use super::snapshots::Installing;
use super::{
    Answer, Batch, Change, Checkpoint, Entries, Error, Event, HardState, Index, InvalidSetting, MEMBERS_MAX,
    Membership, Message, Payload, Position, Record, Request, Role, Round, Run, Settings, Snapshot,
    SnapshotId, Term, Timer,
};
use crate::id::{NodeId, RequestId};
use crate::protocol::{Effect, Link, Outbox, Promises, Protocol};
use crate::random::Random;
use crate::time::Instant;

/// No honest term or index comes near: a peer that says so talks nonsense.
const BEYOND: u64 = 1 << 62;

/// After so long an application that was asked for a snapshot is asked again.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(30);

/// A member of a Raft.
#[derive(Clone, Debug, PartialEq)]
pub struct Raft {
    pub(super) id: NodeId,
    pub(super) settings: Settings,
    pub(super) random: Random,
    pub(super) now: Instant,
    halted: Option<&'static str>,

    // What the journal keeps.
    pub(super) hard: HardState,
    /// `hard` has changed and is not yet in the outbox.
    hard_changed: bool,
    pub(super) log: Log,
    /// Memberships by the entry that set them: the one at the log's base first, the effective one last.
    pub(super) memberships: VecDeque<(Index, Arc<Membership>)>,
    pub(super) snapshot: Option<Arc<Snapshot>>,
    /// Older ones that are still on their way to somebody.
    pub(super) older_snapshots: Vec<Arc<Snapshot>>,

    pub(super) role: Role,
    pub(super) leader: Option<NodeId>,
    /// Role, term and leader, as the application was last told.
    told: (Role, Term, Option<NodeId>),
    pub(super) commit: Index,
    /// Up to where the application was handed what is committed.
    pub(super) handed: Index,
    /// Bytes of the entries handed over that no snapshot holds.
    handed_bytes: usize,
    snapshot_asked: Option<Instant>,

    /// When each timer shall fire, and when the driver's alarm for it rings: earlier, when it was put off since.
    due: [Instant; TIMERS],
    alarm: [Instant; TIMERS],

    // Elections.
    /// When the leader was last heard; forgotten on evidence that it is gone.
    pub(super) heard: Option<Instant>,
    pub(super) lease_promise: LeasePromise,
    /// The latest term for which this member has given a pre-vote.
    pub(super) pre_voted: Term,
    /// Who has answered the (pre-)candidate, and how.
    pub(super) votes: Vec<(NodeId, bool)>,
    /// Whose process seems to be gone. It may be wrong, and holds until they are heard of again.
    pub(super) gone: Vec<NodeId>,
    /// The latest term whose election this member has lost.
    pub(super) lost: Term,
    /// Elections in a row that this member could not win.
    pub(super) attempts: u32,
    /// What a voter of its weight waits at least.
    pub(super) patience_least: Duration,

    // A follower's.
    /// An append is to be acknowledged, up to this index, under this membership entry.
    pub(super) acknowledge: Option<(Index, Index)>,
    pub(super) installing: Option<Installing>,

    // A leader's.
    pub(super) peers: Vec<Progress>,
    /// The first entry of its term.
    pub(super) term_start: Index,
    /// The own disk has the log up to here.
    pub(super) stored: Index,
    /// The own disk was last asked to tell when it has the log up to here.
    pub(super) storing: Index,
    /// Since when it has not answered.
    pub(super) storing_since: Option<Instant>,
    pub(super) uncommitted_bytes: usize,
    /// Proposals of this batch of inputs.
    pub(super) gathered: Vec<(RequestId, Batch, Instant)>,
    pub(super) gathered_bytes: usize,
    pub(super) pending: VecDeque<Pending>,
    /// Proposals of earlier terms of office: the log will tell what became of them.
    pub(super) orphans: Vec<Pending>,
    pub(super) change: Option<(RequestId, Instant)>,
    pub(super) transfer: Option<Transfer>,
    /// A transfer whose outcome the next leader's name tells.
    pub(super) handed_over: Option<RequestId>,
    pub(super) round: Round,
    /// Leases of rounds up to this one are not counted: a transfer has ended them.
    pub(super) lease_floor: Round,
    pub(super) reads: VecDeque<LeaderRead>,
    /// The latest round that a quorum has answered.
    pub(super) confirmed_round: Round,

    // Reads of this member's own clients, while it follows.
    pub(super) local_reads: Vec<LocalRead>,
    pub(super) forwarded_reads: FollowerReads,
}

const TIMERS: usize = 5;

/// A member, at a glance.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Who.
    pub id: NodeId,
    /// Its part.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Its vote in that term.
    pub vote: Option<NodeId>,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// Up to where its log is committed, as far as it knows.
    pub commit: Index,
    /// The entry before the first of its log.
    pub base: Position,
    /// The last entry of its log.
    pub last: Position,
    /// The effective membership.
    pub membership: Arc<Membership>,
}

impl Raft {
    /// A member with these settings, of which all of a cluster should have the same.
    pub fn new(id: NodeId, settings: Settings) -> Result<Self, InvalidSetting> {
        settings.check()?;
        Ok(Self {
            id,
            settings,
            random: Random::new(id.0),
            now: Instant::ZERO,
            halted: None,
            hard: HardState::default(),
            hard_changed: false,
            log: Log::default(),
            memberships: VecDeque::from([(0, Arc::default())]),
            snapshot: None,
            older_snapshots: Vec::new(),
            role: Role::Follower,
            leader: None,
            told: (Role::Follower, 0, None),
            commit: 0,
            handed: 0,
            handed_bytes: 0,
            snapshot_asked: None,
            due: [Instant::NEVER; TIMERS],
            alarm: [Instant::NEVER; TIMERS],
            heard: None,
            lease_promise: LeasePromise::default(),
            pre_voted: 0,
            votes: Vec::new(),
            gone: Vec::new(),
            lost: 0,
            attempts: 0,
            patience_least: Duration::ZERO,
            acknowledge: None,
            installing: None,
            peers: Vec::new(),
            term_start: 0,
            stored: 0,
            storing: 0,
            storing_since: None,
            uncommitted_bytes: 0,
            gathered: Vec::new(),
            gathered_bytes: 0,
            pending: VecDeque::new(),
            orphans: Vec::new(),
            change: None,
            transfer: None,
            handed_over: None,
            round: 0,
            lease_floor: 0,
            reads: VecDeque::new(),
            confirmed_round: 0,
            local_reads: Vec::new(),
            forwarded_reads: FollowerReads::default(),
        })
    }

    /// Who it is.
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// How it was set up.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its term.
    pub const fn term(&self) -> Term {
        self.hard.term
    }

    /// Term and vote.
    pub const fn hard_state(&self) -> HardState {
        self.hard
    }

    /// Its part.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Who leads, as far as it knows.
    pub const fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Up to where its log is committed, as far as it knows.
    pub const fn commit(&self) -> Index {
        self.commit
    }

    /// The entry before the first of its log.
    pub const fn base(&self) -> Position {
        self.log.base()
    }

    /// The last entry of its log.
    pub const fn last(&self) -> Position {
        self.log.last()
    }

    /// The runs of its log.
    pub fn runs(&self) -> impl Iterator<Item = &Arc<Run>> {
        self.log.runs()
    }

    /// The term of the entry at `index`, when the log still knows it.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.log.term_at(index)
    }

    /// The effective membership: the last one in the log.
    pub fn membership(&self) -> &Arc<Membership> {
        &self.membership_entry().1
    }

    /// The effective membership, with the entry that set it.
    pub fn membership_entry(&self) -> &(Index, Arc<Membership>) {
        self.memberships.back().expect("the base's membership at least")
    }

    /// The latest snapshot.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_deref()
    }

    /// Whether it leads and a lease lets it serve reads alone, at its own latest `now`.
    pub fn holds_lease(&self) -> bool {
        self.lease_valid()
    }

    /// For how long yet a lease lets it serve reads alone, at its own latest `now`.
    pub fn lease_left(&self) -> Option<Duration> {
        self.lease_end().filter(|end| self.now < *end).map(|end| end - self.now)
    }

    /// Until when it may serve reads alone: a quorum's leases hold so long, and what earlier terms have acknowledged is
    /// committed here.
    pub fn readable_until(&self) -> Option<Instant> {
        self.lease_end().filter(|end| self.now < *end && self.commit >= self.term_start)
    }

    /// Up to where a leader knows that a peer's disk has its log; 0, when it knows nothing.
    pub fn matched(&self, peer: NodeId) -> Index {
        self.peer_at(peer).map_or(0, |at| self.peers[at].matched)
    }

    /// A member, at a glance.
    pub fn status(&self) -> Status {
        Status {
            id: self.id,
            role: self.role,
            term: self.hard.term,
            vote: self.hard.vote,
            leader: self.leader,
            commit: self.commit,
            base: self.log.base(),
            last: self.log.last(),
            membership: Arc::clone(self.membership()),
        }
    }
}

impl Protocol for Raft {
    type Message = Message;
    type Record = Record;
    type Timer = Timer;
    type Event = Event;
    type Request = Request;
    type Answer = Answer;
    type Error = Error;

    fn start(&mut self, now: Instant, mut random: Random, records: Vec<Record>, out: &mut Outbox<Self>) {
        self.now = now;
        self.forwarded_reads = FollowerReads::new(random.word(), mutant!(self, ReusedReadRound));
        self.random = random;
        if records.is_empty() {
            out.persist(Record::Identity { cluster: self.settings.cluster, id: self.id });
        }
        for record in records {
            if let Err(complaint) = self.recall(record) {
                self.halted = Some(complaint);
                out.notify(Event::Halted(complaint));
                return;
            }
        }
        self.commit = self.snapshot.as_ref().map_or(self.log.base().index, |snapshot| snapshot.id.last.index);
        self.handed = self.commit;
        self.told = (Role::Follower, self.hard.term, None);
        if let Some(snapshot) = &self.snapshot {
            out.notify(Event::Restore(Arc::clone(snapshot)));
        }
        let (index, membership) = self.membership_entry().clone();
        if !membership.is_empty() {
            out.notify(Event::Membership(index, membership));
        }
        self.wait_out_the_lease();
        self.await_leader(out);
    }

    fn receive(&mut self, now: Instant, from: NodeId, message: Message, out: &mut Outbox<Self>) {
        if !self.enter(now) || !sensible(&message) {
            return;
        }
        if from == self.id {
            self.receive_from_oneself(&message, out);
        } else {
            self.receive_from_peer(from, message, out);
        }
        self.leave(out);
    }

    fn expire(&mut self, now: Instant, timer: Timer, out: &mut Outbox<Self>) {
        if !self.enter(now) || !self.rings(timer, out) {
            return;
        }
        match timer {
            Timer::Election => self.election_expired(out),
            Timer::Heartbeat => self.beat(out),
            Timer::Quorum => self.ask_for_quorum(out),
            Timer::Transfer => self.transfer_expired(out),
            Timer::Deadline => self.deadline_expired(out),
        }
        self.leave(out);
    }

    fn request(&mut self, now: Instant, id: RequestId, request: Request, out: &mut Outbox<Self>) {
        if !self.enter(now) {
            let complaint = self.halted.unwrap_or_default();
            out.answer(id, Err(Error::Halted(complaint)));
            return;
        }
        match request {
            Request::Bootstrap(membership) => self.bootstrap(id, membership, out),
            Request::Propose { commands, deadline } => self.propose(id, commands, deadline, out),
            Request::Read { lease, deadline } => self.read(id, lease, deadline, out),
            Request::Change { changes, deadline } => self.request_change(id, &changes, deadline, out),
            Request::Transfer { to } => self.request_transfer(id, to, out),
            Request::Campaign => self.request_campaign(id, out),
            Request::Snapshotted { last, length } => self.snapshotted(id, last, length, out),
            Request::Chunk { snapshot, offset, to, data } => {
                self.chunk_read(id, snapshot, offset, to, data, out);
            }
            Request::Written { snapshot, offset } => self.chunk_written(id, snapshot, offset, out),
        }
        self.leave(out);
    }

    fn link(&mut self, now: Instant, peer: NodeId, link: Link, out: &mut Outbox<Self>) {
        if !self.enter(now) {
            return;
        }
        match link {
            Link::Up => {
                self.gone.retain(|gone| *gone != peer);
                self.peer_is_back(peer);
            }
            Link::Down | Link::Refused => self.evidence_against(peer, out),
        }
        self.leave(out);
    }

    fn flush(&mut self, now: Instant, out: &mut Outbox<Self>) {
        if !self.enter(now) {
            return;
        }
        if self.role == Role::Leader {
            self.lead(out);
        } else {
            self.follow(out);
        }
        self.hand_over_committed(out);
        self.leave(out);
    }
}

/// What a member must never go back on: its term, its vote in it, and the log that it may have acknowledged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Promised {
    /// Term and vote.
    pub hard: HardState,
    /// The end of the log.
    pub last: Position,
}

impl PartialOrd for Promised {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let hard = match self.hard.term.cmp(&other.hard.term) {
            Equal => match (self.hard.vote, other.hard.vote) {
                (one, two) if one == two => Equal,
                (Some(_), None) => Greater,
                (None, Some(_)) => Less,
                _ => return None,
            },
            unequal => unequal,
        };
        match (hard, self.last.cmp(&other.last)) {
            (one, two) if one == two => Some(one),
            (one, Equal) => Some(one),
            (Equal, two) => Some(two),
            _ => None,
        }
    }
}

impl Promises for Raft {
    type Promised = Promised;

    fn promised(&self) -> Promised {
        Promised { hard: self.hard, last: self.log.last() }
    }
}

/// What any member of ours would say; the rest is not answered.
fn sensible(message: &Message) -> bool {
    let position = |position: &Position| position.term < BEYOND && position.index < BEYOND;
    let snapshot = |id: &SnapshotId| position(&id.last) && id.last.index > 0;
    message.term() < BEYOND
        && match message {
            Message::RequestPreVote { term, last } | Message::RequestVote { term, last, .. } => {
                position(last) && last.term < *term
            }
            Message::Append { term, previous, commit, entries, .. } => {
                position(previous)
                    && previous.term <= *term
                    && *commit < BEYOND
                    && entries.well_formed()
                    && entries.first().is_none_or(|first| first == previous.index + 1)
                    && entries.last().is_none_or(|last| position(&last) && last.term <= *term)
                    && entries.runs().first().is_none_or(|run| run.term >= previous.term)
            }
            Message::Appended { matched: index, .. }
            | Message::Stored { last: index, .. }
            | Message::Read { index, .. } => *index < BEYOND,
            Message::Rejected { previous, hint, .. } => *previous < BEYOND && position(hint),
            Message::Install { term, snapshot: part, offset, data, .. } => {
                snapshot(&part.id)
                    && part.id.last.term <= *term
                    && part.membership.0 <= part.id.last.index
                    && part.length < BEYOND
                    && *offset <= part.length
                    && data.len() as u64 <= part.length - offset
            }
            Message::Installed { snapshot: id, offset, .. } => snapshot(id) && *offset < BEYOND,
            Message::PreVote { .. }
            | Message::Vote { .. }
            | Message::Heard { .. }
            | Message::TimeoutNow { .. }
            | Message::RequestRead { .. }
            | Message::Superseded { .. } => true,
        }
}

impl Raft {
    /// Takes the time. Answers whether this machine still does anything.
    #[inline]
    fn enter(&mut self, now: Instant) -> bool {
        self.now = self.now.max(now);
        self.halted.is_none()
    }

    /// What each verb ends with: term and vote are written down, the application hears of a new role.
    #[inline]
    fn leave(&mut self, out: &mut Outbox<Self>) {
        self.write_down(out);
        let role = (self.role, self.hard.term, self.leader);
        if role != self.told {
            self.told = role;
            out.notify(Event::Role { role: role.0, term: role.1, leader: role.2 });
            self.tell_of_handover(out);
        }
    }

    /// Term and vote, as one record, before anything that promises them.
    #[inline]
    pub(super) fn write_down(&mut self, out: &mut Outbox<Self>) {
        if std::mem::take(&mut self.hard_changed) {
            out.persist(Record::HardState(self.hard));
        }
    }

    pub(super) fn vote_for(&mut self, candidate: NodeId) {
        if self.hard.vote != Some(candidate) {
            self.hard.vote = Some(candidate);
            self.hard_changed = true;
        }
    }

    /// Enters a term, in which this member has not voted.
    pub(super) fn open_term(&mut self, term: Term) {
        self.hard = HardState { term, vote: None };
        self.hard_changed = true;
        self.acknowledge = None;
    }

    /// Follows `leader`, or nobody yet, in `term`, which is not below its own (thesis §3.3).
    pub(super) fn become_follower(&mut self, term: Term, leader: Option<NodeId>, out: &mut Outbox<Self>) {
        let deposed = self.role == Role::Leader && term > self.hard.term && leader.is_none();
        if self.role == Role::Leader {
            self.resign(out);
        }
        if term > self.hard.term {
            self.open_term(term);
        }
        if self.leader != leader {
            self.forwarded_reads.forward_again(&mut self.local_reads);
        }
        // A candidate that nobody votes for must not put off those who would win.
        let waits = self.role == Role::Follower && leader.is_none();
        self.role = Role::Follower;
        self.leader = leader;
        self.votes.clear();
        if deposed && self.settings.pre_vote {
            self.seek_office_again(out);
        } else if !waits {
            self.await_leader(out);
        }
    }

    fn receive_from_oneself(&mut self, message: &Message, out: &mut Outbox<Self>) {
        match message {
            Message::Stored { term, last } if *term == self.hard.term => self.own_disk_has(*last),
            Message::Superseded { snapshot, .. } => out.notify(Event::Discard(*snapshot)),
            Message::Vote { term, granted: true } if *term == self.hard.term => {
                self.count_vote(self.id, true, out);
            }
            _ => {}
        }
    }

    #[expect(clippy::collapsible_match, reason = "a guard that acts would hide that it does")]
    fn receive_from_peer(&mut self, from: NodeId, message: Message, out: &mut Outbox<Self>) {
        if !self.gone.is_empty() {
            self.gone.retain(|gone| *gone != from);
        }
        match message {
            Message::RequestPreVote { term, last } => self.asked_for_pre_vote(from, term, last, out),
            Message::PreVote { term, granted } => self.pre_vote_answered(from, term, granted, out),
            Message::RequestVote { term, last, transfer } => {
                self.asked_for_vote(from, term, last, transfer, out);
            }
            Message::Vote { term, granted } => self.vote_answered(from, term, granted, out),
            Message::Append { term, previous, commit, matched, joined, beat, entries } => {
                if self.accepts_leader(from, term, beat, out) {
                    self.append(from, previous, commit, matched, joined, beat, entries, out);
                }
            }
            Message::Install { term, snapshot, offset, data, joined } => {
                if self.accepts_leader(from, term, None, out) {
                    self.install(snapshot, offset, data, joined, out);
                }
            }
            Message::Heard { term, .. } if term > self.hard.term => self.become_follower(term, None, out),
            Message::TimeoutNow { term, round } if term == self.hard.term => {
                self.told_to_campaign(from, round, out);
            }
            Message::Read { token, index, .. } => self.forwarded_read_answered(token, index, out),
            answer if self.role == Role::Leader && answer.term() == self.hard.term => {
                self.answered(from, &answer, out);
            }
            _ => {}
        }
    }

    /// A peer's answer to what this leader said.
    fn answered(&mut self, from: NodeId, answer: &Message, out: &mut Outbox<Self>) {
        match *answer {
            Message::Appended { matched, joined, .. } => self.peer_stored(from, matched, joined, out),
            Message::Rejected { previous, hint, joined, beat, .. } => {
                self.peer_heard(from, beat, false);
                self.peer_rejected(from, previous, hint, joined);
            }
            Message::Heard { beat, lease, .. } => self.peer_heard(from, Some(beat), lease),
            Message::Installed { snapshot, offset, joined, .. } => {
                self.peer_installed(from, snapshot, offset, joined, out);
            }
            Message::RequestRead { token, .. } => self.peer_reads(from, token),
            _ => {}
        }
    }

    /// Takes back a record of an earlier life.
    fn recall(&mut self, record: Record) -> Result<(), &'static str> {
        match record {
            Record::Identity { cluster, id } => self.recall_identity(cluster, id),
            Record::HardState(hard) => {
                self.hard = hard;
                Ok(())
            }
            Record::Append(entries) => self.recall_entries(entries),
            Record::Checkpoint(checkpoint) => {
                let Checkpoint { cluster, id, hard, snapshot, base, membership, entries } = *checkpoint;
                self.recall_identity(cluster, id)?;
                self.hard = hard;
                self.snapshot = snapshot.map(Arc::new);
                self.log = Log::after(base);
                self.memberships = VecDeque::from([membership]);
                self.recall_entries(entries)
            }
        }
    }

    const fn recall_identity(&self, cluster: u64, id: NodeId) -> Result<(), &'static str> {
        if cluster != self.settings.cluster {
            return Err("the journal is another cluster's");
        }
        if id.0 == self.id.0 { Ok(()) } else { Err("the journal is another member's") }
    }

    fn recall_entries(&mut self, entries: Entries) -> Result<(), &'static str> {
        let Some(first) = entries.first() else { return Ok(()) };
        if !entries.well_formed() || first <= self.log.base().index || first > self.log.last().index + 1 {
            return Err("the journal has a gap");
        }
        self.truncate(first);
        for run in entries {
            self.note_membership(&run);
            self.log.append(run);
        }
        Ok(())
    }

    /// Drops the entry at `from` and all after it, and the memberships among them.
    pub(super) fn truncate(&mut self, from: Index) -> bool {
        if from <= self.log.last().index {
            self.log.truncate(from);
        }
        let before = self.memberships.len();
        while self.memberships.len() > 1 && self.membership_entry().0 >= from {
            self.memberships.pop_back();
        }
        before != self.memberships.len()
    }

    /// A membership is effective as soon as it is in the log (thesis §4.1).
    pub(super) fn note_membership(&mut self, run: &Run) -> bool {
        if let Payload::Membership(membership) = &run.payload {
            self.memberships.push_back((run.first, Arc::clone(membership)));
            return true;
        }
        false
    }

    pub(super) fn tell_membership(&self, out: &mut Outbox<Self>) {
        let (index, membership) = self.membership_entry().clone();
        out.notify(Event::Membership(index, membership));
    }

    fn bootstrap(&mut self, id: RequestId, membership: Membership, out: &mut Outbox<Self>) {
        let fresh =
            self.hard.term == 0 && self.log.last() == Position::default() && self.membership().is_empty();
        let sensible =
            !membership.is_joint() && membership.weight_max() > 0 && membership.len() <= MEMBERS_MAX;
        if !fresh || !sensible {
            out.answer(id, Err(Error::Bootstrapped));
            return;
        }
        // Of term 0, before any election: whoever is told the same begins with the same log.
        let run = Arc::new(Run { term: 0, first: 1, payload: Payload::Membership(Arc::new(membership)) });
        self.note_membership(&run);
        self.log.append(Arc::clone(&run));
        out.persist(Record::Append(Entries::one(run)));
        self.tell_membership(out);
        out.answer(id, Ok(Answer::Done));
        self.campaign_soon(out);
    }

    /// Hands the application what has become committed, and asks for a snapshot when the log has grown long.
    fn hand_over_committed(&mut self, out: &mut Outbox<Self>) {
        if self.commit > self.handed {
            let through = self.commit.min(self.log.last().index);
            let entries = self.log.entries(self.handed + 1, through, usize::MAX);
            let bytes = entries.bytes();
            self.handed_bytes += bytes;
            self.uncommitted_bytes = self.uncommitted_bytes.saturating_sub(bytes);
            self.handed = through;
            out.notify(Event::Committed(entries));
            self.answer_decided(out);
        }
        let commit = self.commit;
        self.give_up_installing(|arriving| arriving.last.index <= commit, out);
        self.ask_for_snapshot(out);
    }

    fn ask_for_snapshot(&mut self, out: &mut Outbox<Self>) {
        let snapshotted = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.id.last.index);
        let long = self.handed_bytes >= self.settings.snapshot_log_bytes
            || self.handed - snapshotted >= self.settings.snapshot_log_entries;
        // An application that could not make one has no way to say so: it is asked again after a while.
        let asked = self.snapshot_asked.is_some_and(|asked| self.now < asked + SNAPSHOT_PATIENCE);
        if long && !asked {
            self.snapshot_asked = Some(self.now);
            out.notify(Event::MakeSnapshot);
        }
    }

    /// A snapshot stands for the log through `last` now.
    pub(super) fn snapshot_made(&mut self, last: Index) {
        self.snapshot_asked = None;
        self.handed_bytes = self.log.entries(last + 1, self.handed, usize::MAX).bytes();
    }

    /// Lets `timer` fire at `at`. An alarm that rings earlier anyway is left alone and put off when it rings: a
    /// follower's election timer moves with each append.
    #[inline]
    pub(super) fn set(&mut self, timer: Timer, at: Instant, out: &mut Outbox<Self>) {
        let place = timer as usize;
        self.due[place] = at;
        if at < self.alarm[place] {
            self.alarm[place] = at;
            out.set(timer, at);
        }
    }

    /// `timer` shall not fire.
    pub(super) const fn unset(&mut self, timer: Timer) {
        self.due[timer as usize] = Instant::NEVER;
    }

    pub(super) const fn due(&self, timer: Timer) -> Instant {
        self.due[timer as usize]
    }

    /// Whether this is the alarm that was set, and its timer is due.
    fn rings(&mut self, timer: Timer, out: &mut Outbox<Self>) -> bool {
        let place = timer as usize;
        if self.now < self.alarm[place] || self.alarm[place] == Instant::NEVER {
            return false;
        }
        self.alarm[place] = Instant::NEVER;
        let due = self.due[place];
        if due > self.now {
            if due != Instant::NEVER {
                self.set(timer, due, out);
            }
            return false;
        }
        self.due[place] = Instant::NEVER;
        true
    }

    /// Lets the deadline timer fire at `deadline` at the latest.
    pub(super) fn await_deadline(&mut self, deadline: Instant, out: &mut Outbox<Self>) {
        if deadline < self.due(Timer::Deadline) {
            self.set(Timer::Deadline, deadline, out);
        }
    }

    /// Answers whatever has waited too long.
    fn deadline_expired(&mut self, out: &mut Outbox<Self>) {
        let now = self.now;
        let mut next = Instant::NEVER;
        // Each of these keeps what is not yet due and tells the driver of the rest.
        let mut keep = |id: RequestId, deadline: Instant, error: &Error| {
            if deadline <= now {
                out.push(Effect::Answer(id, Err(error.clone())));
                return false;
            }
            next = next.min(deadline);
            true
        };
        self.gathered.retain(|(id, _, deadline)| keep(*id, *deadline, &Error::TimedOut));
        self.pending.retain(|waiting| keep(waiting.id, waiting.deadline, &Error::Unknown));
        self.orphans.retain(|waiting| keep(waiting.id, waiting.deadline, &Error::Unknown));
        if self.change.is_some_and(|(id, deadline)| !keep(id, deadline, &Error::Unknown)) {
            self.change = None;
        }
        self.reads
            .retain(|read| read.local().is_none_or(|(id, deadline)| keep(id, deadline, &Error::TimedOut)));
        self.local_reads.retain(|read| keep(read.id, read.deadline, &Error::TimedOut));
        self.forwarded_reads.retain(|read| keep(read.id, read.deadline, &Error::TimedOut));
        self.gathered_bytes = self.gathered.iter().map(|(_, commands, _)| commands.bytes().len()).sum();
        if next != Instant::NEVER {
            self.set(Timer::Deadline, next, out);
        }
    }

    /// How many requests wait for their answers.
    pub(super) fn waiting(&self) -> usize {
        self.gathered.len()
            + self.pending.len()
            + self.orphans.len()
            + self.reads.len()
            + self.local_reads.len()
            + self.forwarded_reads.len()
    }

    pub(super) fn refuse(&self, id: RequestId, out: &mut Outbox<Self>) {
        out.answer(id, Err(Error::NotLeader { term: self.hard.term, leader: self.leader }));
    }

    fn request_change(
        &mut self,
        id: RequestId,
        changes: &[Change],
        deadline: Instant,
        out: &mut Outbox<Self>,
    ) {
        match self.begin_change(changes, out) {
            Ok(()) => {
                self.change = Some((id, deadline));
                self.await_deadline(deadline, out);
            }
            Err(error) => out.answer(id, Err(error)),
        }
    }
}
