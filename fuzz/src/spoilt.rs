//! How sound bytes are spoilt. Most random bytes are refused at the first; a sound example with a few edits is not.

use bolero::TypeGenerator;

/// One thing that is done to bytes. Places are taken modulo the length.
#[derive(Clone, Debug, TypeGenerator)]
pub enum Edit {
    /// Another byte.
    Set {
        /// Where.
        at: u16,
        /// Which.
        byte: u8,
    },
    /// Another number, at the edge of something.
    Number {
        /// Where.
        at: u16,
        /// Which edge.
        edge: u8,
        /// Of eight bytes, or of four.
        wide: bool,
    },
    /// Some are gone.
    Remove {
        /// From where on.
        at: u16,
        /// How many at most.
        count: u8,
    },
    /// Some are there twice.
    Double {
        /// From where on.
        at: u16,
        /// How many at most.
        count: u8,
    },
    /// Others come in between.
    Insert {
        /// Where.
        at: u16,
        /// Which.
        #[generator(bolero::produce::<Vec<u8>>().with().len(0usize..12))]
        bytes: Vec<u8>,
    },
}

/// Does all of it, in order.
pub fn spoil(bytes: &mut Vec<u8>, edits: &[Edit]) {
    for edit in edits {
        edit.spoil(bytes);
    }
}

impl Edit {
    fn spoil(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Set { at, byte } => {
                if let Some(place) = place(*at, bytes.len()) {
                    bytes[place] = *byte;
                }
            }
            Self::Number { at, edge, wide } => {
                let width = if *wide { size_of::<u64>() } else { size_of::<u32>() };
                if let Some(place) = place(*at, (bytes.len() + 1).saturating_sub(width)) {
                    bytes[place..place + width].copy_from_slice(&number(*edge).to_le_bytes()[..width]);
                }
            }
            Self::Remove { at, count } => {
                let (from, to) = stretch(*at, *count, bytes.len());
                bytes.drain(from..to);
            }
            Self::Double { at, count } => {
                let (from, to) = stretch(*at, *count, bytes.len());
                let again = bytes[from..to].to_vec();
                bytes.splice(to..to, again);
            }
            Self::Insert { at, bytes: more } => {
                let at = place(*at, bytes.len() + 1).unwrap_or(0);
                bytes.splice(at..at, more.iter().copied());
            }
        }
    }
}

fn place(at: u16, length: usize) -> Option<usize> {
    usize::from(at).checked_rem(length)
}

fn stretch(at: u16, count: u8, length: usize) -> (usize, usize) {
    let from = place(at, length + 1).unwrap_or(0);
    (from, (from + usize::from(count)).min(length))
}

/// A power of two or a little less or more, or one of the last of all.
pub fn number(edge: u8) -> u64 {
    let near = u64::from(edge & 3);
    (1_u64 << (edge >> 2)).wrapping_add(near).wrapping_sub(2)
}
