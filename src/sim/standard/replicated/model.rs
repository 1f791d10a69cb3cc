//! What the log means: a naive twin of the sessions and the key-value machine, which applies each entry once.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::LIMITS;
use crate::raft::Index;
use crate::replica::{Command, KeyValue, Operation, OperationResult, SessionId, SessionStamp};
use crate::wire::{Decode, Encode, VERSION};

/// What names a command: its stamp, or the value that no other command writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CommandName {
    Stamped(SessionId, u64),
    Tagged(u64),
}

/// What an entry does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// A command that has an effect now.
    Applied { name: CommandName, key: u64, result: u64 },
    /// Nothing that anybody could see.
    Nothing,
    /// No client of ours wrote this.
    Foreign,
}

/// The state after the entries so far.
#[derive(Clone, Debug)]
pub(super) struct Model {
    values: BTreeMap<u64, Vec<u8>>,
    sessions: BTreeMap<SessionId, Session>,
    /// Sessions that were opened, and that no client has been given yet.
    ungiven: BTreeSet<SessionId>,
    /// By index: the digest of the values.
    digests: Vec<u64>,
}

#[derive(Clone, Debug)]
struct Session {
    last_used: Index,
    answered_below: u64,
    done: BTreeSet<u64>,
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            values: BTreeMap::new(),
            sessions: BTreeMap::new(),
            ungiven: BTreeSet::new(),
            digests: vec![0],
        }
    }

    /// The last entry.
    pub(super) fn last(&self) -> Index {
        self.digests.len() as u64 - 1
    }

    /// The digest of the values after entry `index`.
    pub(super) fn digest(&self, index: Index) -> Option<u64> {
        self.digests.get(index as usize).copied()
    }

    /// A digest of what is under `key` now.
    pub(super) fn value(&self, key: u64) -> Option<u64> {
        self.values.get(&key).map(|value| xxh3_64(value))
    }

    pub(super) fn is_open(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    /// Gives a session to the one client whose it is.
    pub(super) fn give(&mut self, session: SessionId) -> bool {
        self.ungiven.remove(&session)
    }

    /// The next entry does nothing to the state.
    pub(super) fn skip(&mut self) {
        self.digests.push(self.digests[self.digests.len() - 1]);
    }

    /// Applies the next entry.
    pub(super) fn apply(&mut self, entry: &[u8]) -> Effect {
        self.skip();
        let index = self.last();
        match Command::decode(entry) {
            Some(Command::Open) => {
                self.open(index);
                Effect::Nothing
            }
            Some(Command::Close(session)) => {
                self.sessions.remove(&session);
                Effect::Nothing
            }
            Some(Command::Stamped(stamp, _)) if !self.is_fresh(index, stamp) => Effect::Nothing,
            Some(Command::Stamped(SessionStamp { session, sequence, .. }, command)) => {
                self.operate(command, Some(CommandName::Stamped(session, sequence)))
            }
            Some(Command::Plain(command)) => self.operate(command, None),
            // Its machine has no leases and no history.
            Some(Command::Expire { .. } | Command::Compact(_)) | None => Effect::Foreign,
        }
    }

    fn open(&mut self, index: Index) {
        while self.sessions.len() >= LIMITS.sessions_max {
            let oldest = self.sessions.iter().min_by_key(|(_, session)| session.last_used);
            let Some((&oldest, _)) = oldest else { break };
            self.sessions.remove(&oldest);
        }
        self.sessions.insert(index, Session { last_used: index, answered_below: 0, done: BTreeSet::new() });
        self.ungiven.insert(index);
    }

    fn is_fresh(&mut self, index: Index, stamp: SessionStamp) -> bool {
        let Some(session) = self.sessions.get_mut(&stamp.session) else { return false };
        session.last_used = index;
        session.answered_below = session.answered_below.max(stamp.answered_below);
        stamp.sequence >= session.answered_below && session.done.insert(stamp.sequence)
    }

    fn operate(&mut self, command: &[u8], name: Option<CommandName>) -> Effect {
        let Some((key, tag, operation)) = read(command) else { return Effect::Foreign };
        let Some(name) = name.or(tag.map(CommandName::Tagged)) else { return Effect::Foreign };
        let before = self.digest_of(key);
        let result = self.change(key, operation);
        let word = before ^ self.digest_of(key);
        if let Some(digest) = self.digests.last_mut() {
            *digest ^= word;
        }
        Effect::Applied { name, key, result: xxh3_64(&result.to_bytes()) }
    }

    fn change(&mut self, key: u64, operation: Operation) -> OperationResult {
        let there = self.values.get(&key).cloned();
        match operation {
            Operation::Get { .. } => OperationResult::Value(there.map(Bytes::from)),
            Operation::Put { value, .. } => {
                self.values.insert(key, value.to_vec());
                OperationResult::Value(there.map(Bytes::from))
            }
            Operation::Delete { .. } => {
                self.values.remove(&key);
                OperationResult::Value(there.map(Bytes::from))
            }
            Operation::CompareAndSwap { expected, value, .. } => {
                let swaps = there.as_deref() == expected.as_deref();
                if swaps {
                    self.values.insert(key, value.to_vec());
                }
                OperationResult::Swapped(swaps)
            }
            Operation::Append { value, .. } => {
                let longer = [there.as_deref().unwrap_or_default(), &value[..]].concat();
                let length = longer.len() as u64;
                self.values.insert(key, longer);
                OperationResult::Length(length)
            }
        }
    }

    fn digest_of(&self, key: u64) -> u64 {
        self.values.get(&key).map_or(0, |value| digest_one(key, value))
    }
}

/// The digest of a member's values: of each key on its own, so that the model need look at one only.
pub(super) fn digest(values: &KeyValue) -> u64 {
    values.iter().fold(0, |sum, (key, value)| sum ^ digest_one(number(key), value))
}

fn digest_one(key: u64, value: &[u8]) -> u64 {
    // A value may be empty, and is then still there.
    xxh3_64_with_seed(value, key) | 1
}

/// The bytes of a key.
pub(super) fn key_bytes(key: u64) -> Bytes {
    Bytes::copy_from_slice(&key.to_le_bytes())
}

/// The number of a key; of one that is none of ours, some other number.
pub(super) fn number(key: &[u8]) -> u64 {
    key.try_into().map_or_else(|_| xxh3_64(key), u64::from_le_bytes)
}

/// A command's key, the value that only it writes, and itself.
pub(super) fn read(command: &[u8]) -> Option<(u64, Option<u64>, Operation)> {
    let operation = Operation::from_bytes(Bytes::copy_from_slice(command), VERSION).ok()?;
    let (key, written) = match &operation {
        Operation::Get { key } | Operation::Delete { key } => (key, None),
        Operation::Put { key, value }
        | Operation::CompareAndSwap { key, value, .. }
        | Operation::Append { key, value } => (key, Some(value)),
    };
    let tag = written.and_then(|value| value[..].try_into().ok()).map(u64::from_le_bytes);
    Some((number(key), tag, operation))
}
