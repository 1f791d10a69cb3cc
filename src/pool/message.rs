//! What lies in a ring: messages of one header word and a body, padded to whole words.
//!
//! ```text
//!   63       46 45   44    40 39                 0
//!  ┌───────────┬──────┬───────┬───────────────────┐
//!  │ function  │ more │ kind  │ bytes of the body │  body … padding to 8
//!  └───────────┴──────┴───────┴───────────────────┘
//! ```
//!
//! `function` says what a task calls (an index into the table that both sides keep); in a result it is zero. `more`
//! marks a fragment: the body goes on in the next message of the ring, because a message is never larger than a
//! quarter of its ring. Kinds from [`Kind::Function`] on are not items: they are neither claimed nor counted.

/// Bytes of a header.
pub const HEADER: usize = 8;
/// The most functions that live at one time in one pool.
pub const FUNCTIONS: u32 = 1 << 18;

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Nothing: skip to the ring's end.
    Pad = 0,
    /// `None`; no body.
    None = 1,
    /// An exact integer of 64 bits.
    Int = 2,
    /// An exact float, by its bits.
    Float = 3,
    /// Text in UTF-8.
    Str = 4,
    /// Bytes.
    Bytes = 5,
    /// What `pickle` made of any other object.
    Pickle = 6,
    /// A handle of an object in the same process.
    Object = 7,
    /// A result that is an exception: pickled.
    Error = 8,
    /// The same in the same process: a handle.
    ObjectError = 9,
    /// The worker died while it ran the item: process id and signal, two integers.
    Died = 10,
    /// The item ran longer than it may: process id.
    TimedOut = 11,
    /// Any of the first six kinds, with large parts elsewhere (`parcel.rs`).
    Parcel = 12,
    /// Not an item: defines the function that the header names.
    Function = 16,
    /// Not an item: the worker cannot work, and its body says why (a pickled exception).
    Broken = 17,
}

impl Kind {
    pub(super) const fn from_bits(bits: u64) -> Option<Self> {
        Some(match bits {
            0 => Self::Pad,
            1 => Self::None,
            2 => Self::Int,
            3 => Self::Float,
            4 => Self::Str,
            5 => Self::Bytes,
            6 => Self::Pickle,
            7 => Self::Object,
            8 => Self::Error,
            9 => Self::ObjectError,
            10 => Self::Died,
            11 => Self::TimedOut,
            12 => Self::Parcel,
            16 => Self::Function,
            17 => Self::Broken,
            _ => return None,
        })
    }

    /// Whether this is the outcome of an item that failed.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Error | Self::ObjectError | Self::Died | Self::TimedOut)
    }
}

/// The first word of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the body is.
    pub kind: Kind,
    /// Whether the body goes on in the next message.
    pub more: bool,
    /// What a task calls.
    pub function: u32,
    /// Bytes of the body.
    pub length: usize,
}

impl Header {
    /// A whole message.
    #[inline]
    pub const fn new(kind: Kind, function: u32, length: usize) -> Self {
        Self { kind, more: false, function, length }
    }

    /// As a word.
    #[inline]
    pub const fn encode(self) -> u64 {
        debug_assert!(self.length < 1 << 40 && self.function < FUNCTIONS);
        self.length as u64
            | (self.kind as u64) << 40
            | (self.more as u64) << 45
            | (self.function as u64) << 46
    }

    /// From a word; a word that no pool writes is none.
    pub const fn decode(word: u64) -> Option<Self> {
        let Some(kind) = Kind::from_bits(word >> 40 & 31) else { return None };
        Some(Self {
            kind,
            more: word >> 45 & 1 == 1,
            function: (word >> 46) as u32,
            length: (word & ((1 << 40) - 1)) as usize,
        })
    }

    /// Bytes that the whole message takes.
    #[inline]
    pub const fn span(self) -> usize {
        span(self.length)
    }
}

/// A number by itself, or None: what most small items and results are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// `None`, `Int` or `Float`.
    pub kind: Kind,
    /// Its bits; zero for None.
    pub bits: u64,
}

impl Number {
    /// Its header.
    #[inline]
    pub const fn header(self, function: u32) -> Header {
        Header::new(self.kind, function, if matches!(self.kind, Kind::None) { 0 } else { HEADER })
    }

    /// What a whole message with this first word is, if it is a number; and how many bytes it takes.
    #[inline]
    pub const fn kind_of(word: u64) -> Option<(Kind, usize)> {
        // All bits but the function's.
        match word & ((1 << 46) - 1) {
            NONE => Some((Kind::None, HEADER)),
            INT => Some((Kind::Int, 2 * HEADER)),
            FLOAT => Some((Kind::Float, 2 * HEADER)),
            _ => None,
        }
    }

    /// The number that `bytes` begin with, if they do, and what follows.
    #[inline]
    pub fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (kind, span) = Self::kind_of(u64::from_le_bytes(*bytes.first_chunk()?))?;
        if span == HEADER {
            return Some((Self { kind, bits: 0 }, &bytes[HEADER..]));
        }
        let bits = u64::from_le_bytes(*bytes.get(HEADER..)?.first_chunk()?);
        Some((Self { kind, bits }, &bytes[span..]))
    }

    /// Appends it as a whole message.
    #[inline]
    pub fn append(self, bytes: &mut Vec<u8>, function: u32) {
        let header = self.header(function).encode().to_le_bytes();
        if matches!(self.kind, Kind::None) {
            bytes.extend_from_slice(&header);
        } else {
            let both = (u128::from(self.bits) << 64 | u128::from(u64::from_le_bytes(header))).to_le_bytes();
            bytes.extend_from_slice(&both);
        }
    }
}

const NONE: u64 = Header::new(Kind::None, 0, 0).encode();
const INT: u64 = Header::new(Kind::Int, 0, HEADER).encode();
const FLOAT: u64 = Header::new(Kind::Float, 0, HEADER).encode();

/// Bytes that a message with a body of `length` takes.
#[inline]
pub const fn span(length: usize) -> usize {
    HEADER + length.next_multiple_of(HEADER)
}

/// Appends a whole message to `bytes`.
pub fn append(bytes: &mut Vec<u8>, kind: Kind, function: u32, body: &[u8]) {
    let header = Header::new(kind, function, body.len());
    bytes.reserve(header.span());
    bytes.extend_from_slice(&header.encode().to_le_bytes());
    bytes.extend_from_slice(body);
    bytes.resize(bytes.len().next_multiple_of(HEADER), 0);
}

/// The first message of `bytes`, which [`append`] wrote: its header, its body, and what follows.
pub fn split(bytes: &[u8]) -> Option<(Header, &[u8], &[u8])> {
    let word = bytes.first_chunk::<HEADER>()?;
    let header = Header::decode(u64::from_le_bytes(*word))?;
    let body = bytes.get(HEADER..HEADER + header.length)?;
    Some((header, body, bytes.get(header.span()..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_as_it_was() {
        for kind in (0..32).filter_map(Kind::from_bits) {
            for (function, length, more) in
                [(0, 0, false), (FUNCTIONS - 1, (1 << 40) - 1, true), (7, 8, false)]
            {
                let header = Header { kind, more, function, length };
                assert_eq!(Header::decode(header.encode()), Some(header));
            }
        }
    }

    #[test]
    fn messages_that_were_appended_split_again() {
        let mut bytes = Vec::new();
        append(&mut bytes, Kind::Str, 3, b"seven b");
        append(&mut bytes, Kind::None, 0, b"");
        append(&mut bytes, Kind::Int, 1, &9_i64.to_le_bytes());
        let (first, body, rest) = split(&bytes).expect("a message");
        assert_eq!((first.kind, first.function, body), (Kind::Str, 3, &b"seven b"[..]));
        let (second, body, rest) = split(rest).expect("a message");
        assert_eq!((second.kind, body), (Kind::None, &b""[..]));
        let (third, body, rest) = split(rest).expect("a message");
        assert_eq!((third.kind, body, rest), (Kind::Int, &9_i64.to_le_bytes()[..], &b""[..]));
        assert_eq!(split(rest), None);
    }

    #[test]
    fn numbers_are_messages_like_others() {
        let numbers = [(Kind::Int, 9_u64), (Kind::None, 0), (Kind::Float, 1.5_f64.to_bits())];
        let (mut quickly, mut slowly) = (Vec::new(), Vec::new());
        for (kind, bits) in numbers {
            Number { kind, bits }.append(&mut quickly, 7);
            let body = bits.to_le_bytes();
            append(&mut slowly, kind, 7, if kind == Kind::None { &[] } else { &body });
        }
        assert_eq!(quickly, slowly);
        let mut rest = &quickly[..];
        for (kind, bits) in numbers {
            let (number, after) = Number::split(rest).expect("a number");
            assert_eq!(number, Number { kind, bits });
            rest = after;
        }
        let mut text = Vec::new();
        append(&mut text, Kind::Str, 7, b"8 bytes!");
        assert_eq!(Number::split(&text), None);
        assert_eq!(Number::split(&quickly[..12]), None);
    }

    #[test]
    fn a_word_of_no_kind_is_refused() {
        assert_eq!(Header::decode(31 << 40), None);
    }
}
