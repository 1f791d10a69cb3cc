//! Queries, from the question to the machine's answer.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

use super::Token;
use crate::id::RequestId;
use crate::raft::Index;
use crate::time::Instant;

/// A client's question.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Query {
    pub(super) id: RequestId,
    pub(super) bytes: Bytes,
    pub(super) deadline: Instant,
}

/// A question that is at the application.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Handed {
    id: RequestId,
    deadline: Instant,
    /// It has said that the answer comes later.
    held: bool,
}

/// All that wait: for the end of the batch, for Raft, for the application to have applied enough, for its answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Queries {
    /// Linearizable ones, and those that a lease may answer.
    gathered: [Vec<Query>; 2],
    /// Raft was asked up to where the state must have come.
    asked: BTreeMap<RequestId, (bool, Vec<Query>)>,
    /// The state must have come to this index.
    barriers: BTreeMap<Index, Vec<Query>>,
    /// At the application, by token.
    handed: BTreeMap<Token, Handed>,
    token: Token,
    /// Raft knows no leader: ask again when something changes.
    pub(super) blocked: bool,
}

impl Queries {
    pub(super) fn starting_at(token: Token) -> Self {
        Self { token, ..Self::default() }
    }

    pub(super) fn gather(&mut self, lease: bool, query: Query) {
        self.gathered[usize::from(lease)].push(query);
    }

    pub(super) fn is_any_gathered(&self) -> bool {
        self.gathered.iter().any(|queries| !queries.is_empty())
    }

    /// What waits to be asked, lease or not.
    pub(super) fn take_gathered(&mut self, lease: bool) -> Vec<Query> {
        std::mem::take(&mut self.gathered[usize::from(lease)])
    }

    pub(super) fn asked(&mut self, id: RequestId, lease: bool, queries: Vec<Query>) {
        self.asked.insert(id, (lease, queries));
    }

    /// Takes the queries that Raft has answered by this id, and whether a lease might have.
    pub(super) fn take_asked(&mut self, id: RequestId) -> Option<(bool, Vec<Query>)> {
        self.asked.remove(&id)
    }

    pub(super) fn wait_for(&mut self, index: Index, queries: Vec<Query>) {
        self.barriers.entry(index).or_default().extend(queries);
    }

    /// The next queries that a state which has applied `index` may answer.
    pub(super) fn pop_ready(&mut self, index: Index) -> Option<Vec<Query>> {
        let first = self.barriers.first_entry()?;
        (*first.key() <= index).then(|| first.remove())
    }

    /// The token under which the application is asked.
    pub(super) fn hand(&mut self, query: &Query) -> Token {
        let token = self.token;
        self.token += 1;
        self.handed.insert(token, Handed { id: query.id, deadline: query.deadline, held: false });
        token
    }

    /// The application will answer later; whether somebody waits for that.
    pub(super) fn hold(&mut self, token: Token) -> bool {
        match self.handed.get_mut(&token) {
            Some(handed) => {
                handed.held = true;
                true
            }
            None => false,
        }
    }

    /// Who asked, if nobody answered yet; `None` also for what is no token of this life.
    pub(super) fn answered(&mut self, token: Token) -> Option<RequestId> {
        self.handed.remove(&token).map(|handed| handed.id)
    }

    /// The deadlines of these have come.
    pub(super) fn abandon(&mut self, asked: &BTreeSet<RequestId>) {
        let waiting = self.gathered.iter_mut().flatten();
        let waiting = waiting.chain(self.asked.values_mut().flat_map(|(_, queries)| queries));
        for query in waiting.chain(self.barriers.values_mut().flatten()) {
            if asked.contains(&query.id) {
                query.deadline = Instant::ZERO;
            }
        }
        for handed in self.handed.values_mut() {
            if asked.contains(&handed.id) {
                handed.deadline = Instant::ZERO;
            }
        }
    }

    /// Takes all whose deadline has come; says when the next one does.
    pub(super) fn expire(
        &mut self,
        now: Instant,
        mut expired: impl FnMut(RequestId),
        forgotten: &mut Vec<Token>,
    ) -> Instant {
        let mut next = Instant::NEVER;
        let mut waits = |query: &Query| is_in_time(now, query.id, query.deadline, &mut next, &mut expired);
        for queries in &mut self.gathered {
            queries.retain(&mut waits);
        }
        for (_, queries) in self.asked.values_mut() {
            queries.retain(&mut waits);
        }
        self.barriers.retain(|_, queries| {
            queries.retain(&mut waits);
            !queries.is_empty()
        });
        self.handed.retain(|token, handed| {
            let waits = is_in_time(now, handed.id, handed.deadline, &mut next, &mut expired);
            if !waits && handed.held {
                forgotten.push(*token);
            }
            waits
        });
        next
    }
}

fn is_in_time(
    now: Instant,
    id: RequestId,
    deadline: Instant,
    next: &mut Instant,
    expired: &mut impl FnMut(RequestId),
) -> bool {
    if deadline <= now {
        expired(id);
        return false;
    }
    *next = deadline.min(*next);
    true
}
