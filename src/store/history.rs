//! What was under each key, by revision.
//!
//! ```text
//!   live  ─┐                          ┌─ latest
//!          ├─ key ──► slot ───────────┤
//!   dead  ─┘   ▲                      └─ earlier … back to the last one that history needs
//!              │
//!            table (by hash)          log: (revision, slot), one for each change since the last compaction
//! ```
//!
//! A key whose latest version is a deletion is in `dead` until a compaction forgets it, so that reading what is there
//! never walks over what is not. Compaction walks over the log's beginning, not over the keys.

use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use xxhash_rust::xxh3::xxh3_64;

use super::table::Table;
use super::{Entry, Event, EventKind, Keys, LeaseId, Revision};

/// Where a key's versions are.
pub(super) type Place = u32;

/// What a version weighs beside its key and its value.
const VERSION_WEIGHT: usize = 64;

/// One version of a key; a deletion is one, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) mod_revision: Revision,
    /// 0: the key was deleted.
    pub(super) create_revision: Revision,
    /// How often the key was set since it was created.
    pub(super) count: u64,
    pub(super) lease: LeaseId,
    pub(super) value: Bytes,
}

/// A key and its versions.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) key: Bytes,
    hash: u64,
    pub(super) latest: Version,
    /// Those before it, the oldest first.
    earlier: VecDeque<Version>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    revision: Revision,
    place: Place,
}

/// All keys with their histories.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) revision: Revision,
    /// History before it is forgotten; 0: nothing is.
    pub(super) compacted: Revision,
    slots: Vec<Slot>,
    free: Vec<Place>,
    table: Table,
    live: BTreeMap<Bytes, Place>,
    dead: BTreeMap<Bytes, Place>,
    log: VecDeque<Change>,
    /// What all versions weigh.
    pub(super) bytes: u64,
    /// The sum of their digests.
    pub(super) digest: u64,
    /// Who reads a state that must not change under him.
    pub(super) pins: BTreeMap<u64, Pin>,
}

/// A state that is being written out: what a compaction takes before it was written is kept here.
#[derive(Clone, Debug, Default)]
pub(super) struct Pin {
    pub(super) revision: Revision,
    /// The last key that was written.
    pub(super) written: Option<Bytes>,
    pub(super) saved: Vec<(Bytes, Version)>,
}

impl Version {
    pub(super) const fn deletion(revision: Revision) -> Self {
        Self { mod_revision: revision, create_revision: 0, count: 0, lease: 0, value: Bytes::new() }
    }

    pub(super) const fn is_deletion(&self) -> bool {
        self.create_revision == 0
    }

    pub(super) fn entry(&self, key: &Bytes) -> Entry {
        Entry { value: self.value.clone(), ..self.outline(key) }
    }

    /// The entry without its value.
    pub(super) fn outline(&self, key: &Bytes) -> Entry {
        Entry {
            key: key.clone(),
            value: Bytes::new(),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.count,
            lease: self.lease,
        }
    }

    fn digest(&self, key: u64) -> u64 {
        let words = [self.mod_revision, self.create_revision, self.count, self.lease, xxh3_64(&self.value)];
        words.into_iter().fold(key, fold)
    }
}

pub(super) const fn fold(sum: u64, word: u64) -> u64 {
    let sum = (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    sum ^ (sum >> 29)
}

impl Slot {
    /// The version that a reader of that revision sees.
    pub(super) fn at(&self, revision: Revision) -> Option<&Version> {
        if self.latest.mod_revision <= revision {
            return Some(&self.latest);
        }
        let before = self.earlier.partition_point(|version| version.mod_revision <= revision);
        self.earlier.get(before.checked_sub(1)?)
    }

    /// All versions, the oldest first.
    pub(super) fn versions(&self) -> impl Iterator<Item = &Version> {
        self.earlier.iter().chain([&self.latest])
    }

    /// The version before the latest one.
    pub(super) fn before(&self) -> Option<&Version> {
        self.earlier.back()
    }

    fn weight(&self, version: &Version) -> u64 {
        (self.key.len() + version.value.len() + VERSION_WEIGHT) as u64
    }

    /// The event of that revision.
    fn event(&self, revision: Revision, previous: bool) -> Option<Event> {
        let before = self.earlier.partition_point(|version| version.mod_revision < revision);
        let version = self.earlier.get(before).unwrap_or(&self.latest);
        if version.mod_revision != revision {
            return None;
        }
        let previous = before.checked_sub(1).filter(|_| previous).and_then(|at| self.earlier.get(at));
        let previous = previous.filter(|version| !version.is_deletion());
        let kind = if version.is_deletion() { EventKind::Delete } else { EventKind::Put };
        let (entry, previous) = (version.entry(&self.key), previous.map(|version| version.entry(&self.key)));
        Some(Event { kind, entry, previous })
    }
}

impl History {
    pub(super) const fn new() -> Self {
        Self {
            revision: 1,
            compacted: 0,
            slots: Vec::new(),
            free: Vec::new(),
            table: Table { cells: Vec::new(), len: 0 },
            live: BTreeMap::new(),
            dead: BTreeMap::new(),
            log: VecDeque::new(),
            bytes: 0,
            digest: 0,
            pins: BTreeMap::new(),
        }
    }

    pub(super) fn slot(&self, place: Place) -> &Slot {
        &self.slots[place as usize]
    }

    /// The place of a key that has a history.
    #[inline]
    pub(super) fn find(&self, key: &[u8]) -> Option<Place> {
        self.find_hashed(key, xxh3_64(key))
    }

    #[inline]
    fn find_hashed(&self, key: &[u8], hash: u64) -> Option<Place> {
        self.table.find(hash, |place| self.slots[place as usize].key == key)
    }

    /// A key that is there now.
    #[inline]
    pub(super) fn get(&self, key: &[u8]) -> Option<&Slot> {
        self.find(key).map(|place| self.slot(place)).filter(|slot| !slot.latest.is_deletion())
    }

    /// How many keys are there now.
    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    /// The keys that are there now, in order.
    pub(super) fn present(&self, keys: &Keys) -> impl DoubleEndedIterator<Item = &Slot> {
        within(&self.live, keys).map(|(_, place)| self.slot(*place))
    }

    /// The keys that were there at a revision, with what was there, in order.
    pub(super) fn past(&self, keys: &Keys, revision: Revision) -> Vec<(&Slot, &Version)> {
        let places = within(&self.live, keys).chain(within(&self.dead, keys));
        let mut found: Vec<(&Slot, &Version)> = places
            .map(|(_, place)| self.slot(*place))
            .filter_map(|slot| slot.at(revision).map(|version| (slot, version)))
            .filter(|(_, version)| !version.is_deletion())
            .collect();
        // Two sorted runs: cheap for a sort that looks for them.
        found.sort_by(|one, other| one.0.key.cmp(&other.0.key));
        found
    }

    /// Sets a key at `revision`, where it was not changed yet.
    #[inline]
    pub(super) fn put(&mut self, revision: Revision, key: &Bytes, value: Bytes, lease: LeaseId) -> Place {
        let hash = xxh3_64(key);
        let mut version =
            Version { mod_revision: revision, create_revision: revision, count: 1, lease, value };
        let place = match self.find_hashed(key, hash) {
            Some(place) => {
                let slot = &mut self.slots[place as usize];
                if slot.latest.is_deletion() {
                    if let Some((key, place)) = self.dead.remove_entry(&slot.key) {
                        self.live.insert(key, place);
                    }
                } else {
                    version.create_revision = slot.latest.create_revision;
                    version.count = slot.latest.count + 1;
                }
                let before = std::mem::replace(&mut slot.latest, version);
                slot.earlier.push_back(before);
                place
            }
            None => self.create(key, hash, version),
        };
        self.count_in(place);
        place
    }

    /// Deletes a key that is there, at `revision`, where it was not changed yet.
    pub(super) fn delete(&mut self, revision: Revision, place: Place) {
        let slot = &mut self.slots[place as usize];
        let before = std::mem::replace(&mut slot.latest, Version::deletion(revision));
        slot.earlier.push_back(before);
        if let Some((key, place)) = self.live.remove_entry(&slot.key) {
            self.dead.insert(key, place);
        }
        self.count_in(place);
    }

    fn create(&mut self, key: &Bytes, hash: u64, latest: Version) -> Place {
        // Copied: what arrives is a slice of much more.
        let key = Bytes::copy_from_slice(key);
        let map = if latest.is_deletion() { &mut self.dead } else { &mut self.live };
        let slot = Slot { key: key.clone(), hash, latest, earlier: VecDeque::new() };
        let place = if let Some(place) = self.free.pop() {
            self.slots[place as usize] = slot;
            place
        } else {
            self.slots.push(slot);
            self.slots.len() as Place - 1
        };
        map.insert(key, place);
        self.table.insert(hash, place);
        place
    }

    #[inline]
    fn count_in(&mut self, place: Place) {
        let slot = &self.slots[place as usize];
        self.bytes += slot.weight(&slot.latest);
        self.digest = self.digest.wrapping_add(slot.latest.digest(slot.hash));
    }

    /// The keys at these places have changed at `revision`, which is the present one from now on.
    #[inline]
    pub(super) fn commit(&mut self, revision: Revision, places: &mut [Place]) {
        if places.len() > 1 {
            // One order everywhere, also after a restart, without keeping it.
            places.sort_by(|one, other| self.slot(*one).key.cmp(&self.slot(*other).key));
        }
        self.log.extend(places.iter().map(|&place| Change { revision, place }));
        self.revision = revision;
    }

    /// Forgets what no reader from `revision` on needs; it is between the last such revision and the present one.
    pub(super) fn compact(&mut self, revision: Revision, forgets_deletions: bool) {
        self.compacted = revision;
        let within = self.log.partition_point(|change| change.revision <= revision);
        for at in 0..within {
            let Change { revision: changed, place } = self.log[at];
            self.forget_before(place, changed);
        }
        // What happened at that very revision can still be watched: a deletion stays until the next time.
        let reach = if forgets_deletions { revision + 1 } else { revision };
        while let Some(&Change { revision: changed, place }) = self.log.front() {
            if changed >= reach {
                break;
            }
            self.log.pop_front();
            self.forget_deletion(place, changed);
        }
    }

    fn forget_before(&mut self, place: Place, revision: Revision) {
        while self.slots[place as usize].earlier.front().is_some_and(|first| first.mod_revision < revision) {
            let slot = &mut self.slots[place as usize];
            let Some(version) = slot.earlier.pop_front() else { return };
            if slot.earlier.is_empty() {
                slot.earlier = VecDeque::new();
            }
            self.count_out(place, &version);
        }
    }

    /// Once nobody can ask what was before a deletion, it is as if the key had never been.
    fn forget_deletion(&mut self, place: Place, revision: Revision) {
        let slot = &mut self.slots[place as usize];
        if slot.earlier.front().is_some_and(|first| first.mod_revision == revision && first.is_deletion()) {
            if let Some(version) = slot.earlier.pop_front() {
                self.count_out(place, &version);
            }
        } else if slot.latest.mod_revision == revision && slot.latest.is_deletion() {
            let version = slot.latest.clone();
            let (key, hash) = (slot.key.clone(), slot.hash);
            self.count_out(place, &version);
            self.dead.remove(&key);
            self.table.remove(hash, place);
            self.slots[place as usize].key = Bytes::new();
            self.free.push(place);
        }
    }

    fn count_out(&mut self, place: Place, version: &Version) {
        let slot = &self.slots[place as usize];
        self.bytes -= slot.weight(version);
        self.digest = self.digest.wrapping_sub(version.digest(slot.hash));
        let key = &slot.key;
        for pin in self.pins.values_mut() {
            if version.mod_revision <= pin.revision
                && pin.written.as_ref().is_none_or(|written| written < key)
            {
                pin.saved.push((key.clone(), version.clone()));
            }
        }
    }

    /// What happened to these keys from a revision on, which is not compacted: whole revisions, as many as fit into so
    /// many bytes, at least one that has something; and the revision before which that is all.
    pub(super) fn events(
        &self,
        keys: &Keys,
        from: Revision,
        previous: bool,
        bytes_max: u64,
        splits: bool,
    ) -> (Vec<Event>, Revision) {
        let mut events: Vec<Event> = Vec::new();
        let mut bytes = 0;
        let mut latest = 0;
        for (revision, slot) in self.changes(keys, from) {
            if bytes >= bytes_max && !events.is_empty() && (revision > latest || splits) {
                return (events, latest + 1);
            }
            latest = revision;
            if let Some(event) = slot.event(revision, previous) {
                let weight = |entry: &Entry| (entry.key.len() + entry.value.len() + VERSION_WEIGHT) as u64;
                bytes += weight(&event.entry) + event.previous.as_ref().map_or(0, weight);
                events.push(event);
            }
        }
        (events, from.max(self.revision + 1))
    }

    /// Each change of these keys from a revision on, in order.
    fn changes<'a>(
        &'a self,
        keys: &'a Keys,
        from: Revision,
    ) -> Box<dyn Iterator<Item = (Revision, &'a Slot)> + 'a> {
        if let Keys::One(key) = keys {
            // A key knows its own changes, however many others there were.
            let slot = self.find(key).map(|place| self.slot(place));
            let revisions = slot.into_iter().flat_map(move |slot| {
                slot.versions()
                    .map(|version| version.mod_revision)
                    .filter(move |at| *at >= from)
                    .map(move |at| (at, slot))
            });
            return Box::new(revisions);
        }
        let start = self.log.partition_point(|change| change.revision < from);
        let changes = self.log.range(start..).map(|change| (change.revision, self.slot(change.place)));
        Box::new(changes.filter(|(_, slot)| keys.contains(&slot.key)))
    }

    /// All keys that have a history after this one, in order.
    pub(super) fn after(&self, key: Option<&Bytes>) -> impl Iterator<Item = &Slot> {
        let bound = key.map_or(Bound::Unbounded, |key| Bound::Excluded(&key[..]));
        let all = (bound, Bound::Unbounded);
        let mut live = self.live.range::<[u8], _>(all).peekable();
        let mut dead = self.dead.range::<[u8], _>(all).peekable();
        std::iter::from_fn(move || {
            let live_first = match (live.peek(), dead.peek()) {
                (Some((one, _)), Some((other, _))) => one < other,
                (one, _) => one.is_some(),
            };
            let next = if live_first { live.next() } else { dead.next() };
            next.map(|(_, place)| self.slot(*place))
        })
    }

    /// Puts back a version that was written out, in the order of its key's versions or not.
    pub(super) fn restore_version(&mut self, key: &Bytes, version: Version) -> bool {
        let hash = xxh3_64(key);
        let Some(place) = self.find_hashed(key, hash) else {
            let place = self.create(key, hash, version);
            self.count_in(place);
            return true;
        };
        let slot = &mut self.slots[place as usize];
        let weight = slot.weight(&version);
        let digest = version.digest(slot.hash);
        if version.mod_revision > slot.latest.mod_revision {
            let (was, is) = (slot.latest.is_deletion(), version.is_deletion());
            let before = std::mem::replace(&mut slot.latest, version);
            slot.earlier.push_back(before);
            if was != is {
                let (from, to) =
                    if was { (&mut self.dead, &mut self.live) } else { (&mut self.live, &mut self.dead) };
                if let Some((key, place)) = from.remove_entry(key) {
                    to.insert(key, place);
                }
            }
        } else {
            let at = slot.earlier.partition_point(|other| other.mod_revision < version.mod_revision);
            let known = slot.earlier.get(at).unwrap_or(&slot.latest);
            if known.mod_revision == version.mod_revision {
                return false;
            }
            slot.earlier.insert(at, version);
        }
        self.bytes += weight;
        self.digest = self.digest.wrapping_add(digest);
        true
    }

    /// Makes the log, once all versions are put back.
    pub(super) fn restore_log(&mut self) {
        let mut changes = Vec::new();
        for slot in self.after(None) {
            let place =
                self.live.get(&slot.key).or_else(|| self.dead.get(&slot.key)).copied().unwrap_or_default();
            let revisions = slot.versions().map(|version| version.mod_revision);
            changes.extend(
                revisions
                    .filter(|revision| *revision >= self.compacted)
                    .map(|revision| Change { revision, place }),
            );
        }
        // They come in the order of the keys, and a stable sort keeps that within a revision.
        changes.sort_by_key(|change| change.revision);
        self.log = changes.into();
    }

    /// The greatest revision at which some key was set that is still there.
    #[cfg(feature = "mutants")]
    pub(super) fn revision_found(&self) -> Revision {
        self.present(&Keys::all()).map(|slot| slot.latest.mod_revision).max().unwrap_or(1)
    }
}

fn within<'a>(
    map: &'a BTreeMap<Bytes, Place>,
    keys: &Keys,
) -> impl DoubleEndedIterator<Item = (&'a Bytes, &'a Place)> + use<'a> {
    let (start, end) = match keys {
        Keys::One(key) => (Bound::Included(&key[..]), Bound::Included(&key[..])),
        // An empty range, in a form that a map does not refuse.
        Keys::Between(start, end) if start >= end => {
            (Bound::Included(&start[..0]), Bound::Excluded(&start[..0]))
        }
        Keys::Between(start, end) => (Bound::Included(&start[..]), Bound::Excluded(&end[..])),
        Keys::From(start) => (Bound::Included(&start[..]), Bound::Unbounded),
    };
    map.range::<[u8], _>((start, end))
}
