//! Locks and elections: who queues for what, and who waits for an answer.
//!
//! A lock is nothing but keys: the oldest key under `name/` holds it, whoever put it there. So the keys themselves are
//! the queue, and what is kept here is who must be told. A name is followed only as long as somebody waits for it.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

use super::history::{History, Slot, fold};
use super::{Keys, LeaseId, Revision, Ticket};
use xxhash_rust::xxh3::xxh3_64;

/// What a command that waits weighs.
pub(super) const TICKET_WEIGHT: u64 = 64;

/// All locks for which somebody waits, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Locks {
    pub(super) queues: BTreeMap<Bytes, Queue>,
    tickets: u64,
}

/// The queue of one lock.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    /// The keys under the name, the oldest first; those of one transaction by name.
    places: BTreeSet<(Revision, Bytes)>,
    /// By key: who waits for it to be the oldest.
    pub(super) waits: BTreeMap<Bytes, Waits>,
}

/// The commands that wait for one key to be the oldest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Waits {
    pub(super) lease: LeaseId,
    pub(super) tickets: Vec<Ticket>,
}

/// Somebody need not wait any longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The key holds the lock.
    Holds { tickets: Vec<Ticket>, key: Bytes, token: Revision },
    /// The key is gone.
    Gone { tickets: Vec<Ticket>, lease: LeaseId },
}

/// All keys under a name.
pub(super) fn under(name: &[u8]) -> Keys {
    Keys::prefix([name, b"/"].concat().into())
}

/// The oldest key under a name.
pub(super) fn holder<'a>(history: &'a History, name: &[u8]) -> Option<&'a Slot> {
    // The first of those that are equally old.
    history.present(&under(name)).min_by_key(|slot| slot.latest.create_revision)
}

impl Locks {
    /// Who holds a lock.
    pub(super) fn holder<'a>(&self, history: &'a History, name: &[u8]) -> Option<&'a Slot> {
        match self.queues.get(name) {
            Some(queue) => queue.places.first().and_then(|(_, key)| history.get(key)),
            None => holder(history, name),
        }
    }

    /// A command waits for a key to be the oldest under the name.
    pub(super) fn wait(
        &mut self,
        history: &History,
        name: &Bytes,
        key: Bytes,
        lease: LeaseId,
        ticket: Ticket,
    ) {
        let queue = self.queues.entry(Bytes::copy_from_slice(name)).or_insert_with(|| Queue {
            places: history
                .present(&under(name))
                .map(|slot| (slot.latest.create_revision, slot.key.clone()))
                .collect(),
            waits: BTreeMap::new(),
        });
        let waits = queue.waits.entry(key).or_default();
        waits.lease = lease;
        waits.tickets.push(ticket);
        self.tickets += 1;
    }

    /// Whether a command waits.
    pub(super) fn is_waiting(&self, ticket: Ticket) -> bool {
        let mut waits = self.queues.values().flat_map(|queue| queue.waits.values());
        waits.any(|waits| waits.tickets.contains(&ticket))
    }

    /// What all waiting weighs.
    pub(super) const fn bytes(&self) -> u64 {
        self.tickets * TICKET_WEIGHT
    }

    /// The keys of these slots have changed, all at once: says whose turn it is now.
    pub(super) fn changed<'a>(
        &mut self,
        slots: impl Iterator<Item = &'a Slot> + Clone,
        unfair: bool,
    ) -> Vec<Turn> {
        if self.queues.is_empty() {
            return Vec::new();
        }
        let mut turns = Vec::new();
        let mut touched = Vec::new();
        for slot in slots {
            touched.extend(self.names(&slot.key).into_iter().map(|name| (name, slot)));
        }
        // First all that is gone, then whose turn it is: several may go at once, and the next may be among them.
        for (name, slot) in &touched {
            let Some(queue) = self.queues.get_mut(name) else { continue };
            if !slot.latest.is_deletion() {
                queue.places.insert((slot.latest.create_revision, slot.key.clone()));
                continue;
            }
            if let Some(before) = slot.before() {
                queue.places.remove(&(before.create_revision, slot.key.clone()));
            }
            if let Some(Waits { lease, tickets }) = queue.waits.remove(&slot.key) {
                self.tickets -= tickets.len() as u64;
                turns.push(Turn::Gone { tickets, lease });
            }
        }
        for (name, _) in touched {
            let Some(queue) = self.queues.get_mut(&name) else { continue };
            let next = if unfair { queue.places.last() } else { queue.places.first() };
            if let Some((token, key)) = next
                && let Some((key, Waits { tickets, .. })) = queue.waits.remove_entry(key)
            {
                self.tickets -= tickets.len() as u64;
                turns.push(Turn::Holds { tickets, key, token: *token });
            }
            if queue.waits.is_empty() {
                self.queues.remove(&name);
            }
        }
        turns
    }

    /// The names under which a key is, of those that are followed. A key may have a million slashes, and there may be a
    /// million names: whichever is fewer is looked through.
    fn names(&self, key: &[u8]) -> Vec<Bytes> {
        let slashes = || key.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        if slashes().nth(self.queues.len()).is_none() {
            let known = |at| self.queues.get_key_value(&key[..at]).map(|(name, _)| name.clone());
            return slashes().filter_map(known).collect();
        }
        let is_under = |name: &&Bytes| key.strip_prefix(&name[..]).is_some_and(|rest| rest.starts_with(b"/"));
        self.queues.keys().filter(is_under).cloned().collect()
    }

    pub(super) fn digest(&self) -> u64 {
        let mut sum = 0;
        for (name, queue) in &self.queues {
            for (key, waits) in &queue.waits {
                sum = [xxh3_64(name), xxh3_64(key), waits.lease].into_iter().fold(sum, fold);
                sum = waits.tickets.iter().copied().fold(sum, fold);
            }
        }
        sum
    }
}
