//! The readers of snapshots: of the store, of the sessions (in `decoders`), of a replica's whole machine.

use bolero::TypeGenerator;
use bytes::Bytes;
use coterie::id::NodeId;
use coterie::protocol::Application;
use coterie::raft::{Batch, Entries, Membership, Payload, Position, Run, Snapshot, SnapshotId};
use coterie::replica::{self, Command, Event, Machine, SessionStamp, Shelf};
use coterie::store::{self, Expected, Keys, Operation, Put, PutLease, Store};
use coterie::wire::Encode;
use fuzz::{Edit, bounded, spoil};
use std::sync::Arc;
use std::time::Duration;

/// A small command, so that a few of them meet at the same keys.
#[derive(Clone, Copy, Debug, TypeGenerator)]
enum Deed {
    Put { key: u8, value: u8, lease: u8 },
    Delete { key: u8 },
    Swap { key: u8, value: u8 },
    Grant { lease: u8 },
    Revoke { lease: u8 },
    Acquire { name: u8, lease: u8 },
    Release { name: u8, lease: u8 },
    Compact { revision: u8 },
    Several { key: u8, value: u8 },
}

impl Deed {
    fn command(self) -> store::Command {
        let key = |key: u8| Bytes::from(format!("k{}", key % 4));
        let name = |name: u8| Bytes::from(format!("l{}", name % 2));
        let lease = |lease: u8| u64::from(lease % 4);
        let put = |at: u8, value: u8, with: u8| Put {
            key: key(at),
            value: Some(Bytes::copy_from_slice(&[value])),
            lease: if with.is_multiple_of(4) { PutLease::None } else { PutLease::With(lease(with)) },
            previous: value.is_multiple_of(2),
        };
        match self {
            Self::Put { key, value, lease } => store::Command::Put(put(key, value, lease)),
            Self::Delete { key: at } => store::Command::Delete { keys: Keys::From(key(at)), previous: true },
            Self::Swap { key: at, value } => store::Command::CompareAndSwap {
                key: key(at),
                expected: Some(Expected::Version(u64::from(value % 3))),
                value: Some(Bytes::copy_from_slice(&[value])),
                lease: PutLease::Keep,
            },
            Self::Grant { lease: id } => {
                store::Command::Grant { lease: lease(id), ttl: Duration::from_secs(1), home: 1 }
            }
            Self::Revoke { lease: id } => store::Command::Revoke { lease: lease(id) },
            Self::Acquire { name: of, lease: by } => {
                store::Command::Acquire { name: name(of), lease: lease(by), value: Bytes::new(), wait: true }
            }
            Self::Release { name: of, lease: by } => {
                store::Command::Release { name: name(of), lease: lease(by) }
            }
            Self::Compact { revision } => store::Command::Compact { revision: u64::from(revision) },
            Self::Several { key: at, value } => store::Command::Transaction {
                compares: Vec::new(),
                success: vec![
                    Operation::Put(put(at, value, 0)),
                    Operation::Delete { keys: Keys::One(key(at.wrapping_add(1))), previous: false },
                ],
                failure: Vec::new(),
            },
        }
    }
}

#[derive(Clone, Debug, TypeGenerator)]
struct Input {
    #[generator(bolero::produce::<Vec<Deed>>().with().len(0usize..24))]
    before: Vec<Deed>,
    #[generator(bolero::produce::<Vec<Edit>>().with().len(0usize..4))]
    edits: Vec<Edit>,
    /// Whether the checksum is right again afterwards.
    summed: bool,
    #[generator(bolero::produce::<Vec<Deed>>().with().len(0usize..12))]
    after: Vec<Deed>,
}

#[test]
fn a_snapshot_of_a_store() {
    bolero::check!().with_type::<Input>().for_each(|input| {
        let mut store = Store::new(store::Limits::default());
        let mut ticket = run(&mut store, 0, &input.before);
        let mut bytes = store.snapshot();
        spoil(&mut bytes, &input.edits);
        let bytes = Bytes::from(bytes);
        let before = store.snapshot();
        // What is there is given up only when what came is sound, so there is room for both.
        match bounded(bytes.len() + before.len(), || store.restore(bytes)) {
            Err(_) => assert_eq!(store.snapshot(), before, "a refused snapshot changes nothing"),
            Ok(()) => says_the_same_again(&store),
        }
        ticket = run(&mut store, ticket, &input.after);
        says_the_same_again(&store);
        run(&mut store, ticket, &input.before);
    });
}

fn run(store: &mut Store, ticket: u64, deeds: &[Deed]) -> u64 {
    let mut ticket = ticket;
    for deed in deeds {
        ticket += 1;
        let _ = store.execute(ticket, &deed.command().to_bytes());
        let _ = store.take_woken();
        let _ = store.take_lease_changes();
    }
    ticket
}

fn says_the_same_again(store: &Store) {
    let written = store.snapshot();
    let mut twin = Store::new(store::Limits::default());
    twin.restore(written.clone().into()).expect("what a store writes, a store reads");
    assert_eq!(twin.snapshot(), written);
}

#[test]
fn a_snapshot_of_a_member() {
    bolero::check!().with_type::<Input>().for_each(|input| {
        let mut machine = open(Shelf::new());
        apply(&mut machine, &input.before);
        machine.hear(Event::MakeSnapshot);
        let id = SnapshotId { last: machine.applied(), by: NodeId(1) };
        let mut bytes = machine.shelf().read(id, 0, u64::MAX).expect("it was made").to_vec();
        spoil(&mut bytes, &input.edits);
        if input.summed {
            sum(&mut bytes);
        }
        let snapshot =
            Snapshot { id, membership: (0, Arc::new(Membership::default())), length: bytes.len() as u64 };
        let length = bytes.len();
        let mut shelf = Shelf::new();
        shelf.put(id, bytes.into());
        let mut machine = open(shelf);
        bounded(length, || machine.hear(Event::Restore(Arc::new(snapshot))));
        if machine.damage().is_none() {
            apply(&mut machine, &input.after);
            machine.hear(Event::MakeSnapshot);
        }
    });
}

fn open(shelf: Shelf) -> Machine<Store> {
    let limits = replica::Limits { sessions_max: 4, results_max: 8, result_bytes_max: 4096 };
    Machine::open(NodeId(1), Store::new(store::Limits::default()), limits, shelf)
}

/// Opens a session, and has it and nobody do all of it.
fn apply(machine: &mut Machine<Store>, deeds: &[Deed]) {
    let first = machine.applied().index + 1;
    let mut commands = vec![encoded(Command::Open)];
    for (place, deed) in deeds.iter().enumerate() {
        let command = deed.command().to_bytes();
        let stamp = SessionStamp { session: first, sequence: place as u64 + 1, answered_below: 1 };
        commands.push(encoded(if place % 3 == 0 {
            Command::Plain(&command)
        } else {
            Command::Stamped(stamp, &command)
        }));
    }
    let run = Run { term: 1, first, payload: Payload::Commands(Batch::new(commands)) };
    machine.hear(Event::Apply { entries: Entries::one(run), wanted: true });
    assert_eq!(machine.applied(), Position { term: 1, index: first + deeds.len() as u64 });
}

fn encoded(command: Command<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    command.encode(&mut bytes);
    bytes
}

/// Makes the checksum right: what is summed stands between the version and it.
fn sum(bytes: &mut [u8]) {
    if let Some(end) = bytes.len().checked_sub(8).filter(|end| *end >= 2) {
        let sum = xxhash_rust::xxh3::xxh3_64(&bytes[2..end]);
        bytes[end..].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Commands and queries of clients come as bytes, too.
#[test]
fn a_store_that_is_asked_anything() {
    bolero::check!().with_type::<(Vec<Deed>, u16, Vec<Edit>, Vec<Edit>)>().for_each(
        |(deeds, which, first, second)| {
            let mut store = Store::new(store::Limits::default());
            let mut ticket = run(&mut store, 0, deeds);
            for edits in [first, second] {
                let mut bytes = fuzz::all()[usize::from(*which) % fuzz::all().len()].to_vec();
                spoil(&mut bytes, edits);
                let bytes = Bytes::from(bytes);
                ticket += 1;
                let _ = store.execute(ticket, &bytes);
                let _ = store.ask(ticket, &bytes);
                let _ = store.take_woken();
                let _ = store.take_watched();
            }
            says_the_same_again(&store);
        },
    );
}
