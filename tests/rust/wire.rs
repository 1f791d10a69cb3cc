//! What is written is read back, and nothing else is.

use bytes::{Bytes, BytesMut};
use coterie::id::NodeId;
use coterie::raft::{
    Batch, Beat, Checkpoint, Entries, HardState, MEMBERS_MAX, Membership, Message, Payload, Position, Record,
    Run, Snapshot, SnapshotId,
};
use coterie::time::Instant;
use coterie::wal::{Memory, Operation, Settings, Wal};
use coterie::wire::frame::{self, BadFrame, Frame};
use coterie::wire::value::{DEPTH_MAX, Integer, Value};
use coterie::wire::{Decode, Encode, VERSION};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use std::collections::BTreeMap;
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
    fn every_value_comes_back_as_it_went(value in value()) {
        comes_back(&value);
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
    fn a_damaged_record_or_value_is_refused_or_is_another_one(
        record in record(), value in value(), at in any::<usize>(), damage in 1u8..
    ) {
        for mut bytes in [record.to_bytes().to_vec(), value.to_bytes().to_vec()] {
            let at = at % bytes.len();
            bytes[at] ^= damage;
            one_way_to_write_it::<Record>(bytes.clone());
            one_way_to_write_it::<Value>(bytes);
        }
    }

    #[test]
    fn random_bytes_are_refused_or_have_one_meaning(bytes in vec(any::<u8>(), 0..200), tag in 0u8..16) {
        one_way_to_write_it::<Message>(bytes.clone());
        one_way_to_write_it::<Record>(bytes.clone());
        one_way_to_write_it::<Value>(bytes.clone());
        let tagged: Vec<u8> = std::iter::once(tag).chain(bytes).collect();
        one_way_to_write_it::<Message>(tagged.clone());
        one_way_to_write_it::<Record>(tagged.clone());
        one_way_to_write_it::<Value>(tagged);
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

#[test]
fn values_may_be_nested_so_deep_and_no_deeper() {
    let nested = |levels: usize| (1..levels).fold(Value::None, |inner, _| Value::List(vec![inner]));
    assert_eq!(nested(DEPTH_MAX).depth(), DEPTH_MAX);
    comes_back(&nested(DEPTH_MAX));
    let refusal =
        Value::from_bytes(nested(DEPTH_MAX + 1).to_bytes(), VERSION).expect_err("one level too many");
    assert_eq!(refusal.what, "a value less deep");
    // A megabyte of opening brackets is refused as fast.
    let brackets: Vec<u8> = [8, 1, 0, 0, 0].repeat(200_000);
    assert!(Value::from_bytes(brackets.into(), VERSION).is_err());
}

#[test]
fn whole_numbers_have_one_form() {
    for number in [0, 1, -1, 255, 256, -256, i64::MAX, i64::MIN] {
        let integer = Integer::from(number);
        assert_eq!(integer.to_i64(), Some(number));
        assert_eq!(integer.to_string(), number.to_string());
    }
    assert_eq!(Integer::new(true, vec![0, 0]), Integer::from(0i64));
    assert_eq!(Integer::from(u64::MAX).to_i64(), None);
    for (bytes, why) in [
        (&[3, 1, 0, 0, 0, 0][..], "a leading zero"),
        (&[4, 0, 0, 0, 0], "a negative zero"),
        (&[4, 2, 0, 0, 0, 1, 0], "a leading zero of a negative number"),
    ] {
        assert!(Value::from_bytes(Bytes::copy_from_slice(bytes), VERSION).is_err(), "{why}");
    }
}

#[test]
fn values_print_as_python_prints_them() {
    for (value, printed) in [
        (Value::None, "None"),
        (Value::Bool(true), "True"),
        (Value::int(-7), "-7"),
        (Value::Int(Integer::new(false, vec![0xff; 17])), "0xffffffffffffffffffffffffffffffffff"),
        (Value::float(1.0), "1.0"),
        (Value::float(-0.0), "-0.0"),
        (Value::float(1e16), "1e+16"),
        (Value::float(1.5e-7), "1.5e-07"),
        (Value::float(1e300), "1e+300"),
        (Value::float(f64::NAN), "nan"),
        (Value::Str("it's".to_owned()), "\"it's\""),
        (Value::Str("a\n\"'".to_owned()), "'a\\n\"\\''"),
        (Value::Bytes(Bytes::from_static(b"\x00a\"")), "b'\\x00a\"'"),
        (Value::Tuple(vec![Value::int(1)]), "(1,)"),
        (
            Value::Dict(vec![(Value::int(1), Value::List(vec![Value::None, Value::None]))]),
            "{1: [None, None]}",
        ),
        (
            Value::Record { name: "Vote".to_owned(), fields: vec![("term".to_owned(), Value::int(3))] },
            "Vote(term=3)",
        ),
    ] {
        assert_eq!(value.to_string(), printed);
    }
}

#[test]
fn version_1_is_written_as_it_always_was() {
    let pinned: BTreeMap<String, String> =
        serde_json::from_str(include_str!("../data/wire-v1.json")).expect("names and hexadecimal bytes");
    let mut written = BTreeMap::new();
    for (name, example) in examples() {
        written.insert(name.to_owned(), hexadecimal(&example.bytes()));
        if let Some(bytes) = pinned.get(name) {
            example.is_read_from(bytes_of(bytes), name);
        }
    }
    println!("{} examples", written.len());
    assert_eq!(written, pinned, "\n{}\n", serde_json::to_string_pretty(&written).expect("strings"));
}

/// One of everything that travels or is kept.
enum Example {
    Message(Message),
    Record(Record),
    Value(Value),
    Frame(Frame),
    /// The first segment of a journal with these records, each synced.
    Segment(Vec<Record>),
}

impl Example {
    fn bytes(&self) -> Bytes {
        match self {
            Self::Message(message) => message.to_bytes(),
            Self::Record(record) => record.to_bytes(),
            Self::Value(value) => value.to_bytes(),
            Self::Frame(frame) => {
                let mut stream = Vec::new();
                frame::write(frame.kind, frame.flags, &mut stream, |out| {
                    out.extend_from_slice(&frame.payload);
                });
                stream.into()
            }
            Self::Segment(records) => segment(records),
        }
    }

    fn is_read_from(&self, bytes: Bytes, name: &str) {
        match self {
            Self::Message(message) => {
                assert_eq!(Message::from_bytes(bytes, 1).as_ref(), Ok(message), "{name}");
            }
            Self::Record(record) => assert_eq!(Record::from_bytes(bytes, 1).as_ref(), Ok(record), "{name}"),
            Self::Value(value) => assert_eq!(Value::from_bytes(bytes, 1).as_ref(), Ok(value), "{name}"),
            Self::Frame(frame) => {
                let taken = frame::take_shared(&mut bytes.clone(), 1 << 20);
                assert_eq!(taken, Ok(Some(frame.clone())), "{name}");
            }
            Self::Segment(records) => {
                let mut files = Memory::new();
                coterie::wal::Files::create(&mut files, "0000000000000001.wal", 0).expect("created");
                coterie::wal::Files::write(&mut files, "0000000000000001.wal", 0, &bytes).expect("written");
                let (_, recovery) = Wal::open(&mut files, Settings::default()).expect("a sound journal");
                assert_eq!(recovery.decode::<Record>().as_ref(), Ok(records), "{name}");
            }
        }
    }
}

fn segment(records: &[Record]) -> Bytes {
    let mut files = Memory::new();
    let (mut wal, _) = Wal::open(&mut files, Settings::default()).expect("an empty journal");
    let mut written = Vec::new();
    for record in records {
        wal.append_encoded(record).expect("queued");
        let sync = wal.begin_sync().expect("one is queued");
        for operation in sync.operations() {
            if let Operation::Write { bytes, .. } = operation {
                written.extend_from_slice(bytes);
            }
        }
        wal.end_sync(sync.run(&mut files)).expect("synced");
    }
    written.into()
}

fn examples() -> Vec<(&'static str, Example)> {
    let last = Position { term: 2, index: 7 };
    let beat = Beat { round: 4, sent: Instant::from_nanos(1_000_000) };
    let membership = Arc::new(Membership::joint(
        [(NodeId(1), 1), (NodeId(2), 5)],
        [NodeId(1), NodeId(3)],
        [NodeId(0x0102_0304_0506_0708)],
    ));
    let snapshot = Snapshot {
        id: SnapshotId { last, by: NodeId(1) },
        membership: (1, membership.clone()),
        length: 4096,
    };
    let blank = Run { term: 2, first: 8, payload: Payload::Blank };
    let change = Run { term: 2, first: 9, payload: Payload::Membership(membership.clone()) };
    let entries: Entries = [blank, change, commands(3, 10, &["put", ""])].into_iter().collect();
    let hard = HardState { term: 3, vote: Some(NodeId(1)) };
    let checkpoint = Checkpoint {
        cluster: 9,
        id: NodeId(2),
        hard,
        snapshot: Some(snapshot.clone()),
        base: last,
        membership: (1, membership),
        entries: entries.clone(),
    };
    let data = Bytes::from_static(b"state");
    let name = snapshot.id;
    let messages = [
        ("RequestPreVote", Message::RequestPreVote { term: 3, last }),
        ("PreVote", Message::PreVote { term: 3, granted: true }),
        ("RequestVote", Message::RequestVote { term: 3, last, transfer: Some((2, 5)) }),
        ("Vote", Message::Vote { term: 3, granted: false }),
        ("Append", append(entries.clone())),
        ("Appended", Message::Appended { term: 3, matched: 11, joined: 1 }),
        ("Rejected", Message::Rejected { term: 3, previous: 9, hint: last, joined: 1, beat: None }),
        ("Heard", Message::Heard { term: 3, beat, lease: true }),
        (
            "Install",
            Message::Install {
                term: 3,
                snapshot: snapshot.into(),
                offset: 16,
                data: data.clone(),
                joined: 1,
            },
        ),
        ("Installed", Message::Installed { term: 3, snapshot: name, offset: 21, joined: 1 }),
        ("TimeoutNow", Message::TimeoutNow { term: 3, round: 5 }),
        ("RequestRead", Message::RequestRead { term: 3, token: 6 }),
        ("Read", Message::Read { term: 3, token: 6, index: 11 }),
        ("Stored", Message::Stored { term: 3, last: 11 }),
    ];
    let identity = Record::Identity { cluster: 9, id: NodeId(2) };
    let records = [
        ("record Identity", identity.clone()),
        ("record HardState", Record::HardState(hard)),
        ("record Append", Record::Append(entries)),
        ("record Checkpoint", Record::Checkpoint(checkpoint.into())),
    ];
    let text = || Value::Str("é".to_owned());
    let values = [
        ("value None", Value::None),
        ("value False", Value::Bool(false)),
        ("value True", Value::Bool(true)),
        ("value 0", Value::int(0)),
        ("value -256", Value::int(-256)),
        ("value 1.5", Value::float(1.5)),
        ("value str", text()),
        ("value bytes", Value::Bytes(data.clone())),
        ("value list", Value::List(vec![Value::int(1), Value::None])),
        ("value tuple", Value::Tuple(vec![text()])),
        ("value dict", Value::Dict(vec![(text(), Value::int(2)), (Value::int(1), Value::None)])),
        (
            "value record",
            Value::Record { name: "Vote".to_owned(), fields: vec![("term".to_owned(), Value::int(3))] },
        ),
    ];
    let framed = Frame { version: 1, kind: 2, flags: 1, payload: data };
    let journal = vec![identity, Record::HardState(hard)];
    let mut examples = vec![("frame", Example::Frame(framed)), ("segment", Example::Segment(journal))];
    examples.extend(messages.map(|(name, message)| (name, Example::Message(message))));
    examples.extend(records.map(|(name, record)| (name, Example::Record(record))));
    examples.extend(values.map(|(name, value)| (name, Example::Value(value))));
    examples
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).expect("half a byte");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

pub(crate) fn bytes_of(hexadecimal: &str) -> Bytes {
    let pair = |at: usize| u8::from_str_radix(&hexadecimal[at..at + 2], 16).expect("hexadecimal digits");
    (0..hexadecimal.len()).step_by(2).map(pair).collect()
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
        (any::<[u64; 3]>(), snapshot_name()).prop_map(|([term, offset, joined], snapshot)| {
            Message::Installed { term, snapshot, offset, joined }
        }),
        any::<[u64; 2]>().prop_map(|[term, round]| Message::TimeoutNow { term, round }),
        any::<[u64; 2]>().prop_map(|[term, token]| Message::RequestRead { term, token }),
        any::<[u64; 3]>().prop_map(|[term, token, index]| Message::Read { term, token, index }),
        any::<[u64; 2]>().prop_map(|[term, last]| Message::Stored { term, last }),
        (any::<u64>(), snapshot_name()).prop_map(|(term, snapshot)| Message::Superseded { term, snapshot }),
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

fn value() -> impl Strategy<Value = Value> {
    let integer = (any::<bool>(), vec(any::<u8>(), 0..20))
        .prop_map(|(negative, magnitude)| Value::Int(Integer::new(negative, magnitude)));
    let leaf = prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::Bool),
        integer,
        any::<u64>().prop_map(Value::Float),
        any::<String>().prop_map(Value::Str),
        vec(any::<u8>(), 0..20).prop_map(|bytes| Value::Bytes(bytes.into())),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::List),
            vec(inner.clone(), 0..5).prop_map(Value::Tuple),
            vec((inner.clone(), inner.clone()), 0..4).prop_map(Value::Dict),
            ("[A-Z][a-z]{0,8}", vec(("[a-z]{1,8}", inner), 0..4))
                .prop_map(|(name, fields)| Value::Record { name, fields }),
        ]
    })
}

fn snapshot_name() -> impl Strategy<Value = SnapshotId> {
    (position(), node()).prop_map(|(last, by)| SnapshotId { last, by })
}
