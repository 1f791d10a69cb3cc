//! Who moves leadership about and changes the membership.

use std::time::Duration;

use crate::id::NodeId;
use crate::raft::{Change, WEIGHT};
use crate::random::{Random, mix};

/// Draws what an operator orders, and how long it waits until the next order.
#[derive(Clone, Debug)]
pub(super) struct Operator {
    random: Random,
    members: u64,
    transfers: bool,
    changes: bool,
}

/// What is ordered.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Order {
    /// Hand leadership to this one.
    Transfer(NodeId),
    /// Demote a voter, or promote a learner.
    Change(Change),
}

impl Operator {
    pub(super) fn new(seed: u64, members: u64, transfers: bool, changes: bool) -> Self {
        Self { random: Random::new(mix(seed ^ 0x6f70_6572)), members, transfers, changes }
    }

    /// How long until the next order.
    pub(super) fn wait(&mut self) -> Duration {
        Duration::from_nanos(self.random.below(4_000_000_000))
    }

    /// Whom it would ask when it knows no leader, and what.
    pub(super) fn draw(&mut self) -> (NodeId, Option<Order>) {
        let drawn = NodeId(1 + self.random.below(self.members));
        let to = NodeId(1 + self.random.below(self.members));
        let (demotes, transfers) = (self.random.below(2) == 0, self.random.below(2) == 0);
        let order = if self.transfers && (transfers || !self.changes) {
            Some(Order::Transfer(to))
        } else if self.changes {
            let change = if demotes { Change::Demote(to) } else { Change::AddVoter(to, WEIGHT) };
            Some(Order::Change(change))
        } else {
            None
        };
        (drawn, order)
    }
}
