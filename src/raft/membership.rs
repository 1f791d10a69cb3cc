//! Who belongs, and how that changes (thesis chapter 4).
//!
//! Any change goes through joint consensus (§4.3): an entry that holds both sets of voters, effective as soon as it
//! is in the log, and when that is committed an entry with the new set alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::id::NodeId;
use crate::quorum::{VoteResult, both, majority_vote, reached_by_majority};

/// How eager a voter is to lead: a heavier one waits less before it campaigns. 0 never campaigns, and votes.
pub type Weight = u8;

/// The weight of a voter of whom nothing else was said.
pub const WEIGHT: Weight = 1;

/// Voters, learners, and while a change is under way the outgoing voters.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Membership {
    /// Who votes and may lead. Sorted, because the core walks it for each commit.
    voters: Vec<(NodeId, Weight)>,
    /// Who still votes, too, because the change to `voters` is not yet committed.
    outgoing: Vec<NodeId>,
    /// Who gets the log and never votes: the articles' observers.
    learners: Vec<NodeId>,
}

/// One thing to change. A list of them is one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new member that gets the log and does not vote.
    AddLearner(NodeId),
    /// A new voter, or a learner that becomes one, or a voter that gets another weight.
    AddVoter(NodeId, Weight),
    /// A voter that becomes a learner.
    Demote(NodeId),
    /// A member that leaves.
    Remove(NodeId),
}

/// Why a change is refused. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChange {
    /// The list was empty, or would leave the membership as it is.
    #[error("it would change nothing")]
    Nothing,
    /// A cluster without voters could never change again.
    #[error("no voter would be left")]
    NoVoters,
    /// Nobody could lead: all weights would be 0.
    #[error("no voter that may lead would be left: all weights would be 0")]
    NoCandidates,
    /// It names a member that is not here.
    #[error("{0} is no member")]
    Unknown(NodeId),
    /// It adds a member that is here already.
    #[error("{0} is a member already")]
    Known(NodeId),
    /// It names one member twice.
    #[error("{0} is named twice")]
    Twice(NodeId),
    /// More members than are allowed.
    #[error("more than {0} members")]
    TooMany(usize),
}

/// More members than any cluster has; bounds what a message may say.
pub const MEMBERS_MAX: usize = 1024;

impl Membership {
    /// These voters, all of weight [`WEIGHT`], and no learners.
    pub fn of(voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self::new(voters.into_iter().map(|id| (id, WEIGHT)), [])
    }

    /// These voters and learners; a voter is no learner.
    pub fn new(
        voters: impl IntoIterator<Item = (NodeId, Weight)>,
        learners: impl IntoIterator<Item = NodeId>,
    ) -> Self {
        Self::joint(voters, [], learners)
    }

    /// The same, with outgoing voters: what stands in the log between the two halves of a change.
    pub fn joint(
        voters: impl IntoIterator<Item = (NodeId, Weight)>,
        outgoing: impl IntoIterator<Item = NodeId>,
        learners: impl IntoIterator<Item = NodeId>,
    ) -> Self {
        let voters: BTreeMap<NodeId, Weight> = voters.into_iter().collect();
        let outgoing: BTreeSet<NodeId> = outgoing.into_iter().collect();
        let learners: BTreeSet<NodeId> =
            learners.into_iter().filter(|learner| !voters.contains_key(learner)).collect();
        Self {
            voters: voters.into_iter().collect(),
            outgoing: outgoing.into_iter().collect(),
            learners: learners.into_iter().collect(),
        }
    }

    /// Who votes and may lead, with their weights, sorted.
    pub fn voters(&self) -> &[(NodeId, Weight)] {
        &self.voters
    }

    /// The voters of before the change that is under way; none when none is.
    pub fn outgoing(&self) -> &[NodeId] {
        &self.outgoing
    }

    /// Who gets the log without a vote.
    pub fn learners(&self) -> &[NodeId] {
        &self.learners
    }

    /// Whether a change is under way.
    pub const fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Nobody is known yet.
    pub const fn is_empty(&self) -> bool {
        self.voters.is_empty() && self.outgoing.is_empty() && self.learners.is_empty()
    }

    /// How many roles are taken; a member with two counts twice.
    pub const fn len(&self) -> usize {
        self.voters.len() + self.outgoing.len() + self.learners.len()
    }

    /// Everyone, each once, sorted.
    pub fn members(&self) -> BTreeSet<NodeId> {
        self.each().collect()
    }

    /// Everyone who votes, each once: the new set, then the outgoing ones that are not in it.
    pub fn each_voter(&self) -> impl Iterator<Item = NodeId> + '_ {
        let outgoing = self.outgoing.iter().copied().filter(|id| self.weight(*id).is_none());
        self.voters.iter().map(|(id, _)| *id).chain(outgoing)
    }

    /// Everyone, each once: the voters, then the learners.
    pub fn each(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.each_voter().chain(self.learners.iter().copied().filter(|id| !self.is_voter(*id)))
    }

    /// Whether `id` is here in any role.
    pub fn contains(&self, id: NodeId) -> bool {
        self.is_voter(id) || self.learners.binary_search(&id).is_ok()
    }

    /// Whether `id` votes, in the new set or in the outgoing one.
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.weight(id).is_some() || self.outgoing.binary_search(&id).is_ok()
    }

    /// The weight of a voter of the new set.
    pub fn weight(&self, id: NodeId) -> Option<Weight> {
        self.voters.binary_search_by_key(&id, |(voter, _)| *voter).ok().map(|at| self.voters[at].1)
    }

    /// The greatest weight of any voter.
    pub fn weight_max(&self) -> Weight {
        self.voters.iter().map(|(_, weight)| *weight).max().unwrap_or(0)
    }

    /// How a vote stands.
    pub fn vote(&self, mut answer: impl FnMut(NodeId) -> Option<bool>) -> VoteResult {
        let incoming = majority_vote(self.voters.iter().map(|(id, _)| *id), &mut answer);
        if self.is_joint() {
            both(incoming, majority_vote(self.outgoing.iter().copied(), answer))
        } else {
            incoming
        }
    }

    /// The greatest value that a quorum has reached.
    #[inline]
    pub fn reached<V: Ord + Copy>(&self, mut reached: impl FnMut(NodeId) -> V) -> Option<V> {
        let incoming = reached_by_majority(self.voters.iter().map(|(id, _)| *id), &mut reached)?;
        if !self.is_joint() {
            return Some(incoming);
        }
        reached_by_majority(self.outgoing.iter().copied(), reached).map(|outgoing| outgoing.min(incoming))
    }

    /// The joint membership that begins this change.
    pub fn begin(&self, changes: &[Change]) -> Result<Self, InvalidChange> {
        let mut voters: BTreeMap<NodeId, Weight> = self.voters.iter().copied().collect();
        let mut learners: BTreeSet<NodeId> = self.learners.iter().copied().collect();
        let mut named = BTreeSet::new();
        for change in changes {
            let (Change::AddLearner(id) | Change::AddVoter(id, _) | Change::Demote(id) | Change::Remove(id)) =
                *change;
            if !named.insert(id) {
                return Err(InvalidChange::Twice(id));
            }
            match *change {
                Change::AddLearner(_) if self.contains(id) => return Err(InvalidChange::Known(id)),
                Change::AddLearner(_) => drop(learners.insert(id)),
                Change::AddVoter(_, weight) => {
                    learners.remove(&id);
                    voters.insert(id, weight);
                }
                Change::Demote(_) => {
                    voters.remove(&id).ok_or(InvalidChange::Unknown(id))?;
                    learners.insert(id);
                }
                Change::Remove(_) => {
                    let known = voters.remove(&id).is_some() | learners.remove(&id);
                    known.then_some(()).ok_or(InvalidChange::Unknown(id))?;
                }
            }
        }
        let next = Self::new(voters, learners);
        if next.voters.is_empty() {
            return Err(InvalidChange::NoVoters);
        }
        if next.weight_max() == 0 {
            return Err(InvalidChange::NoCandidates);
        }
        if next.len() > MEMBERS_MAX {
            return Err(InvalidChange::TooMany(MEMBERS_MAX));
        }
        if next == *self {
            return Err(InvalidChange::Nothing);
        }
        Ok(Self { outgoing: self.voters.iter().map(|(id, _)| *id).collect(), ..next })
    }

    /// The membership that ends the change under way.
    #[must_use]
    pub fn leave(&self) -> Self {
        Self { voters: self.voters.clone(), outgoing: Vec::new(), learners: self.learners.clone() }
    }
}

impl fmt::Debug for Membership {
    /// `{1 2 3}`, `{1 2:5 4}-{1 2 3}+{9}`: the voters (with weights other than 1), less the outgoing, plus learners.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ids: &[NodeId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let voters: Vec<String> = self
            .voters
            .iter()
            .map(|(id, weight)| if *weight == WEIGHT { id.to_string() } else { format!("{id}:{weight}") })
            .collect();
        write!(f, "{{{}}}", voters.join(" "))?;
        if self.is_joint() {
            write!(f, "-{{{}}}", list(&self.outgoing))?;
        }
        if !self.learners.is_empty() {
            write!(f, "+{{{}}}", list(&self.learners))?;
        }
        Ok(())
    }
}
