//! A register: also one key of a key-value store, and a list to which items are appended.

use super::super::{Model, NOTHING, Operation, State, Value};
use super::Earliest;
use super::sequences::{Kind, Sequences};

/// What is done to a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RegisterAction {
    /// It had this value.
    Read(Value),
    /// It has this value from now on.
    Write(Value),
    /// If it has the value `expected`, it has `new` from now on.
    CompareAndSwap {
        /// What it must have.
        expected: Value,
        /// What it gets.
        new: Value,
        /// Whether it had it.
        swapped: bool,
    },
    /// This is at its end from now on; and how long it is then, if that was told.
    Append(Value, Option<u32>),
}

use RegisterAction::{Append, CompareAndSwap, Read, Write};

/// A register, which begins with a value.
#[derive(Clone, Debug)]
pub struct Register {
    initial: Value,
    sequences: Option<Sequences>,
}

impl Register {
    /// It begins with `initial`. Where there are appends, `sequences` says what values consist of.
    pub const fn new(initial: Value, sequences: Option<Sequences>) -> Self {
        Self { initial, sequences }
    }
}

impl Model for Register {
    type Action = RegisterAction;

    fn initial(&mut self) -> State {
        self.initial
    }

    #[inline]
    fn step(&mut self, state: State, action: RegisterAction) -> Option<State> {
        match action {
            Read(value) => (state == value).then_some(state),
            Write(value) => Some(value),
            CompareAndSwap { expected, new, swapped: true } => (state == expected).then_some(new),
            CompareAndSwap { expected, swapped: false, .. } => (state != expected).then_some(state),
            Append(piece, length) => {
                let sequences = self.sequences.as_mut()?;
                let state = sequences.append(state, piece)?;
                length.is_none_or(|length| u64::from(length) == sequences.length(state)).then_some(state)
            }
        }
    }

    fn is_pure(&self, action: RegisterAction) -> bool {
        match action {
            Read(_) | CompareAndSwap { swapped: false, .. } => true,
            CompareAndSwap { expected, new, .. } => expected == new,
            Write(_) | Append(..) => false,
        }
    }

    fn forget(&self, action: RegisterAction) -> Option<RegisterAction> {
        match action {
            Write(_) => Some(action),
            CompareAndSwap { expected, new, .. } if expected != new => {
                Some(CompareAndSwap { expected, new, swapped: true })
            }
            Append(piece, _) => Some(Append(piece, None)),
            Read(_) | CompareAndSwap { .. } => None,
        }
    }

    /// A value that nobody ever asks for explains nothing. (It would explain a swap that failed, and what is appended to
    /// it may be asked for.)
    fn prune(&self, operations: &mut Vec<Operation<RegisterAction>>) {
        let mut asked = Vec::new();
        let mut ask = |value: Value| {
            if asked.len() <= value as usize {
                asked.resize(value as usize + 1, false);
            }
            asked[value as usize] = true;
        };
        for operation in &*operations {
            match operation.action {
                Read(value) if operation.is_known() => ask(value),
                CompareAndSwap { expected, swapped, .. } => {
                    if operation.is_known() && !swapped {
                        return;
                    }
                    ask(expected);
                }
                Append(..) => return,
                Read(_) | Write(_) => {}
            }
        }
        operations.retain(|operation| {
            operation.is_known()
                || match operation.action {
                    Write(value) | CompareAndSwap { new: value, .. } => {
                        asked.get(value as usize).is_some_and(|asked| *asked)
                    }
                    Read(_) | Append(..) => false,
                }
        });
    }

    fn by_values(&self, operations: &[Operation<RegisterAction>]) -> Option<bool> {
        if operations.iter().all(|operation| matches!(operation.action, Read(_) | Write(_))) {
            return zones(self.initial, operations);
        }
        let sequences = self.sequences.as_ref()?;
        let is_list = |operation: &Operation<_>| match operation.action {
            Append(piece, length) => {
                length.is_none() && sequences.kind(piece) == Kind::List && sequences.length(piece) == 1
            }
            Read(value) => !operation.is_known() || sequences.kind(value) == Kind::List,
            _ => false,
        };
        let empty = sequences.kind(self.initial) == Kind::List && sequences.length(self.initial) == 0;
        (empty && operations.iter().all(is_list)).then(|| growing_list(sequences, operations)).flatten()
    }

    fn memory(&self) -> usize {
        self.sequences.as_ref().map_or(0, Sequences::memory)
    }
}

/// A value with all operations that have it: the one that writes it, and the reads that see it.
#[derive(Clone, Copy, Debug)]
struct Cluster {
    written: Option<(u32, u32)>,
    /// The earliest end of them.
    end: u32,
    /// The latest call of them.
    call: u32,
    is_read: bool,
}

/// A register whose values are written once each (Gibbons and Korach 1997, §4): each value has a *zone*, the time between
/// the first end and the last beginning of the operations that have it. If the end comes first, the value must be there
/// all that time (a *forward* zone); otherwise there is one moment in it that is enough. So no two forward zones may
/// overlap, and no other zone may lie within one.
fn zones(initial: Value, operations: &[Operation<RegisterAction>]) -> Option<bool> {
    let value_of = |action| match action {
        Read(value) | Write(value) => value,
        CompareAndSwap { .. } | Append(..) => unreachable!("reads and writes only"),
    };
    let highest = operations.iter().map(|operation| value_of(operation.action)).fold(initial, u32::max);
    let nobody = Cluster { written: None, end: u32::MAX, call: 0, is_read: false };
    let mut clusters = vec![nobody; highest as usize + 1];
    // It was written before everything: places begin at 0, so all of them are moved up by one.
    clusters[initial as usize] = Cluster { written: Some((0, 0)), end: 0, call: 0, is_read: false };
    for operation in operations {
        let (call, end) = (operation.call + 1, operation.end.saturating_add(1));
        let cluster = &mut clusters[value_of(operation.action) as usize];
        match operation.action {
            Write(_) if cluster.written.is_some() => return None,
            Write(_) => cluster.written = Some((call, end)),
            _ if operation.is_known() => cluster.is_read = true,
            _ => continue,
        }
        cluster.end = cluster.end.min(end);
        cluster.call = cluster.call.max(call);
    }
    let mut forward = Vec::new();
    let mut backward = Vec::new();
    for read in operations.iter().filter(|operation| operation.is_known()) {
        let Read(value) = read.action else { continue };
        // Nobody wrote it, or it was seen before anybody began to.
        if clusters[value as usize].written.is_none_or(|(call, _)| read.end + 1 < call) {
            return Some(false);
        }
    }
    for cluster in clusters.iter().filter(|cluster| cluster.written.is_some()) {
        let unseen = cluster.written.is_some_and(|(_, end)| end == u32::MAX) && !cluster.is_read;
        if cluster.end < cluster.call {
            forward.push((cluster.end, cluster.call));
        } else if !unseen && cluster.end > 0 {
            backward.push((cluster.call, cluster.end));
        }
    }
    forward.sort_unstable();
    let apart = forward.windows(2).all(|pair| pair[0].1 < pair[1].0);
    let is_free = |&(call, end): &(u32, u32)| {
        let next = forward.partition_point(|&(start, _)| start < call);
        next == 0 || forward[next - 1].1 < end
    };
    Some(apart && backward.iter().all(is_free))
}

/// A list to which each item is appended once, and reads that see all of it: the longest read tells the order, and each
/// operation is placed as early as it can stand. What no read has seen comes after all of them.
fn growing_list(sequences: &Sequences, operations: &[Operation<RegisterAction>]) -> Option<bool> {
    let item = |piece: Value| sequences.symbols(piece)[0];
    let mut appends = std::collections::BTreeMap::new();
    let mut reads = Vec::new();
    for operation in operations {
        match operation.action {
            Append(piece, _) => {
                if appends.insert(item(piece), operation).is_some() {
                    return None;
                }
            }
            Read(value) if operation.is_known() => reads.push((sequences.length(value), value, operation)),
            _ => {}
        }
    }
    reads.sort_by_key(|(length, _, _)| *length);
    let longest = reads.last().map_or(&[][..], |&(_, value, _)| sequences.symbols(value));
    if !reads.iter().all(|&(_, value, _)| longest.starts_with(sequences.symbols(value))) {
        return Some(false);
    }
    let mut earliest = Earliest::default();
    let mut reads = reads.into_iter().peekable();
    for length in 0..=longest.len() {
        if let Some(last) = length.checked_sub(1) {
            // Taken out: an item that is there twice is not found again.
            let Some(append) = appends.remove(&longest[last]) else { return Some(false) };
            if !earliest.place(append) {
                return Some(false);
            }
        }
        let level = std::iter::from_fn(|| reads.next_if(|(of, _, _)| *of == length as u64));
        if !earliest.place_beside(level.map(|(_, _, read)| read)) {
            return Some(false);
        }
    }
    Some(appends.values().all(|unseen| earliest.now < unseen.end))
}

/// What a register has when nobody has written: `None`.
impl Default for Register {
    fn default() -> Self {
        Self::new(NOTHING, None)
    }
}
