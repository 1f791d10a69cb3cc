//! From one release to the next: what version 1 has written is read, by this build and by one whose version is raised
//! (`make test-upgrade`); and what a later one has written is refused, with an error that says so.
//!
//! `tests/data/member-v1.json` has what a member of version 1 leaves behind: its journal, file by file, and a snapshot.

use bytes::Bytes;
use coterie::id::NodeId;
use coterie::protocol::Application;
use coterie::raft::{Batch, Entries, Membership, Message, Payload, Record, Run, Snapshot, SnapshotId};
use coterie::replica::{self, Command, Event, Machine, SessionStamp, Shelf};
use coterie::store::Store;
use coterie::wal::{Files, Memory, Settings, Wal, WalError};
use coterie::wire::frame::{self, BadFrame};
use coterie::wire::{Decode, Encode, VERSION, VERSION_MIN};
use std::collections::BTreeMap;
use std::sync::Arc;

/// So small that a few records fill several segments.
const SETTINGS: Settings = Settings { segment_bytes: 512, version: VERSION };
/// The release before the first that could be upgraded.
const FIRST: u16 = 1;

type Pinned = BTreeMap<String, String>;

#[test]
fn the_version_before_is_always_read() {
    assert_eq!(VERSION_MIN, FIRST, "when version 1 is given up, its pins go, too");
    assert!((FIRST..=FIRST + 1).contains(&VERSION));
}

#[cfg(not(feature = "raised-version"))]
#[test]
fn version_1_of_a_member_is_written_as_it_always_was() {
    let mut written: Pinned =
        journal(VERSION).into_iter().map(|(name, bytes)| (name, hexadecimal(&bytes))).collect();
    written.insert("snapshot".to_owned(), hexadecimal(&snapshot_of(&machine())));
    let pins = pinned("member");
    assert_eq!(written, pins, "\n{}\n", serde_json::to_string_pretty(&written).expect("strings"));
}

#[test]
fn a_journal_of_version_1_is_read_and_goes_on() {
    let mut files = folder(&journal_of_version_1());
    let (mut wal, recovery) = Wal::open(&mut files, SETTINGS).expect("a journal of version 1");
    assert_eq!(recovery.decode::<Record>(), Ok(records()));
    assert!(recovery.records.iter().all(|stored| stored.version == FIRST));
    let more = records().swap_remove(1);
    wal.append_encoded(&more).expect("queued");
    let sync = wal.begin_sync().expect("one is queued");
    wal.end_sync(sync.run(&mut files)).expect("the disk is sound");
    let (_, again) = Wal::open(&mut files, SETTINGS).expect("what both versions wrote");
    assert_eq!(again.records.last().map(|stored| stored.version), Some(VERSION));
    let mut all = records();
    all.push(more);
    assert_eq!(again.decode::<Record>(), Ok(all));
}

#[test]
fn a_snapshot_of_version_1_is_read_and_says_the_same() {
    let bytes = bytes_of(&pinned("member")["snapshot"]);
    let machine = restored(&bytes);
    assert_eq!(machine.damage(), None);
    let twin = self::machine();
    assert_eq!(machine.state().digest(), twin.state().digest());
    assert_eq!(machine.state().contents(), twin.state().contents());
    assert_eq!(machine.sessions(), twin.sessions());
    assert_eq!(machine.applied(), twin.applied());
}

#[test]
fn messages_of_version_1_are_read_from_their_frames() {
    let mut count = 0;
    for (name, digits) in pinned("wire") {
        let payload = bytes_of(&digits);
        let Ok(message) = Message::from_bytes(payload.clone(), FIRST) else { continue };
        let mut stream = Vec::new();
        frame::write_in(FIRST, 1, 0, &mut stream, |out| out.extend_from_slice(&payload));
        let frame =
            frame::take_shared(&mut stream.into(), 1 << 20).expect(&name).expect("all of it is there");
        assert_eq!((frame.version, frame.decode()), (FIRST, Ok(message)), "{name}");
        count += 1;
    }
    assert!(count >= 14, "{count} messages");
    let mut pinned = bytes_of(&pinned("wire")["frame"]);
    assert!(matches!(frame::take_shared(&mut pinned, 100), Ok(Some(frame)) if frame.version == FIRST));
}

/// So the refusals below, which this build shows of bytes that say a later version, are what a build of version 1 shows of
/// what a raised one has written.
#[test]
fn what_this_build_writes_is_what_version_1_wrote_but_for_the_version() {
    let mut files = journal(VERSION);
    for (name, bytes) in &mut files {
        assert_eq!(bytes[12..14], VERSION.to_le_bytes(), "{name}");
        say_another_version(bytes, FIRST);
    }
    assert_eq!(files, journal_of_version_1());
    let mut snapshot = snapshot_of(&machine()).to_vec();
    assert_eq!(snapshot[..2], VERSION.to_le_bytes());
    snapshot_says(&mut snapshot, FIRST);
    assert_eq!(snapshot, bytes_of(&pinned("member")["snapshot"]));
    let (mut ours, mut first) = (Vec::new(), Vec::new());
    frame::write(1, 0, &mut ours, |out| out.push(7));
    frame::write_in(VERSION, 1, 0, &mut first, |out| out.push(7));
    assert_eq!(ours, first);
}

#[test]
fn a_later_version_is_refused_with_an_error_that_says_so() {
    let later = VERSION + 1;
    let mut files = journal_of_version_1();
    let (name, newest) = files.iter_mut().next_back().expect("a segment");
    say_another_version(newest, later);
    let segment = name.clone();
    let mut files = folder(&files);
    let before = files.clone().used();
    let error = Wal::open(&mut files, SETTINGS).expect_err("a later version");
    assert_eq!(error, WalError::UnknownVersion { segment: segment.clone(), version: later });
    assert_eq!(
        error.to_string(),
        format!("{segment} is of version {later}; versions {VERSION_MIN} to {VERSION} are read")
    );
    assert_eq!(files.used(), before, "nothing was repaired");

    let mut snapshot = snapshot_of(&machine()).to_vec();
    snapshot_says(&mut snapshot, later);
    let why = restored(&snapshot).damage().expect("a later version");
    assert!(why.contains("a version that this build does not read"), "{why}");

    let mut stream = Vec::new();
    frame::write_in(later, 1, 0, &mut stream, |out| out.push(7));
    let error = frame::take_shared(&mut stream.into(), 10).expect_err("a later version");
    assert_eq!(error, BadFrame::Version(later));
    assert_eq!(
        error.to_string(),
        format!("a frame of version {later}; versions {VERSION_MIN} to {VERSION} are read")
    );
}

// ── What a member leaves behind ─────────────────────────────────────────────────────────────────────────────────────

/// What the journal says in the end: a checkpoint, and what came after.
fn records() -> Vec<Record> {
    let pins = pinned("wire");
    ["record Checkpoint", "record HardState", "record Append"]
        .into_iter()
        .map(|name| Record::from_bytes(bytes_of(&pins[name]), FIRST).expect(name))
        .collect()
}

/// The files of a journal, as this build writes them; `version` is what they must say.
fn journal(version: u16) -> BTreeMap<String, Vec<u8>> {
    assert_eq!(version, VERSION);
    let pins = pinned("wire");
    let identity = Record::from_bytes(bytes_of(&pins["record Identity"]), FIRST).expect("a record");
    let mut files = Memory::new();
    let (mut wal, _) = Wal::open(&mut files, SETTINGS).expect("an empty folder");
    let mut sync = |wal: &mut Wal| {
        let sync = wal.begin_sync().expect("something is queued");
        wal.end_sync(sync.run(&mut files)).expect("the disk is sound");
    };
    wal.append_encoded(&identity).expect("queued");
    sync(&mut wal);
    let [checkpoint, hard, append] = records().try_into().expect("three");
    wal.checkpoint_encoded(&checkpoint).expect("queued");
    wal.append_encoded(&hard).expect("queued");
    sync(&mut wal);
    wal.append_encoded(&append).expect("queued");
    sync(&mut wal);
    let names = files.list().expect("the folder is sound");
    names.into_iter().map(|name| (name.clone(), files.read(&name).expect("it is listed").to_vec())).collect()
}

fn journal_of_version_1() -> BTreeMap<String, Vec<u8>> {
    let files = pinned("member").into_iter().filter(|(name, _)| name != "snapshot");
    let files: BTreeMap<_, _> = files.map(|(name, digits)| (name, bytes_of(&digits).to_vec())).collect();
    assert!(files.len() > 1, "more than one segment: {:?}", files.keys());
    files
}

fn folder(files: &BTreeMap<String, Vec<u8>>) -> Memory {
    let mut folder = Memory::new();
    for (name, bytes) in files {
        folder.create(name, 0).expect("it is not there");
        folder.write(name, 0, bytes).expect("the disk has room");
        folder.sync(name).expect("the disk is sound");
    }
    folder.sync_folder().expect("the disk is sound");
    folder
}

/// The machine of a member that has done all that is pinned of the store, under a session and without.
fn machine() -> Machine<Store> {
    let mut machine = open(Shelf::new());
    let mut commands = vec![encoded(Command::Open)];
    for (place, (name, digits)) in pinned("store").into_iter().enumerate() {
        if name.starts_with("command") {
            let command = bytes_of(&digits);
            let stamp = SessionStamp { session: 1, sequence: place as u64 + 1, answered_below: 2 };
            let stamped = place % 2 == 0;
            commands.push(encoded(if stamped {
                Command::Stamped(stamp, &command)
            } else {
                Command::Plain(&command)
            }));
        }
    }
    let run = Run { term: 1, first: 1, payload: Payload::Commands(Batch::new(commands)) };
    machine.hear(Event::Apply { entries: Entries::one(run), wanted: false });
    machine
}

fn encoded(command: Command<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    command.encode(&mut bytes);
    bytes
}

fn open(shelf: Shelf) -> Machine<Store> {
    Machine::open(NodeId(1), Store::default(), replica::Limits::default(), shelf)
}

fn snapshot_of(machine: &Machine<Store>) -> Bytes {
    let mut machine = machine.clone();
    machine.hear(Event::MakeSnapshot);
    let id = SnapshotId { last: machine.applied(), by: NodeId(1) };
    machine.shelf().read(id, 0, u64::MAX).expect("it was made")
}

fn restored(bytes: &[u8]) -> Machine<Store> {
    let id = SnapshotId { last: machine().applied(), by: NodeId(1) };
    let mut shelf = Shelf::new();
    shelf.put(id, Bytes::copy_from_slice(bytes));
    let mut machine = open(shelf);
    let membership = (0, Arc::new(Membership::default()));
    machine.hear(Event::Restore(Arc::new(Snapshot { id, membership, length: bytes.len() as u64 })));
    machine
}

/// The header of a segment with another version, and the checksum that goes with it.
fn say_another_version(segment: &mut [u8], version: u16) {
    segment[12..14].copy_from_slice(&version.to_le_bytes());
    let checksum = crc32c::crc32c(&segment[12..32]);
    segment[8..12].copy_from_slice(&checksum.to_le_bytes());
}

/// A snapshot says its version twice: the machine's, and the store's within, which is summed.
fn snapshot_says(snapshot: &mut [u8], version: u16) {
    let whole = snapshot.len();
    let sessions = machine().sessions().to_bytes().len();
    for at in [0, 2 + sessions] {
        snapshot[at..at + 2].copy_from_slice(&version.to_le_bytes());
    }
    let sum = xxhash_rust::xxh3::xxh3_64(&snapshot[2..whole - 8]);
    snapshot[whole - 8..].copy_from_slice(&sum.to_le_bytes());
}

fn pinned(name: &str) -> Pinned {
    let text = match name {
        "member" => include_str!("../data/member-v1.json"),
        "store" => include_str!("../data/store-v1.json"),
        "wire" => include_str!("../data/wire-v1.json"),
        other => panic!("no pins of {other}"),
    };
    serde_json::from_str(text).expect("names and hexadecimal bytes")
}

#[cfg(not(feature = "raised-version"))]
fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn bytes_of(digits: &str) -> Bytes {
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("ASCII");
        u8::from_str_radix(pair, 16).expect("hexadecimal digits")
    };
    digits.as_bytes().chunks(2).map(byte).collect()
}
