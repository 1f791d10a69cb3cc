//! What travels and what is kept, as bytes: frames, and the traits by which each protocol writes its own messages
//! and records.
//!
//! Integers are little-endian and of fixed width; a range of bytes is preceded by its length (u32). Decoding slices
//! the frame instead of copying, bounds every length by what is there, and never panics. There is one way to write
//! a value: what decodes and is encoded again gives the same bytes.

use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

use crate::id::{NodeId, RequestId};

pub mod frame;
mod macros;
pub mod value;

pub(crate) use macros::{structures, variants};

/// The version of the encoding that this build writes. The feature raises it, as the next release would.
pub const VERSION: u16 = if cfg!(feature = "raised-version") { 2 } else { 1 };
/// The oldest version that this build still reads.
pub const VERSION_MIN: u16 = 1;

/// Writes itself.
pub trait Encode {
    /// Appends its bytes to `out`.
    fn encode(&self, out: &mut Vec<u8>);

    /// Its bytes alone.
    fn to_bytes(&self) -> Bytes {
        // Room for most messages, so that a short one is not moved while it grows.
        let mut out = Vec::with_capacity(128);
        self.encode(&mut out);
        out.into()
    }
}

/// Reads itself back.
pub trait Decode: Sized {
    /// The fewest bytes that a value takes: bounds how many a given number of bytes can hold.
    const SIZE_MIN: usize;

    /// Takes its bytes from `input`.
    fn decode(input: &mut Reader) -> Result<Self, Malformed>;

    /// Reads `bytes`, all of them, which were written by this version of the encoding.
    fn from_bytes(bytes: Bytes, version: u16) -> Result<Self, Malformed> {
        let mut input = Reader::new(bytes, version);
        let value = Self::decode(&mut input)?;
        input.finish()?;
        Ok(value)
    }
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

impl Malformed {
    /// What is expected where a version stands that this build does not read: nothing is damaged, another build wrote it.
    pub const UNKNOWN_VERSION: &str = "a version that this build reads before this";
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

    /// Reads bytes that begin with the version in which they were written, if it is one that this build reads.
    pub fn versioned(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Self::new(bytes, VERSION);
        reader.version = reader.u16()?;
        if (VERSION_MIN..=VERSION).contains(&reader.version) {
            Ok(reader)
        } else {
            Err(reader.malformed(Malformed::UNKNOWN_VERSION))
        }
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

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let Some(found) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<N>) else {
            return Err(self.malformed("more bytes"));
        };
        self.at += N;
        Ok(*found)
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_le_bytes)
    }

    /// Two bytes.
    #[inline]
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes.
    #[inline]
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// A byte that is 0 or 1.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.malformed("0 or 1 before this")),
        }
    }

    /// The next `length` bytes, shared with the frame.
    #[inline]
    pub fn take(&mut self, length: usize) -> Result<Bytes, Malformed> {
        if length > self.remaining() {
            return Err(self.malformed("more bytes"));
        }
        let taken = self.bytes.slice(self.at..self.at + length);
        self.at += length;
        Ok(taken)
    }

    /// A range of bytes preceded by its length.
    #[inline]
    pub fn range(&mut self) -> Result<Bytes, Malformed> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    /// A count of things that take at least `each` bytes: no more than can be there, so nobody reserves for a lie.
    #[inline]
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

/// Appends a range of bytes, preceded by its length: what [`Reader::range`] takes. A range is shorter than 4 GiB, which
/// the bounds on entries, chunks and records see to.
#[inline]
pub fn write_range(range: &[u8], out: &mut Vec<u8>) {
    write_count(range.len(), out);
    out.extend_from_slice(range);
}

/// Appends a count: what [`Reader::count`] takes.
#[inline]
pub fn write_count(count: usize, out: &mut Vec<u8>) {
    debug_assert!(u32::try_from(count).is_ok(), "a count of {count} has no encoding");
    (count as u32).encode(out);
}

macro_rules! integers {
    ($($integer:ident),*) => {$(
        impl Encode for $integer {
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }

        impl Decode for $integer {
            const SIZE_MIN: usize = size_of::<Self>();

            #[inline]
            fn decode(input: &mut Reader) -> Result<Self, Malformed> {
                input.$integer()
            }
        }
    )*};
}

integers!(u8, u16, u32, u64);

impl Encode for bool {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Decode for bool {
    const SIZE_MIN: usize = 1;

    #[inline]
    fn decode(input: &mut Reader) -> Result<Self, Malformed> {
        input.bool()
    }
}

macro_rules! identities {
    ($($identity:ident),*) => {$(
        impl Encode for $identity {
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                self.0.encode(out);
            }
        }

        impl Decode for $identity {
            const SIZE_MIN: usize = u64::SIZE_MIN;

            #[inline]
            fn decode(input: &mut Reader) -> Result<Self, Malformed> {
                input.u64().map(Self)
            }
        }
    )*};
}

identities!(NodeId, RequestId);

/// In nanoseconds. What is longer than 584 years is taken to be that long.
impl Encode for Duration {
    fn encode(&self, out: &mut Vec<u8>) {
        u64::try_from(self.as_nanos()).unwrap_or(u64::MAX).encode(out);
    }
}

impl Decode for Duration {
    const SIZE_MIN: usize = u64::SIZE_MIN;

    fn decode(input: &mut Reader) -> Result<Self, Malformed> {
        input.u64().map(Self::from_nanos)
    }
}

impl Encode for Bytes {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        write_range(self, out);
    }
}

impl Decode for Bytes {
    const SIZE_MIN: usize = u32::SIZE_MIN;

    #[inline]
    fn decode(input: &mut Reader) -> Result<Self, Malformed> {
        input.range()
    }
}

impl Encode for str {
    fn encode(&self, out: &mut Vec<u8>) {
        write_range(self.as_bytes(), out);
    }
}

impl Encode for String {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_str().encode(out);
    }
}

impl Decode for String {
    const SIZE_MIN: usize = u32::SIZE_MIN;

    fn decode(input: &mut Reader) -> Result<Self, Malformed> {
        let range = input.range()?;
        let text = std::str::from_utf8(&range).map_err(|_| input.malformed("UTF-8 before this"))?;
        Ok(text.to_owned())
    }
}

impl<T: Encode> Encode for Option<T> {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.is_some().encode(out);
        if let Some(value) = self {
            value.encode(out);
        }
    }
}

impl<T: Decode> Decode for Option<T> {
    const SIZE_MIN: usize = bool::SIZE_MIN;

    #[inline]
    fn decode(input: &mut Reader) -> Result<Self, Malformed> {
        if input.bool()? { T::decode(input).map(Some) } else { Ok(None) }
    }
}

impl<T: Encode> Encode for Arc<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_ref().encode(out);
    }
}

impl<T: Decode> Decode for Arc<T> {
    const SIZE_MIN: usize = T::SIZE_MIN;

    fn decode(input: &mut Reader) -> Result<Self, Malformed> {
        T::decode(input).map(Self::new)
    }
}

impl<T: Encode> Encode for Box<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_ref().encode(out);
    }
}

impl<T: Decode> Decode for Box<T> {
    const SIZE_MIN: usize = T::SIZE_MIN;

    fn decode(input: &mut Reader) -> Result<Self, Malformed> {
        T::decode(input).map(Self::new)
    }
}

impl<T: Encode> Encode for [T] {
    fn encode(&self, out: &mut Vec<u8>) {
        write_count(self.len(), out);
        for value in self {
            value.encode(out);
        }
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_slice().encode(out);
    }
}

impl<T: Decode> Decode for Vec<T> {
    const SIZE_MIN: usize = u32::SIZE_MIN;

    fn decode(input: &mut Reader) -> Result<Self, Malformed> {
        let count = input.count(T::SIZE_MIN)?;
        // A value may be larger in memory than on the wire: what is reserved ahead stays below what arrived.
        let mut values = Self::with_capacity(count.min(input.remaining() / size_of::<T>().max(1)));
        for _ in 0..count {
            values.push(T::decode(input)?);
        }
        Ok(values)
    }
}

impl<A: Encode, B: Encode> Encode for (A, B) {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }
}

impl<A: Decode, B: Decode> Decode for (A, B) {
    const SIZE_MIN: usize = A::SIZE_MIN + B::SIZE_MIN;

    #[inline]
    fn decode(input: &mut Reader) -> Result<Self, Malformed> {
        Ok((A::decode(input)?, B::decode(input)?))
    }
}
