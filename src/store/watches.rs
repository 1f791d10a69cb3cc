//! Who waits for something to happen to some keys. Not replicated: each member has its own.
//!
//! A watch has no buffer: history is its buffer, which compaction bounds. What is kept of a watch is the first revision
//! that has something for it, so that a watch to which nothing happens costs nothing.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

use super::{Keys, Revision, Watch, WatchToken};

/// All that wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Watches {
    waiting: BTreeMap<WatchToken, Watch>,
    /// Those of one key.
    single: BTreeMap<Bytes, BTreeSet<WatchToken>>,
    /// Those of a prefix, and how many there are of each length: the prefixes of a changed key are looked up, not
    /// searched for.
    prefixes: BTreeMap<Bytes, BTreeSet<WatchToken>>,
    lengths: BTreeMap<usize, usize>,
    /// All others, by where they begin.
    ranges: BTreeSet<(Bytes, WatchToken)>,
    /// To whom something has happened, with the first revision of it.
    ready: BTreeMap<WatchToken, Revision>,
}

/// Where a watch is entered.
enum Place<'a> {
    Single(&'a Bytes),
    Prefix(&'a Bytes),
    Range(&'a Bytes),
}

impl Watches {
    /// `watch` waits, from its revision on.
    pub(super) fn add(&mut self, token: WatchToken, watch: Watch) {
        match place(&watch.keys) {
            Place::Single(key) => {
                self.single.entry(key.clone()).or_default().insert(token);
            }
            Place::Prefix(prefix) => {
                *self.lengths.entry(prefix.len()).or_default() += 1;
                self.prefixes.entry(prefix.clone()).or_default().insert(token);
            }
            Place::Range(start) => {
                self.ranges.insert((start.clone(), token));
            }
        }
        self.waiting.insert(token, watch);
    }

    /// Nobody waits for that one any more.
    pub(super) fn remove(&mut self, token: WatchToken) -> Option<Watch> {
        let watch = self.waiting.remove(&token)?;
        self.ready.remove(&token);
        match place(&watch.keys) {
            Place::Single(key) => forget(&mut self.single, key, token),
            Place::Prefix(prefix) => {
                forget(&mut self.prefixes, prefix, token);
                if let Some(count) = self.lengths.get_mut(&prefix.len()) {
                    *count -= 1;
                    if *count == 0 {
                        self.lengths.remove(&prefix.len());
                    }
                }
            }
            Place::Range(start) => {
                self.ranges.remove(&(start.clone(), token));
            }
        }
        Some(watch)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// A key has changed.
    pub(super) fn changed(&mut self, key: &Bytes, revision: Revision) {
        let mut concerned: Vec<WatchToken> = Vec::new();
        if let Some(tokens) = self.single.get(key) {
            concerned.extend(tokens);
        }
        for &length in self.lengths.keys().take_while(|length| **length <= key.len()) {
            concerned.extend(self.prefixes.get(&key[..length]).into_iter().flatten());
        }
        let before = self.ranges.iter().take_while(|(start, _)| start <= key);
        concerned.extend(before.map(|(_, token)| *token));
        for token in concerned {
            let Some(watch) = self.waiting.get(&token) else { continue };
            if watch.from <= revision && watch.keys.contains(key) {
                self.ready.entry(token).or_insert(revision);
            }
        }
    }

    /// Takes all to which something has happened, with the first revision of it.
    pub(super) fn take_ready(&mut self) -> Vec<(WatchToken, Watch, Revision)> {
        let ready = std::mem::take(&mut self.ready);
        let taken = |(token, revision)| self.remove(token).map(|watch| (token, watch, revision));
        ready.into_iter().filter_map(taken).collect()
    }

    /// Takes all: another state has come in the place of the one that they watched.
    pub(super) fn take_all(&mut self) -> Vec<(WatchToken, Watch)> {
        let all = std::mem::take(self);
        all.waiting.into_iter().collect()
    }
}

fn forget(map: &mut BTreeMap<Bytes, BTreeSet<WatchToken>>, key: &Bytes, token: WatchToken) {
    if let Some(tokens) = map.get_mut(key) {
        tokens.remove(&token);
        if tokens.is_empty() {
            map.remove(key);
        }
    }
}

fn place(keys: &Keys) -> Place<'_> {
    match keys {
        Keys::One(key) => Place::Single(key),
        Keys::From(start) if start.is_empty() => Place::Prefix(start),
        Keys::Between(start, _) if Keys::prefix(start.clone()) == *keys => Place::Prefix(start),
        Keys::Between(start, _) | Keys::From(start) => Place::Range(start),
    }
}
