//! Who may know whom: holds the paths named in `src/` to the table of rooms.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A room (or, with a slash, one file of it) and the rooms that it may name. A room that is not here fails.
const MAY_IMPORT: &[(&str, &str)] = &[
    ("id", ""),
    ("time", ""),
    ("random", ""),
    ("quorum", "id"),
    ("protocol", "id time random"),
    ("wire", "id"),
    ("wal", "wire"),
    ("raft", "protocol quorum wire id time random"),
    ("paxos", "protocol quorum wire id time random"),
    ("commit", "protocol quorum wire id time random"),
    ("gossip", "protocol quorum wire id time random"),
    ("election", "protocol quorum wire id time random"),
    ("replication", "protocol quorum wire id time random"),
    ("ledger", "protocol quorum wire id time random"),
    ("store", "id time wire"),
    ("replica", "raft store protocol wire id time random"),
    ("check", "id time"),
    ("sim", "protocol check wire wal id time random"),
    // The standard world hands `check` plain values, so it alone knows what a replica is.
    ("sim/standard", "protocol check wire wal id time random raft replica store"),
    ("net", "wire id time random"),
    ("node", "protocol raft replica store wal net wire id time random"),
    ("client", "net wire store replica id time random"),
    // `memory:` drives a replica of its own.
    ("client/memory", "protocol raft store replica id time random"),
    ("etcd", "node client store"),
    ("ring", "id time random"),
    ("balance", "ring id time random"),
    ("proxy", "balance net id time random"),
    ("pool", "time random"),
    ("array", "pool::scheduler"),
    (
        "bindings",
        "id time random quorum protocol wire wal raft paxos commit gossip election replication ledger store replica \
         check sim net node client etcd ring balance proxy pool array",
    ),
];

/// The rooms that may read a clock, open a file or a socket, and start a thread.
const IMPURE: &[&str] = &["net", "node", "client", "etcd", "proxy", "pool", "array", "bindings"];

/// What the others may not name.
const EFFECTS: &[&str] =
    &["std::time::Instant", "std::time::SystemTime", "std::fs", "std::net", "std::thread", "std::process"];

#[test]
fn rooms_name_only_the_rooms_below_them() {
    let sources = sources();
    let mut problems = Vec::new();
    for source in &sources {
        let Some(room) = source.room() else { continue };
        let Some(allowed) = allowed(&source.name) else {
            problems.push(format!("src/{}: the room `{room}` is not in the table", source.name));
            continue;
        };
        for path in source.rooms_named() {
            if !path.starts_with(&format!("{room}::")) && path != room && !is_allowed(&path, allowed) {
                problems.push(format!("src/{}: `{room}` may not name `crate::{path}`", source.name));
            }
        }
    }
    println!("{} files read", sources.len());
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn pure_rooms_name_no_clock_no_file_no_socket_no_thread() {
    let sources = sources();
    let mut problems = Vec::new();
    let mut pure = 0;
    for source in &sources {
        if source.room().is_some_and(|room| IMPURE.contains(&room)) {
            continue;
        }
        pure += 1;
        for path in source.paths("std") {
            let path = format!("std::{path}");
            if EFFECTS.iter().any(|effect| path == *effect || path.starts_with(&format!("{effect}::"))) {
                problems.push(format!("src/{}: a pure room may not name `{path}`", source.name));
            }
        }
    }
    println!("{pure} of {} files are pure", sources.len());
    assert!(pure > 3, "only {pure} pure files: the guard looks in the wrong place");
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn every_rust_file_is_read() {
    // Counted another way than `sources` does, so that neither can go blind alone: what `mod` declares in lib.rs
    // must be among the rooms read.
    let sources = sources();
    let rooms: BTreeSet<&str> = sources.iter().filter_map(Source::room).collect();
    let library = fs::read_to_string(root().join("lib.rs")).expect("src/lib.rs");
    let declared: BTreeSet<&str> = library
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    assert_eq!(rooms, declared);
    assert!(declared.len() >= 5, "{declared:?}");
}

#[test]
fn the_guard_sees_what_it_should_refuse() {
    let planted = Source {
        name: "ring/planted.rs".to_owned(),
        text: "// use crate::net;\nuse crate::{balance::{Picker, stats}, time};\nuse std::{fmt, fs::File};\n\
               /* crate::wal */ const WORD: &str = \"crate::raft\";\nfn f() { crate::random::mix(1); super::pool::g() }\n"
            .to_owned(),
    };
    assert_eq!(
        planted.rooms_named(),
        ["balance::Picker", "balance::stats", "pool::g", "random::mix", "time"].map(String::from)
    );
    assert_eq!(planted.paths("std"), ["fmt", "fs::File"].map(String::from));
    let ring = allowed("ring/planted.rs").expect("ring is in the table");
    assert!(is_allowed("random::mix", ring) && !is_allowed("balance::Picker", ring));
    let array = allowed("array/mod.rs").expect("array is in the table");
    assert!(is_allowed("pool::scheduler::Plan", array) && !is_allowed("pool::memory", array));
    assert!(is_allowed("raft::Entry", allowed("sim/standard.rs").expect("a file with a row of its own")));
    assert!(is_allowed(
        "raft::Entry",
        allowed("sim/standard/judge.rs").expect("a folder with a row of its own")
    ));
    assert!(!is_allowed("raft::Entry", allowed("sim/world/run.rs").expect("a file of its room")));
}

fn allowed(file: &str) -> Option<&'static str> {
    let file = file.trim_end_matches(".rs");
    let room = file.split('/').next()?;
    let row = |wanted: &str| MAY_IMPORT.iter().find(|(name, _)| *name == wanted).map(|(_, rooms)| *rooms);
    // A row with a slash is a file's, and holds for the folder of the same name.
    let mut places = file.match_indices('/').map(|(at, _)| &file[..at]).chain([file]).rev();
    places.find_map(row).or_else(|| row(room))
}

fn is_allowed(path: &str, allowed: &str) -> bool {
    allowed.split_whitespace().any(|room| path == room || path.starts_with(&format!("{room}::")))
}

/// A file below `src/`, with its path from there.
struct Source {
    name: String,
    text: String,
}

impl Source {
    /// The first part of its path; `lib.rs` is the hall, and no room.
    fn room(&self) -> Option<&str> {
        let first = self.name.split('/').next()?.trim_end_matches(".rs");
        (first != "lib").then_some(first)
    }

    /// All paths below the crate's root that it names, by `crate::` or by a `super::` that leaves its room.
    fn rooms_named(&self) -> Vec<String> {
        let mut named = self.paths("crate");
        named.extend(self.paths("super").into_iter().filter(|path| self.leaves_its_room(path)));
        named.sort();
        named.dedup();
        named
    }

    /// Whether `super::path` can only mean another room: it bears a room's name, and no file here does.
    fn leaves_its_room(&self, path: &str) -> bool {
        let first = path.split("::").next().unwrap_or_default();
        let here = root().join(&self.name).with_file_name(first);
        let is_room = MAY_IMPORT.iter().any(|(room, _)| *room == first);
        is_room && self.name.contains('/') && !here.is_dir() && !here.with_extension("rs").is_file()
    }

    /// What follows `root::` wherever it stands, with braces multiplied out.
    fn paths(&self, root: &str) -> Vec<String> {
        let code = without_comments_and_strings(&self.text);
        let start = format!("{root}::");
        let mut found = Vec::new();
        for (at, _) in code.match_indices(&start) {
            let glued = code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
            if !glued {
                expand(&code[at + start.len()..], "", &mut found);
            }
        }
        found.sort();
        found.dedup();
        found
    }
}

/// Reads one path, or one tree of them, from the start of `text`; returns how many bytes it took.
fn expand(text: &str, prefix: &str, found: &mut Vec<String>) -> usize {
    let skipped = text.len() - text.trim_start().len();
    let rest = &text[skipped..];
    if rest.starts_with('{') {
        let mut at = 1;
        while at < rest.len() && !rest[at..].starts_with('}') {
            at += expand(&rest[at..], prefix, found);
            // Past a comma, an `as Name`, or blank space, to the next path or the end.
            at += rest[at..].find([',', '}']).unwrap_or(rest.len() - at);
            at += usize::from(rest[at..].starts_with(','));
            at += rest[at..].len() - rest[at..].trim_start().len();
        }
        return skipped + at + 1;
    }
    let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let word = &rest[..length];
    let path = match (prefix, word) {
        (_, "self" | "") => prefix.to_owned(), // `{self, …}` and a final `*`
        ("", _) => word.to_owned(),
        _ => format!("{prefix}::{word}"),
    };
    if rest[length..].starts_with("::") {
        return skipped + length + 2 + expand(&rest[length + 2..], &path, found);
    }
    if !path.is_empty() {
        found.push(path);
    }
    skipped + length
}

/// The code alone: comments and the insides of strings become blanks.
fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if first == '"' {
            string_length(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[length..];
    }
    code
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder below src") {
            let path = entry.expect("an entry below src").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).expect("below src").to_string_lossy().replace('\\', "/");
                files.push(Source { name, text: fs::read_to_string(&path).expect("UTF-8") });
            }
        }
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    assert!(files.len() > 5, "only {} files below {}", files.len(), root().display());
    files
}
