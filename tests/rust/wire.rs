//! What is written is read back, and nothing else is.

use bytes::{Bytes, BytesMut};
use coterie::id::NodeId;
use coterie::raft::{
    Batch, Beat, Checkpoint, Entries, HardState, MEMBERS_MAX, Membership, Message, Payload, Position, Record,
    Run, Snapshot, SnapshotId,
};
use coterie::time::Instant;
use coterie::wire::frame::{self, BadFrame, Frame};
use coterie::wire::{Decode, Encode, VERSION};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use std::fmt::Debug;
use std::sync::Arc;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_message_comes_back_as_it_went(message in message()) {
        comes_back(&message);
    }

    #[test]
    fn every_record_comes_back_as_it_went(record in record()) {
        comes_back(&record);
    }

    #[test]
    fn nothing_shorter_or_longer_is_a_message(message in message(), extra in 1usize..9, cut in any::<usize>()) {
        let bytes = message.to_bytes();
        let mut longer = bytes.to_vec();
        longer.resize(bytes.len() + extra, 0);
        prop_assert!(Message::from_bytes(longer.into(), VERSION).is_err());
        prop_assert!(Message::from_bytes(bytes.slice(..cut % bytes.len()), VERSION).is_err());
    }

    #[test]
    fn a_damaged_message_is_refused_or_is_another_one(message in message(), at in any::<usize>(), damage in 1u8..) {
        let mut bytes = message.to_bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] ^= damage;
        one_way_to_write_it::<Message>(bytes);
    }

    #[test]
    fn random_bytes_are_refused_or_have_one_meaning(bytes in vec(any::<u8>(), 0..200), tag in 0u8..16) {
        one_way_to_write_it::<Message>(bytes.clone());
        one_way_to_write_it::<Record>(bytes.clone());
        let tagged: Vec<u8> = std::iter::once(tag).chain(bytes).collect();
        one_way_to_write_it::<Message>(tagged.clone());
        one_way_to_write_it::<Record>(tagged);
    }

    #[test]
    fn frames_come_out_of_a_stream_whole_however_it_was_cut(
        payloads in vec(vec(any::<u8>(), 0..100), 1..8), piece in 1usize..40
    ) {
        let mut stream = Vec::new();
        for (kind, payload) in payloads.iter().enumerate() {
            frame::write(kind as u8, 0, &mut stream, |out| out.extend_from_slice(payload));
        }
        let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
        for piece in stream.chunks(piece) {
            buffer.extend_from_slice(piece);
            while let Some(frame) = frame::take(&mut buffer, 100).expect("sound frames") {
                prop_assert_eq!(usize::from(frame.kind), found.len());
                found.push(frame.payload.to_vec());
            }
        }
        prop_assert_eq!(found, payloads);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn a_damaged_frame_never_comes_out(
        payload in vec(any::<u8>(), 0..60), at in any::<usize>(), damage in 1u8..
    ) {
        let mut stream = Vec::new();
        frame::write(1, 0, &mut stream, |out| out.extend_from_slice(&payload));
        let at = at % stream.len();
        stream[at] ^= damage;
        // A length that grew waits for bytes that the stream does not have; all else is an error.
        let taken = frame::take_shared(&mut stream.into(), 1 << 20);
        prop_assert!(!matches!(taken, Ok(Some(_))), "{:?}", taken);
    }

    #[test]
    fn noise_on_the_stream_never_panics(noise in vec(any::<u8>(), 0..100)) {
        let _ = frame::take_shared(&mut noise.into(), 1 << 20);
    }
}

#[test]
fn an_oversize_frame_is_refused_by_its_first_bytes() {
    let mut stream = BytesMut::from(&1_000_004u32.to_le_bytes()[..]);
    let refusal = frame::take(&mut stream, 999_999).expect_err("one byte too many");
    assert_eq!(refusal, BadFrame::TooLarge { bytes: 1_000_000, limit: 999_999 });
    assert_eq!(frame::take(&mut stream, 1_000_000), Ok(None));
    let mut tiny = Bytes::from_static(&[3, 0, 0, 0]);
    assert_eq!(frame::take_shared(&mut tiny, 10), Err(BadFrame::TooSmall(3)));
}

#[test]
fn a_frame_of_a_later_version_says_so() {
    let mut stream = Vec::new();
    frame::write(1, 0, &mut stream, |out| out.push(7));
    let summed = &mut stream[8..];
    summed[..2].copy_from_slice(&(VERSION + 1).to_le_bytes());
    let checksum = crc32c::crc32c(summed);
    stream[4..8].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(frame::take_shared(&mut stream.into(), 10), Err(BadFrame::Version(VERSION + 1)));
}

#[test]
fn a_decoded_append_shares_its_commands_with_the_frame() {
    let append = append(Entries::one(commands(3, 8, &["a command that would be copied otherwise"])));
    let bytes = append.to_bytes();
    let Ok(Message::Append { entries, .. }) = Message::from_bytes(bytes.clone(), VERSION) else {
        panic!("an append comes back")
    };
    let Payload::Commands(batch) = &entries.runs()[0].payload else { panic!("with its commands") };
    assert!(bytes.as_ptr_range().contains(&batch.bytes().as_ptr()));
}

#[test]
fn refuses_entries_that_no_log_holds() {
    let blank = |term, first| Run { term, first, payload: Payload::Blank };
    for (entries, why) in [
        (vec![blank(1, 0)], "index 0"),
        (vec![blank(1, 1), blank(1, 3)], "a gap"),
        (vec![blank(1, 2), blank(1, 2)], "an overlap"),
        (vec![blank(2, 1), blank(1, 2)], "a term that falls"),
        (vec![blank(1, u64::MAX)], "an end beyond the last index"),
        (vec![Run { payload: Payload::Commands(Batch::new([""; 0])), ..blank(1, 1) }], "an empty batch"),
        (
            vec![Run { payload: Payload::Membership(Arc::default()), ..blank(1, 1) }],
            "a membership without voters",
        ),
    ] {
        let bytes = append(entries.into_iter().collect()).to_bytes();
        assert!(Message::from_bytes(bytes, VERSION).is_err(), "{why}");
    }
}

#[test]
fn refuses_a_batch_whose_count_is_not_that_of_its_commands() {
    let sound = Batch::new(["one", "two"]).to_bytes();
    assert!(Batch::from_bytes(sound.slice(8..), 2).is_some());
    for count in [0u8, 1, 3, 255] {
        let mut bytes = sound.to_vec();
        bytes[0] = count;
        assert!(<Batch as Decode>::from_bytes(bytes.into(), VERSION).is_err(), "{count}");
    }
}

#[test]
fn refuses_memberships_out_of_order_doubled_or_endless() {
    let write = |voters: &[u64], outgoing: &[u64], learners: &[u64]| {
        let ids = |list: &[u64]| list.iter().copied().map(NodeId).collect::<Vec<_>>();
        let mut out = Vec::new();
        voters.iter().map(|id| (NodeId(*id), 1u8)).collect::<Vec<_>>().encode(&mut out);
        ids(outgoing).encode(&mut out);
        ids(learners).encode(&mut out);
        Membership::from_bytes(out.into(), VERSION)
    };
    let all: Vec<u64> = (1..=MEMBERS_MAX as u64).collect();
    let one_more: Vec<u64> = (0..=MEMBERS_MAX as u64).collect();
    assert!(write(&[1, 2], &[2, 3], &[3]).is_ok());
    assert!(write(&all, &all, &[]).is_ok());
    for (voters, outgoing, learners) in [
        (&[2, 1][..], &[][..], &[][..]),
        (&[1, 1], &[], &[]),
        (&[1], &[3, 2], &[]),
        (&[1], &[2, 2], &[]),
        (&[1], &[], &[3, 2]),
        (&[1], &[], &[2, 2]),
        (&[1], &[], &[1]),
        (&one_more, &[], &[]),
        (&[1], &one_more, &[]),
        (&all, &[], &[5000]),
    ] {
        assert!(write(voters, outgoing, learners).is_err(), "{voters:?} {outgoing:?} {learners:?}");
    }
}

#[test]
fn a_count_beyond_the_input_reserves_nothing() {
    let bytes = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 7, 8]);
    let refusal = Vec::<NodeId>::from_bytes(bytes, VERSION).expect_err("four billion ids in eight bytes");
    assert_eq!(refusal.what, "a count of what is here");
}

/// Written, read and written again it is the same, by itself and in a frame.
fn comes_back<T: Encode + Decode + PartialEq + Debug>(value: &T) {
    let bytes = value.to_bytes();
    assert_eq!(&T::from_bytes(bytes.clone(), VERSION).expect("what was written is read"), value);
    let mut stream = Vec::new();
    frame::write(3, 1, &mut stream, |out| value.encode(out));
    let framed = frame::take_shared(&mut stream.into(), usize::MAX).expect("sound").expect("whole");
    assert_eq!(framed, Frame { version: VERSION, kind: 3, flags: 1, payload: bytes });
    assert_eq!(&framed.decode::<T>().expect("what was framed is read"), value);
}

/// Either no value at all, or one that is written just so.
fn one_way_to_write_it<T: Encode + Decode>(bytes: Vec<u8>) {
    let bytes = Bytes::from(bytes);
    if let Ok(value) = T::from_bytes(bytes.clone(), VERSION) {
        assert_eq!(value.to_bytes(), bytes);
    }
}

fn append(entries: Entries) -> Message {
    Message::Append {
        term: 3,
        previous: Position { term: 2, index: 7 },
        commit: 6,
        matched: 5,
        joined: 1,
        beat: Some(Beat { round: 4, sent: Instant::from_nanos(1_000_000) }),
        entries,
    }
}

fn commands(term: u64, first: u64, commands: &[&str]) -> Run {
    Run { term, first, payload: Payload::Commands(Batch::new(commands)) }
}

fn position() -> impl Strategy<Value = Position> {
    (any::<u64>(), any::<u64>()).prop_map(|(term, index)| Position { term, index })
}

fn beat() -> impl Strategy<Value = Beat> {
    (any::<u64>(), any::<u64>()).prop_map(|(round, sent)| Beat { round, sent: Instant::from_nanos(sent) })
}

fn node() -> impl Strategy<Value = NodeId> {
    prop_oneof![1u64..9, any::<u64>()].prop_map(NodeId)
}

fn membership() -> impl Strategy<Value = Arc<Membership>> {
    (btree_map(node(), any::<u8>(), 1..6), btree_set(node(), 0..6), btree_set(node(), 0..6))
        .prop_map(|(voters, outgoing, learners)| Arc::new(Membership::joint(voters, outgoing, learners)))
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    (position(), node(), (any::<u64>(), membership()), any::<u64>()).prop_map(
        |(last, by, membership, length)| Snapshot { id: SnapshotId { last, by }, membership, length },
    )
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        Just(Payload::Blank),
        membership().prop_map(Payload::Membership),
        vec(vec(any::<u8>(), 0..30), 1..6).prop_map(|commands| Payload::Commands(Batch::new(commands))),
    ]
}

/// Runs without a gap, in terms that do not fall.
fn entries() -> impl Strategy<Value = Entries> {
    (1u64..1 << 40, 1u64..1 << 40, vec((payload(), 0u64..3), 0..4)).prop_map(
        |(mut term, mut first, payloads)| {
            let run = |(payload, later)| {
                term += later;
                let run = Run { term, first, payload };
                first += run.len();
                run
            };
            payloads.into_iter().map(run).collect()
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let term = any::<u64>;
    let data = || vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let name = || (position(), node()).prop_map(|(last, by)| SnapshotId { last, by });
    prop_oneof![
        (term(), position()).prop_map(|(term, last)| Message::RequestPreVote { term, last }),
        (term(), any::<bool>()).prop_map(|(term, granted)| Message::PreVote { term, granted }),
        (term(), position(), any::<Option<(u64, u64)>>())
            .prop_map(|(term, last, transfer)| Message::RequestVote { term, last, transfer }),
        (term(), any::<bool>()).prop_map(|(term, granted)| Message::Vote { term, granted }),
        (term(), position(), any::<[u64; 3]>(), proptest::option::of(beat()), entries()).prop_map(
            |(term, previous, [commit, matched, joined], beat, entries)| Message::Append {
                term,
                previous,
                commit,
                matched,
                joined,
                beat,
                entries
            }
        ),
        any::<[u64; 3]>().prop_map(|[term, matched, joined]| Message::Appended { term, matched, joined }),
        (any::<[u64; 3]>(), position(), proptest::option::of(beat())).prop_map(
            |([term, previous, joined], hint, beat)| Message::Rejected { term, previous, hint, joined, beat }
        ),
        (term(), beat(), any::<bool>()).prop_map(|(term, beat, lease)| Message::Heard { term, beat, lease }),
        (any::<[u64; 3]>(), snapshot(), data()).prop_map(|([term, offset, joined], snapshot, data)| {
            Message::Install { term, snapshot: snapshot.into(), offset, data, joined }
        }),
        (any::<[u64; 3]>(), name()).prop_map(|([term, offset, joined], snapshot)| Message::Installed {
            term,
            snapshot,
            offset,
            joined
        }),
        any::<[u64; 2]>().prop_map(|[term, round]| Message::TimeoutNow { term, round }),
        any::<[u64; 2]>().prop_map(|[term, token]| Message::RequestRead { term, token }),
        any::<[u64; 3]>().prop_map(|[term, token, index]| Message::Read { term, token, index }),
        any::<[u64; 2]>().prop_map(|[term, last]| Message::Stored { term, last }),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    let hard =
        || (any::<u64>(), proptest::option::of(node())).prop_map(|(term, vote)| HardState { term, vote });
    let checkpoint = (
        any::<u64>(),
        node(),
        hard(),
        proptest::option::of(snapshot()),
        position(),
        (any::<u64>(), membership()),
        entries(),
    )
        .prop_map(|(cluster, id, hard, snapshot, base, membership, entries)| Checkpoint {
            cluster,
            id,
            hard,
            snapshot,
            base,
            membership,
            entries,
        });
    prop_oneof![
        (any::<u64>(), node()).prop_map(|(cluster, id)| Record::Identity { cluster, id }),
        hard().prop_map(Record::HardState),
        entries().prop_map(Record::Append),
        checkpoint.prop_map(|checkpoint| Record::Checkpoint(Box::new(checkpoint))),
    ]
}
