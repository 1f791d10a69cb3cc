//! What a program under the shim may lose, and what not. Python does the writing, as it does for members.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use preload::rollback::{Lost, lose_power};

struct Machine {
    root: PathBuf,
}

impl Machine {
    fn new(name: &str) -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("disk")).unwrap();
        Self { root }
    }

    fn disk(&self) -> PathBuf {
        self.root.join("disk")
    }

    /// Runs a program that ends by SIGKILL.
    fn run(&self, program: &str, lies: bool) {
        let program = format!(
            "import os, signal\nos.chdir({:?})\n{program}\nos.kill(os.getpid(), signal.SIGKILL)",
            self.disk()
        );
        let status = Command::new("python3")
            .args(["-c", &program])
            .env("LD_PRELOAD", library())
            .env("PRELOAD_FOLDER", self.disk())
            .env("PRELOAD_LOG", self.root.join("log"))
            .env("PRELOAD_LIES", if lies { "1" } else { "0" })
            .status()
            .unwrap();
        assert_eq!(status.code(), None, "it was killed: {program}");
    }

    fn lose_power(&self, seed: u64) -> Lost {
        lose_power(&self.disk(), &self.root.join("log"), seed).unwrap()
    }

    fn read(&self, file: &str) -> Option<Vec<u8>> {
        fs::read(self.disk().join(file)).ok()
    }
}

fn library() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let library = here.with_file_name("libpreload.so");
    assert!(library.exists(), "cargo builds the shim beside its tests");
    library
}

const WRITE: &str = "
folder = os.open('.', os.O_RDONLY)
f = os.open('a', os.O_CREAT | os.O_RDWR)
os.pwrite(f, b'safe' * 1000, 0)
os.fdatasync(f)
os.fsync(folder)
os.pwrite(f, b'lost' * 2000, 2000)
";

#[test]
fn what_was_synced_stays_and_the_rest_goes() {
    let machine = Machine::new("synced");
    machine.run(WRITE, false);
    assert_eq!(machine.read("a").unwrap().len(), 10_000, "the page cache survives a SIGKILL");
    let lost = machine.lose_power(0);
    assert_eq!(lost, Lost { writes: 1, kept: 0, names: 0 });
    assert_eq!(machine.read("a").unwrap(), b"safe".repeat(1000));
}

#[test]
fn a_sync_that_lies_saves_nothing() {
    let machine = Machine::new("lies");
    machine.run(WRITE, true);
    machine.lose_power(0);
    assert_eq!(machine.read("a"), None, "not even the name was durable");
}

#[test]
fn a_name_is_durable_when_its_folder_is() {
    let machine = Machine::new("names");
    machine.run(
        "folder = os.open('.', os.O_RDONLY)
for name in 'abc':
    f = os.open(name, os.O_CREAT | os.O_WRONLY)
    os.write(f, name.encode())
    os.fsync(f)
os.fsync(folder)
os.unlink('a')
os.rename('b', 'c')
open('d', 'w').close()",
        false,
    );
    assert_eq!(machine.read("c").unwrap(), b"b");
    let lost = machine.lose_power(0);
    assert_eq!(lost.names, 3);
    assert_eq!(
        ["a", "b", "c", "d"].map(|name| machine.read(name)),
        [Some(b"a".to_vec()), Some(b"b".to_vec()), Some(b"c".to_vec()), None]
    );
}

#[test]
fn a_later_life_can_sync_what_an_earlier_one_wrote() {
    let machine = Machine::new("lives");
    machine.run(WRITE, false);
    machine.run("f = os.open('a', os.O_RDWR)\nos.fsync(f)\nos.pwrite(f, b'x', 0)", false);
    machine.lose_power(0);
    let left = machine.read("a").unwrap();
    assert_eq!(left.len(), 10_000);
    assert_eq!(&left[..4], b"safe");
}

#[test]
fn room_that_was_reserved_and_tails_that_were_cut_off_come_back() {
    let machine = Machine::new("lengths");
    machine.run(
        "folder = os.open('.', os.O_RDONLY)
f = os.open('a', os.O_CREAT | os.O_RDWR)
os.write(f, b'12345678')
os.fsync(f); os.fsync(folder)
os.ftruncate(f, 3)
os.posix_fallocate(f, 0, 1 << 20)
os.pwrite(f, b'z', 5)",
        false,
    );
    assert_eq!(machine.read("a").unwrap().len(), 1 << 20);
    machine.lose_power(0);
    assert_eq!(machine.read("a").unwrap(), b"12345678");
}

#[test]
fn with_a_seed_some_of_it_had_reached_the_disk() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 1..20 {
        let machine = Machine::new(&format!("seed-{seed}"));
        machine.run(WRITE, false);
        machine.lose_power(seed);
        let left = machine.read("a").unwrap();
        assert_eq!(&left[..2000], &b"safe".repeat(500)[..]);
        let reached = left.windows(4).skip(2000).step_by(4).filter(|word| word == b"lost").count();
        assert!(reached * 4 % 512 == 0 || reached == 2000, "a tear is at a sector");
        seen.insert(reached);
    }
    assert!(seen.contains(&0) && seen.contains(&2000) && seen.len() > 3, "nothing, all, and parts: {seen:?}");
}
