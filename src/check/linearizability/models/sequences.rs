//! Values that grow at their end: strings, bytes and lists, by number.
//!
//! A state to which something was appended is not copied: it is its predecessor and a piece. Two that were put together
//! differently are still equal when their symbols are; a rolling hash (Karp and Rabin 1987) says when to compare.

use super::super::table::Table;
use super::super::{State, Value};

/// What may be appended to what: only like to like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing can be appended to it.
    Opaque,
    /// Text, by character.
    Text,
    /// Bytes, by byte.
    Bytes,
    /// A list, by the value of each item.
    List,
}

#[derive(Clone, Debug)]
struct Entry {
    kind: Kind,
    /// What was appended to what; of a value that was given, 0 and itself.
    parent: State,
    piece: Value,
    length: u64,
    hash: u64,
    /// The multiplier to the power of the length.
    shift: u64,
}

/// Values by number, and what they become when something is appended.
#[derive(Clone, Debug)]
pub struct Sequences {
    entries: Vec<Entry>,
    /// The symbols of those that were given.
    given: Vec<Box<[u32]>>,
    by_content: Table,
    by_parts: Table,
    bytes: usize,
}

const MULTIPLIER: u64 = 0x5851_f42d_4c95_7f2d;

impl Sequences {
    /// Values by number, each with its symbols. Value 0 is nothing, and must be opaque. Values must differ.
    ///
    /// # Panics
    ///
    /// When there is no value 0.
    pub fn new(values: Vec<(Kind, Box<[u32]>)>) -> Self {
        assert!(!values.is_empty(), "value 0 is nothing");
        let mut sequences = Self {
            entries: Vec::new(),
            given: Vec::new(),
            by_content: Table::new(),
            by_parts: Table::new(),
            bytes: 0,
        };
        for (number, (kind, symbols)) in (0..).zip(values) {
            let (mut hash, mut shift) = (0_u64, 1_u64);
            for &symbol in &symbols {
                hash = hash.wrapping_mul(MULTIPLIER).wrapping_add(u64::from(symbol) + 1);
                shift = shift.wrapping_mul(MULTIPLIER);
            }
            let length = symbols.len() as u64;
            sequences.given.push(symbols);
            sequences.store(Entry { kind, parent: 0, piece: number, length, hash, shift });
        }
        sequences
    }

    /// What something is.
    pub fn kind(&self, value: Value) -> Kind {
        self.entries[value as usize].kind
    }

    /// The symbols of a value that was given.
    pub fn symbols(&self, value: Value) -> &[u32] {
        &self.given[value as usize]
    }

    /// How long it is.
    pub fn length(&self, state: State) -> u64 {
        self.entries[state as usize].length
    }

    /// `state` with `piece`, which was given, at its end; what is nothing becomes the piece. `None` when they are not
    /// alike.
    pub fn append(&mut self, state: State, piece: Value) -> Option<State> {
        if state == 0 {
            return Some(piece);
        }
        let (left, right) = (&self.entries[state as usize], &self.entries[piece as usize]);
        if left.kind == Kind::Opaque || left.kind != right.kind {
            return None;
        }
        let parts = parts_hash(state, piece);
        let entries = &self.entries;
        let is_it = |entry: &Entry| entry.parent == state && entry.piece == piece;
        if let Some(known) = self.by_parts.find(parts, |index| is_it(&entries[index as usize])) {
            return Some(known);
        }
        let entry = Entry {
            kind: left.kind,
            parent: state,
            piece,
            length: left.length + right.length,
            hash: left.hash.wrapping_mul(right.shift).wrapping_add(right.hash),
            shift: left.shift.wrapping_mul(right.shift),
        };
        let alike = self.by_content.find(content_hash(&entry), |index| self.is_equal(index, &entry));
        if alike.is_some() {
            return alike;
        }
        let index = self.store(entry);
        let entries = &self.entries;
        self.by_parts.insert(parts, index, |index| {
            let entry = &entries[index as usize];
            parts_hash(entry.parent, entry.piece)
        });
        Some(index)
    }

    fn store(&mut self, entry: Entry) -> State {
        let index = self.entries.len() as State;
        let hash = content_hash(&entry);
        self.entries.push(entry);
        let entries = &self.entries;
        self.by_content.insert(hash, index, |index| content_hash(&entries[index as usize]));
        self.bytes += size_of::<Entry>();
        index
    }

    fn is_equal(&self, index: State, entry: &Entry) -> bool {
        let other = &self.entries[index as usize];
        other.kind == entry.kind
            && other.length == entry.length
            && other.hash == entry.hash
            && self.backwards(other).eq(self.backwards(entry))
    }

    /// Its symbols, last first.
    fn backwards<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = u32> + 'a {
        let mut next = Some(entry);
        std::iter::from_fn(move || {
            let entry = next?;
            next = (entry.parent != 0).then(|| &self.entries[entry.parent as usize]);
            Some(self.given[entry.piece as usize].iter().rev().copied())
        })
        .flatten()
    }

    /// Bytes that it holds.
    pub const fn memory(&self) -> usize {
        self.bytes + self.by_content.memory() + self.by_parts.memory()
    }
}

const fn parts_hash(parent: State, piece: Value) -> u64 {
    (parent as u64) << 32 | piece as u64
}

const fn content_hash(entry: &Entry) -> u64 {
    entry.hash ^ entry.length.rotate_left(40) ^ (entry.kind as u64) << 8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(word: &str) -> (Kind, Box<[u32]>) {
        (Kind::Text, word.chars().map(u32::from).collect())
    }

    #[test]
    fn what_was_put_together_differently_is_equal_when_it_reads_the_same() {
        let nothing = (Kind::Opaque, [].into());
        let mut sequences = Sequences::new(vec![
            nothing,
            text("a"),
            text("bc"),
            text("ab"),
            text("c"),
            text("abc"),
            text(""),
        ]);
        let (left, right) = (sequences.append(1, 2), sequences.append(3, 4));
        assert_eq!((left, right), (Some(5), Some(5)));
        assert_eq!(sequences.append(5, 6), Some(5), "the empty piece changes nothing");
        assert_eq!(sequences.append(0, 2), Some(2), "nothing becomes the piece");
        let longer = sequences.append(5, 1).expect("text");
        assert_eq!(sequences.append(5, 1), Some(longer));
        assert_eq!(sequences.length(longer), 4);
    }

    #[test]
    fn only_like_is_appended_to_like() {
        let bytes = (Kind::Bytes, [97].into());
        let mut sequences =
            Sequences::new(vec![(Kind::Opaque, [].into()), text("a"), bytes, (Kind::Opaque, [].into())]);
        assert_eq!(sequences.append(1, 2), None);
        assert_eq!(sequences.append(3, 1), None);
    }
}
