//! The clients themselves, and the operator.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;

use super::super::super::clients::{ClientOperation, Clients};
use super::super::super::host::{Asks, Load};
use super::super::HORIZON;
use super::super::operator::{Operator, Order};
use super::Replicates;
use super::model::key_bytes;
use crate::id::{NodeId, RequestId};
use crate::raft::Membership;
use crate::random::{Random, mix};
use crate::replica::{
    Answer, Consistency, Error, Operation, OperationResult, Request, SessionId, SessionStamp,
};
use crate::time::Instant;
use crate::wire::{Decode, Encode, VERSION};

/// Clients with sessions and patience, and an operator who moves leadership and changes the membership.
#[derive(Clone, Debug)]
pub struct Callers {
    clients: Clients,
    /// The mean time between two operations of one client.
    interval: u64,
    members: u64,
    each: Vec<Caller>,
    /// How many values were written: each has a number of its own.
    tags: u64,
    operator: Option<Operator>,
    order: Option<Ordered>,
    /// Who leads, as far as the operator knows.
    leader: Option<NodeId>,
}

#[derive(Clone, Debug)]
struct Ordered {
    id: RequestId,
    order: Order,
    /// It was sent to who was said to lead.
    directed: bool,
}

#[derive(Clone, Debug)]
struct Caller {
    random: Random,
    waits: Option<(RequestId, Waits)>,
    /// Whom it asked that for which it waits.
    asked: NodeId,
    /// Who answered last.
    favourite: Option<NodeId>,
    session: Option<SessionId>,
    /// The number of the session's next command.
    sequence: u64,
    /// Sessions that it left without closing them, with their next numbers: it may come back.
    left: Vec<(SessionId, u64)>,
    /// A stamped command whose outcome it still wants to know.
    again: Option<(SessionStamp, Operation)>,
    /// What it last saw under each key.
    seen: BTreeMap<Bytes, Option<Bytes>>,
}

/// For what a client waits.
#[derive(Clone, Debug)]
enum Waits {
    Session,
    Closing,
    Command(Option<SessionStamp>, Operation),
    Value(Bytes),
}

/// Tokens: a client's next operation has its number; the operator has this.
const OPERATOR: u64 = 1 << 32;
/// The end of a client's patience has this bit, and the request.
const PATIENCE: u64 = 1 << 63;
const CLIENT_SHIFT: u32 = 48;

/// How long an order of the operator may take.
const ORDER_TIMEOUT: Duration = Duration::from_secs(2);

impl Callers {
    pub(super) fn new(seed: u64, members: u64, clients: Clients, operator: Option<Operator>) -> Self {
        let mut random = Random::new(mix(seed ^ 0x6361_6c6c_6572_7321));
        let caller = |_| Caller::new(random.split());
        let each = (0..clients.count).map(caller).collect();
        // Division of floats is the same everywhere; what is no rate is none at all.
        let interval = (clients.count as f64 * 1e9 / clients.rate.max(0.0)) as u64;
        Self { clients, interval, members, each, tags: 0, operator, order: None, leader: None }
    }

    /// A client does the next thing.
    fn ask<P: Replicates>(&mut self, number: u64, asks: &mut Asks<'_, P>) {
        let caller = &mut self.each[number as usize];
        let drawn = NodeId(1 + caller.random.below(self.members));
        let node = caller.favourite.filter(|_| caller.random.below(2) == 0).unwrap_or(drawn);
        let deadline = asks.clock(node) + self.clients.timeout;
        let (request, waits) = caller.draw(&self.clients, &mut self.tags, deadline);
        let id = asks.request(node, request);
        (caller.waits, caller.asked) = (Some((id, waits)), node);
        let timeout = self.clients.timeout.as_nanos() as u64;
        let patience = timeout / 4 + caller.random.below((timeout / 4 * 7).max(1));
        asks.wake_at(asks.now() + Duration::from_nanos(patience), PATIENCE | number << CLIENT_SHIFT | id.0);
    }

    fn next<P: Replicates>(&mut self, number: u64, soon: bool, asks: &mut Asks<'_, P>) {
        let caller = &mut self.each[number as usize];
        let wait = self.interval.saturating_mul(2) / if soon { 8 } else { 1 };
        asks.wake_at(asks.now() + Duration::from_nanos(caller.random.below(wait.max(1))), number);
    }

    /// Who waited in vain asks for more.
    fn insist<P: Replicates>(&mut self, number: u64, asks: &mut Asks<'_, P>) {
        let insistence = self.clients.insistence;
        if insistence == 0 {
            return;
        }
        let caller = &mut self.each[number as usize];
        let deadline = asks.clock(caller.asked) + self.clients.timeout;
        for _ in 0..caller.random.below(insistence + 1) {
            let key = key_bytes(caller.random.below(self.clients.keys.max(1)));
            let put = caller.write(ClientOperation::Put, key, &mut self.tags);
            asks.request(caller.asked, command(None, put, deadline).0);
        }
    }

    /// The operator orders something, every now and then.
    fn operate<P: Replicates>(&mut self, asks: &mut Asks<'_, P>) {
        let Some(operator) = &mut self.operator else { return };
        if asks.now().since(Instant::ZERO) > HORIZON {
            return;
        }
        asks.wake_at(asks.now() + operator.wait(), OPERATOR);
        let (drawn, orders) = operator.draw();
        for order in orders {
            self.send(self.leader.unwrap_or(drawn), order, false, asks);
        }
    }

    fn send<P: Replicates>(&mut self, node: NodeId, order: Order, directed: bool, asks: &mut Asks<'_, P>) {
        let (node, request) = match &order {
            Order::Transfer(to) => (node, Request::Transfer { to: *to }),
            Order::Change(change) => {
                let deadline = asks.clock(node) + ORDER_TIMEOUT;
                (node, Request::Change { changes: vec![*change], deadline })
            }
            Order::Campaign(candidate) => (*candidate, Request::Campaign),
        };
        let id = asks.request(node, request);
        self.order = Some(Ordered { id, order, directed });
    }

    /// An answer to the operator: only the leader takes orders, and others may know who leads.
    fn obeyed<P: Replicates>(
        &mut self,
        id: RequestId,
        answer: &Result<Answer, Error>,
        asks: &mut Asks<'_, P>,
    ) {
        let Some(ordered) = self.order.take_if(|ordered| ordered.id == id) else { return };
        match answer {
            Err(Error::NotLeader { leader: Some(leader), .. }) => {
                self.leader = Some(*leader);
                if !ordered.directed {
                    self.send(*leader, ordered.order, true, asks);
                }
            }
            Ok(Answer::Transferred { leader, .. }) => self.leader = Some(*leader),
            Ok(_) => {}
            Err(_) => self.leader = None,
        }
    }
}

impl<P: Replicates> Load<P> for Callers {
    fn begin(&mut self, asks: &mut Asks<'_, P>) {
        let membership = Membership::of((1..=self.members).map(NodeId));
        for node in (1..=self.members).map(NodeId) {
            asks.request(node, Request::Bootstrap(membership.clone()));
        }
        for number in 0..self.clients.count {
            self.next(number, false, asks);
        }
        asks.wake_at(asks.now() + Duration::from_secs(2), OPERATOR);
    }

    fn wake(&mut self, token: u64, asks: &mut Asks<'_, P>) {
        if token & PATIENCE != 0 {
            let number = (token & !PATIENCE) >> CLIENT_SHIFT;
            let id = RequestId(token & ((1 << CLIENT_SHIFT) - 1));
            let caller = &mut self.each[number as usize];
            if let Some((_, waits)) = caller.waits.take_if(|(waits, _)| *waits == id) {
                // It says so, or only stops listening. Users' own worlds know of listening alone.
                if self.operator.is_some() && caller.random.below(2) == 0 {
                    asks.request(caller.asked, Request::Abandon(vec![id]));
                }
                caller.favourite = None;
                caller.heard(waits, Err(Error::Unknown));
                self.insist(number, asks);
                self.next(number, true, asks);
            }
        } else if token == OPERATOR {
            self.operate(asks);
        } else {
            self.ask(token, asks);
        }
    }

    fn answered(
        &mut self,
        node: NodeId,
        id: RequestId,
        answer: Result<Answer, Error>,
        asks: &mut Asks<'_, P>,
    ) {
        self.obeyed(id, &answer, asks);
        let waits = |caller: &Caller| caller.waits.as_ref().is_some_and(|(waits, _)| *waits == id);
        let Some(number) = self.each.iter().position(waits) else { return };
        let caller = &mut self.each[number];
        let Some((_, waits)) = caller.waits.take() else { return };
        let failed = answer.is_err();
        caller.favourite = (!failed).then_some(node);
        caller.heard(waits, answer);
        self.next(number as u64, failed, asks);
    }
}

impl Caller {
    const fn new(random: Random) -> Self {
        Self {
            random,
            waits: None,
            asked: NodeId(0),
            favourite: None,
            session: None,
            sequence: 0,
            left: Vec::new(),
            again: None,
            seen: BTreeMap::new(),
        }
    }

    /// What it asks next.
    fn draw(&mut self, clients: &Clients, tags: &mut u64, deadline: Instant) -> (Request, Waits) {
        if let Some((stamp, operation)) = self.again.take() {
            return command(Some(stamp), operation, deadline);
        }
        if clients.operations.contains(&ClientOperation::Session)
            && let Some(drawn) = self.draw_session(deadline)
        {
            return drawn;
        }
        let key = key_bytes(self.random.below(clients.keys.max(1)));
        let query = |consistency| {
            let query = Operation::Get { key: key.clone() }.to_bytes();
            (Request::Query { query, consistency, deadline }, Waits::Value(key.clone()))
        };
        match self.kind(clients) {
            ClientOperation::Get => query(Consistency::Linearizable),
            ClientOperation::LeaseGet => query(Consistency::Lease),
            ClientOperation::StaleGet => query(Consistency::Stale),
            kind => {
                let operation = self.write(kind, key.clone(), tags);
                let anonymous = matches!(operation, Operation::Delete { .. });
                let stamped = anonymous || self.random.below(8) > 0;
                let stamp = self.session.filter(|_| stamped).map(|session| self.stamp(session));
                command(stamp, operation, deadline)
            }
        }
    }

    /// Opens, closes, leaves or finds a session, now and then.
    fn draw_session(&mut self, deadline: Instant) -> Option<(Request, Waits)> {
        match self.session {
            Some(session) if self.random.below(80) == 0 => {
                return Some((Request::CloseSession { session, deadline }, Waits::Closing));
            }
            Some(session) if self.random.below(80) == 0 => {
                self.left.push((session, self.sequence));
                self.session = None;
            }
            None if !self.left.is_empty() && self.random.below(4) == 0 => {
                let back = self.random.below(self.left.len() as u64) as usize;
                let (session, sequence) = self.left.swap_remove(back);
                (self.session, self.sequence) = (Some(session), sequence);
            }
            None if self.random.below(4) > 0 => {
                return Some((Request::OpenSession { deadline }, Waits::Session));
            }
            _ => {}
        }
        None
    }

    fn kind(&mut self, clients: &Clients) -> ClientOperation {
        // Opening and closing have their own times.
        let kinds = || clients.operations.iter().filter(|kind| **kind != ClientOperation::Session);
        let drawn = self.random.below((kinds().count() as u64).max(1)) as usize;
        match kinds().nth(drawn) {
            // Nothing but a stamp tells one deletion from another.
            Some(ClientOperation::Delete) if self.session.is_none() => ClientOperation::Put,
            Some(kind) => *kind,
            None => ClientOperation::Put,
        }
    }

    fn write(&mut self, kind: ClientOperation, key: Bytes, tags: &mut u64) -> Operation {
        *tags += 1;
        let value = Bytes::copy_from_slice(&tags.to_le_bytes());
        match kind {
            ClientOperation::Delete => Operation::Delete { key },
            ClientOperation::Append => Operation::Append { key, value },
            ClientOperation::CompareAndSwap => {
                let expected = self.seen.get(&key).cloned().flatten();
                Operation::CompareAndSwap { key, expected, value }
            }
            _ => Operation::Put { key, value },
        }
    }

    fn stamp(&mut self, session: SessionId) -> SessionStamp {
        let sequence = self.sequence;
        self.sequence += 1;
        // It may be slow to say what it knows.
        let answered_below = sequence.saturating_sub(self.random.below(4));
        SessionStamp { session, sequence, answered_below }
    }

    /// What it makes of an answer; having lost patience is not to know.
    fn heard(&mut self, waits: Waits, answer: Result<Answer, Error>) {
        match (waits, answer) {
            (Waits::Session, Ok(Answer::Session(session))) => {
                self.session = Some(session);
                self.sequence = 0;
            }
            (Waits::Closing, Ok(_)) | (Waits::Command(Some(_), _), Err(Error::SessionExpired)) => {
                self.session = None;
            }
            (Waits::Value(key), Ok(Answer::Queried(result))) => {
                if let Ok(OperationResult::Value(value)) = OperationResult::from_bytes(result, VERSION) {
                    self.seen.insert(key, value);
                }
            }
            (Waits::Command(_, operation), Ok(Answer::Result { .. })) => self.wrote(operation),
            // Mostly it wants to know, and asks somebody else; now and then it gives up.
            (Waits::Command(Some(stamp), operation), Err(_)) if self.random.below(6) > 0 => {
                self.again = Some((stamp, operation));
            }
            _ => {}
        }
    }

    fn wrote(&mut self, operation: Operation) {
        match operation {
            Operation::Put { key, value } | Operation::CompareAndSwap { key, value, .. } => {
                self.seen.insert(key, Some(value));
            }
            Operation::Delete { key } => {
                self.seen.insert(key, None);
            }
            Operation::Append { key, .. } | Operation::Get { key } => {
                self.seen.remove(&key);
            }
        }
    }
}

fn command(stamp: Option<SessionStamp>, operation: Operation, deadline: Instant) -> (Request, Waits) {
    let request = Request::Command { session: stamp, command: operation.to_bytes(), deadline };
    (request, Waits::Command(stamp, operation))
}
