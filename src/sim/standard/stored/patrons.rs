//! Who asks in the standard world of a store.

use bytes::Bytes;
use std::time::Duration;

use super::super::super::host::{Asks, Load};
use super::super::HORIZON;
use super::super::operator::{Operator, Order};
use super::super::replicated::Replicates;
use super::Clients;
use crate::id::{NodeId, RequestId};
use crate::raft::Membership;
use crate::random::{Random, mix};
use crate::replica::{self, Consistency, Error, Request, SessionId, SessionStamp};
use crate::store::{
    Answer, Command, Compare, Comparison, Expected, Keys, LeaseId, Operation, Past, Put, PutLease, Query,
    Range, Refusal, Reply, Revision, Watch,
};
use crate::time::Instant;
use crate::wire::{Decode, Encode, VERSION};

/// One kind of what a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Sets a key, with its lease or without one.
    Put,
    /// Reads keys, as they are or were.
    Read,
    /// Takes keys away.
    Delete,
    /// Compares and does several things.
    Transact,
    /// Sets a key if it is as expected.
    Swap,
    /// Queues for a lock, and leaves it.
    Lock,
    /// Opens sessions, and stamps commands.
    Session,
    /// Goes without goodbye, or comes back at another member.
    Detach,
    /// Does not renew its lease for a while.
    Linger,
    /// Ends its lease.
    Revoke,
    /// Compacts history.
    Compact,
    /// Watches keys.
    Watch,
    /// Goes with goodbye: lets go of all that it has, and closes its session; and asks once more for what it asked in it.
    Close,
}

impl Deed {
    /// Each kind.
    pub const ALL: [Self; 13] = [
        Self::Put,
        Self::Read,
        Self::Delete,
        Self::Transact,
        Self::Swap,
        Self::Lock,
        Self::Session,
        Self::Detach,
        Self::Linger,
        Self::Revoke,
        Self::Compact,
        Self::Watch,
        Self::Close,
    ];
}

/// The clients, and an operator who moves leadership and changes the membership.
#[derive(Clone, Debug)]
pub struct Patrons {
    clients: Clients,
    /// The mean time between two deeds of one client.
    interval: u64,
    members: u64,
    each: Vec<Patron>,
    operator: Option<Operator>,
    /// Who leads, as far as the operator knows.
    leader: Option<NodeId>,
}

#[derive(Clone, Debug)]
struct Patron {
    number: u64,
    random: Random,
    waits: Option<(RequestId, Waits)>,
    /// Whom it asked that for which it waits.
    asked: NodeId,
    session: Option<SessionId>,
    sequence: u64,
    /// A stamped command whose outcome it still wants to know.
    again: Option<(SessionStamp, Command)>,
    /// The stamped command that it asked last.
    last: Option<(SessionStamp, Command)>,
    lease: Option<Holding>,
    /// Until when it renews nothing.
    lingers: Instant,
    renewing: Option<RequestId>,
    /// The latest revision that it has seen.
    revision: Revision,
    watch: Option<Watching>,
    tags: u64,
}

/// A lease that a client believes to have.
#[derive(Clone, Debug)]
struct Holding {
    lease: LeaseId,
    attachment: u64,
    home: NodeId,
    /// The locks for which it queues, or which it holds.
    queued: Vec<u64>,
}

#[derive(Clone, Debug)]
struct Watching {
    id: Option<RequestId>,
    keys: Keys,
    /// Where it goes on. 0: it begins.
    from: Revision,
    /// It has waited in vain, and asks how far it has come.
    checks: bool,
}

#[derive(Clone, Debug)]
enum Waits {
    Session,
    Closing,
    Command(Option<SessionStamp>, Command, NodeId),
    Query,
}

/// Tokens: what a wake-up is for, above the client's number, above a request.
const KIND_SHIFT: u32 = 60;
const CLIENT_SHIFT: u32 = 48;
const ACT: u64 = 0;
const PATIENCE: u64 = 1;
const RENEW: u64 = 2;
const WATCH: u64 = 3;
const OPERATE: u64 = 4;

const ORDER_TIMEOUT: Duration = Duration::from_secs(2);

/// Of what is watched.
const PREFIXES: [&str; 3] = ["k", "l", ""];

/// Leases from here on were named by their clients; the others are named after their entries.
pub(super) const NAMED: LeaseId = 1_000_000;

pub(super) fn lock_name(number: u64) -> Bytes {
    format!("l{number}").into()
}

fn key_name(number: u64) -> Bytes {
    format!("k{number}").into()
}

impl Patrons {
    pub(super) fn new(seed: u64, members: u64, clients: Clients, operator: Option<Operator>) -> Self {
        let mut random = Random::new(mix(seed ^ 0x7061_7472_6f6e_7321));
        let each = (0..clients.count).map(|number| Patron::new(number, random.split())).collect();
        // Division of floats is the same everywhere; what is no rate is none at all.
        let interval = (clients.count as f64 * 1e9 / clients.rate.max(0.0)) as u64;
        Self { clients, interval, members, each, operator, leader: None }
    }

    fn node(&mut self, number: u64) -> NodeId {
        NodeId(1 + self.each[number as usize].random.below(self.members))
    }

    /// A client does the next thing.
    fn act<P: Replicates>(&mut self, number: u64, asks: &mut Asks<'_, P>) {
        let node = self.node(number);
        let deadline = asks.clock(node) + self.clients.timeout;
        let now = asks.now();
        let patron = &mut self.each[number as usize];
        let Some((request, waits)) = patron.draw(&self.clients, node, deadline, now) else {
            let went = patron.lease.take().filter(|_| self.clients.deeds.contains(&Deed::Detach));
            if let Some(Holding { lease, attachment, home, .. }) = went {
                asks.request(home, Request::Detached { lease, attachment });
            }
            return self.next(number, false, asks);
        };
        // It says where it was before it comes back.
        if let Waits::Command(_, Command::Attach { lease, .. }, _) = &waits
            && let Some(holding) = &patron.lease
        {
            let (lease, attachment) = (*lease, holding.attachment);
            asks.request(holding.home, Request::Detached { lease, attachment });
        }
        // Who goes lets go before; nobody waits for that.
        if let Waits::Closing = &waits
            && let Some(Holding { lease, .. }) = patron.lease.take()
        {
            let command = Command::Revoke { lease }.to_bytes();
            asks.request(node, Request::Command { session: None, command, deadline });
        }
        let id = asks.request(node, request);
        let locks = matches!(&waits, Waits::Command(_, Command::Acquire { .. }, _));
        (patron.waits, patron.asked) = (Some((id, waits)), node);
        let timeout = self.clients.timeout.as_nanos() as u64 * if locks { 2 } else { 1 };
        let patience = timeout / 4 + patron.random.below((timeout / 4 * 7).max(1));
        let at = now + Duration::from_nanos(patience);
        asks.wake_at(at, PATIENCE << KIND_SHIFT | number << CLIENT_SHIFT | id.0);
    }

    fn next<P: Replicates>(&mut self, number: u64, soon: bool, asks: &mut Asks<'_, P>) {
        let patron = &mut self.each[number as usize];
        let wait = self.interval.saturating_mul(2) / if soon { 8 } else { 1 };
        let wait = Duration::from_nanos(patron.random.below(wait.max(1)));
        asks.wake_at(asks.now() + wait, ACT << KIND_SHIFT | number << CLIENT_SHIFT);
    }

    /// A client renews its lease, if it has one and cares.
    fn renew<P: Replicates>(&mut self, number: u64, asks: &mut Asks<'_, P>) {
        let drawn = self.node(number);
        let (now, third) = (asks.now(), self.clients.ttl / 3);
        let patron = &mut self.each[number as usize];
        if let Some(holding) = &patron.lease
            && patron.lingers <= now
        {
            // Mostly where it is at home.
            let node = if patron.random.below(4) > 0 { holding.home } else { drawn };
            let renew = patron.random.below(8) > 0;
            let deadline = asks.clock(node) + self.clients.ttl / 2;
            patron.renewing =
                Some(asks.request(node, Request::Lease { lease: holding.lease, renew, deadline }));
        }
        asks.wake_at(now + third, RENEW << KIND_SHIFT | number << CLIENT_SHIFT);
    }

    fn watch<P: Replicates>(&mut self, number: u64, asks: &mut Asks<'_, P>) {
        let node = self.node(number);
        let deadline = asks.clock(node) + self.clients.timeout * 2;
        let patron = &mut self.each[number as usize];
        let Some(watching) = &mut patron.watch else { return };
        let watch = Watch {
            keys: watching.keys.clone(),
            from: watching.from,
            previous: patron.random.below(2) == 0,
            wait: !watching.checks,
        };
        let query = Query::Watch(watch).to_bytes();
        let id = asks.request(node, Request::Query { query, consistency: Consistency::Stale, deadline });
        watching.id = Some(id);
        let patience = asks.now() + self.clients.timeout * 4;
        asks.wake_at(patience, WATCH << KIND_SHIFT | number << CLIENT_SHIFT | id.0);
    }

    /// The operator orders something, every now and then.
    fn operate<P: Replicates>(&mut self, asks: &mut Asks<'_, P>) {
        let Some(operator) = &mut self.operator else { return };
        if asks.now().since(Instant::ZERO) > HORIZON {
            return;
        }
        asks.wake_at(asks.now() + operator.wait(), OPERATE << KIND_SHIFT);
        let (drawn, orders) = operator.draw();
        let node = self.leader.unwrap_or(drawn);
        for order in orders {
            match order {
                Order::Transfer(to) => asks.request(node, Request::Transfer { to }),
                Order::Change(change) => {
                    let deadline = asks.clock(node) + ORDER_TIMEOUT;
                    asks.request(node, Request::Change { changes: vec![change], deadline })
                }
                Order::Campaign(candidate) => asks.request(candidate, Request::Campaign),
            };
        }
    }
}

impl<P: Replicates> Load<P> for Patrons {
    fn begin(&mut self, asks: &mut Asks<'_, P>) {
        let membership = Membership::of((1..=self.members).map(NodeId));
        for node in (1..=self.members).map(NodeId) {
            asks.request(node, Request::Bootstrap(membership.clone()));
        }
        for number in 0..self.clients.count {
            self.next(number, false, asks);
            asks.wake_at(asks.now() + self.clients.ttl / 3, RENEW << KIND_SHIFT | number << CLIENT_SHIFT);
            if self.clients.deeds.contains(&Deed::Watch) {
                self.each[number as usize].begin_watch(0);
                self.watch(number, asks);
            }
        }
        asks.wake_at(asks.now() + Duration::from_secs(2), OPERATE << KIND_SHIFT);
    }

    fn wake(&mut self, token: u64, asks: &mut Asks<'_, P>) {
        let number = token >> CLIENT_SHIFT & 0xfff;
        let id = RequestId(token & ((1 << CLIENT_SHIFT) - 1));
        match token >> KIND_SHIFT {
            ACT => self.act(number, asks),
            PATIENCE => {
                let patron = &mut self.each[number as usize];
                if let Some((_, waits)) = patron.waits.take_if(|(waits, _)| *waits == id) {
                    // It says so, or only stops listening.
                    if patron.chance(2) {
                        asks.request(patron.asked, Request::Abandon(vec![id]));
                    }
                    patron.heard(waits, Err(Error::Unknown));
                    self.next(number, true, asks);
                }
            }
            RENEW => self.renew(number, asks),
            WATCH => {
                let patron = &mut self.each[number as usize];
                let watch = patron.watch.as_mut();
                // Its member died; or it waits a little before it asks anew, and no request has that number.
                if watch.is_some_and(|watching| watching.id.is_none_or(|waits| waits == id)) {
                    self.watch(number, asks);
                }
            }
            _ => self.operate(asks),
        }
    }

    fn answered(
        &mut self,
        _node: NodeId,
        id: RequestId,
        answer: Result<replica::Answer, Error>,
        asks: &mut Asks<'_, P>,
    ) {
        if let Err(Error::NotLeader { leader, .. }) = &answer {
            self.leader = *leader;
        }
        let Some(number) = self.each.iter().position(|patron| patron.asks(id)) else { return };
        let patron = &mut self.each[number];
        if let Some((_, waits)) = patron.waits.take_if(|(waits, _)| *waits == id) {
            let failed = answer.is_err();
            patron.heard(waits, answer);
            return self.next(number as u64, failed, asks);
        }
        if patron.renewing == Some(id) {
            patron.renewing = None;
            if answer == Err(Error::LeaseNotFound) {
                patron.lease = None;
            }
            return;
        }
        let soon = patron.watched(answer);
        let wait = Duration::from_millis(if soon { 1 } else { 20 + patron.random.below(80) });
        asks.wake_at(asks.now() + wait, WATCH << KIND_SHIFT | (number as u64) << CLIENT_SHIFT);
    }
}

impl Patron {
    const fn new(number: u64, random: Random) -> Self {
        Self {
            number,
            random,
            waits: None,
            asked: NodeId(0),
            session: None,
            sequence: 0,
            again: None,
            last: None,
            lease: None,
            lingers: Instant::ZERO,
            renewing: None,
            revision: 0,
            watch: None,
            tags: 0,
        }
    }

    fn asks(&self, id: RequestId) -> bool {
        self.waits.as_ref().is_some_and(|(waits, _)| *waits == id)
            || self.renewing == Some(id)
            || self.watch.as_ref().is_some_and(|watching| watching.id == Some(id))
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.random.below(one_in) == 0
    }

    /// What it asks next; `None`: it goes without goodbye.
    fn draw(
        &mut self,
        clients: &Clients,
        node: NodeId,
        deadline: Instant,
        now: Instant,
    ) -> Option<(Request, Waits)> {
        if let Some((stamp, command)) = self.again.take() {
            return Some(request(Some(stamp), command, node, deadline, clients));
        }
        if clients.deeds.contains(&Deed::Session) && self.session.is_none() && !self.chance(4) {
            return Some((Request::OpenSession { deadline }, Waits::Session));
        }
        let place = self.random.below(clients.deeds.len() as u64) as usize;
        let command = match clients.deeds[place] {
            Deed::Read => {
                let query = self.query(clients).to_bytes();
                let kinds = [Consistency::Linearizable, Consistency::Lease, Consistency::Stale];
                let consistency = kinds[self.random.below(3) as usize];
                return Some((Request::Query { query, consistency, deadline }, Waits::Query));
            }
            Deed::Detach if self.lease.is_some() && self.chance(6) => {
                if self.chance(2) {
                    (self.session, self.again) = (None, None);
                    return None;
                }
                let lease = self.lease.as_ref().map_or(0, |holding| holding.lease);
                Command::Attach { lease, home: node.0 }
            }
            Deed::Close if self.chance(4) => match self.session {
                Some(session) => {
                    self.session = None;
                    return Some((Request::CloseSession { session, deadline }, Waits::Closing));
                }
                None => match self.last.clone() {
                    Some((stamp, command)) => {
                        return Some(request(Some(stamp), command, node, deadline, clients));
                    }
                    None => self.put(clients, node),
                },
            },
            Deed::Linger if self.chance(6) => {
                self.lingers = now + clients.ttl * 2;
                self.put(clients, node)
            }
            Deed::Revoke if self.chance(8) && self.lease.is_some() => {
                Command::Revoke { lease: self.lease.as_ref().map_or(0, |holding| holding.lease) }
            }
            Deed::Compact if self.chance(4) => {
                Command::Compact { revision: self.revision.saturating_sub(self.random.below(40)) }
            }
            Deed::Lock => self.lock(clients, node),
            Deed::Delete if self.chance(2) => {
                let key = key_name(self.random.below(clients.keys));
                let keys = if self.chance(6) { Keys::prefix(PREFIXES[0].into()) } else { Keys::One(key) };
                Command::Delete { keys, previous: self.chance(2) }
            }
            Deed::Transact => self.transaction(clients),
            Deed::Swap => {
                let key = key_name(self.random.below(clients.keys));
                let expected = self.expected();
                let value = self.chance(5).then(Bytes::new).map_or_else(|| Some(self.value()), |_| None);
                Command::CompareAndSwap { key, expected, value, lease: PutLease::None }
            }
            _ => self.put(clients, node),
        };
        let stamp = self.session.filter(|_| !self.chance(8)).map(|session| self.stamp(session));
        self.last = stamp.map(|stamp| (stamp, command.clone())).or_else(|| self.last.take());
        Some(request(stamp, command, node, deadline, clients))
    }

    fn value(&mut self) -> Bytes {
        self.tags += 1;
        format!("{}:{}", self.number, self.tags).into()
    }

    /// Its lease: one that it has, or none.
    fn own_lease(&mut self) -> PutLease {
        match &self.lease {
            Some(holding) if self.random.below(2) == 0 => PutLease::With(holding.lease),
            _ if self.random.below(6) == 0 => PutLease::Keep,
            _ => PutLease::None,
        }
    }

    /// A put, or a lease to put something under.
    fn put(&mut self, clients: &Clients, node: NodeId) -> Command {
        if self.lease.is_none() && self.chance(3) {
            return self.grant(clients, node);
        }
        let key = key_name(self.random.below(clients.keys));
        let (lease, previous) = (self.own_lease(), self.chance(3));
        let value = if self.chance(10) { None } else { Some(self.value()) };
        Command::Put(Put { key, value, lease, previous })
    }

    fn grant(&mut self, clients: &Clients, node: NodeId) -> Command {
        // Names are used again: what was meant for one life of a lease must not befall the next.
        let lease = if self.chance(2) { 0 } else { NAMED + self.number };
        Command::Grant { lease, ttl: clients.ttl, home: node.0 }
    }

    fn lock(&mut self, clients: &Clients, node: NodeId) -> Command {
        let number = self.random.below(clients.locks);
        let Some(holding) = &mut self.lease else { return self.grant(clients, node) };
        let (lease, name) = (holding.lease, lock_name(number));
        if let Some(at) = holding.queued.iter().position(|queued| *queued == number)
            && self.random.below(4) > 0
        {
            holding.queued.swap_remove(at);
            return Command::Release { name, lease };
        }
        if !holding.queued.contains(&number) {
            holding.queued.push(number);
        }
        let value = if self.chance(3) { self.value() } else { Bytes::new() };
        Command::Acquire { name, lease, value, wait: !self.chance(6) }
    }

    fn expected(&mut self) -> Option<Expected> {
        Some(match self.random.below(5) {
            0 => return None,
            1 => Expected::Version(1 + self.random.below(3)),
            2 => Expected::Modified(self.revision),
            3 => Expected::Lease(0),
            _ => Expected::Created(self.revision.saturating_sub(self.random.below(10))),
        })
    }

    fn transaction(&mut self, clients: &Clients) -> Command {
        let mut compares = Vec::new();
        for _ in 0..self.random.below(3) {
            let is =
                [Comparison::Equal, Comparison::Greater, Comparison::NotEqual][self.random.below(3) as usize];
            let keys = Keys::One(key_name(self.random.below(clients.keys)));
            let expected = self.expected().unwrap_or(Expected::Version(0));
            compares.push(Compare { keys, is, expected });
        }
        let mut branch = || (0..self.random.below(5)).map(|_| self.operation(clients)).collect();
        let (success, failure) = (branch(), branch());
        Command::Transaction { compares, success, failure }
    }

    fn operation(&mut self, clients: &Clients) -> Operation {
        let key = key_name(self.random.below(clients.keys));
        match self.random.below(6) {
            0 => Operation::Delete { keys: Keys::One(key), previous: true },
            1 => Operation::Range(Range::of(Keys::prefix(PREFIXES[0].into())).limit(4)),
            2 => {
                // Now and then with a lease that is not there: then nothing at all may happen.
                let lease = self.lease.as_ref().map_or(77, |holding| holding.lease);
                let value = Some(self.value());
                Operation::Put(Put { key, value, lease: PutLease::With(lease), previous: false })
            }
            _ => {
                let value = self.value();
                Operation::Put(Put { previous: true, ..Put::new(key, value) })
            }
        }
    }

    fn query(&mut self, clients: &Clients) -> Query {
        let key = key_name(self.random.below(clients.keys));
        match self.random.below(8) {
            0 => Query::Holder(lock_name(self.random.below(clients.locks))),
            1 => Query::Lease(self.lease.as_ref().map_or(5, |holding| holding.lease)),
            2 => {
                let revision = self.revision.saturating_sub(self.random.below(60));
                Query::Range(Range::of(Keys::all()).at(revision))
            }
            3 => Query::Range(Range::of(Keys::all())),
            4 => Query::Status,
            5 => Query::Leases,
            _ => Query::Range(Range::one(key)),
        }
    }

    fn stamp(&mut self, session: SessionId) -> SessionStamp {
        let sequence = self.sequence;
        self.sequence += 1;
        // It may be slow to say what it knows.
        let answered_below = sequence.saturating_sub(self.random.below(4));
        SessionStamp { session, sequence, answered_below }
    }

    fn begin_watch(&mut self, from: Revision) {
        let keys = match self.random.below(4) {
            0 => Keys::One(key_name(self.random.below(4))),
            drawn => Keys::prefix(PREFIXES[drawn as usize - 1].into()),
        };
        self.watch = Some(Watching { id: None, keys, from, checks: false });
    }

    /// What it makes of an answer; having lost patience is not to know.
    fn heard(&mut self, waits: Waits, answer: Result<replica::Answer, Error>) {
        match (waits, answer) {
            (Waits::Session, Ok(replica::Answer::Session(session))) => {
                (self.session, self.sequence) = (Some(session), 0);
            }
            (Waits::Command(_, command, node), Ok(replica::Answer::Result { result, .. })) => {
                if let Ok(answer) = Answer::from_bytes(result, VERSION) {
                    self.learned(&command, node, &answer);
                }
            }
            (Waits::Command(Some(stamp), ..), Err(Error::SessionExpired)) => {
                self.session.take_if(|session| *session == stamp.session);
            }
            // Mostly it wants to know, and asks somebody else; now and then it gives up.
            (Waits::Command(Some(stamp), command, _), Err(_)) if !self.chance(6) => {
                self.again = Some((stamp, command));
            }
            // Whether it has that lease now, it does not know: it would not renew what it has forgotten.
            (Waits::Command(_, Command::Attach { .. }, _), Err(_)) => self.lease = None,
            (Waits::Query, Ok(replica::Answer::Queried(result))) => {
                if let Ok(answer) = Answer::from_bytes(result, VERSION) {
                    self.revision = self.revision.max(answer.revision);
                }
            }
            _ => {}
        }
    }

    fn learned(&mut self, command: &Command, node: NodeId, answer: &Answer) {
        self.revision = self.revision.max(answer.revision);
        match (command, &answer.reply) {
            (_, Reply::Granted { lease, attachment }) => {
                let (lease, attachment) = (*lease, *attachment);
                self.lease = Some(Holding { lease, attachment, home: node, queued: Vec::new() });
                self.lingers = Instant::ZERO;
            }
            (Command::Attach { .. }, Reply::Attached { attachment }) => {
                if let Some(holding) = &mut self.lease {
                    (holding.attachment, holding.home) = (*attachment, node);
                }
            }
            (
                Command::Revoke { .. } | Command::Attach { .. } | Command::Acquire { .. } | Command::Put(_),
                Reply::Revoked { .. } | Reply::Refused(Refusal::LeaseNotFound),
            ) => self.lease = None,
            _ => {}
        }
    }

    /// A watch was answered; whether it goes on at once.
    fn watched(&mut self, answer: Result<replica::Answer, Error>) -> bool {
        let told = match answer {
            Ok(replica::Answer::Queried(result)) => Answer::from_bytes(result, VERSION).ok(),
            _ => None,
        };
        let forgets = self.chance(40);
        let Some(watching) = &mut self.watch else { return false };
        watching.id = None;
        match told.map(|answer| (answer.revision, answer.reply)) {
            Some((_, Reply::Events { next, .. })) => {
                (watching.from, watching.checks) = (next, false);
                if forgets {
                    // From somewhere in the past, which may be compacted.
                    let from = next.saturating_sub(self.random.below(200)).max(1);
                    self.begin_watch(from);
                }
                true
            }
            Some((_, Reply::Refused(Refusal::Compacted { revision }))) => {
                (watching.from, watching.checks) = (revision, false);
                true
            }
            _ => {
                watching.checks = !watching.checks && watching.from > 0;
                false
            }
        }
    }
}

fn request(
    stamp: Option<SessionStamp>,
    command: Command,
    node: NodeId,
    deadline: Instant,
    clients: &Clients,
) -> (Request, Waits) {
    // Whoever queues waits longer.
    let longer = matches!(command, Command::Acquire { .. });
    let deadline = if longer { deadline + clients.timeout } else { deadline };
    let request = Request::Command { session: stamp, command: command.to_bytes(), deadline };
    (request, Waits::Command(stamp, command, node))
}

/// What a question is about, for the judge.
pub(super) const fn is_past(query: &Query) -> Option<Revision> {
    match query {
        Query::Range(Range { past: Past::At(revision), .. }) => Some(*revision),
        _ => None,
    }
}
