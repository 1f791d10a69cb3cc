//! Votes: one a term, over all lives of a member (thesis §3.4).

use std::collections::BTreeMap;

use super::Violation;
use crate::id::NodeId;

/// Judges to whom members have given their votes.
#[derive(Clone, Debug, Default)]
pub struct Votes {
    /// By member: the latest term in which others know its vote, and whose it is.
    given: BTreeMap<NodeId, (u64, NodeId)>,
    latest: Option<NodeId>,
}

impl Votes {
    /// Nobody has voted.
    pub fn new() -> Self {
        Self::default()
    }

    /// `member` has told somebody that it votes for `candidate` in `term`; a candidate does when it asks.
    pub fn voted(&mut self, member: NodeId, term: u64, candidate: NodeId) -> Result<(), Violation> {
        self.latest = Some(member);
        match self.given.get(&member) {
            Some(&(before, _)) if before > term => {
                let detail = format!("{member:?} votes for {candidate:?} in term {term} after term {before}");
                Err(Violation::new("one vote a term", detail))
            }
            Some(&(before, other)) if before == term && other != candidate => {
                let detail = format!("{member:?} votes for {other:?} and for {candidate:?} in term {term}");
                Err(Violation::new("one vote a term", detail))
            }
            _ => {
                self.given.insert(member, (term, candidate));
                Ok(())
            }
        }
    }

    /// `member` begins a life in `term`, in which it has voted for `vote`.
    pub fn recovered(&self, member: NodeId, term: u64, vote: Option<NodeId>) -> Result<(), Violation> {
        match self.given.get(&member) {
            Some(&(given, candidate)) if given > term || given == term && vote != Some(candidate) => {
                let detail = format!(
                    "{member:?} voted for {candidate:?} in term {given}, and recovers term {term}, vote {vote:?}"
                );
                Err(Violation::new("a restart forgets no promise", detail))
            }
            _ => Ok(()),
        }
    }

    /// Who voted last.
    pub const fn latest(&self) -> Option<NodeId> {
        self.latest
    }
}
