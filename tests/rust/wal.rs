//! What was synced is there after any crash; what is damaged is said to be.

use coterie::id::NodeId;
use coterie::raft::Record;
use coterie::random::Random;
use coterie::wal::{
    Action, FileError, Files, Memory, Operation, Reason, Recovery, Settings, Sync, Wal, WalError,
};
use coterie::wire::{Encode, VERSION};

const SMALL: Settings = Settings { segment_bytes: 2048, version: VERSION };

#[test]
fn a_crash_between_any_two_operations_loses_nothing_that_was_synced() {
    let (mut lives, mut operations, mut torn) = (0, 0, 0);
    for seed in 0..4000 {
        let mut random = Random::new(seed);
        let mut files = if seed % 2 == 0 { Memory::new() } else { Memory::preallocating() };
        let mut journal = Journal::default();
        for _ in 0..6 {
            torn += u32::from(journal.live(&mut files, &mut random, seed));
            lives += 1;
        }
        operations += files.operations();
    }
    println!("{lives} lives, {operations} operations on files, {torn} torn tails");
    assert!(torn > 500, "only {torn} torn tails: the disk is too kind");
}

#[test]
fn rot_before_the_last_sync_is_an_error_or_harmless_and_never_a_shorter_journal() {
    let (mut refused, mut harmless) = (0, 0);
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let mut files = if seed % 2 == 0 { Memory::new() } else { Memory::preallocating() };
        let (mut wal, _) = open(&mut files);
        for round in 0..3 + random.below(12) {
            let record = vec![round as u8; random.below(600) as usize];
            if random.below(6) == 0 { wal.checkpoint(&record) } else { wal.append(&record) }.expect("queued");
            let last = sync(&mut wal, &mut files);
            assert_eq!(last, wal.appended());
        }
        let (_, before) = open(&mut files);
        let rotten = files.rot(|bound| random.below(bound));
        match Wal::open(&mut files, SMALL) {
            Ok((_, after)) => {
                assert_eq!(bytes(&before), bytes(&after), "seed {seed}: {rotten:?}");
                harmless += 1;
            }
            Err(WalError::Rotten { segment, offset, .. }) => {
                let (file, at) = rotten.expect("something rotted");
                assert!(segment < file || (segment == file && offset <= at), "seed {seed}: {file} at {at}");
                refused += 1;
            }
            Err(other) => panic!("seed {seed}: {rotten:?} gave {other}"),
        }
    }
    println!("{refused} refused, {harmless} harmless");
    assert!(refused > 1000 && harmless < 500, "{refused} refused, {harmless} harmless");
}

#[test]
fn an_empty_folder_is_an_empty_journal() {
    let mut files = Memory::new();
    let (mut wal, recovery) = open(&mut files);
    assert_eq!(recovery, Recovery::default());
    assert!(wal.begin_sync().is_none(), "nothing is queued");
    assert_eq!(files.used(), 0);
}

#[test]
fn a_sync_covers_what_was_queued_when_it_began_and_only_one_is_under_way() {
    let mut files = Memory::new();
    let (mut wal, _) = open(&mut files);
    wal.append(b"one").expect("queued");
    wal.append(b"two").expect("queued");
    let first = wal.begin_sync().expect("two are queued");
    assert_eq!(first.covers(), 2);
    assert_eq!(wal.append(b"three"), Ok(3));
    assert!(wal.begin_sync().is_none(), "one is under way");
    assert_eq!(wal.end_sync(first.run(&mut files)), Ok(2));
    assert_eq!(sync(&mut wal, &mut files), 3);
    assert_eq!(wal.queued_bytes(), 0);
    let (_, recovery) = open(&mut files);
    assert_eq!(bytes(&recovery), [&b"one"[..], b"two", b"three"]);
}

#[test]
fn a_sync_is_one_write_and_one_sync_while_the_segment_has_room() {
    let mut files = Memory::new();
    let (mut wal, _) = open(&mut files);
    let first = queue(&mut wal, &[b"one"]);
    let kinds = |sync: &Sync| sync.operations().map(std::mem::discriminant).count();
    assert_eq!(kinds(&first), 5, "create, header, batch, sync, folder");
    wal.end_sync(first.run(&mut files)).expect("synced");
    let second = queue(&mut wal, &[b"two", b"three"]);
    let operations: Vec<&Operation> = second.operations().collect();
    assert!(matches!(operations[..], [Operation::Write { .. }, Operation::Sync { .. }]), "{operations:?}");
}

#[test]
fn a_segment_that_is_full_is_followed_by_the_next() {
    let mut files = Memory::new();
    let (mut wal, _) = open(&mut files);
    for round in 0..10u8 {
        wal.append(&[round; 700]).expect("queued");
        sync(&mut wal, &mut files);
    }
    assert_eq!(files.list().expect("listed").len(), 5);
    wal.append(&[10; 5000]).expect("larger than a segment");
    sync(&mut wal, &mut files);
    let (mut wal, recovery) = open(&mut files);
    assert_eq!(recovery.records.len(), 11);
    wal.checkpoint(b"all of it").expect("queued");
    wal.append(b"and more").expect("queued");
    sync(&mut wal, &mut files);
    assert_eq!(files.list(), Ok(vec!["0000000000000007.wal".to_owned()]));
    let (_, recovery) = open(&mut files);
    assert_eq!(bytes(&recovery), [&b"all of it"[..], b"and more"]);
}

#[test]
fn what_a_killed_process_had_written_is_synced_before_it_is_handed_out() {
    let mut files = Memory::new();
    let (mut wal, _) = open(&mut files);
    let mut first = queue(&mut wal, &[b"one"]);
    first.step(&mut files).expect("create");
    first.step(&mut files).expect("the header");
    first.step(&mut files).expect("the batch, and here the process is killed");
    let (_, recovery) = open(&mut files);
    assert_eq!(bytes(&recovery), [b"one"]);
    files.crash(|_| 1); // And now the power goes.
    files.crash(|bound| bound - 1);
    let (_, recovery) = open(&mut files);
    assert_eq!(bytes(&recovery), [b"one"]);
}

#[test]
fn a_failed_sync_is_never_tried_again() {
    let mut files = Memory::new();
    let (mut wal, _) = open(&mut files);
    let first = queue(&mut wal, &[b"one"]);
    files.fail_next(Action::Sync);
    let error = wal.end_sync(first.run(&mut files)).expect_err("the sync failed");
    assert!(matches!(error, WalError::Disk(FileError { action: Action::Sync, .. })), "{error}");
    assert_eq!(wal.append(b"two"), Err(WalError::Poisoned));
    assert_eq!(wal.checkpoint(b"two"), Err(WalError::Poisoned));
    assert!(wal.begin_sync().is_none());
    assert_eq!(wal.end_sync(Ok(())), Err(WalError::Poisoned));
    assert_eq!(wal.durable(), 0);
}

/// Rebello and others, "Can Applications Recover from fsync Failures?" (ATC 2020): a failed fsync marks pages clean, so
/// that a restart reads from the page cache what no later fsync writes.
#[test]
fn rebello_2020_after_a_failed_sync_a_restart_writes_again_what_only_the_page_cache_has() {
    // The batch that opens the first segment, one that follows another, one that opens the next, a checkpoint.
    for synced in [0, 1, 2, 3] {
        let mut files = Memory::preallocating();
        let (mut wal, _) = open(&mut files);
        for round in 0..synced {
            wal.append(&[round; 700]).expect("queued");
            sync(&mut wal, &mut files);
        }
        if synced == 3 { wal.checkpoint(&[9; 700]) } else { wal.append(&[9; 700]) }.expect("queued");
        let failing = wal.begin_sync().expect("one is queued");
        files.fail_next(Action::Sync);
        wal.end_sync(failing.run(&mut files)).expect_err("the sync failed");
        // The folder's names are not what this is about.
        files.sync_folder().expect("synced");
        let mut without_power = files.clone();
        without_power.crash(|bound| bound - 1);
        without_power.crash(|bound| bound - 1);
        let (_, lost) = open(&mut without_power);
        assert_eq!(lost.records.len(), usize::from(synced), "the disk never had it");

        let (mut wal, kept) = open(&mut files);
        assert_eq!(
            kept.records.last().map(|last| &last.bytes[..]),
            Some(&[9; 700][..]),
            "{synced} before it"
        );
        wal.append(b"after").expect("queued");
        sync(&mut wal, &mut files);
        files.crash(|bound| bound - 1);
        let (_, after) = open(&mut files);
        let expected = [bytes(&kept), vec![b"after".to_vec()]].concat();
        assert_eq!(bytes(&after), expected, "{synced} before it");
    }
}

#[test]
fn a_record_larger_than_the_queue_changes_nothing() {
    struct Huge;
    impl Encode for Huge {
        fn encode(&self, out: &mut Vec<u8>) {
            out.resize(out.len() + (1 << 30), 0);
        }
    }
    let mut files = Memory::new();
    let (mut wal, _) = open(&mut files);
    wal.append(b"one").expect("queued");
    let refused = wal.checkpoint_encoded(&Huge).expect_err("1 GiB and its length");
    assert!(matches!(refused, WalError::TooLarge { .. }), "{refused}");
    sync(&mut wal, &mut files);
    let (_, recovery) = open(&mut files);
    assert_eq!(bytes(&recovery), [b"one"]);
}

#[test]
fn rot_is_told_with_its_file_its_place_and_a_way_out() {
    let mut files = Memory::new();
    let (mut wal, _) = open(&mut files);
    for record in [b"one", b"two"] {
        wal.append(record).expect("queued");
        sync(&mut wal, &mut files);
    }
    assert!(files.flip("0000000000000001.wal", 60, 3), "the first batch's body");
    let error = Wal::open(&mut files, SMALL).expect_err("rot");
    assert_eq!(
        error.to_string(),
        "0000000000000001.wal is damaged at byte 32: a batch, because a later one is there; remove this member from \
         the cluster and add it again with an empty folder, or restore the file"
    );
}

#[test]
fn a_missing_segment_is_an_error() {
    let mut files = Memory::new();
    let (mut wal, _) = open(&mut files);
    for round in 0..9u8 {
        wal.append(&[round; 700]).expect("queued");
        sync(&mut wal, &mut files);
    }
    let mut without_the_first = files.clone();
    without_the_first.remove("0000000000000001.wal").expect("removed");
    let error = Wal::open(&mut without_the_first, SMALL).expect_err("no beginning");
    assert!(
        matches!(&error, WalError::Rotten { segment, .. } if segment == "0000000000000002.wal"),
        "{error}"
    );
    files.remove("0000000000000003.wal").expect("removed");
    let error = Wal::open(&mut files, SMALL).expect_err("a gap");
    assert_eq!(error, WalError::Missing { segment: "0000000000000003.wal".to_owned() });
}

/// Numbers end somewhere. A journal whose files somebody gave the last ones is read, and takes nothing that the next start
/// would not find.
#[test]
fn whoever_renumbers_a_journal_to_the_end_of_numbers_gets_nothing_written_that_is_lost() {
    let last: u64 = 1 << 62;
    for (number, takes) in [(last - 1, true), (last, false)] {
        let mut files = Memory::new();
        let (mut wal, _) = open(&mut files);
        wal.checkpoint(&[7; 700]).expect("queued");
        sync(&mut wal, &mut files);
        renumber(&mut files, number);
        let Ok((mut wal, recovery)) = Wal::open(&mut files, SMALL) else {
            panic!("{number:x}: what is sound is read");
        };
        for round in 0..4u8 {
            match wal.append(&[round; 1900]) {
                Ok(_) => drop(sync(&mut wal, &mut files)),
                Err(error) => assert_eq!(error, WalError::Exhausted),
            }
        }
        assert_eq!(wal.append(b"more"), Err(WalError::Exhausted), "{number:x}");
        let (_, again) = open(&mut files);
        let kept = recovery.records.len() as u64 + wal.durable();
        assert_eq!(again.records.len() as u64, kept, "{number:x}");
        assert_eq!(wal.durable() > 0, takes, "{number:x}");
    }
}

/// Gives the only segment, which holds one batch, another number, and makes its checksums right.
fn renumber(files: &mut Memory, number: u64) {
    const FILE: &str = "0000000000000001.wal";
    let mut bytes = files.read(FILE).expect("it is there").to_vec();
    files.remove(FILE).expect("it is there");
    bytes[16..24].copy_from_slice(&number.to_le_bytes());
    let checksum = crc32c::crc32c(&bytes[12..32]);
    bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
    let seed = crc32c::crc32c(&number.to_le_bytes());
    let checksum = crc32c::crc32c_append(seed, &bytes[32..52]);
    bytes[52..56].copy_from_slice(&checksum.to_le_bytes());
    let file = format!("{number:016x}.wal");
    files.create(&file, 0).expect("it is not there");
    files.write(&file, 0, &bytes).expect("the disk has room");
    files.sync(&file).expect("the disk is sound");
    files.sync_folder().expect("the disk is sound");
}

#[test]
fn stale_bytes_of_another_segment_are_never_read() {
    let journal = |records: &[&[u8]]| {
        let mut files = Memory::new();
        let (mut wal, _) = open(&mut files);
        for record in records {
            wal.append(record).expect("queued");
            sync(&mut wal, &mut files);
        }
        (files, wal)
    };
    // A disk that was wiped had an older journal: of its first segment the third batch, whose number fits, now lies
    // right behind the new journal's checkpoint.
    let (mut wiped, _) = journal(&[b"one", b"two", b"stale"]);
    let old = wiped.read("0000000000000001.wal").expect("three batches");
    let stale = &old[old.len() - 40..];
    assert_eq!(stale[..8], 3u64.to_le_bytes());
    let (mut files, mut wal) = journal(&[b"one"]);
    wal.checkpoint(b"new").expect("queued");
    sync(&mut wal, &mut files);
    let end = files.read("0000000000000002.wal").expect("the checkpoint, batch 2").len();
    files.write("0000000000000002.wal", end as u64, stale).expect("written");
    let (_, recovery) = open(&mut files);
    assert_eq!(bytes(&recovery), [b"new"]);
    assert!(recovery.repaired.is_some());
}

#[test]
fn files_of_others_are_left_alone() {
    let mut files = Memory::new();
    for name in ["member.json", "1.wal", "000000000000000G.wal", "0000000000000001.wal.bak"] {
        files.create(name, 0).expect("created");
    }
    let (mut wal, recovery) = open(&mut files);
    assert_eq!(recovery, Recovery::default());
    wal.checkpoint(b"one").expect("queued");
    sync(&mut wal, &mut files);
    assert_eq!(files.list().expect("listed").len(), 5);
}

/// Found by the target `a_folder_of_segments`.
#[test]
fn numbers_that_no_journal_reaches_are_none_of_ours() {
    let (files, _) = with_an_old_journal();
    let journal = files.clone().read("0000000000000001.wal").expect("read");
    let forged = |place: usize| {
        let mut header = journal[..32].to_vec();
        header[place..place + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        let checksum = crc32c::crc32c(&header[12..]);
        header[8..12].copy_from_slice(&checksum.to_le_bytes());
        header
    };
    let mut beside = files.clone();
    for name in ["ffffffffffffffff.wal", "0000000000000000.wal"] {
        beside.create(name, 0).expect("created");
        beside.write(name, 0, &forged(16)).expect("written");
    }
    let (mut wal, recovery) = open(&mut beside);
    assert_eq!(bytes(&recovery), OLD);
    wal.checkpoint(NEW).expect("queued");
    sync(&mut wal, &mut beside);
    assert_eq!(beside.list().expect("listed").len(), 3, "what is not ours is left alone");
    let mut within = files.clone();
    within.write("0000000000000001.wal", 0, &forged(24)).expect("written");
    let error = Wal::open(&mut within, SMALL).expect_err("the first batch cannot be the last of all");
    assert!(matches!(error, WalError::Rotten { offset: 0, .. }), "{error}");
}

#[test]
fn a_segment_of_a_later_build_is_not_touched() {
    let mut files = Memory::new();
    let (mut wal, _) = open(&mut files);
    wal.append(b"one").expect("queued");
    sync(&mut wal, &mut files);
    let mut header = files.read("0000000000000001.wal").expect("read")[..32].to_vec();
    header[12] = 99;
    let checksum = crc32c::crc32c(&header[12..]);
    header[8..12].copy_from_slice(&checksum.to_le_bytes());
    files.write("0000000000000001.wal", 0, &header).expect("written");
    let error = Wal::open(&mut files, SMALL).expect_err("version 99");
    assert_eq!(error, WalError::UnknownVersion { segment: "0000000000000001.wal".to_owned(), version: 99 });
}

#[test]
fn records_are_read_back_as_what_they_were() {
    let mut files = Memory::new();
    let (mut wal, _) = open(&mut files);
    let identity = Record::Identity { cluster: 7, id: NodeId(3) };
    wal.append_encoded(&identity).expect("queued");
    sync(&mut wal, &mut files);
    let (mut wal, recovery) = open(&mut files);
    assert_eq!(recovery.decode::<Record>(), Ok(vec![identity]));
    wal.append(b"no record at all").expect("queued");
    sync(&mut wal, &mut files);
    let (_, recovery) = open(&mut files);
    let error = recovery.decode::<Record>().expect_err("nonsense with a sound checksum");
    assert!(matches!(error, WalError::Malformed { offset: 104, .. }), "{error:?}");
}

#[test]
fn braft_119_a_crash_in_mid_checkpoint_leaves_the_old_journal_or_the_new() {
    for (files, _) in every_crash_during_a_checkpoint() {
        let (_, recovery) = open(&mut files.clone());
        old_or_new(&recovery);
    }
}

#[test]
fn braft_461_462_disk_full_while_the_checkpoint_is_written_keeps_the_old_log() {
    let (mut files, mut wal) = with_an_old_journal();
    files.set_capacity(Some(files.used() + 100));
    wal.checkpoint(&[9; 500]).expect("queued");
    let sync = wal.begin_sync().expect("a checkpoint is queued");
    let error = wal.end_sync(sync.run(&mut files)).expect_err("the disk is full");
    assert!(matches!(error, WalError::Disk(FileError { reason: Reason::Full, .. })), "{error}");
    assert_eq!(wal.append(b"more"), Err(WalError::Poisoned));
    for seed in 0..200 {
        let (mut files, mut random) = (files.clone(), Random::new(seed));
        files.crash(|bound| random.below(bound));
        let (_, recovery) = open(&mut files);
        assert_eq!(bytes(&recovery), OLD);
    }
    // Without a power loss, too, and the file that was begun is gone: room again.
    let (mut wal, recovery) = open(&mut files);
    assert_eq!(bytes(&recovery), OLD);
    wal.append(b"a vote").expect("queued");
    self::sync(&mut wal, &mut files);
}

#[test]
fn ra_589_crash_between_checkpoint_and_deletion_never_deletes_live_segments() {
    let mut undeleted = 0;
    for (mut files, _) in every_crash_during_a_checkpoint() {
        undeleted += usize::from(files.list().expect("listed").len() > 1);
        let (mut wal, recovery) = open(&mut files);
        let first = bytes(&recovery);
        wal.append(b"after").expect("queued");
        sync(&mut wal, &mut files);
        files.crash(|bound| bound - 1);
        let (_, recovery) = open(&mut files);
        assert_eq!(bytes(&recovery), [&first[..], &[b"after".to_vec()]].concat());
    }
    println!("{undeleted} crashes left old segments beside the checkpoint");
    assert!(undeleted > 50, "{undeleted}");
}

#[test]
fn redisraft_654_crash_in_the_middle_of_a_checkpoint_starts_again_without_a_gap() {
    let mut seen = [0, 0];
    for (mut files, synced) in every_crash_during_a_checkpoint() {
        let (_, recovery) = open(&mut files);
        let new = old_or_new(&recovery);
        assert!(new || !synced, "an acknowledged checkpoint was forgotten");
        seen[usize::from(new)] += 1;
    }
    println!("{} old journals, {} new ones", seen[0], seen[1]);
    assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
}

#[test]
fn hashicorp_661_what_is_one_record_is_never_there_by_half() {
    // Term and vote are one record; and of a whole batch either everything is there or nothing.
    for seed in 0..500 {
        let (mut files, mut random) = (Memory::new(), Random::new(seed));
        let (mut wal, _) = open(&mut files);
        wal.append(b"the term and the vote").expect("queued");
        wal.append(&[7; 3000]).expect("queued");
        let mut sync = wal.begin_sync().expect("two are queued");
        for _ in 0..random.below(6) {
            sync.step(&mut files).expect("done");
        }
        files.crash(|bound| random.below(bound));
        let (_, recovery) = open(&mut files);
        let found: Vec<usize> = bytes(&recovery).iter().map(Vec::len).collect();
        assert!(found.is_empty() || found == [21, 3000], "seed {seed}: {found:?}");
    }
}

const OLD: [&[u8]; 3] = [b"one", b"two", b"three"];
const NEW: &[u8] = &[9; 1500];

fn with_an_old_journal() -> (Memory, Wal) {
    let mut files = Memory::new();
    let (mut wal, _) = open(&mut files);
    for record in OLD {
        wal.append(record).expect("queued");
        sync(&mut wal, &mut files);
    }
    (files, wal)
}

/// The files after a crash at each place of a checkpoint's sync, many times each; and whether it was acknowledged.
fn every_crash_during_a_checkpoint() -> impl Iterator<Item = (Memory, bool)> {
    (0..7).flat_map(|place| {
        (0..40).map(move |seed| {
            let (mut files, mut wal) = with_an_old_journal();
            wal.append(b"never written, because the checkpoint has it").expect("queued");
            wal.checkpoint(NEW).expect("queued");
            let mut sync = wal.begin_sync().expect("a checkpoint is queued");
            assert_eq!(sync.operations().len(), 6);
            let mut more = true;
            for _ in 0..place {
                more = more && sync.step(&mut files).expect("done");
            }
            let mut random = Random::new(seed);
            files.crash(|bound| random.below(bound));
            (files, !more)
        })
    })
}

fn old_or_new(recovery: &Recovery) -> bool {
    let found = bytes(recovery);
    assert!(found == OLD || found == [NEW], "{found:?}");
    found == [NEW]
}

fn open(files: &mut Memory) -> (Wal, Recovery) {
    Wal::open(files, SMALL).expect("a journal that was never damaged")
}

fn queue(wal: &mut Wal, records: &[&[u8]]) -> Sync {
    for record in records {
        wal.append(record).expect("queued");
    }
    wal.begin_sync().expect("something is queued")
}

fn sync(wal: &mut Wal, files: &mut Memory) -> u64 {
    let sync = wal.begin_sync().expect("something is queued");
    wal.end_sync(sync.run(files)).expect("synced")
}

/// Does the next operation; a sync fails now and then.
fn step(sync: &mut Sync, files: &mut Memory, random: &mut Random) -> Result<bool, FileError> {
    if matches!(sync.operations().next(), Some(Operation::Sync { .. })) && random.below(16) == 0 {
        files.fail_next(Action::Sync);
    }
    sync.step(files)
}

fn bytes(recovery: &Recovery) -> Vec<Vec<u8>> {
    recovery.records.iter().map(|record| record.bytes.to_vec()).collect()
}

/// What the journal may say, by a naive twin that remembers everything.
#[derive(Default)]
struct Journal {
    /// Everything since the newest checkpoint that is durable, and what came after.
    records: Vec<(bool, Vec<u8>)>,
    /// How many of them must be there.
    durable: usize,
    written: u32,
}

impl Journal {
    /// One life: opens (crashing now and then while it does), writes, and ends by a crash or by being killed. Returns
    /// whether a tail was torn before.
    fn live(&mut self, files: &mut Memory, random: &mut Random, seed: u64) -> bool {
        while random.below(3) == 0 {
            files.halt_after(random.below(8));
            // An error means that it died while it opened; otherwise it dies with nothing done.
            let died = Wal::open(files, SMALL);
            assert!(matches!(died, Ok(_) | Err(WalError::Disk(_))), "seed {seed}: {died:?}");
            self.die(files, random);
        }
        let (mut wal, recovery) =
            Wal::open(files, SMALL).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        self.compare(&recovery, seed);
        files.halt_after(random.below(40));
        self.write(&mut wal, files, random);
        self.die(files, random);
        recovery.repaired.is_some()
    }

    fn die(&self, files: &mut Memory, random: &mut Random) {
        let _ = self;
        if random.below(4) == 0 { files.resume() } else { files.crash(|bound| random.below(bound)) }
    }

    fn compare(&mut self, recovery: &Recovery, seed: u64) {
        let found = bytes(recovery);
        let fits = |end: &usize| {
            let kept = &self.records[..*end];
            let start = kept.iter().rposition(|(checkpoint, _)| *checkpoint).unwrap_or(0);
            kept[start..].iter().map(|(_, bytes)| bytes).eq(found.iter())
        };
        let end = (self.durable..=self.records.len()).find(fits);
        let end = end.unwrap_or_else(|| {
            let lengths = |records: &[Vec<u8>]| records.iter().map(Vec::len).collect::<Vec<_>>();
            panic!(
                "seed {seed}: {} durable of {}, found {:?}",
                self.durable,
                self.records.len(),
                lengths(&found)
            )
        });
        self.records.truncate(end);
        self.durable = end;
    }

    /// Appends, checkpoints and syncs, interleaved, until the disk halts.
    fn write(&mut self, wal: &mut Wal, files: &mut Memory, random: &mut Random) {
        let before = self.records.len();
        let mut under_way: Option<Sync> = None;
        for _ in 0..random.below(120) {
            match (random.below(8), under_way.take()) {
                (draw @ 0..=2, sync) => {
                    under_way = sync;
                    self.push(wal, draw == 0 && random.below(4) == 0, random.below(900) as usize);
                }
                (_, None) => under_way = wal.begin_sync(),
                (_, Some(mut sync)) => match step(&mut sync, files, random) {
                    Ok(true) => under_way = Some(sync),
                    Ok(false) => {
                        let durable = wal.end_sync(Ok(())).expect("all operations are done");
                        assert_eq!(durable, sync.covers());
                        self.durable = before + durable as usize;
                    }
                    Err(error) => {
                        wal.end_sync(Err(error)).expect_err("poisoned");
                        return;
                    }
                },
            }
        }
    }

    fn push(&mut self, wal: &mut Wal, checkpoint: bool, length: usize) {
        self.written += 1;
        let mut record = self.written.to_le_bytes().to_vec();
        record.resize(4 + length, 0xa5);
        if checkpoint { wal.checkpoint(&record) } else { wal.append(&record) }.expect("queued");
        self.records.push((checkpoint, record));
    }
}
