//! Frames: how a stream of bytes falls into messages.
//!
//! ```text
//!  0        4        8         10     11      12
//!  │ length │ CRC32C │ version │ kind │ flags │ payload … │
//!           └ of all that follows it, and so says `length`
//! ```
//!
//! A peer that sends a bad frame cannot be followed any further: where its next one begins is anybody's guess.

use bytes::{Buf, Bytes, BytesMut};

use super::{Decode, Encode, Malformed, Reader, VERSION, VERSION_MIN};

/// Bytes before the payload.
pub const HEADER: usize = 12;
/// Bytes that are counted and summed besides the payload: version, kind, flags.
const SUMMED: usize = 4;
/// Where the summed part begins.
const SUMMED_AT: usize = HEADER - SUMMED;

/// A message's envelope. What kinds and flags mean is up to the two ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The version of the encoding in which the payload is written.
    pub version: u16,
    /// What the payload is.
    pub kind: u8,
    /// How it is to be taken.
    pub flags: u8,
    /// The message.
    pub payload: Bytes,
}

/// What came is no frame of ours. The rest of the stream is lost with it; close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// More than this end takes.
    #[error("a frame with a payload of {bytes} bytes; at most {limit} are taken")]
    TooLarge {
        /// What the frame says of its payload.
        bytes: usize,
        /// What is taken.
        limit: usize,
    },
    /// Less than a header needs.
    #[error("a frame of {0} bytes has no room for its own header")]
    TooSmall(usize),
    /// The bytes are not those that were sent.
    #[error("a frame's checksum is {found:#010x} instead of {expected:#010x}")]
    Checksum {
        /// What the frame says.
        expected: u32,
        /// What its bytes give.
        found: u32,
    },
    /// Written by a build that this one cannot read.
    #[error("a frame of version {0}; versions {VERSION_MIN} to {VERSION} are read")]
    Version(u16),
    /// Of another version than the two ends have agreed on.
    #[error("a frame of version {found}, where version {agreed} was agreed on")]
    NotAgreed {
        /// What the frame says.
        found: u16,
        /// What the handshake said.
        agreed: u16,
    },
}

/// Appends a frame around what `payload` appends.
pub fn write(kind: u8, flags: u8, out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    write_in(VERSION, kind, flags, out, payload);
}

/// The same in an older version, which is the newest that the other end reads. What `payload` appends must be of that
/// version, too.
pub fn write_in(version: u16, kind: u8, flags: u8, out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; SUMMED_AT]);
    version.encode(out);
    out.extend_from_slice(&[kind, flags]);
    payload(out);
    let (head, summed) = out[start..].split_at_mut(SUMMED_AT);
    debug_assert!(u32::try_from(summed.len()).is_ok(), "a frame is shorter than 4 GiB");
    head[..4].copy_from_slice(&(summed.len() as u32).to_le_bytes());
    head[4..].copy_from_slice(&crc32c::crc32c(summed).to_le_bytes());
}

/// Takes the first frame from `buffer` once it is whole; `None` until then. Payloads share the buffer's memory.
pub fn take(buffer: &mut BytesMut, payload_max: usize) -> Result<Option<Frame>, BadFrame> {
    Ok(inspect(buffer, payload_max)?.map(|length| Frame::unwrap(buffer.split_to(length).freeze())))
}

/// [`take`], from bytes to which nothing will be added.
pub fn take_shared(bytes: &mut Bytes, payload_max: usize) -> Result<Option<Frame>, BadFrame> {
    Ok(inspect(bytes, payload_max)?.map(|length| Frame::unwrap(bytes.split_to(length))))
}

/// How long the first frame is, when it is whole and sound. An oversize one is refused by its first bytes.
fn inspect(bytes: &[u8], payload_max: usize) -> Result<Option<usize>, BadFrame> {
    let Some((length, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    let payload = length.checked_sub(SUMMED).ok_or(BadFrame::TooSmall(length))?;
    if payload > payload_max {
        return Err(BadFrame::TooLarge { bytes: payload, limit: payload_max });
    }
    let Some((expected, rest)) = rest.split_first_chunk() else { return Ok(None) };
    let Some(summed) = rest.get(..length) else { return Ok(None) };
    let (expected, found) = (u32::from_le_bytes(*expected), crc32c::crc32c(summed));
    if expected != found {
        return Err(BadFrame::Checksum { expected, found });
    }
    let version = u16::from_le_bytes([summed[0], summed[1]]);
    if !(VERSION_MIN..=VERSION).contains(&version) {
        return Err(BadFrame::Version(version));
    }
    Ok(Some(SUMMED_AT + length))
}

impl Frame {
    /// A frame of this build's version around `message`.
    pub fn of(kind: u8, flags: u8, message: &impl Encode) -> Self {
        Self { version: VERSION, kind, flags, payload: message.to_bytes() }
    }

    /// Reads the payload.
    pub fn decode<T: Decode>(self) -> Result<T, Malformed> {
        T::from_bytes(self.payload, self.version)
    }

    /// Reads the payload piece by piece.
    pub fn reader(self) -> Reader {
        Reader::new(self.payload, self.version)
    }

    /// The parts of a whole and sound frame.
    fn unwrap(mut bytes: Bytes) -> Self {
        bytes.advance(SUMMED_AT);
        let (version, kind, flags) = (bytes.get_u16_le(), bytes.get_u8(), bytes.get_u8());
        Self { version, kind, flags, payload: bytes }
    }
}
