//! A ring of bytes with one writer and one reader, in memory that they share.
//!
//! Positions only grow; the place of a position is its remainder by the size. A message lies in one piece, so a writer
//! that meets the end of the ring leaves a pad there and goes on at its beginning. The ring keeps no positions of
//! its own: the two ends publish theirs (see `channel.rs`), and each end hands in what it knows of the other's.

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use super::message::{HEADER, Header, Kind, Number, span};

/// The bytes; a power of two.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    base: NonNull<u8>,
    size: usize,
}

// SAFETY: it is a pointer into memory whose owner lives longer; the two ends never touch the same bytes at a time.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

impl Ring {
    /// A ring in the `size` bytes at `base`.
    ///
    /// # Safety
    /// The bytes must be valid for reads and writes as long as the ring is used, aligned to 8, and touched by nobody
    /// but this ring's two ends.
    pub unsafe fn new(base: NonNull<u8>, size: usize) -> Self {
        assert!(size.is_power_of_two() && size >= 64 && base.as_ptr().addr().is_multiple_of(HEADER));
        Self { base, size }
    }

    /// The largest body of one message; what is larger travels in fragments.
    pub const fn body_max(&self) -> usize {
        self.size / 4 - HEADER
    }

    /// Bytes that may be written at `tail` in one piece.
    pub fn room(&self, tail: u64, head: u64) -> usize {
        self.free(tail, head).min(self.until_end(tail))
    }

    /// Where a message of `span` bytes may be written, past a pad if it must, or nothing when there is no room.
    #[inline]
    pub fn reserve(&self, tail: u64, head: u64, span: usize) -> Option<u64> {
        let (free, until_end) = (self.free(tail, head), self.until_end(tail));
        if span <= until_end {
            return (span <= free).then_some(tail);
        }
        if until_end + span > free {
            return None;
        }
        self.put_header(tail, Header::new(Kind::Pad, 0, until_end - HEADER));
        Some(tail + until_end as u64)
    }

    /// Writes whole words, which must not reach past the ring's end.
    pub fn put(&self, at: u64, bytes: &[u8]) {
        assert!(bytes.len() <= self.until_end(at));
        // SAFETY: the range lies inside the ring, in the part that is the writer's.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.place(at), bytes.len()) };
    }

    /// Writes a message at a place that [`Ring::reserve`] gave; returns the position after it.
    pub fn put_message(&self, at: u64, header: Header, body: &[u8]) -> u64 {
        self.put_header(at, header);
        self.put(at + HEADER as u64, body);
        at + span(body.len()) as u64
    }

    /// The same for a number.
    #[inline]
    pub fn put_number(&self, at: u64, number: Number) -> u64 {
        let header = number.header(0);
        assert!(header.span() <= self.until_end(at));
        self.put_header(at, header);
        if header.length > 0 {
            // SAFETY: the second word of a message that fits, as was just checked.
            unsafe { self.word(at).add(1).write(number.bits) };
        }
        at + header.span() as u64
    }

    /// The message at `at`, published as for [`Ring::message`], if it is a number: also its function, and its end.
    #[inline]
    pub fn number(&self, at: u64) -> Option<(Number, u32, u64)> {
        // SAFETY: as in `message`.
        let word = unsafe { self.word(at).read() };
        let (kind, span) = Number::kind_of(word)?;
        if span > self.until_end(at) {
            return None;
        }
        // SAFETY: as above; it has a second word unless it is None.
        let bits = if span > HEADER { unsafe { self.word(at).add(1).read() } } else { 0 };
        Some((Number { kind, bits }, (word >> 46) as u32, at + span as u64))
    }

    #[inline]
    fn put_header(&self, at: u64, header: Header) {
        // SAFETY: positions are multiples of 8, so the word is aligned and inside the ring.
        unsafe { self.word(at).write(header.encode()) };
    }

    /// The message at `at`, of which the writer has published all bytes: header and body. Nothing when the words are
    /// not what a writer of ours writes.
    pub fn message(&self, at: u64) -> Option<(Header, &[u8])> {
        // SAFETY: as in `put_header`; the reader is entitled to what was published.
        let header = Header::decode(unsafe { self.word(at).read() })?;
        if header.span() > self.until_end(at) {
            return None;
        }
        // SAFETY: inside the ring, and the writer leaves it alone until the reader has moved on.
        let body = unsafe { std::slice::from_raw_parts(self.place(at).add(HEADER), header.length) };
        Some((header, body))
    }

    /// The position of the `count`th message after the one at `from`, which lie in one piece.
    pub fn skip(&self, from: u64, count: u64) -> u64 {
        (0..count).fold(from, |at, _| at + self.message(at).map_or(0, |(header, _)| header.span() as u64))
    }

    /// The bytes of several messages in one piece.
    pub fn bytes(&self, from: u64, to: u64) -> &[u8] {
        let length = (to - from) as usize;
        assert!(length <= self.until_end(from));
        // SAFETY: inside the ring, and published.
        unsafe { std::slice::from_raw_parts(self.place(from), length) }
    }

    #[inline]
    fn free(&self, tail: u64, head: u64) -> usize {
        // A reader that died half-way, or that lies, must not make us write out of bounds: `put` checks again.
        self.size.saturating_sub(tail.saturating_sub(head) as usize)
    }

    /// Bytes from a position to the ring's end.
    #[inline]
    pub fn until_end(&self, at: u64) -> usize {
        self.size - (at as usize & (self.size - 1))
    }

    /// Aligned, for positions and the base are multiples of 8.
    #[inline]
    fn word(&self, at: u64) -> *mut u64 {
        self.place(at).cast()
    }

    #[inline]
    fn place(&self, at: u64) -> *mut u8 {
        // SAFETY: the remainder is below the size.
        unsafe { self.base.as_ptr().add(at as usize & (self.size - 1)) }
    }
}

/// Writes one message in as many fragments as its body needs.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// What each fragment says.
    pub header: Header,
    /// Bytes that were written.
    pub sent: usize,
}

impl Stream {
    /// Nothing written yet.
    pub const fn new(kind: Kind, function: u32, length: usize) -> Self {
        Self { header: Header::new(kind, function, length), sent: 0 }
    }

    /// Writes what there is room for; says whether all is written. `tail` is where the writer stands.
    pub fn push(&mut self, ring: &Ring, tail: &mut u64, head: u64, body: &[u8]) -> bool {
        loop {
            let left = &body[self.sent..];
            let part = &left[..left.len().min(ring.body_max())];
            let Some(at) = ring.reserve(*tail, head, span(part.len())) else { return false };
            let more = part.len() < left.len();
            let header = Header { more, length: part.len(), ..self.header };
            *tail = ring.put_message(at, header, part);
            self.sent += part.len();
            if !more {
                return true;
            }
        }
    }
}

/// Reads messages and puts fragments together again.
#[derive(Debug, Default)]
pub struct Reader {
    /// Where the reader stands.
    pub head: u64,
    parts: Vec<u8>,
    /// The parts are a message that was found: the next one begins anew.
    is_whole: bool,
}

/// What a reader finds.
#[derive(Debug)]
pub enum Found<'a> {
    /// A whole message.
    Message(Header, &'a [u8]),
    /// Nothing more is published.
    Nothing,
    /// The bytes are not what a writer of ours writes.
    Nonsense,
}

impl Reader {
    /// The same for a number that is the next message; nothing when something else is.
    #[inline]
    pub fn next_number(&mut self, ring: &Ring, tail: u64) -> Option<(Number, u32)> {
        if !self.parts.is_empty() || self.head >= tail {
            return None;
        }
        let (number, function, end) = ring.number(self.head)?;
        self.head = end;
        Some((number, function))
    }

    /// The next message before `tail`. What is found is read: the reader stands behind it.
    pub fn next<'a>(&'a mut self, ring: &'a Ring, tail: u64) -> Found<'a> {
        if self.is_whole {
            self.is_whole = false;
            self.parts.clear();
            self.parts.shrink_to(1 << 20); // a large message shall not be paid for ever after
        }
        loop {
            if self.head >= tail {
                return Found::Nothing;
            }
            let Some((header, body)) = ring.message(self.head) else { return Found::Nonsense };
            if header.kind == Kind::Pad {
                self.head += header.span() as u64;
                continue;
            }
            if self.parts.is_empty() && !header.more {
                self.head += header.span() as u64;
                return Found::Message(header, body);
            }
            self.parts.extend_from_slice(body);
            self.head += header.span() as u64;
            if header.more {
                continue;
            }
            self.is_whole = true;
            let header = Header { length: self.parts.len(), ..header };
            return Found::Message(header, &self.parts);
        }
    }

    /// Whether fragments of an unfinished message wait here.
    pub fn is_inside_message(&self) -> bool {
        !self.parts.is_empty() && !self.is_whole
    }
}

/// Publishes what was written before, or that what was read may be overwritten.
#[inline]
pub fn publish(word: &AtomicU64, position: u64) {
    // Release: whoever sees the position sees the bytes before it.
    word.store(position, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with_ring<R>(size: usize, body: impl FnOnce(Ring) -> R) -> R {
        let mut memory = vec![0_u64; size / 8];
        let base = NonNull::new(memory.as_mut_ptr().cast()).expect("memory");
        // SAFETY: the memory outlives the ring, which stays in `body`.
        body(unsafe { Ring::new(base, size) })
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_in_order(
            lengths in proptest::collection::vec(0_usize..400, 1..60),
            eagerness in 1_usize..5,
        ) {
            with_ring(256, |ring| {
                let bodies: Vec<Vec<u8>> =
                    lengths.iter().enumerate().map(|(place, &length)| vec![place as u8; length]).collect();
                let (mut tail, mut reader, mut heard) = (0, Reader::default(), Vec::new());
                for (place, body) in bodies.iter().enumerate() {
                    let mut stream = Stream::new(Kind::Bytes, place as u32, body.len());
                    while !stream.push(&ring, &mut tail, reader.head, body) {
                        hear(&ring, &mut reader, tail, eagerness, &mut heard);
                    }
                }
                hear(&ring, &mut reader, tail, usize::MAX, &mut heard);
                let expected: Vec<(u32, Vec<u8>)> =
                    bodies.into_iter().enumerate().map(|(place, body)| (place as u32, body)).collect();
                prop_assert_eq!(heard, expected);
                Ok(())
            })?;
        }
    }

    fn hear(ring: &Ring, reader: &mut Reader, tail: u64, most: usize, heard: &mut Vec<(u32, Vec<u8>)>) {
        for _ in 0..most {
            match reader.next(ring, tail) {
                Found::Message(header, body) => heard.push((header.function, body.to_vec())),
                Found::Nothing => return,
                Found::Nonsense => panic!("nonsense at {}", reader.head),
            }
        }
    }

    #[test]
    fn a_full_ring_takes_nothing_more() {
        with_ring(256, |ring| {
            assert_eq!(ring.reserve(256, 0, 8), None);
            assert_eq!(ring.reserve(256, 8, 8), Some(256));
            assert_eq!(ring.reserve(248, 8, 16), None); // the pad takes the last free word
        });
    }

    #[test]
    fn a_header_that_reaches_past_the_end_is_nonsense() {
        with_ring(256, |ring| {
            ring.put_header(248, Header::new(Kind::Bytes, 0, 100));
            assert!(matches!(Reader { head: 248, ..Reader::default() }.next(&ring, 256), Found::Nonsense));
        });
    }
}
