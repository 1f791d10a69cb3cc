//! The whole state as bytes, piece by piece, while it goes on changing.
//!
//! A pinned state is not copied: history already has it. What is written out are the versions up to the pinned revision,
//! key after key; what a compaction takes away before its turn has come is kept for the writer, and nothing else is.
//!
//! ```text
//!   header:  the version of wire, revision, compacted, alarm, limits, leases, who waits for locks, what history's digest must be
//!   1, key, versions …     for each key, in order, the oldest first
//!   2, key, version        what a compaction took
//!   0                      the end
//! ```

use bytes::Bytes;

use super::history::{History, Pin, Slot, Version};
use super::leases::Lease;
use super::{LeaseTerms, Limits, Revision, Store};
use crate::wire::{Decode, Encode, Malformed, Reader, VERSION, structures, write_count};
use std::collections::BTreeSet;

const END: u8 = 0;
const KEY: u8 = 1;
const SAVED: u8 = 2;

/// A state that is being written out. [`Store::unpin`] ends it; until then the store keeps for it what it forgets.
#[derive(Debug)]
pub struct Pinned {
    id: u64,
    header: Vec<u8>,
    done: bool,
}

structures! {
    Version { mod_revision: u64, create_revision: u64, count: u64, lease: u64, value: Bytes }
}

impl Pinned {
    /// Whether all of it was written. When there is no more, and it is not whole, the state has gone: a snapshot has
    /// come in its place.
    pub const fn is_whole(&self) -> bool {
        self.done
    }
}

impl Store {
    /// Holds on to the present state, which is to be written in this version: of those who will read it, the oldest knows
    /// it.
    pub fn pin(&mut self, version: u16) -> Pinned {
        let mut header = Vec::new();
        version.encode(&mut header);
        self.encode_header(&mut header);
        let id = self.history.pins.last_key_value().map_or(0, |(last, _)| last + 1);
        let pin = Pin { revision: self.revision(), ..Pin::default() };
        self.history.pins.insert(id, pin);
        Pinned { id, header, done: false }
    }

    /// Appends the next piece of a pinned state, of about so many bytes; whether there is more.
    pub fn write(&mut self, pinned: &mut Pinned, bytes: usize, out: &mut Vec<u8>) -> bool {
        let end = out.len().saturating_add(bytes);
        out.append(&mut pinned.header);
        if pinned.done {
            return false;
        }
        let Some(mut pin) = self.history.pins.remove(&pinned.id) else { return false };
        let mut written = pin.written.take();
        for slot in self.history.after(written.clone().as_ref()) {
            if out.len() >= end {
                break;
            }
            slot.encode_through(pin.revision, out);
            written = Some(slot.key.clone());
        }
        while out.len() < end
            && let Some((key, version)) = pin.saved.pop()
        {
            out.push(SAVED);
            key.encode(out);
            version.encode(out);
        }
        let more = !pin.saved.is_empty() || self.history.after(written.as_ref()).next().is_some();
        pin.written = written;
        pinned.done = !more;
        self.history.pins.insert(pinned.id, pin);
        if pinned.done {
            out.push(END);
        }
        more
    }

    /// Lets go of a pinned state, written out or not.
    #[expect(clippy::needless_pass_by_value, reason = "it cannot be written any more")]
    pub fn unpin(&mut self, pinned: Pinned) {
        self.history.pins.remove(&pinned.id);
    }

    /// The whole state, at once.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = Vec::new();
        VERSION.encode(&mut out);
        self.encode_header(&mut out);
        for slot in self.history.after(None) {
            slot.encode_through(self.revision(), &mut out);
        }
        out.push(END);
        out
    }

    /// Becomes what was written out; when that is malformed, stays as it is. Watches go on: those that missed something
    /// are answered.
    pub fn restore(&mut self, bytes: Bytes) -> Result<(), Malformed> {
        let mut input = Reader::versioned(bytes)?;
        let mut limits = self.limits;
        let mut restored = Self::read(&mut input, &mut limits)?;
        input.finish()?;
        restored.limits = limits;
        self.adopt(restored);
        Ok(())
    }

    fn encode_header(&self, out: &mut Vec<u8>) {
        for word in [self.revision(), self.compacted(), u64::from(self.alarm), self.history.digest] {
            word.encode(out);
        }
        let Limits { quota, request_bytes_max, answer_bytes_max, operations_max, revisions_max, .. } =
            self.limits;
        for word in [quota, request_bytes_max, answer_bytes_max, operations_max, revisions_max] {
            word.encode(out);
        }
        write_count(self.leases.all.len(), out);
        for (id, lease) in &self.leases.all {
            id.encode(out);
            lease.terms.encode(out);
        }
        let waits = || {
            let queues = self.locks.queues.iter();
            queues.flat_map(|(name, queue)| queue.waits.iter().map(move |(key, waits)| (name, key, waits)))
        };
        write_count(waits().count(), out);
        for (name, key, waits) in waits() {
            name.encode(out);
            key.encode(out);
            waits.lease.encode(out);
            waits.tickets.encode(out);
        }
    }

    fn read(input: &mut Reader, limits: &mut Limits) -> Result<Self, Malformed> {
        let (revision, compacted, alarm, digest) = (input.u64()?, input.u64()?, input.u64()?, input.u64()?);
        if revision == 0 || revision == u64::MAX || compacted > revision || alarm > 1 {
            return Err(input.malformed("a history that can be before this"));
        }
        for limit in [
            &mut limits.quota,
            &mut limits.request_bytes_max,
            &mut limits.answer_bytes_max,
            &mut limits.operations_max,
            &mut limits.revisions_max,
        ] {
            *limit = input.u64()?;
        }
        let mut store = Self::new(*limits);
        store.alarm = alarm == 1;
        (store.history.revision, store.history.compacted) = (revision, compacted);
        for _ in 0..input.count(u64::SIZE_MIN + LeaseTerms::SIZE_MIN)? {
            let (id, terms) = (input.u64()?, LeaseTerms::decode(input)?);
            if id == 0 || store.leases.all.insert(id, Lease { terms, keys: BTreeSet::new() }).is_some() {
                return Err(input.malformed("a lease of its own before this"));
            }
        }
        let mut waits = Vec::new();
        for _ in 0..input.count(2 * Bytes::SIZE_MIN + u64::SIZE_MIN + u32::SIZE_MIN)? {
            let (name, key, lease) = (input.range()?, input.range()?, input.u64()?);
            waits.push((name, key, lease, Vec::<u64>::decode(input)?));
        }
        store.history.read(input)?;
        if store.history.digest != digest {
            return Err(input.malformed("the history that was summed before this"));
        }
        store.link_leases(input)?;
        if !mutant!(store, RestartForgetsTheQueue) {
            store.link_waits(waits, input)?;
        }
        #[cfg(feature = "mutants")]
        if mutant!(store, RestartFindsTheRevision) {
            store.history.revision = store.history.revision_found();
            store.history.compacted = compacted.min(store.history.revision);
        }
        Ok(store)
    }

    /// Each lease knows its keys.
    fn link_leases(&mut self, input: &Reader) -> Result<(), Malformed> {
        for slot in self.history.after(None) {
            let lease = slot.latest.lease;
            if lease != 0 {
                match self.leases.all.get_mut(&lease) {
                    Some(lease) => {
                        lease.keys.insert(slot.key.clone());
                    }
                    // A bug that was planted lets keys outlive their leases.
                    #[cfg(feature = "mutants")]
                    None if self.limits.mutant.is_some() => {}
                    None => return Err(input.malformed("leases for all keys that have one")),
                }
            }
        }
        Ok(())
    }

    fn link_waits(
        &mut self,
        waits: Vec<(Bytes, Bytes, u64, Vec<u64>)>,
        input: &Reader,
    ) -> Result<(), Malformed> {
        for (name, key, lease, tickets) in waits {
            let under = key.strip_prefix(&name[..]).is_some_and(|rest| rest.starts_with(b"/"));
            if !under || tickets.is_empty() || self.history.get(&key).is_none() {
                return Err(input.malformed("waits of keys that are there"));
            }
            let key = Bytes::copy_from_slice(&key);
            for ticket in tickets {
                self.locks.wait(&self.history, &name, key.clone(), lease, ticket);
            }
        }
        Ok(())
    }
}

impl Slot {
    /// The versions up to a revision, if there are any.
    fn encode_through(&self, revision: Revision, out: &mut Vec<u8>) {
        let count = self.versions().take_while(|version| version.mod_revision <= revision).count();
        if count > 0 {
            out.push(KEY);
            self.key.encode(out);
            write_count(count, out);
            self.versions().take(count).for_each(|version| version.encode(out));
        }
    }
}

impl History {
    fn read(&mut self, input: &mut Reader) -> Result<(), Malformed> {
        loop {
            match input.u8()? {
                END => break,
                KEY => {
                    let key = input.range()?;
                    for _ in 0..input.count(Version::SIZE_MIN)? {
                        self.read_version(&key, input)?;
                    }
                }
                SAVED => {
                    let key = input.range()?;
                    self.read_version(&key, input)?;
                }
                _ => return Err(input.malformed("a key, or the end, before this")),
            }
        }
        self.restore_log();
        Ok(())
    }

    fn read_version(&mut self, key: &Bytes, input: &mut Reader) -> Result<(), Malformed> {
        let mut version = Version::decode(input)?;
        // Copied: a slice would keep the whole snapshot in memory.
        version.value = Bytes::copy_from_slice(&version.value);
        let Version { mod_revision, create_revision, count, .. } = version;
        let sound = mod_revision > 0
            && mod_revision <= self.revision
            && create_revision <= mod_revision
            && (create_revision == 0) == (count == 0);
        if key.is_empty() || !sound || !self.restore_version(key, version) {
            return Err(input.malformed("a version of its own before this"));
        }
        Ok(())
    }
}
