//! Power loss: worlds of a store through bytes hold, and disks and drivers that do not sync are found.

use coterie::id::NodeId;
use coterie::protocol::{Application, Protocol};
use coterie::raft::SnapshotId;
use coterie::random::Random;
use coterie::replica::{Event, Machine, Replica, Request, Shelf};
use coterie::sim::standard::stored::{self, Judge, Keeper, Patrons, Scenario, Stored};
use coterie::sim::{ByteJournal, Bytes, Damage, Failure, Frame, Host, Medium, World};
use coterie::store::Store;
use coterie::wal::Action;
use coterie::wire::{Decode, Encode};

#[test]
fn worlds_of_a_store_through_bytes_hold() {
    let (mut crashes, mut rotted, mut damaged, mut answers) = (0, 0, 0, 0);
    for seed in 0..8 {
        let mut world: Stored<Bytes> = Scenario::through_bytes(seed).build_over();
        stored::finish(&mut world).unwrap_or_else(|failure| panic!("{failure}"));
        answers += world.watch().counts().answers;
        let statistics = world.statistics();
        crashes += statistics.crashes;
        rotted += statistics.rotted;
        damaged += statistics.damaged;
    }
    println!("{answers} answers, {crashes} crashes, {damaged} journals of {rotted} refused");
    assert!(answers > 5_000 && crashes > 20, "{answers} answers, {crashes} crashes");
}

#[test]
fn a_disk_that_never_syncs_is_found() {
    found_by_everybody("no fdatasync", find::<Lying<SYNC, true>, Keeper>, find::<Lying<SYNC, false>, Keeper>);
}

#[test]
fn a_folder_that_is_never_synced_is_found() {
    found_by_everybody(
        "the folder",
        find::<Lying<FOLDER, true>, Keeper>,
        find::<Lying<FOLDER, false>, Keeper>,
    );
}

#[test]
fn a_snapshot_that_is_not_durable_when_the_journal_forgets_is_found() {
    let (worlds, failure) = find::<Bytes, Careless>(0).expect("in its first worlds");
    println!("the snapshot: in world {worlds}: {}", failure.violation);
}

/// How many worlds it takes, in ranges of seeds that share none.
#[test]
#[ignore = "measures"]
fn how_many_worlds_it_takes() {
    let measure = |name: &str, find: Find| {
        let mut counts = Vec::new();
        for range in 1..=10 {
            let found = find(range * 1_000);
            let words = found.as_ref().map(|(_, failure)| failure.violation.invariant);
            println!("{name}: {:?} {words:?}", found.as_ref().map(|(worlds, _)| worlds));
            counts.push(found.map_or(u64::MAX, |(worlds, _)| worlds));
        }
        counts.sort_unstable();
        println!("{name}: median {}, most {}", counts[counts.len() / 2], counts[counts.len() - 1]);
    };
    measure("no fdatasync, witness", find::<Lying<SYNC, true>, Keeper>);
    measure("no fdatasync, judges alone", find::<Lying<SYNC, false>, Keeper>);
    measure("no sync of the folder, witness", find::<Lying<FOLDER, true>, Keeper>);
    measure("no sync of the folder, judges alone", find::<Lying<FOLDER, false>, Keeper>);
    measure("no sync of the snapshot", find::<Bytes, Careless>);
}

type Find = fn(u64) -> Option<(u64, Failure)>;

/// The journal's own witness sees it, which knows what had been durable; and so do those who see only what members and
/// clients see.
fn found_by_everybody(name: &str, watched: Find, unwatched: Find) {
    let (worlds, failure) = watched(0).expect("in its first worlds");
    println!("{name}: in world {worlds}: {}", failure.violation);
    let (worlds, failure) = unwatched(0).expect("in its first worlds");
    println!("{name}, by its effects: in world {worlds}: {}", failure.violation);
}

/// The first world, of so many from a seed on, in which a judge sees it.
fn find<M, H>(from: u64) -> Option<(u64, Failure)>
where
    M: Medium<Replica>,
    H: Host<Replica> + AsRef<Machine<Store>>,
{
    const WORLDS: u64 = 40;
    (0..WORLDS).find_map(|count| {
        let mut world: World<Replica, H, Judge, Patrons, M> = Scenario::new(from + count).build_of();
        stored::finish(&mut world).err().map(|failure| (count + 1, failure))
    })
}

const SYNC: u8 = 0;
const FOLDER: u8 = 1;

/// Planted: disks that say that they have synced, and have not. When `WATCHED`, the journal's witness looks on.
struct Lying<const ABOUT: u8, const WATCHED: bool>;

impl<const ABOUT: u8, const WATCHED: bool, P> Medium<P> for Lying<ABOUT, WATCHED>
where
    P: Protocol,
    P::Message: Encode + Decode,
    P::Record: Encode + Decode,
{
    type Parcel = Frame;
    type Journal = ByteJournal<P::Record>;

    fn journal(word: u64) -> Self::Journal {
        let mut journal = ByteJournal::new(word);
        journal.files().ignore(if ABOUT == SYNC { Action::Sync } else { Action::SyncFolder });
        if !WATCHED {
            journal.trust();
        }
        journal
    }

    fn pack(message: P::Message) -> Frame {
        <Bytes as Medium<P>>::pack(message)
    }

    fn open(parcel: Frame) -> Result<P::Message, Damage> {
        <Bytes as Medium<P>>::open(parcel)
    }

    fn copy(parcel: &Frame) -> Frame {
        parcel.clone()
    }

    fn damage(parcel: Frame, word: u64) -> Option<Frame> {
        <Bytes as Medium<P>>::damage(parcel, word)
    }
}

/// Planted: a driver that says that a snapshot is kept before it has synced it. A crash may lose the newest of its life.
struct Careless {
    keeper: Keeper,
    kept: Vec<SnapshotId>,
}

impl AsRef<Machine<Store>> for Careless {
    fn as_ref(&self) -> &Machine<Store> {
        self.keeper.as_ref()
    }
}

impl Application<Replica> for Careless {
    fn hear(&mut self, event: Event) -> Vec<Request> {
        Application::<Replica>::hear(&mut self.keeper, event)
    }
}

impl Host<Replica> for Careless {
    type Disk = Shelf;

    fn open(id: NodeId, shelf: Shelf) -> Self {
        let kept = shelf.names().collect();
        Self { keeper: Host::<Replica>::open(id, shelf), kept }
    }

    fn crash(self, random: &mut Random) -> Shelf {
        let mut shelf = Host::<Replica>::crash(self.keeper, random);
        if random.below(2) == 0
            && let Some(newest) = shelf.names().max()
            && !self.kept.contains(&newest)
        {
            shelf.discard(newest);
        }
        shelf
    }
}
