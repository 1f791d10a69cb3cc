//! The frame parser: a stream says the same however it is cut, and nothing is taken that was not written.

use bolero::TypeGenerator;
use bytes::{Bytes, BytesMut};
use coterie::wire::frame::{self, BadFrame, Frame};
use fuzz::{Edit, bounded, spoil};

const PAYLOAD_MAX: usize = 200;

#[derive(Clone, Debug, TypeGenerator)]
struct Input {
    #[generator(bolero::produce::<Vec<Part>>().with().len(0usize..5))]
    parts: Vec<Part>,
    #[generator(bolero::produce::<Vec<Edit>>().with().len(0usize..3))]
    edits: Vec<Edit>,
    /// Where the stream is cut.
    #[generator(bolero::produce::<Vec<u8>>().with().len(1usize..8))]
    pieces: Vec<u8>,
}

#[derive(Clone, Debug, TypeGenerator)]
enum Part {
    /// A frame as it is written.
    Sound(u8, u8, #[generator(bolero::produce::<Vec<u8>>().with().len(0usize..220))] Vec<u8>),
    /// One whose summed part is anything, the version first.
    Summed(#[generator(bolero::produce::<Vec<u8>>().with().len(0usize..40))] Vec<u8>),
    /// Noise.
    Noise(#[generator(bolero::produce::<Vec<u8>>().with().len(0usize..20))] Vec<u8>),
}

impl Part {
    fn write(&self, stream: &mut Vec<u8>) {
        match self {
            Self::Sound(kind, flags, payload) => {
                frame::write(*kind, *flags, stream, |out| out.extend_from_slice(payload));
            }
            Self::Summed(summed) => {
                stream.extend_from_slice(&(summed.len() as u32).to_le_bytes());
                stream.extend_from_slice(&crc32c::crc32c(summed).to_le_bytes());
                stream.extend_from_slice(summed);
            }
            Self::Noise(bytes) => stream.extend_from_slice(bytes),
        }
    }
}

#[test]
fn frames_of_a_stream() {
    bolero::check!().with_type::<Input>().for_each(|input| {
        let mut stream = Vec::new();
        for part in &input.parts {
            part.write(&mut stream);
        }
        spoil(&mut stream, &input.edits);
        let (frames, end) = bounded(stream.len(), || at_once(&stream));
        assert_eq!(in_pieces(&stream, &input.pieces), (frames.clone(), end));
        let mut written = Vec::new();
        for frame in &frames {
            assert!(frame.payload.len() <= PAYLOAD_MAX);
            frame::write(frame.kind, frame.flags, &mut written, |out| out.extend_from_slice(&frame.payload));
        }
        assert!(stream.starts_with(&written), "{frames:?}");
    });
}

/// The frames up to the first bad one, and what is bad about it.
type Taken = (Vec<Frame>, Option<BadFrame>);

fn at_once(stream: &[u8]) -> Taken {
    let mut rest = Bytes::copy_from_slice(stream);
    let mut frames = Vec::new();
    loop {
        match frame::take_shared(&mut rest, PAYLOAD_MAX) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, None),
            Err(bad) => return (frames, Some(bad)),
        }
    }
}

fn in_pieces(stream: &[u8], pieces: &[u8]) -> Taken {
    let (mut buffer, mut rest, mut frames) = (BytesMut::new(), stream, Vec::new());
    for piece in pieces.iter().cycle() {
        let (now, later) = rest.split_at((1 + usize::from(*piece)).min(rest.len()));
        buffer.extend_from_slice(now);
        rest = later;
        loop {
            match frame::take(&mut buffer, PAYLOAD_MAX) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(bad) => return (frames, Some(bad)),
            }
        }
        if rest.is_empty() {
            break;
        }
    }
    (frames, None)
}
