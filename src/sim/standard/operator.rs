//! Who moves leadership about and changes the membership.

use std::time::Duration;

use crate::id::NodeId;
use crate::raft::{Change, WEIGHT};
use crate::random::{Random, mix};

/// What an operator may order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orders {
    /// Whether leadership is handed about.
    pub transfers: bool,
    /// Whether members are demoted, removed, and promoted again.
    pub changes: bool,
    /// Whether members are told to campaign.
    pub campaigns: bool,
    /// The mean wait between two orders.
    pub interval: Duration,
}

/// Draws what is ordered.
#[derive(Clone, Debug)]
pub(super) struct Operator {
    random: Random,
    members: u64,
    orders: Orders,
}

/// What is ordered.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Order {
    /// Of the leader: hand leadership to this one.
    Transfer(NodeId),
    /// Of the leader.
    Change(Change),
    /// Of this one: campaign.
    Campaign(NodeId),
}

impl Operator {
    pub(super) fn new(seed: u64, members: u64, orders: Orders) -> Self {
        Self { random: Random::new(mix(seed ^ 0x6f70_6572)), members, orders }
    }

    /// How long until the next orders.
    pub(super) fn wait(&mut self) -> Duration {
        let wait = self.orders.interval.as_nanos() as u64 * 2;
        Duration::from_nanos(self.random.below(wait.max(1)))
    }

    /// Whom it would ask when it knows no leader, and for what.
    pub(super) fn draw(&mut self) -> (NodeId, Vec<Order>) {
        let drawn = NodeId(1 + self.random.below(self.members));
        let to = NodeId(1 + self.random.below(self.members));
        // Operators are impatient, and there may be two.
        let times = if self.random.below(3) == 0 { 2 } else { 1 };
        let orders = match self.random.below(3) {
            0 if self.orders.transfers => vec![Order::Transfer(to)],
            1 if self.orders.changes => (0..times).map(|_| self.change()).collect(),
            2 if self.orders.campaigns => vec![Order::Campaign(drawn)],
            _ => Vec::new(),
        };
        (drawn, orders)
    }

    /// A change of one member. Mostly they come back, so that there are always some.
    fn change(&mut self) -> Order {
        let of = NodeId(1 + self.random.below(self.members));
        Order::Change(match self.random.below(8) {
            0 => Change::Remove(of),
            1 => Change::AddLearner(of),
            2 | 3 => Change::Demote(of),
            _ => Change::AddVoter(of, WEIGHT),
        })
    }
}
