//! Through bytes: messages travel in real frames, records lie in the real journal, and both are damaged as networks
//! and disks damage them.

mod journal;

use bytes::Bytes as Buffer;

use super::medium::{Damage, Medium};
use crate::check::Violation;
use crate::protocol::Protocol;
use crate::random::{mix, scale};
use crate::wire::{Decode, Encode, frame};

pub use journal::ByteJournal;

/// Frames and segments, for protocols whose messages and records can be written.
///
/// A message is encoded when it is sent and decoded when it arrives. A damaged frame must be refused: one that is
/// taken is a violation, and so is a sound one that is not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bytes;

/// A message under way.
#[derive(Clone, Debug)]
pub struct Frame {
    bytes: Buffer,
    /// Whether it is not what was sent.
    damaged: bool,
}

/// The largest payload that is taken.
const PAYLOAD_MAX: usize = 64 << 20;
/// How many bits flip at most. Up to three, wherever they are, are noticed by CRC32C for certain in frames below
/// 256 MiB (Koopman, "32-bit cyclic redundancy codes for Internet applications", DSN 2002).
const FLIPS_MAX: u64 = 3;

impl<P> Medium<P> for Bytes
where
    P: Protocol,
    P::Message: Encode + Decode,
    P::Record: Encode + Decode,
{
    type Parcel = Frame;
    type Journal = ByteJournal<P::Record>;

    fn journal(word: u64) -> Self::Journal {
        ByteJournal::new(word)
    }

    fn pack(message: P::Message) -> Frame {
        // Room for most messages.
        let mut out = Vec::with_capacity(128);
        frame::write(0, 0, &mut out, |payload| message.encode(payload));
        Frame { bytes: out.into(), damaged: false }
    }

    fn open(parcel: Frame) -> Result<P::Message, Damage> {
        let Frame { mut bytes, damaged } = parcel;
        let read = match frame::take_shared(&mut bytes, PAYLOAD_MAX) {
            Ok(Some(frame)) => frame.decode().map_err(|malformed| malformed.to_string()),
            Ok(None) => Err("a frame that says it is longer".to_owned()),
            Err(bad) => Err(bad.to_string()),
        };
        match (damaged, read) {
            (false, Ok(message)) => Ok(message),
            (true, Err(words)) => Err(Damage::Noticed(words)),
            (false, Err(words)) => Err(Violation::new("sound frames are taken", words).into()),
            (true, Ok(message)) => {
                let detail = format!("a damaged frame was taken, for {message:?}");
                Err(Violation::new("damaged frames are refused", detail).into())
            }
        }
    }

    fn copy(parcel: &Frame) -> Frame {
        parcel.clone()
    }

    fn damage(parcel: Frame, word: u64) -> Option<Frame> {
        let mut bytes = parcel.bytes.to_vec();
        let flips = 1 + scale(word, FLIPS_MAX);
        for flip in 1..=flips {
            let bit = scale(mix(word ^ flip), bytes.len() as u64 * 8);
            bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        }
        // The same bit may have flipped back.
        let damaged = parcel.damaged || bytes != parcel.bytes;
        Some(Frame { bytes: bytes.into(), damaged })
    }
}
