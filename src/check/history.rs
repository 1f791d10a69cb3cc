//! What clients saw, against the order of the log.
//!
//! The log's order is the witness: each write has its index, each read tells the index of the state that it saw. A
//! history is linearizable in that order when nobody who came later saw, or got, an earlier place: one number to
//! compare for each operation, where a search for some order would be exponential.

use std::collections::BTreeMap;

use super::Violation;
use crate::time::Instant;

/// Names an operation of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u64);

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The write took effect, at this index of the log.
    Wrote {
        /// Where.
        index: u64,
    },
    /// The read saw the state at this index.
    Read {
        /// Which state: the last entry applied.
        index: u64,
        /// What was there; `None`: nothing.
        value: Option<u64>,
    },
    /// The read saw this value, in some state no later than the one at `through`.
    Saw {
        /// The latest state that it can have seen: what had been applied where it was answered.
        through: u64,
        /// What was there; `None`: nothing.
        value: Option<u64>,
    },
    /// It was refused: it has not happened and never will.
    Refused,
    /// It may have happened, or may yet happen.
    Unknown,
}

#[derive(Clone, Debug)]
struct Operation {
    key: u64,
    /// The greatest index that anybody had seen or got when it began.
    floor: u64,
    begun: Instant,
    ended: Option<(Instant, Ended)>,
    /// Where it took effect.
    applied: Option<u64>,
}

/// A history of reads and writes of keys, judged while it grows. Times must not go back from call to call.
#[derive(Clone, Debug, Default)]
pub struct History {
    operations: Vec<Operation>,
    /// The greatest index that an operation which has ended saw or got.
    floor: u64,
    /// By key: what it was, from which index on.
    values: BTreeMap<u64, Vec<(u64, Option<u64>)>>,
    /// How far the log was told.
    applied: u64,
    reads: u64,
    writes: u64,
    unknown: u64,
}

impl History {
    /// Nothing has happened.
    pub fn new() -> Self {
        Self::default()
    }

    /// A client asks for something about `key`.
    pub fn begin(&mut self, at: Instant, key: u64) -> OperationId {
        let operation = Operation { key, floor: self.floor, begun: at, ended: None, applied: None };
        self.operations.push(operation);
        OperationId(self.operations.len() as u64 - 1)
    }

    /// Entry `index` of the log takes effect: `operation` makes `key` to be `value`. Told once an index, in order, when
    /// the first member applies it; entries without effect (a retry that its session recognised) need not be told.
    pub fn applied(
        &mut self,
        index: u64,
        operation: OperationId,
        key: u64,
        value: Option<u64>,
    ) -> Result<(), Violation> {
        if index <= self.applied {
            return Err(Violation::new("applied in order", format!("{index} after {}", self.applied)));
        }
        self.applied = index;
        self.values.entry(key).or_default().push((index, value));
        let Some(state) = self.operations.get_mut(operation.0 as usize) else {
            return Err(Violation::new("no phantom", format!("{operation:?} at {index} was never asked")));
        };
        if let Some(before) = state.applied.replace(index) {
            return Err(Violation::new("exactly once", format!("{operation:?} at {before} and at {index}")));
        }
        if let Some((_, Ended::Refused)) = state.ended {
            return Err(Violation::new("refused is refused", format!("{operation:?} at {index}")));
        }
        if index <= state.floor {
            let detail = format!("{operation:?} at {index} began after {} was seen", state.floor);
            return Err(Violation::new("linearizability", detail));
        }
        Ok(())
    }

    /// A client hears how its operation ended.
    pub fn end(&mut self, at: Instant, operation: OperationId, ended: Ended) -> Result<(), Violation> {
        let Some(state) = self.operations.get_mut(operation.0 as usize).filter(|state| state.ended.is_none())
        else {
            return Err(Violation::new("answered once", format!("{operation:?} was answered before")));
        };
        state.ended = Some((at, ended));
        match ended {
            Ended::Wrote { index } => {
                self.writes += 1;
                self.floor = self.floor.max(index);
                if state.applied != Some(index) {
                    let detail =
                        format!("{operation:?} was acknowledged at {index}, applied {:?}", state.applied);
                    return Err(Violation::new("no acknowledged write lost", detail));
                }
                Ok(())
            }
            Ended::Read { index, value } => {
                self.reads += 1;
                self.floor = self.floor.max(index);
                self.judge_read(operation, index, value)
            }
            Ended::Saw { through, value } => {
                self.reads += 1;
                let index = self.judge_sight(operation, through, value)?;
                self.floor = self.floor.max(index);
                Ok(())
            }
            Ended::Refused => match state.applied {
                Some(index) => Err(Violation::new("refused is refused", format!("{operation:?} at {index}"))),
                None => Ok(()),
            },
            Ended::Unknown => {
                self.unknown += 1;
                Ok(())
            }
        }
    }

    fn judge_read(&self, operation: OperationId, index: u64, value: Option<u64>) -> Result<(), Violation> {
        let state = &self.operations[operation.0 as usize];
        if index < state.floor {
            let detail = format!("{operation:?} saw {index}, but {} was seen before it began", state.floor);
            return Err(Violation::new("linearizable reads", detail));
        }
        let there = self.value(state.key, index);
        if there != value {
            let detail =
                format!("{operation:?} saw key {} at {index} as {value:?}; it was {there:?}", state.key);
            return Err(Violation::new("linearizable reads", detail));
        }
        Ok(())
    }

    /// A read that is told no index took effect at the first state that it can have seen: no later one asks less of
    /// those that come after.
    fn judge_sight(
        &self,
        operation: OperationId,
        through: u64,
        value: Option<u64>,
    ) -> Result<u64, Violation> {
        let state = &self.operations[operation.0 as usize];
        if through < state.floor {
            let detail = format!(
                "{operation:?} was answered from {through} or before, but {} was seen before it began",
                state.floor
            );
            return Err(Violation::new("linearizable reads", detail));
        }
        self.seen(state.key, value, state.floor, through).ok_or_else(|| {
            let detail = format!(
                "{operation:?} saw key {} as {value:?}, which it was at no index from {} to {through}; then it was {:?}",
                state.key,
                state.floor,
                self.value(state.key, through)
            );
            Violation::new("linearizable reads", detail)
        })
    }

    /// The first index from `from` to `to` after which `key` was `value`.
    pub fn seen(&self, key: u64, value: Option<u64>, from: u64, to: u64) -> Option<u64> {
        let versions = self.values.get(&key).map_or(&[][..], Vec::as_slice);
        let next = versions.partition_point(|&(since, _)| since <= from);
        let before = next.checked_sub(1).and_then(|place| versions[place].1);
        if before == value {
            return (from <= to).then_some(from);
        }
        let later = versions[next..].iter().take_while(|&&(since, _)| since <= to);
        later.copied().find(|&(_, version)| version == value).map(|(since, _)| since)
    }

    /// What the key that `operation` asks for was after entry `index`: for reads that are told an index alone.
    pub fn value_for(&self, operation: OperationId, index: u64) -> Option<u64> {
        self.value(self.operations.get(operation.0 as usize)?.key, index)
    }

    /// What `key` was after entry `index`.
    pub fn value(&self, key: u64, index: u64) -> Option<u64> {
        let values = self.values.get(&key)?;
        let place = values.partition_point(|&(from, _)| from <= index).checked_sub(1)?;
        values[place].1
    }

    /// Operations that were answered as reads, as writes, and with an unknown outcome.
    pub const fn counts(&self) -> (u64, u64, u64) {
        (self.reads, self.writes, self.unknown)
    }

    /// All operations: key, begin, and end with its outcome if there was one.
    pub fn operations(
        &self,
    ) -> impl Iterator<Item = (OperationId, u64, Instant, Option<(Instant, Ended)>)> + '_ {
        (0..).zip(&self.operations).map(|(id, it)| (OperationId(id), it.key, it.begun, it.ended))
    }
}
