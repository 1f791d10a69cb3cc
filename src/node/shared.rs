//! What other threads see of a member: its store, its lease, its status.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::clock;
use crate::id::NodeId;
use crate::net::{Counters, Statistics};
use crate::raft::{Index, Role, Term};
use crate::replica::Machine;
use crate::replica::asks::{MemberInfo, MemberStatus};
use crate::store::{Revision, Store};

/// What a member takes part in as, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It waits until the cluster is formed, or until it is added to one.
    Waiting,
    /// It gets the log and does not vote.
    Learner,
    /// It follows a leader, or looks for one.
    Follower,
    /// It asks to be elected.
    Candidate,
    /// It leads.
    Leader,
}

/// How a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// As clients see it.
    pub member: MemberStatus,
    /// Its part.
    pub part: Part,
    /// Where it listens.
    pub address: String,
    /// Who belongs to the cluster.
    pub members: Vec<MemberInfo>,
    /// Which of them it can send to now.
    pub connected: Vec<NodeId>,
    /// The revision of its store.
    pub revision: Revision,
    /// How many syncs of its journal were done in this life.
    pub syncs: u64,
    /// What came and went, and what was refused.
    pub network: Statistics,
}

/// What is seen from outside the member's thread.
pub(super) struct Shared {
    pub(super) machine: RwLock<Machine<Store>>,
    pub(super) lease: PublishedLease,
    pub(super) counters: Counters,
    status: Mutex<Status>,
    pub(super) stopping: AtomicBool,
    /// It is to end as a killed process does.
    pub(super) killed: AtomicBool,
}

/// Until when this member's store may be read without asking anybody.
#[derive(Default)]
pub(super) struct PublishedLease {
    /// The term that it leads; 0: no lease.
    term: AtomicU64,
    until: AtomicU64,
    /// What must be applied to see all that was acknowledged.
    required: AtomicU64,
}

impl PublishedLease {
    /// The member's thread says how it is, before anything leaves that follows from it.
    pub(super) fn publish(&self, lease: Option<(Term, u64)>, commit: Index) {
        self.required.store(commit, SeqCst);
        match lease {
            Some((term, until)) => {
                if self.term.load(SeqCst) != term {
                    self.term.store(0, SeqCst);
                }
                self.until.store(until, SeqCst);
                self.term.store(term, SeqCst);
            }
            None => self.term.store(0, SeqCst),
        }
    }
}

impl Shared {
    pub(super) fn new(machine: Machine<Store>, status: Status) -> Self {
        Self {
            machine: RwLock::new(machine),
            lease: PublishedLease::default(),
            counters: Counters::default(),
            status: Mutex::new(status),
            stopping: AtomicBool::new(false),
            killed: AtomicBool::new(false),
        }
    }

    /// Reads the store, if the lease of this member held all the while.
    ///
    /// It held from before the store was locked until after it was read, all in one term: so nobody else led meanwhile, and
    /// nobody was told of anything that is not in the store. (A lease that ended and began anew in another term is
    /// another lease.)
    pub(super) fn lease_read<R>(&self, read: impl FnOnce(&Store) -> R) -> Option<R> {
        let term = self.lease.term.load(SeqCst);
        if term == 0 || self.lease.until.load(SeqCst) <= clock::now().as_nanos() {
            return None;
        }
        let required = self.lease.required.load(SeqCst);
        let machine = self.machine.read().unwrap_or_else(PoisonError::into_inner);
        if machine.applied().index < required {
            return None;
        }
        let value = read(machine.state());
        drop(machine);
        let until = self.lease.until.load(SeqCst);
        let now = clock::now().as_nanos();
        (now < until && self.lease.term.load(SeqCst) == term).then_some(value)
    }

    pub(super) fn status(&self) -> Status {
        let mut status = self.lock().clone();
        status.network = self.counters.read();
        status.revision = self.machine.read().unwrap_or_else(PoisonError::into_inner).state().revision();
        status
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(SeqCst)
    }
}

impl Part {
    pub(super) const fn of(role: Role, votes: bool, formed: bool) -> Self {
        match role {
            _ if !formed => Self::Waiting,
            Role::Leader => Self::Leader,
            Role::PreCandidate | Role::Candidate => Self::Candidate,
            Role::Follower if votes => Self::Follower,
            Role::Follower => Self::Learner,
        }
    }
}

pub(super) type SharedHandle = Arc<Shared>;
