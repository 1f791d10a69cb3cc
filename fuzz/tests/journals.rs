//! The journal's reader: whatever lies in the folder, it is refused, or it is a journal that goes on.

use bolero::TypeGenerator;
use coterie::raft::Record;
use coterie::wal::{Files, Memory, Recovery, Settings, Wal, WalError};
use fuzz::{Edit, bounded, number, spoil};

const SETTINGS: Settings = Settings { segment_bytes: 1024, version: coterie::wire::VERSION };

#[derive(Clone, Debug, TypeGenerator)]
struct Input {
    preallocates: bool,
    /// What was written, and synced when `true`.
    #[generator(bolero::produce::<Vec<(Write, bool)>>().with().len(0usize..12))]
    writes: Vec<(Write, bool)>,
    /// What happened to the files, one after the other.
    #[generator(bolero::produce::<Vec<Damage>>().with().len(0usize..4))]
    damages: Vec<Damage>,
}

#[derive(Clone, Debug, TypeGenerator)]
struct Write {
    checkpoint: bool,
    byte: u8,
    #[generator(0u16..700)]
    length: u16,
}

#[derive(Clone, Debug, TypeGenerator)]
enum Damage {
    /// A file's bytes are others. When `summed`, the checksums are right again afterwards.
    Spoilt {
        file: u8,
        #[generator(bolero::produce::<Vec<Edit>>().with().len(0usize..4))]
        edits: Vec<Edit>,
        summed: bool,
    },
    /// A file is gone.
    Gone(u8),
    /// A file is there under another number.
    Renumbered { file: u8, number: u8, summed: bool },
    /// A file that nobody wrote.
    Foreign {
        number: u8,
        #[generator(bolero::produce::<Vec<u8>>().with().len(0usize..200))]
        bytes: Vec<u8>,
        summed: bool,
    },
}

#[test]
fn a_folder_of_segments() {
    bolero::check!().with_type::<Input>().for_each(|input| {
        let mut files = written(input);
        for damage in &input.damages {
            damage.befall(&mut files);
        }
        let length = files.used() as usize;
        let opened = bounded(length, || Wal::open(&mut files, SETTINGS));
        if let Ok((wal, recovery)) = opened {
            goes_on(&mut files, wal, &recovery);
        }
    });
}

/// What was recovered is there at the next start, and so is what is written then.
fn goes_on(files: &mut Memory, mut wal: Wal, recovery: &Recovery) {
    let _ = recovery.decode::<Record>();
    let (_, again) = Wal::open(files, SETTINGS).expect("what was repaired is sound");
    assert!(again.repaired.is_none(), "repaired twice: {again:?}");
    assert_eq!(again.records, recovery.records);
    match wal.append(b"after") {
        // Its files were renumbered to the last number of all.
        Err(WalError::Exhausted) => return,
        queued => queued.expect("queued"),
    };
    let sync = wal.begin_sync().expect("one is queued");
    wal.end_sync(sync.run(files)).expect("the disk is sound");
    files.crash(|bound| bound - 1);
    let (_, after) = Wal::open(files, SETTINGS).expect("what was synced is there");
    let (last, before) = after.records.split_last().expect("one at least");
    assert_eq!(&last.bytes[..], b"after");
    assert_eq!(before, recovery.records);
}

fn written(input: &Input) -> Memory {
    let mut files = if input.preallocates { Memory::preallocating() } else { Memory::new() };
    let (mut wal, _) = Wal::open(&mut files, SETTINGS).expect("an empty folder");
    for (write, synced) in &input.writes {
        let record = vec![write.byte; usize::from(write.length)];
        if write.checkpoint { wal.checkpoint(&record) } else { wal.append(&record) }.expect("queued");
        if *synced && let Some(sync) = wal.begin_sync() {
            wal.end_sync(sync.run(&mut files)).expect("the disk is sound");
        }
    }
    files
}

impl Damage {
    fn befall(&self, files: &mut Memory) {
        match self {
            Self::Spoilt { file, edits, summed } => {
                if let Some(name) = pick(files, *file) {
                    let mut bytes = files.read(&name).expect("it is listed").to_vec();
                    spoil(&mut bytes, edits);
                    put(files, &name, bytes, *summed);
                }
            }
            Self::Gone(file) => {
                if let Some(name) = pick(files, *file) {
                    files.remove(&name).expect("it is listed");
                }
            }
            Self::Renumbered { file, number: to, summed } => {
                if let Some(name) = pick(files, *file) {
                    let mut bytes = files.read(&name).expect("it is listed").to_vec();
                    files.remove(&name).expect("it is listed");
                    if let Some(place) = bytes.get_mut(16..24) {
                        place.copy_from_slice(&number(*to).to_le_bytes());
                    }
                    put(files, &named(*to), bytes, *summed);
                }
            }
            Self::Foreign { number, bytes, summed } => put(files, &named(*number), bytes.clone(), *summed),
        }
    }
}

fn pick(files: &mut Memory, which: u8) -> Option<String> {
    let names = files.list().expect("the folder is sound");
    usize::from(which).checked_rem(names.len()).map(|which| names[which].clone())
}

fn named(edge: u8) -> String {
    format!("{:016x}.wal", number(edge))
}

fn put(files: &mut Memory, name: &str, mut bytes: Vec<u8>, summed: bool) {
    if summed {
        sum(name, &mut bytes);
    }
    let _ = files.remove(name);
    files.create(name, 0).expect("it is not there");
    files.write(name, 0, &bytes).expect("the disk has room");
    files.sync(name).expect("the disk is sound");
    files.sync_folder().expect("the disk is sound");
}

/// Makes all checksums right, as whoever wants to do harm would, or an older build with a bug.
fn sum(name: &str, bytes: &mut [u8]) {
    const HEADER: usize = 32;
    const BATCH: usize = 24;
    let segment = u64::from_str_radix(&name[..16], 16).expect("a name of ours");
    if bytes.len() >= HEADER {
        bytes[..8].copy_from_slice(b"coterwal");
        bytes[16..24].copy_from_slice(&segment.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[12..HEADER]);
        bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
    }
    let mut at = HEADER;
    while at + BATCH <= bytes.len() {
        let length = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().expect("four bytes")) as usize;
        let body = at + BATCH;
        let end = body.saturating_add(length).min(bytes.len());
        let checksum = crc32c::crc32c(&bytes[body..end]);
        bytes[at + 16..at + 20].copy_from_slice(&checksum.to_le_bytes());
        let seed = crc32c::crc32c(&segment.to_le_bytes());
        let checksum = crc32c::crc32c_append(seed, &bytes[at..at + 20]);
        bytes[at + 20..at + 24].copy_from_slice(&checksum.to_le_bytes());
        at = end.max(at + 8);
    }
}

/// A journal of another version is refused, and says so; that is no rot.
#[test]
fn a_version_that_is_not_ours() {
    bolero::check!().with_type::<(u16, Write)>().for_each(|(version, write)| {
        let input = Input {
            preallocates: false,
            writes: vec![(write.clone(), true)],
            damages: vec![Damage::Spoilt { file: 0, edits: edits(*version), summed: true }],
        };
        let mut files = written(&input);
        input.damages[0].befall(&mut files);
        let known = (coterie::wire::VERSION_MIN..=coterie::wire::VERSION).contains(version);
        match Wal::open(&mut files, SETTINGS) {
            Ok(_) => assert!(known, "version {version}"),
            Err(WalError::UnknownVersion { version: found, .. }) => assert!(!known && found == *version),
            Err(other) => panic!("version {version}: {other}"),
        }
    });
}

fn edits(version: u16) -> Vec<Edit> {
    let [low, high] = version.to_le_bytes();
    vec![Edit::Set { at: 12, byte: low }, Edit::Set { at: 13, byte: high }]
}
