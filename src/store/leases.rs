//! Leases: which keys go together.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::history::fold;
use super::{LeaseId, LeaseTerms, Ticket};

/// No lease lives longer unrenewed.
pub(super) const TTL_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// What a lease weighs beside its keys, which weigh for themselves.
pub(super) const LEASE_WEIGHT: u64 = 128;

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) terms: LeaseTerms,
    pub(super) keys: BTreeSet<Bytes>,
}

/// All that live.
#[derive(Clone, Debug, Default)]
pub(super) struct Leases {
    pub(super) all: BTreeMap<LeaseId, Lease>,
}

impl Leases {
    pub(super) fn contains(&self, lease: LeaseId) -> bool {
        self.all.contains_key(&lease)
    }

    /// A name that is free: the entry's place, unless somebody has chosen that one for himself.
    pub(super) fn free_name(&self, index: Ticket) -> LeaseId {
        let mut name = index.max(1);
        while self.contains(name) {
            name += 1;
        }
        name
    }

    /// A key has one lease now, and had another, or none, before.
    #[inline]
    pub(super) fn moves(&mut self, key: &Bytes, from: LeaseId, to: LeaseId) {
        if from == to {
            return;
        }
        if let Some(lease) = self.all.get_mut(&from) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.all.get_mut(&to) {
            lease.keys.insert(key.clone());
        }
    }

    pub(super) fn digest(&self) -> u64 {
        self.all.iter().fold(0, |sum, (id, lease)| {
            let LeaseTerms { ttl, home, attachment } = lease.terms;
            [*id, ttl.as_nanos() as u64, home, attachment].into_iter().fold(sum, fold)
        })
    }
}
