//! Who asks in the standard world.

use std::time::Duration;

use super::super::host::{Asks, Load};
use super::keys::Put;
use super::operator::{Operator, Order};
use super::{Scenario, Workload};
use crate::id::{NodeId, RequestId};
use crate::raft::{Answer, Batch, Error, Membership, Raft, Request};
use crate::random::{Random, mix};
use crate::time::Instant;

/// Clients that put and read keys, and an operator who moves leadership and changes the membership.
#[derive(Clone, Debug)]
pub struct Clients {
    workload: Workload,
    lease: bool,
    members: u64,
    each: Vec<Client>,
    operations: u64,
    operator: Operator,
}

#[derive(Clone, Debug)]
struct Client {
    random: Random,
    /// What it waits for.
    waits: Option<RequestId>,
    /// Who led, when it last heard.
    leader: Option<NodeId>,
}

/// Tokens: a client's next operation has its number; the operator has this.
const OPERATOR: u64 = 1 << 32;
/// What a client waits when nothing is in haste.
const PATIENCE: Duration = Duration::from_millis(500);
/// A command that means nothing.
const BALLAST: [u8; 15] = [0; 15];
/// A client's time-out has this bit, and the request.
const TIMEOUT: u64 = 1 << 63;
const CLIENT_SHIFT: u32 = 48;

impl Clients {
    /// The clients of this scenario.
    pub fn new(scenario: &Scenario) -> Self {
        let mut random = Random::new(mix(scenario.world.seed ^ 0x636c_6965_6e74));
        let workload = scenario.clients.clone();
        let client = |_| Client { random: random.split(), waits: None, leader: None };
        let each = (0..workload.count).map(client).collect();
        let (lease, members) = (scenario.raft.lease.is_some(), scenario.world.members);
        let operator = Operator::new(scenario.world.seed, members, workload.orders());
        Self { workload, lease, members, each, operations: 0, operator }
    }

    fn ask(&mut self, number: u64, asks: &mut Asks<'_, Raft>) {
        // Haste is part of what goes wrong: it ends, too, as do obstinacy and a lack of writes, which alone are progress.
        let calm = self.is_calm(asks.now());
        let client = &mut self.each[number as usize];
        let drawn = NodeId(1 + client.random.below(self.members));
        let node = client.leader.filter(|_| client.random.below(10) > 0).unwrap_or(drawn);
        let timeout = if calm { self.workload.timeout.max(PATIENCE) } else { self.workload.timeout };
        let deadline = asks.clock(node) + timeout;
        let key = client.random.below(self.workload.keys);
        let reads = if calm { self.workload.reads.min(500) } else { self.workload.reads };
        let request = if client.random.below(1_000) < reads {
            Request::Read { lease: self.lease && client.random.below(2) == 0, deadline }
        } else {
            self.operations += 1;
            let put = Put { operation: self.operations, key };
            let ballast = if calm { 0 } else { client.random.below(self.workload.ballast + 1) };
            let ballast = std::iter::repeat_n(&BALLAST[..], ballast as usize);
            let commands = Batch::new(ballast.chain([&put.to_bytes()[..]]));
            Request::Propose { commands, deadline }
        };
        let id = asks.request(node, request);
        client.waits = Some(id);
        asks.wake_at(asks.now() + timeout * 2, TIMEOUT | number << CLIENT_SHIFT | id.0);
    }

    fn is_calm(&self, now: Instant) -> bool {
        now.since(Instant::ZERO) >= self.workload.until
    }

    fn next(&mut self, number: u64, soon: bool, asks: &mut Asks<'_, Raft>) {
        let client = &mut self.each[number as usize];
        client.waits = None;
        let wait = self.workload.interval.as_nanos() as u64 * 2;
        let wait = if soon { wait / 8 } else { wait };
        let at = asks.now() + Duration::from_nanos(client.random.below(wait.max(1)));
        asks.wake_at(at, number);
    }

    /// Moves leadership, or changes the membership, or lets a member campaign.
    fn operate(&mut self, asks: &mut Asks<'_, Raft>) {
        if self.is_calm(asks.now()) {
            return;
        }
        asks.wake_at(asks.now() + self.operator.wait(), OPERATOR);
        let (drawn, orders) = self.operator.draw();
        let leader = self.each[0].leader.unwrap_or(drawn);
        for order in orders {
            match order {
                Order::Transfer(to) => asks.request(leader, Request::Transfer { to }),
                Order::Change(change) => {
                    let deadline = asks.clock(leader) + Duration::from_secs(2);
                    asks.request(leader, Request::Change { changes: vec![change], deadline })
                }
                Order::Campaign(node) => asks.request(node, Request::Campaign),
            };
        }
    }
}

impl Load<Raft> for Clients {
    fn begin(&mut self, asks: &mut Asks<'_, Raft>) {
        let membership = Membership::of((1..=self.members).map(NodeId));
        for node in (1..=self.members).map(NodeId) {
            asks.request(node, Request::Bootstrap(membership.clone()));
        }
        for number in 0..self.workload.count {
            self.next(number, false, asks);
        }
        asks.wake_at(asks.now() + Duration::from_secs(2), OPERATOR);
    }

    fn wake(&mut self, token: u64, asks: &mut Asks<'_, Raft>) {
        if token & TIMEOUT != 0 {
            let number = (token & !TIMEOUT) >> CLIENT_SHIFT;
            let id = RequestId(token & ((1 << CLIENT_SHIFT) - 1));
            if self.each[number as usize].waits == Some(id) {
                let calm = self.is_calm(asks.now());
                let client = &mut self.each[number as usize];
                let stays = !calm && number < self.workload.stubborn && client.random.below(8) > 0;
                client.leader = client.leader.filter(|_| stays);
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
        asks: &mut Asks<'_, Raft>,
    ) {
        let Some(number) = self.each.iter().position(|client| client.waits == Some(id)) else { return };
        let client = &mut self.each[number];
        client.leader = match &answer {
            Ok(_) => Some(client.leader.unwrap_or(node)),
            Err(Error::NotLeader { leader, .. }) => *leader,
            Err(_) if (number as u64) < self.workload.stubborn => client.leader,
            Err(_) => None,
        };
        self.next(number as u64, answer.is_err(), asks);
    }
}
