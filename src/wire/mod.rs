//! What travels and what is kept, as bytes: frames, and the traits by which each protocol writes its own messages
//! and records.
//!
//! Integers are little-endian and of fixed width; a range of bytes is preceded by its length (u32). Decoding slices
//! the frame instead of copying, bounds every length by what is there, and never panics.

use bytes::Bytes;

/// Writes itself.
pub trait Encode {
    /// Appends its bytes to `out`.
    fn encode(&self, out: &mut Vec<u8>);
}

/// Reads itself back.
pub trait Decode: Sized {
    /// Takes its bytes from `input`.
    fn decode(input: &mut Reader) -> Result<Self, Malformed>;
}

/// The bytes say something that no member of ours would say. Nothing was taken from them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed at byte {at}: {what}")]
pub struct Malformed {
    /// Where in the frame.
    pub at: usize,
    /// What was expected there.
    pub what: &'static str,
}

/// Takes values from a frame; ranges of bytes are shared with it, not copied.
#[derive(Clone, Debug)]
pub struct Reader {
    bytes: Bytes,
    at: usize,
    version: u16,
}

impl Reader {
    /// Reads `bytes`, which were written by this version of the encoding.
    pub const fn new(bytes: Bytes, version: u16) -> Self {
        Self { bytes, at: 0, version }
    }

    /// The version in which the bytes were written.
    pub const fn version(&self) -> u16 {
        self.version
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The complaint that `what` was expected here.
    pub const fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { at: self.at, what }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let Some(found) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<N>) else {
            return Err(self.malformed("more bytes"));
        };
        self.at += N;
        Ok(*found)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_le_bytes)
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// A byte that is 0 or 1.
    pub fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.malformed("0 or 1 before this")),
        }
    }

    /// The next `length` bytes, shared with the frame.
    pub fn take(&mut self, length: usize) -> Result<Bytes, Malformed> {
        if length > self.remaining() {
            return Err(self.malformed("more bytes"));
        }
        let taken = self.bytes.slice(self.at..self.at + length);
        self.at += length;
        Ok(taken)
    }

    /// A range of bytes preceded by its length.
    pub fn range(&mut self) -> Result<Bytes, Malformed> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    /// A count of things that take at least `each` bytes: no more than can be there, so nobody reserves for a lie.
    pub fn count(&mut self, each: usize) -> Result<usize, Malformed> {
        let count = self.u32()? as usize;
        if count.saturating_mul(each.max(1)) > self.remaining() {
            return Err(self.malformed("a count of what is here"));
        }
        Ok(count)
    }

    /// All was taken.
    pub fn finish(self) -> Result<(), Malformed> {
        if self.remaining() > 0 { Err(self.malformed("the end")) } else { Ok(()) }
    }
}
