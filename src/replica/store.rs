//! A store as what a replica replicates.

use bytes::Bytes;

use super::{StateMachine, Token};
use crate::raft::Index;
use crate::store::{LeaseChange, LeaseId, Response, Revision, Store};
use crate::wire::{Encode, Malformed};

impl StateMachine for Store {
    fn apply(&mut self, index: Index, command: &Bytes) -> Response {
        self.execute(index, command)
    }

    fn query(&mut self, token: Token, query: &Bytes) -> Response {
        self.ask(token, query)
    }

    fn snapshot(&self) -> Vec<u8> {
        Self::snapshot(self)
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        Self::restore(self, Bytes::copy_from_slice(bytes))
    }

    fn expire(&mut self, lease: LeaseId, attachment: u64) {
        Self::expire(self, lease, attachment);
    }

    fn compact(&mut self, revision: Revision) {
        self.compact_to(revision);
    }

    fn forget(&mut self, token: Token) {
        Self::forget(self, token);
    }

    fn is_waiting(&self, ticket: Index) -> bool {
        Self::is_waiting(self, ticket)
    }

    fn take_woken(&mut self) -> Vec<(Index, Bytes)> {
        let woken = Self::take_woken(self);
        woken.into_iter().map(|(ticket, answer)| (ticket, answer.to_bytes())).collect()
    }

    fn take_watched(&mut self) -> Vec<(Token, Bytes)> {
        let watched = Self::take_watched(self);
        watched.into_iter().map(|(token, answer)| (token, answer.to_bytes())).collect()
    }

    fn take_lease_changes(&mut self) -> Vec<LeaseChange> {
        Self::take_lease_changes(self)
    }

    fn leases(&self) -> Vec<LeaseChange> {
        self.leases().map(|(lease, terms)| LeaseChange { lease, terms: Some(terms) }).collect()
    }

    fn revision(&self) -> Option<Revision> {
        Some(Self::revision(self))
    }
}

/// So that who watches a machine built around one can look into it.
impl AsRef<Self> for Store {
    fn as_ref(&self) -> &Self {
        self
    }
}
