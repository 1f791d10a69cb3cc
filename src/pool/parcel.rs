//! A message whose large parts lie in the arena.
//!
//! ```text
//!  kind of the body, whether it lies in the arena, how many parts │ bytes of the body here
//!  mode, head │ generation │ offset │ length                      one a part; first the body, if it is one
//!  the body, if it is here … │ parts that found no room in the arena …
//! ```
//!
//! All of it is whole words. The parts after the body are the buffers that `pickle` left out of it, in its order.

use super::arena::Place;
use super::message::{HEADER, Kind};

/// What becomes of a part when the message is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The reader takes it over.
    Owned,
    /// The reader copies it: the item may be tried again.
    Kept,
    /// The reader looks at it and writes nothing.
    Shared,
    /// It is not in the arena but behind the body.
    Here,
}

impl Mode {
    const fn from_word(word: u64) -> Option<Self> {
        Some(match word & 0xff {
            0 => Self::Owned,
            1 => Self::Kept,
            2 => Self::Shared,
            3 => Self::Here,
            _ => return None,
        })
    }
}

const WORDS: usize = 4;
const IN_ARENA: u64 = 1 << 8;

/// What is to be sent.
#[derive(Debug)]
pub struct Outline<'a> {
    /// What the body is.
    pub kind: Kind,
    /// The body, unless it is the first part.
    pub body: Option<&'a [u8]>,
    /// Where the parts lie. Of one that is here only the length counts.
    pub parts: &'a [(Mode, Place)],
}

impl Outline<'_> {
    /// Appends it, but for the parts that are here: they must follow, each by [`append_part`].
    pub fn append(&self, bytes: &mut Vec<u8>) {
        let mut word = |word: u64| bytes.extend_from_slice(&word.to_le_bytes());
        let in_arena = if self.body.is_none() { IN_ARENA } else { 0 };
        word(self.kind as u64 | in_arena | (self.parts.len() as u64) << 32);
        word(self.body.map_or(0, <[u8]>::len) as u64);
        for (mode, place) in self.parts {
            word(*mode as u64 | u64::from(place.head) << 32);
            word(place.generation);
            word(place.offset as u64);
            word(place.length as u64);
        }
        append_part(bytes, self.body.unwrap_or_default());
    }
}

/// Appends the bytes of a part that is here.
pub fn append_part(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(part);
    bytes.resize(bytes.len().next_multiple_of(HEADER), 0);
}

/// One part of a message that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// It lies in the arena.
    Placed(Mode, Place),
    /// It came with the message.
    Here(&'a [u8]),
}

/// A message that was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Parcel<'a> {
    /// What the body is.
    pub kind: Kind,
    /// The body.
    pub body: Part<'a>,
    /// The buffers.
    pub buffers: Vec<Part<'a>>,
}

impl<'a> Parcel<'a> {
    /// From the body of a message; nothing when no writer of ours wrote it.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let kind = Kind::from_bits(word(bytes, 0)? & 0xff)?;
        let parts = places(bytes)?;
        let mut rest = bytes.get(HEADER * (2 + WORDS * parts.len())..)?;
        let mut here = |length: usize| {
            let found = rest.get(..length)?;
            rest = rest.get(length.checked_next_multiple_of(HEADER)?..)?;
            Some(Part::Here(found))
        };
        let in_arena = word(bytes, 0)? & IN_ARENA != 0;
        let body = if in_arena { None } else { Some(here(usize::try_from(word(bytes, 1)?).ok()?)?) };
        let mut buffers = Vec::with_capacity(parts.len() + 1);
        buffers.extend(body);
        for (mode, place) in parts {
            buffers.push(if mode == Mode::Here { here(place.length)? } else { Part::Placed(mode, place) });
        }
        let body = (!buffers.is_empty()).then(|| buffers.remove(0))?;
        Some(Self { kind, body, buffers })
    }
}

/// Where the parts of a message lie, the body too if it is one.
pub fn places(bytes: &[u8]) -> Option<Vec<(Mode, Place)>> {
    let count = word(bytes, 0)? >> 32;
    if count > (bytes.len() / (HEADER * WORDS)) as u64 {
        return None;
    }
    let place = |part: usize| {
        let at = |offset: usize| word(bytes, 2 + WORDS * part + offset);
        let first = at(0)?;
        let (offset, length) = (usize::try_from(at(2)?).ok()?, usize::try_from(at(3)?).ok()?);
        let place = Place { head: (first >> 32) as u32, generation: at(1)?, offset, length };
        Some((Mode::from_word(first)?, place))
    };
    (0..count as usize).map(place).collect()
}

fn word(bytes: &[u8], index: usize) -> Option<u64> {
    let eight = bytes.get(HEADER * index..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*eight))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(length: usize) -> Place {
        Place { head: 7, generation: 1 << 40, offset: 4096, length }
    }

    #[test]
    fn a_parcel_comes_back_as_it_was() {
        let parts = [
            (Mode::Owned, place(1 << 33)),
            (Mode::Here, Place { head: 0, generation: 0, offset: 0, length: 3 }),
            (Mode::Shared, place(5)),
        ];
        let mut bytes = Vec::new();
        Outline { kind: Kind::Pickle, body: Some(b"pickle"), parts: &parts }.append(&mut bytes);
        append_part(&mut bytes, b"abc");
        let found = Parcel::read(&bytes).expect("a parcel");
        assert_eq!(found.kind, Kind::Pickle);
        assert_eq!(found.body, Part::Here(b"pickle"));
        let shared = Part::Placed(Mode::Shared, place(5));
        assert_eq!(found.buffers, [Part::Placed(Mode::Owned, place(1 << 33)), Part::Here(b"abc"), shared]);
        assert_eq!(places(&bytes).expect("places"), parts);
    }

    #[test]
    fn a_body_may_lie_in_the_arena() {
        let mut bytes = Vec::new();
        Outline { kind: Kind::Bytes, body: None, parts: &[(Mode::Kept, place(9))] }.append(&mut bytes);
        let found = Parcel::read(&bytes).expect("a parcel");
        assert_eq!((found.body, found.buffers.len()), (Part::Placed(Mode::Kept, place(9)), 0));
    }

    proptest! {
        #[test]
        fn nonsense_is_refused_and_nothing_more(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Parcel::read(&bytes);
            let _ = places(&bytes);
        }

        #[test]
        fn a_parcel_that_was_cut_is_refused(cut in 0_usize..72) {
            let mut bytes = Vec::new();
            let parts = [(Mode::Here, Place { head: 0, generation: 0, offset: 0, length: 11 })];
            Outline { kind: Kind::Pickle, body: Some(b"body"), parts: &parts }.append(&mut bytes);
            append_part(&mut bytes, b"eleven more");
            prop_assert_eq!(bytes.len(), 72);
            prop_assert!(Parcel::read(&bytes).is_some());
            prop_assert!(Parcel::read(&bytes[..cut]).is_none());
        }
    }
}
