//! A member's folder.
//!
//! ```text
//!   LOCK            flock, and the process that holds it
//!   member          who this is, and where others were last: checksummed, written beside and renamed
//!   member.json     the same for people; nobody reads it back
//!   wal/            the journal, which rules
//!   snap/           snapshots
//!   reserve         room for the end, should the disk be full
//! ```

use bytes::Bytes;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::reserve::Reserve;
use super::{ConfigError, Failure, StartError};
use crate::id::NodeId;
use crate::net::Known;
use crate::net::Owned;
use crate::wire::{Decode, Encode, VERSION, VERSION_MIN, structures};

/// A folder that this process alone works in.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    reserve: Arc<Reserve>,
    /// Holds the lock.
    _lock: Owned<File>,
}

/// What a member writes down beside its journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Card {
    /// The name of the cluster.
    pub(super) cluster: String,
    /// The member's id, as in its journal.
    pub(super) id: NodeId,
    /// Its name.
    pub(super) name: String,
    /// Where it listens.
    pub(super) listen: String,
    /// How many lives it has begun.
    pub(super) life: u64,
    /// All members that it knows.
    pub(super) members: Vec<Known>,
}

structures! {
    Card { cluster: String, id: NodeId, name: String, listen: String, life: u64, members: Vec<Known> }
}

const MAGIC: &[u8; 8] = b"coterimb";
const CARD: &str = "member";

impl Folder {
    /// Opens a folder, which is made if it is not there, locks it, and keeps room back in it.
    pub(super) fn open(path: &Path, segment_bytes: u64) -> Result<Self, StartError> {
        let complain = |error: io::Error| ConfigError {
            setting: "data_dir",
            complaint: format!("{}: {error}", path.display()),
        };
        for folder in [path.to_owned(), path.join("wal"), path.join("snap")] {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(complain)?;
        }
        let lock = lock(&path.join("LOCK")).map_err(|held| match held {
            Held::Failed(error) => complain(error),
            Held::By(process) => ConfigError {
                setting: "data_dir",
                complaint: format!("{} is in use by process {process}", path.display()),
            },
        })?;
        let path = fs::canonicalize(path).map_err(complain)?;
        let reserve = Arc::new(Reserve::take(&path, segment_bytes)?);
        Ok(Self { path, reserve, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn wal(&self) -> PathBuf {
        self.path.join("wal")
    }

    pub(super) fn snapshots(&self) -> PathBuf {
        self.path.join("snap")
    }

    /// Room for the end.
    pub(super) const fn reserve(&self) -> &Arc<Reserve> {
        &self.reserve
    }

    /// What was written down last; `None`: nothing yet.
    pub(super) fn card(&self) -> Result<Option<Card>, Failure> {
        let path = self.path.join(CARD);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::storage(path, "could not be read", &error)),
        };
        read_card(&bytes).map(Some).map_err(|complaint| Failure::Storage {
            path,
            offset: Some(0),
            complaint,
            full: false,
        })
    }

    /// Writes it down, for good.
    pub(super) fn write_card(&self, card: &Card, version: u16) -> Result<(), Failure> {
        let body = card.to_bytes();
        let mut bytes = MAGIC.to_vec();
        version.encode(&mut bytes);
        crc32c::crc32c(&body).encode(&mut bytes);
        bytes.extend_from_slice(&body);
        self.replace(CARD, &bytes)?;
        self.replace("member.json", card.to_json(version).as_bytes())
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let (path, beside) = (self.path.join(name), self.path.join(format!("{name}.new")));
        let written = self.reserve.cover(|| {
            let options =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside);
            let mut file = options?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            sync_folder(&self.path)
        });
        written.map_err(|error: io::Error| Failure::storage(path, "could not be written", &error))
    }
}

/// The card, or what is wrong with it.
fn read_card(bytes: &[u8]) -> Result<Card, String> {
    let parts = || {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (version, rest) = rest.split_first_chunk()?;
        let (checksum, body) = rest.split_first_chunk()?;
        let sound = crc32c::crc32c(body) == u32::from_le_bytes(*checksum);
        sound.then_some((u16::from_le_bytes(*version), body))
    };
    let damaged = "is damaged; restore it, or remove this member and add it again with an empty folder";
    let (version, body) = parts().ok_or(damaged)?;
    if !(VERSION_MIN..=VERSION).contains(&version) {
        return Err(format!(
            "is of version {version}, and this build reads {VERSION_MIN} to {VERSION}: start the build that wrote it"
        ));
    }
    Card::from_bytes(Bytes::copy_from_slice(body), version).map_err(|_| damaged.to_owned())
}

impl Card {
    fn to_json(&self, version: u16) -> String {
        let mut out = String::new();
        let _ = write!(
            out,
            "{{\n  \"format\": {version},\n  \"cluster\": {},\n  \"cluster_id\": \"{:016x}\",\n  \"member_id\": \
             \"{:016x}\",\n  \"name\": {},\n  \"listen\": {},\n  \"members\": [",
            quoted(&self.cluster),
            super::config::cluster_id(&self.cluster),
            self.id.0,
            quoted(&self.name),
            quoted(&self.listen),
        );
        for (place, member) in self.members.iter().enumerate() {
            let _ = write!(
                out,
                "{}\n    {{\"id\": \"{:016x}\", \"name\": {}, \"address\": {}}}",
                if place == 0 { "" } else { "," },
                member.id.0,
                quoted(&member.name),
                quoted(&member.address)
            );
        }
        out.push_str("\n  ]\n}\n");
        out
    }
}

/// As a string of JSON.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
    out
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Returns when the folder's names would survive a power loss.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Why a lock was not had.
enum Held {
    By(String),
    Failed(io::Error),
}

fn lock(path: &Path) -> Result<Owned<File>, Held> {
    let options =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let mut file = Owned::new(options.map_err(Held::Failed)?);
    // SAFETY: the descriptor is open; flock touches no memory of ours.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::WouldBlock {
            return Err(Held::Failed(error));
        }
        let mut process = String::new();
        let _ = file.read_to_string(&mut process);
        let process = process.trim();
        return Err(Held::By(if process.is_empty() { "(unknown)".to_owned() } else { process.to_owned() }));
    }
    let written = file.set_len(0).and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
    written.map_err(Held::Failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_opener_at_a_time_and_what_it_wrote_is_read_back() {
        let path = std::env::temp_dir().join(format!("coterie-folder-{}", std::process::id()));
        let folder = Folder::open(&path, 1 << 16).expect("a folder");
        let Err(StartError::Config(refused)) = Folder::open(&path, 1 << 16) else { panic!("in use") };
        assert!(refused.complaint.ends_with(&format!("in use by process {}", std::process::id())));
        assert_eq!(folder.card().expect("readable"), None);
        let known = Known { id: NodeId(7), name: "b \"c\"\n".to_owned(), address: "h:1".to_owned(), life: 2 };
        let card = Card {
            cluster: "ours".to_owned(),
            id: NodeId(9),
            name: "a".to_owned(),
            listen: "127.0.0.1:9".to_owned(),
            life: 3,
            members: vec![known.clone(), known],
        };
        folder.write_card(&card, VERSION).expect("written");
        assert_eq!(folder.card().expect("readable"), Some(card));
        let json = fs::read_to_string(path.join("member.json")).expect("there");
        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(value["members"][1]["name"], "b \"c\"\n");
        drop(folder);
        let sound = fs::read(path.join(CARD)).expect("there");
        let mut later = sound.clone();
        later[MAGIC.len()] += 1;
        let complaint = read_card(&later).expect_err("of a later version");
        assert!(complaint.contains("start the build that wrote it"), "{complaint}");
        let mut damaged = sound;
        *damaged.last_mut().expect("bytes") ^= 1;
        fs::write(path.join(CARD), damaged).expect("written");
        let folder = Folder::open(&path, 1 << 16).expect("free again");
        assert!(matches!(folder.card(), Err(Failure::Storage { .. })));
        fs::remove_dir_all(&path).expect("removed");
    }
}
