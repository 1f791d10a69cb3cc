//! The machine itself.

mod leasing;

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::ages::Ages;
use super::answers::{Answers, Asker, Fate, Waiter};
use super::leases::Leases;
use super::pending::{Forwarded, Forwards, Gathering, Parcel, Proposal, Proposals};
use super::queries::{Queries, Query};
use super::renewals::Renewals;
use super::taken::Taken;
use super::{
    Answer, Command, Consistency, Error, Event, Message, Outcome, Reply, Request, Settings, Timer, Token,
};
use crate::id::{NodeId, RequestId};
use crate::protocol::{Effect, Link, Outbox, Promises, Protocol};
use crate::raft::{self, Batch, Entries, Index, InvalidSetting, Raft, Role, Snapshot, Term};
use crate::random::{Random, mix};
use crate::time::Instant;

/// A member of a replicated machine. Each life needs a new one.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica {
    settings: Settings,
    raft: Raft,
    inner: Inner,
    /// The latest request to Raft.
    asked: RequestId,
    /// Requests that Raft answers, and who asked.
    passed: BTreeMap<RequestId, RequestId>,

    answers: Answers,
    gathered: Gathering,
    proposals: Proposals,
    /// Committed and handed to the application, in the order of the log.
    committed: VecDeque<(Index, Waiter)>,
    /// Applied, and waiting for a later entry, by the place of the first one.
    parked: BTreeMap<Index, Vec<Waiter>>,
    /// A snapshot has come: what was woken on the way there was not seen here.
    missed: bool,
    queries: Queries,
    renewals: Renewals,
    leases: Leases,
    ages: Ages,

    forwards: Forwards,
    taken: Taken,
    /// The first token of this life, and the next one.
    life: Token,
    token: Token,
    /// Who leads which term, as one said who does not.
    hint: Option<(Term, NodeId)>,
    /// The way out was refused: wait until something changes.
    blocked: bool,

    /// Up to where the application was handed entries, and has applied them.
    handed: Index,
    applied: Index,
    deadline_at: Option<Instant>,
    retry_at: Option<Instant>,
    lease_at: Option<Instant>,
    history_at: Option<Instant>,
    halted: Option<&'static str>,
    nonsense: u64,
    /// Room to encode an entry.
    scratch: Vec<u8>,
}

/// Where Raft puts its effects; empty between two calls.
#[derive(Debug, Default)]
struct Inner(Outbox<Raft>);

impl Clone for Inner {
    fn clone(&self) -> Self {
        debug_assert!(self.0.is_empty());
        Self::default()
    }
}

impl PartialEq for Inner {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

/// Where gathered commands go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Propose,
    Forward(Term, NodeId),
    Wait,
}

/// Deadlines are rounded up to it, so that thousands that end together cost one walk.
const DEADLINE_GRID: u64 = 1_000_000;

/// A silent leader is asked again at most 2^6 election time-outs later.
const BACKOFF_MAX: u8 = 6;

impl Replica {
    /// Member `id`, at the beginning of a life.
    pub fn new(id: NodeId, settings: Settings) -> Result<Self, InvalidSetting> {
        settings.check()?;
        Ok(Self {
            raft: Raft::new(id, settings.raft.clone())?,
            settings,
            inner: Inner::default(),
            asked: RequestId(0),
            passed: BTreeMap::new(),
            answers: Answers::default(),
            gathered: Gathering::default(),
            proposals: Proposals::default(),
            committed: VecDeque::new(),
            parked: BTreeMap::new(),
            missed: false,
            queries: Queries::default(),
            renewals: Renewals::default(),
            leases: Leases::default(),
            ages: Ages::default(),
            forwards: Forwards::default(),
            taken: Taken::default(),
            life: 0,
            token: 0,
            hint: None,
            blocked: false,
            handed: 0,
            applied: 0,
            deadline_at: None,
            retry_at: None,
            lease_at: None,
            history_at: None,
            halted: None,
            nonsense: 0,
            scratch: Vec::new(),
        })
    }

    /// Who it is.
    pub const fn id(&self) -> NodeId {
        self.raft.id()
    }

    /// Its Raft.
    pub const fn raft(&self) -> &Raft {
        &self.raft
    }

    /// The last entry that its application has applied.
    pub const fn applied(&self) -> Index {
        self.applied
    }

    /// How many requests wait for their answers, other members' included.
    pub const fn pending(&self) -> usize {
        self.answers.pending
    }

    /// How many messages made no sense.
    pub const fn nonsense(&self) -> u64 {
        self.nonsense
    }
}

impl Protocol for Replica {
    type Message = Message;
    type Record = raft::Record;
    type Timer = Timer;
    type Event = Event;
    type Request = Request;
    type Answer = Answer;
    type Error = Error;

    fn start(
        &mut self,
        now: Instant,
        mut random: Random,
        records: Vec<Self::Record>,
        out: &mut Outbox<Self>,
    ) {
        // Half of the numbers lie before any life's first token, half after: none runs out.
        self.life = random.word() >> 1;
        self.token = self.life;
        self.queries = Queries::starting_at(random.word() >> 1);
        self.renewals = Renewals::starting_at(mix(self.life) >> 1);
        self.raft.start(now, random.split(), records, &mut self.inner.0);
        self.taken = Taken::after(self.raft.term());
        self.relay(out);
    }

    fn receive(&mut self, now: Instant, from: NodeId, message: Message, out: &mut Outbox<Self>) {
        if self.halted.is_some() {
            return;
        }
        self.leases.heard(from);
        match message {
            Message::Raft(message) => {
                self.raft.receive(now, from, message, &mut self.inner.0);
                self.relay(out);
            }
            Message::Forward { term, life, settled, first, patience, commands } => {
                self.take_forwarded(now + patience, from, term, (life, settled, first), &commands, out);
            }
            Message::Forwarded(replies) => self.take_replies(from, replies, out),
            Message::AskLeases { term, asks } => self.take_lease_asks(now, from, term, asks, out),
            Message::Leases(replies) => self.take_lease_replies(from, replies, out),
            Message::Detached(leases) => {
                self.take_lead(now);
                for lease in leases {
                    self.leases.detach(now, lease, false, self.settings.grace);
                }
            }
        }
    }

    fn expire(&mut self, now: Instant, timer: Timer, out: &mut Outbox<Self>) {
        if self.halted.is_some() {
            return;
        }
        match timer {
            Timer::Raft(timer) => {
                self.raft.expire(now, timer, &mut self.inner.0);
                self.relay(out);
            }
            Timer::Deadline if self.deadline_at.is_some_and(|at| at <= now) => {
                self.expire_deadlines(now, out);
            }
            Timer::Retry if self.retry_at.is_some_and(|at| at <= now) => self.retry(now),
            Timer::Lease if self.lease_at.is_some_and(|at| at <= now) => {
                self.lease_at = None;
                self.end_leases(now);
            }
            Timer::History if self.history_at.is_some_and(|at| at <= now) => {
                self.history_at = None;
                self.forget_history(now);
            }
            Timer::Deadline | Timer::Retry | Timer::Lease | Timer::History => {}
        }
    }

    fn request(&mut self, now: Instant, id: RequestId, request: Request, out: &mut Outbox<Self>) {
        if let Some(why) = self.halted {
            out.answer(id, Err(Error::Halted(why)));
            return;
        }
        match request {
            Request::Command { session, command, deadline } => {
                let command =
                    session.map_or(Command::Plain(&command), |stamp| Command::Stamped(stamp, &command));
                self.take_command(now, id, command, deadline, out);
            }
            Request::OpenSession { deadline } => self.take_command(now, id, Command::Open, deadline, out),
            Request::CloseSession { session, deadline } => {
                self.take_command(now, id, Command::Close(session), deadline, out);
            }
            Request::Query { query, consistency, deadline } => {
                self.take_query(now, Query { id, bytes: query, deadline }, consistency, out);
            }
            Request::Applied { through, outcomes } => {
                let answer = self.take_applied(through, outcomes, out);
                out.answer(id, answer);
            }
            Request::Queried { token, result } => {
                let asker = self.queries.answered(token);
                if let Some(asker) = asker {
                    self.answers.pending -= 1;
                    out.answer(asker, Ok(Answer::Queried(result)));
                }
                out.answer(id, asker.map(|_| Answer::Done).ok_or(Error::Stale));
            }
            Request::Held { token } => {
                if !self.queries.hold(token) {
                    out.notify(Event::Forget(token));
                }
                out.answer(id, Ok(Answer::Done));
            }
            Request::Lease { lease, renew, deadline } => {
                self.take_lease(now, id, (lease, renew), deadline, out);
            }
            Request::Detached { lease, attachment } => {
                self.take_lead(now);
                self.leases.detach(now, (lease, attachment), true, self.settings.grace);
                out.answer(id, Ok(Answer::Done));
            }
            Request::Abandon(asked) => {
                self.abandon(now, &asked.into_iter().collect(), out);
                out.answer(id, Ok(Answer::Done));
            }
            Request::Woken(woken) => {
                self.take_woken(woken, out);
                out.answer(id, Ok(Answer::Done));
            }
            Request::Noted { anew, leases, revision } => {
                self.take_lead(now);
                self.leases.note(now, anew, leases, self.settings.grace);
                self.ages.note(now, revision, self.settings.history);
                let undecided = self.renewals.take_undecided();
                self.decide_leases(undecided, out);
                out.answer(id, Ok(Answer::Done));
            }
            Request::Damaged(why) => {
                self.halt(why, out);
                out.answer(id, Ok(Answer::Done));
            }
            request => self.pass(now, id, request, out),
        }
    }

    fn link(&mut self, now: Instant, peer: NodeId, link: Link, out: &mut Outbox<Self>) {
        if self.halted.is_some() {
            return;
        }
        self.take_lead(now);
        self.leases.link(now, peer, link, self.settings.grace);
        self.raft.link(now, peer, link, &mut self.inner.0);
        self.relay(out);
    }

    fn flush(&mut self, now: Instant, out: &mut Outbox<Self>) {
        if self.halted.is_some() {
            return;
        }
        loop {
            self.take_lead(now);
            self.depart(now, out);
            self.ask_raft_for_reads(now, out);
            self.ask_about_leases(now, out);
            self.tell_who_went(out);
            self.raft.flush(now, &mut self.inner.0);
            self.relay(out);
            // What Raft has just said may open the way for what waited. A refusal closes it until something changes,
            // so this ends.
            if self.halted.is_some() || !self.may_depart() {
                break;
            }
        }
        self.answers.send_replies(self.settings.raft.message_bytes_max, out);
        self.arm_retry(now, out);
        self.arm_leases(out);
    }
}

impl Promises for Replica {
    type Promised = <Raft as Promises>::Promised;

    fn promised(&self) -> Self::Promised {
        self.raft.promised()
    }
}

/// Clients' requests.
impl Replica {
    #[inline]
    fn take_command(
        &mut self,
        now: Instant,
        id: RequestId,
        command: Command,
        deadline: Instant,
        out: &mut Outbox<Self>,
    ) {
        let mut entry = std::mem::take(&mut self.scratch);
        entry.clear();
        command.encode(&mut entry);
        match self.may_take(now, entry.len(), deadline) {
            Ok(()) => {
                self.answers.pending += 1;
                let (asker, repeatable) = (Asker::Client(id), command.is_repeatable());
                self.gathered
                    .push(&entry, Waiter { asker, deadline, repeatable, uncertain: false, tries: 0 });
                self.arm_deadline(deadline, out);
            }
            Err(error) => out.answer(id, Err(error)),
        }
        entry.clear();
        self.scratch = entry;
    }

    fn may_take(&self, now: Instant, bytes: usize, deadline: Instant) -> Result<(), Error> {
        let limit = self.settings.raft.entry_bytes_max;
        if bytes > limit {
            return Err(Error::TooLarge { bytes, limit });
        }
        if deadline <= now {
            return Err(Error::TimedOut);
        }
        if self.answers.pending >= self.settings.pending_max {
            return Err(Error::Overloaded { limit: "pending_max" });
        }
        if self.gathered.bytes() + self.forwards.bytes() + bytes > self.settings.pending_bytes_max {
            return Err(Error::Overloaded { limit: "pending_bytes_max" });
        }
        Ok(())
    }

    fn take_query(&mut self, now: Instant, query: Query, consistency: Consistency, out: &mut Outbox<Self>) {
        if let Err(error) = self.may_take(now, query.bytes.len(), query.deadline) {
            out.answer(query.id, Err(error));
            return;
        }
        self.answers.pending += 1;
        self.arm_deadline(query.deadline, out);
        match consistency {
            Consistency::Linearizable => self.queries.gather(false, query),
            Consistency::Lease => self.queries.gather(true, query),
            Consistency::Stale => self.hand_queries(vec![query], out),
        }
    }

    /// What Raft alone decides.
    fn pass(&mut self, now: Instant, id: RequestId, request: Request, out: &mut Outbox<Self>) {
        let request = match request {
            Request::Bootstrap(membership) => raft::Request::Bootstrap(membership),
            Request::Change { changes, deadline } => raft::Request::Change { changes, deadline },
            Request::Transfer { to } => raft::Request::Transfer { to },
            Request::Campaign => raft::Request::Campaign,
            Request::Snapshotted { last, length } => raft::Request::Snapshotted { last, length },
            Request::Chunk { snapshot, offset, to, data } => {
                raft::Request::Chunk { snapshot, offset, to, data }
            }
            Request::Written { snapshot, offset } => raft::Request::Written { snapshot, offset },
            _ => unreachable!("the others are the replica's own"),
        };
        let asked = self.next_request();
        self.passed.insert(asked, id);
        self.raft.request(now, asked, request, &mut self.inner.0);
        self.relay(out);
        if !self.passed.contains_key(&asked) {
            // Answered at once: the number is free again, so that a refusal leaves nothing behind.
            self.asked.0 -= 1;
        }
    }

    fn next_request(&mut self) -> RequestId {
        self.asked.0 += 1;
        self.asked
    }
}

/// Commands on their way into the log.
impl Replica {
    fn way(&self) -> Way {
        if self.blocked {
            return Way::Wait;
        }
        if self.raft.role() == Role::Leader {
            return Way::Propose;
        }
        let known = self.raft.leader().map(|leader| (self.raft.term(), leader));
        // A later term is the better news.
        match known.max(self.hint.filter(|(term, _)| *term >= self.raft.term())) {
            Some((term, leader)) if leader != self.id() => Way::Forward(term, leader),
            _ => Way::Wait,
        }
    }

    fn may_depart(&self) -> bool {
        (!self.gathered.is_empty() && self.way() != Way::Wait)
            || (self.queries.is_any_gathered() && !self.queries.blocked)
            || (!self.renewals.gathered.is_empty() && !self.renewals.blocked && self.way() != Way::Wait)
    }

    /// All that was gathered leaves, if there is a way.
    fn depart(&mut self, now: Instant, out: &mut Outbox<Self>) {
        if self.gathered.is_empty() {
            return;
        }
        let way = self.way();
        if self.answers.own > 0 {
            self.drop_stale(out);
        }
        if way != Way::Propose {
            self.refuse_peers(out);
        }
        if way == Way::Wait {
            return;
        }
        let Some(parcel) = self.gathered.seal() else { return };
        match way {
            Way::Propose => self.propose(now, parcel, out),
            Way::Forward(term, leader) => self.forward(now, term, leader, parcel, out),
            Way::Wait => unreachable!("returned above"),
        }
    }

    /// Other members look for the leader themselves: nothing travels further than one step.
    fn refuse_peers(&mut self, out: &mut Outbox<Self>) {
        let (term, leader) = (self.raft.term(), self.raft.leader());
        for waiter in self.gathered.waiters_mut().filter(|waiter| matches!(waiter.asker, Asker::Peer(..))) {
            self.answers.settle(waiter, Fate::Refused { term, leader }, out);
        }
    }

    /// What the leader of a term wanted is nothing to any other: whoever leads next counts anew.
    fn drop_stale(&mut self, out: &mut Outbox<Self>) {
        let term = Some(self.raft.term()).filter(|_| self.raft.role() == Role::Leader);
        for waiter in self.gathered.waiters_mut() {
            if matches!(waiter.asker, Asker::Own(wanted) if Some(wanted) != term) {
                self.answers.settle(waiter, Fate::Unknown, out);
            }
        }
    }

    fn propose(&mut self, now: Instant, parcel: Parcel, out: &mut Outbox<Self>) {
        let commands = parcel.commands.clone();
        let id = self.next_request();
        // Raft appends at the end of this batch of inputs, and nobody else proposes.
        let (term, first) = (self.raft.term(), self.raft.last().index + 1);
        self.proposals.push(Proposal { id, term, first, parcel, decided: 0 });
        // The replica has deadlines of its own, and reads the outcome off the log.
        let request = raft::Request::Propose { commands, deadline: Instant::NEVER };
        self.raft.request(now, id, request, &mut self.inner.0);
        self.relay(out);
    }

    fn proposal_refused(&mut self, id: RequestId, error: &raft::Error, out: &mut Outbox<Self>) {
        // The log tells what became of it, or a deadline ends the waiting.
        if matches!(error, raft::Error::Overwritten | raft::Error::Unknown) {
            return;
        }
        let Some(mut parcel) = self.proposals.remove(id) else { return };
        let waits = matches!(error, raft::Error::NotLeader { .. } | raft::Error::Transferring { .. });
        for (command, waiter) in parcel.commands.iter().zip(&mut parcel.waiters) {
            if waits || waiter.uncertain {
                self.gathered.push(command, *waiter);
            } else {
                self.answers.settle(waiter, Fate::Failed(error.clone().into()), out);
            }
        }
        self.blocked = self.way() == Way::Propose && !self.gathered.is_empty();
    }

    fn forward(&mut self, now: Instant, term: Term, to: NodeId, parcel: Parcel, out: &mut Outbox<Self>) {
        let mut rest = parcel;
        while let Some(head) = rest.split_head(self.settings.raft.message_bytes_max) {
            self.forward_one(now, term, to, head, out);
        }
    }

    fn forward_one(&mut self, now: Instant, term: Term, to: NodeId, parcel: Parcel, out: &mut Outbox<Self>) {
        let first = self.token;
        self.token += parcel.waiters.len() as u64;
        let settled = self.forwards.first_token().unwrap_or(first);
        let latest = parcel.waiters.iter().map(|waiter| waiter.deadline).max().unwrap_or(now);
        let commands = parcel.commands.clone();
        self.forwards.push(first, Forwarded::new(to, term, now, parcel));
        let patience = latest.since(now);
        out.send(to, Message::Forward { term, life: self.life, settled, first, patience, commands });
    }
}

/// What members ask of each other.
impl Replica {
    fn take_forwarded(
        &mut self,
        deadline: Instant,
        from: NodeId,
        term: Term,
        (life, settled, first): (Token, Token, Token),
        commands: &Batch,
        out: &mut Outbox<Self>,
    ) {
        let count = commands.len() as u64;
        let ordered = life <= settled && settled <= first && first <= u64::MAX / 2 && count > 0;
        let limit = self.settings.raft.entry_bytes_max;
        let of_clients = |entry| Command::decode(entry).is_some_and(|command| command.is_of_clients());
        let sound = commands.iter().all(|entry| entry.len() <= limit && of_clients(entry));
        if !ordered || !sound || term > self.raft.term() {
            self.nonsense += 1;
            return;
        }
        if !self.taken.claim(term, from, life, settled, (first, count)) {
            // It may have been taken before: to say that nothing happened could be a lie.
            return;
        }
        let leads = self.raft.role() == Role::Leader && self.raft.term() == term;
        for (token, entry) in (first..).zip(commands.iter()) {
            let asker = Asker::Peer(from, token);
            let mut waiter = Waiter { asker, deadline, repeatable: false, uncertain: false, tries: 0 };
            self.answers.pending += 1;
            if !leads {
                let (term, leader) = (self.raft.term(), self.raft.leader());
                self.answers.settle(&mut waiter, Fate::Refused { term, leader }, out);
            } else if self.answers.pending > self.settings.pending_max {
                self.answers.settle(
                    &mut waiter,
                    Fate::Failed(Error::Overloaded { limit: "pending_max" }),
                    out,
                );
            } else {
                self.gathered.push(entry, waiter);
            }
        }
        if leads {
            self.arm_deadline(deadline, out);
        }
    }

    fn take_replies(&mut self, from: NodeId, replies: Vec<(Token, Reply)>, out: &mut Outbox<Self>) {
        let refused_in = self.forwards.take_refused(from, &replies, &mut self.gathered);
        for (token, reply) in replies {
            match reply {
                Reply::Refused { term, leader } => self.note_hint(from, term, leader),
                Reply::Applied(outcome) => self.settle_forwarded(from, token, Fate::Applied(outcome), out),
                Reply::Overloaded => {
                    let error = Error::Overloaded { limit: "the leader's" };
                    self.settle_forwarded(from, token, Fate::Failed(error), out);
                }
                Reply::Unknown => self.settle_forwarded(from, token, Fate::Unknown, out),
            }
        }
        // The same way again would be the same answer again: wait for news, or a little.
        if let Way::Forward(term, to) = self.way() {
            self.blocked = to == from && refused_in.contains(&term);
        }
    }

    fn settle_forwarded(&mut self, from: NodeId, token: Token, fate: Fate, out: &mut Outbox<Self>) {
        let Some(mut waiter) = self.forwards.take(from, token) else { return };
        match fate {
            // From here on, this member's own application says what becomes of it.
            Fate::Applied(Outcome::Waiting { ticket }) => {
                self.park(ticket, waiter);
                if ticket <= self.applied {
                    out.notify(Event::Parked(vec![ticket]));
                }
            }
            fate => self.answers.settle(&mut waiter, fate, out),
        }
    }

    fn park(&mut self, ticket: Index, waiter: Waiter) {
        self.parked.entry(ticket).or_default().push(waiter);
    }

    /// The application's: what became of commands that waited.
    fn take_woken(&mut self, woken: Vec<(Index, Option<Bytes>)>, out: &mut Outbox<Self>) {
        for (ticket, result) in woken {
            for mut waiter in self.parked.remove(&ticket).unwrap_or_default() {
                let result = result.clone();
                let fate = result.map(|result| Fate::Applied(Outcome::Result { index: ticket, result }));
                self.answers.settle(&mut waiter, fate.unwrap_or(Fate::Unknown), out);
            }
        }
    }

    fn note_hint(&mut self, from: NodeId, term: Term, leader: Option<NodeId>) {
        if let Some(leader) = leader.filter(|leader| *leader != from || term > self.raft.term()) {
            self.hint = self.hint.max(Some((term, leader)));
        }
    }

    /// What was sent to one who does not lead any more goes to who does, if it may.
    fn reclaim_forwarded(&mut self) {
        let term = self.raft.term();
        if self.raft.leader().is_some() {
            self.forwards.take_repeatable(&mut self.gathered, |forwarded| forwarded.term < term);
            self.renewals.reclaim(Instant::ZERO, term);
        }
    }

    fn retry(&mut self, now: Instant) {
        self.retry_at = None;
        self.blocked = false;
        self.queries.blocked = false;
        self.renewals.blocked = false;
        let patience = self.settings.raft.election_timeout;
        let before = Instant::from_nanos(now.as_nanos().saturating_sub(patience.as_nanos() as u64));
        self.renewals.reclaim(before, 0);
        self.forwards.take_repeatable(&mut self.gathered, |forwarded| {
            now >= forwarded.sent + patience * (1 << forwarded.tries().min(BACKOFF_MAX))
        });
    }

    fn arm_retry(&mut self, now: Instant, out: &mut Outbox<Self>) {
        let waits =
            self.blocked || self.queries.blocked || !self.forwards.is_empty() || self.renewals.is_waiting();
        if waits && self.retry_at.is_none() {
            let at = now + self.settings.raft.heartbeat_interval;
            self.retry_at = Some(at);
            out.set(Timer::Retry, at);
        }
    }
}

/// Queries.
impl Replica {
    fn ask_raft_for_reads(&mut self, now: Instant, out: &mut Outbox<Self>) {
        if self.queries.blocked {
            return;
        }
        for lease in [false, true] {
            let queries = self.queries.take_gathered(lease);
            let Some(latest) = queries.iter().map(|query| query.deadline).max() else { continue };
            let id = self.next_request();
            self.queries.asked(id, lease, queries);
            // Raft finds the leader, and asks again what gets lost.
            let request = raft::Request::Read { lease, deadline: latest };
            self.raft.request(now, id, request, &mut self.inner.0);
            self.relay(out);
        }
    }

    fn read_answered(
        &mut self,
        (lease, queries): (bool, Vec<Query>),
        answer: Result<raft::Answer, raft::Error>,
        out: &mut Outbox<Self>,
    ) {
        match answer {
            Ok(raft::Answer::Read(index)) if index <= self.applied => self.hand_queries(queries, out),
            Ok(raft::Answer::Read(index)) => self.queries.wait_for(index, queries),
            Err(error @ (raft::Error::Overloaded { .. } | raft::Error::Halted(_))) => {
                for query in queries {
                    self.answers.pending -= 1;
                    out.answer(query.id, Err(error.clone().into()));
                }
            }
            // A question may always be asked again.
            Ok(_) | Err(_) => {
                self.queries.blocked = true;
                for query in queries {
                    self.queries.gather(lease, query);
                }
            }
        }
    }

    fn hand_queries(&mut self, queries: Vec<Query>, out: &mut Outbox<Self>) {
        for query in queries {
            let token = self.queries.hand(&query);
            out.notify(Event::Query { token, query: query.bytes });
        }
    }
}

/// What Raft says.
impl Replica {
    /// Hands on what Raft wants done, in its order. Raft is asked nothing meanwhile, or the order would be lost.
    fn relay(&mut self, out: &mut Outbox<Self>) {
        let mut inner = std::mem::take(&mut self.inner);
        for effect in inner.0.drain() {
            match effect {
                Effect::Send(to, message) => out.send(to, Message::Raft(message)),
                Effect::Persist(record) => out.persist(record),
                Effect::Checkpoint(record) => out.checkpoint(record),
                Effect::Promise(to, message) => out.promise(to, Message::Raft(message)),
                Effect::Set(timer, at) => out.set(Timer::Raft(timer), at),
                Effect::Cancel(timer) => out.cancel(Timer::Raft(timer)),
                Effect::Answer(id, answer) => self.raft_answered(id, answer, out),
                Effect::Notify(event) => self.raft_tells(event, out),
            }
        }
        self.inner = inner;
    }

    fn raft_answered(
        &mut self,
        id: RequestId,
        answer: Result<raft::Answer, raft::Error>,
        out: &mut Outbox<Self>,
    ) {
        if let Some(asker) = self.passed.remove(&id) {
            out.answer(asker, answer.map(Answer::from).map_err(Error::from));
        } else if let Some(asked) = self.queries.take_asked(id) {
            self.read_answered(asked, answer, out);
        } else if let Some(asked) = self.renewals.take_asked(id) {
            self.leadership_answered(asked, &answer, out);
        } else if let Err(error) = answer {
            self.proposal_refused(id, &error, out);
        }
    }

    fn raft_tells(&mut self, event: raft::Event, out: &mut Outbox<Self>) {
        let event = match event {
            raft::Event::Committed(entries) => return self.hand_entries(entries, out),
            raft::Event::Halted(why) => return self.halt(why, out),
            raft::Event::Role { role, term, leader } => {
                self.blocked = false;
                self.queries.blocked = false;
                self.renewals.blocked = false;
                self.reclaim_forwarded();
                Event::Role { role, term, leader }
            }
            raft::Event::Restore(snapshot) => {
                self.handed = snapshot.id.last.index;
                Event::Restore(snapshot)
            }
            raft::Event::Install(snapshot) => {
                self.log_is_gone(&snapshot, out);
                Event::Install(snapshot)
            }
            raft::Event::Membership(index, membership) => Event::Membership(index, membership),
            raft::Event::MakeSnapshot => Event::MakeSnapshot,
            raft::Event::Read { snapshot, offset, length, to } => {
                Event::Read { snapshot, offset, length, to }
            }
            raft::Event::Write { snapshot, offset, data } => Event::Write { snapshot, offset, data },
            raft::Event::Discard(snapshot) => Event::Discard(snapshot),
        };
        out.notify(event);
    }

    fn hand_entries(&mut self, entries: Entries, out: &mut Outbox<Self>) {
        let before = self.committed.len();
        for run in entries.runs() {
            self.proposals.decide(run, &mut self.committed, &mut self.gathered);
        }
        self.handed = entries.last().map_or(self.handed, |last| last.index);
        out.notify(Event::Apply { entries, wanted: self.committed.len() > before });
    }

    fn log_is_gone(&mut self, snapshot: &Snapshot, out: &mut Outbox<Self>) {
        self.handed = snapshot.id.last.index;
        self.missed = true;
        let (gathered, answers) = (&mut self.gathered, &mut self.answers);
        self.proposals.lose(self.handed, |command, mut waiter| {
            if waiter.repeatable {
                waiter.uncertain = true;
                gathered.push(command, waiter);
            } else {
                answers.settle(&mut waiter, Fate::Unknown, out);
            }
        });
    }

    /// The application's: what it has applied.
    fn take_applied(
        &mut self,
        through: Index,
        mut outcomes: Vec<Outcome>,
        out: &mut Outbox<Self>,
    ) -> Result<Answer, Error> {
        let told = outcomes.len() as u64;
        if through > self.handed || through < self.applied || told > through {
            return Err(Error::Stale);
        }
        let first = through + 1 - told;
        while let Some((index, mut waiter)) =
            self.committed.front().copied().filter(|(index, _)| *index <= through)
        {
            self.committed.pop_front();
            let outcome = index.checked_sub(first).and_then(|place| outcomes.get_mut(place as usize));
            let outcome = outcome.map(|outcome| std::mem::replace(outcome, Outcome::Nothing));
            match (outcome, waiter.asker) {
                (Some(Outcome::Waiting { ticket }), Asker::Client(_)) => self.park(ticket, waiter),
                (outcome, _) => {
                    self.answers.settle(&mut waiter, outcome.map_or(Fate::Unknown, Fate::Applied), out);
                }
            }
        }
        self.applied = through;
        if std::mem::take(&mut self.missed) {
            let tickets: Vec<Index> = self.parked.range(..=through).map(|(ticket, _)| *ticket).collect();
            if !tickets.is_empty() {
                out.notify(Event::Parked(tickets));
            }
        }
        while let Some(renewals) = self.renewals.pop_ready(through) {
            self.decide_leases(renewals, out);
        }
        while let Some(queries) = self.queries.pop_ready(through) {
            self.hand_queries(queries, out);
        }
        Ok(Answer::Done)
    }
}

/// Ends: of patience, and of all.
impl Replica {
    #[inline]
    fn arm_deadline(&mut self, deadline: Instant, out: &mut Outbox<Self>) {
        if deadline == Instant::NEVER {
            return;
        }
        let steps = deadline.as_nanos().div_ceil(DEADLINE_GRID);
        let at = Instant::from_nanos(steps.saturating_mul(DEADLINE_GRID));
        if self.deadline_at.is_none_or(|armed| at < armed) {
            self.deadline_at = Some(at);
            out.set(Timer::Deadline, at);
        }
    }

    fn expire_deadlines(&mut self, now: Instant, out: &mut Outbox<Self>) {
        self.deadline_at = None;
        let next = self.end_what_waits(now, &Error::TimedOut, out);
        self.arm_deadline(next, out);
    }

    /// The deadlines of these have come.
    fn abandon(&mut self, now: Instant, asked: &BTreeSet<RequestId>, out: &mut Outbox<Self>) {
        let gathered = self.gathered.waiters_mut().chain(self.proposals.waiters_mut());
        let committed = self.committed.iter_mut().map(|(_, waiter)| waiter);
        let waiters = gathered.chain(committed).chain(self.forwards.waiters_mut());
        for waiter in waiters.chain(self.parked.values_mut().flatten()) {
            if matches!(waiter.asker, Asker::Client(id) if asked.contains(&id)) {
                waiter.deadline = Instant::ZERO;
            }
        }
        self.queries.abandon(asked);
        self.renewals.abandon(asked);
        self.expire_deadlines(now, out);
    }

    /// Answers all whose deadline is not after `now`; says when the next one comes. What has not left this member,
    /// and what asks only, fails with `error`.
    fn end_what_waits(&mut self, now: Instant, error: &Error, out: &mut Outbox<Self>) -> Instant {
        let mut next = Instant::NEVER;
        let answers = &mut self.answers;
        let mut end = |waiter: &mut Waiter, fate: Fate| {
            if waiter.deadline <= now {
                answers.settle(waiter, fate, out);
            } else if !waiter.is_gone() {
                next = next.min(waiter.deadline);
            }
        };
        self.gathered.waiters_mut().for_each(|waiter| end(waiter, Fate::Failed(error.clone())));
        self.gathered.forget_the_gone();
        self.proposals.waiters_mut().for_each(|waiter| end(waiter, Fate::Unknown));
        self.committed.iter_mut().for_each(|(_, waiter)| end(waiter, Fate::Unknown));
        self.forwards.waiters_mut().for_each(|waiter| end(waiter, Fate::Unknown));
        self.forwards.forget_settled();
        self.parked.retain(|_, waiters| {
            for waiter in waiters.iter_mut() {
                end(waiter, Fate::Unknown);
            }
            waiters.retain(|waiter| !waiter.is_gone());
            !waiters.is_empty()
        });
        let mut forgotten = Vec::new();
        let queries = self.queries.expire(
            now,
            |id| {
                answers.pending -= 1;
                out.answer(id, Err(error.clone()));
            },
            &mut forgotten,
        );
        let renewals = self.renewals.expire(now, |renewal| {
            answers.pending -= 1;
            if let Asker::Client(id) = renewal.asker {
                // What was to be renewed may have been.
                let error = if renewal.renew { Error::Unknown } else { error.clone() };
                out.answer(id, Err(error));
            }
        });
        for token in forgotten {
            out.notify(Event::Forget(token));
        }
        next.min(queries).min(renewals)
    }

    fn halt(&mut self, why: &'static str, out: &mut Outbox<Self>) {
        self.halted = Some(why);
        self.end_what_waits(Instant::NEVER, &Error::Halted(why), out);
        while let Some((_, asker)) = self.passed.pop_first() {
            out.answer(asker, Err(Error::Unknown));
        }
        out.notify(Event::Halted(why));
    }
}
