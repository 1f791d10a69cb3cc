//! Replays the conversations of `tests/scripts`: commands to a small cluster, and what must come of them.
//!
//! `tests/scripts/README.md` has the language. `COTERIE_REWRITE=1 cargo test conversations` writes the expected
//! output anew; then read the difference: it says what members do now, not what they should.

mod cluster;
mod commands;
mod invariants;
mod member;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use cluster::Cluster;

#[test]
fn conversations_go_as_they_are_written() {
    let scripts = scripts();
    let mut problems = Vec::new();
    let mut commands = 0;
    for path in &scripts {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(path).expect("a script is UTF-8");
        let replay = replay(&text);
        commands += replay.commands;
        if let Some(problem) = replay.broken {
            problems.push(format!("{name}: {problem}"));
        } else if std::env::var_os("COTERIE_REWRITE").is_some() {
            fs::write(path, replay.text).expect("a script can be written");
        } else if let Some(difference) = difference(&text, &replay.text) {
            problems.push(format!("{name}: {difference}"));
        }
    }
    println!("{} scripts, {commands} commands", scripts.len());
    assert!(scripts.is_empty() || commands > scripts.len(), "scripts without commands");
    assert!(
        problems.is_empty(),
        "\n{}\n\nCOTERIE_REWRITE=1 cargo test conversations writes what was said; broken expectations stay broken\n",
        problems.join("\n\n")
    );
}

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .expect("tests/scripts")
        .map(|entry| entry.expect("an entry of tests/scripts").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    found.sort();
    // To work on one of them: COTERIE_SCRIPT=figure-7 cargo test conversations
    if let Ok(wanted) = std::env::var("COTERIE_SCRIPT") {
        found.retain(|path| path.to_string_lossy().contains(&wanted));
    }
    found
}

/// What became of a script.
struct Replay {
    /// The script with what was said now.
    text: String,
    /// The first expectation or invariant that did not hold, or the first command that made no sense.
    broken: Option<String>,
    commands: usize,
}

fn replay(script: &str) -> Replay {
    replay_in(Cluster::default(), script)
}

fn replay_in(mut cluster: Cluster, script: &str) -> Replay {
    let mut replay = Replay { text: String::new(), broken: None, commands: 0 };
    let mut expected = false;
    for (number, line) in script.lines().enumerate() {
        if expected {
            // Output reaches to the next blank line; it was written anew already.
            expected = !line.is_empty();
            continue;
        }
        writeln!(replay.text, "{line}").expect("a String takes all");
        if line == "----" {
            expected = true;
            for said in cluster.said.drain(..) {
                writeln!(replay.text, "{said}").expect("a String takes all");
            }
            replay.text.push('\n');
        } else if !line.is_empty() && !line.starts_with('#') {
            replay.commands += 1;
            if let Err(problem) = commands::obey(&mut cluster, line) {
                let said = cluster.said.join("\n    ");
                replay.broken = Some(format!(
                    "line {}: `{line}`: {problem}\n  said since the last ----:\n    {said}",
                    number + 1
                ));
                return replay;
            }
        }
    }
    if !cluster.said.is_empty() {
        replay.broken = Some(format!("something was said after the last ----: {:?}", cluster.said));
    }
    replay
}

/// The first line that differs, with what surrounds it.
fn difference(expected: &str, found: &str) -> Option<String> {
    if expected.trim_end() == found.trim_end() {
        return None;
    }
    let at = expected.lines().zip(found.lines()).take_while(|(one, other)| one == other).count();
    let around = |text: &str| -> String {
        let lines: Vec<&str> = text.lines().skip(at.saturating_sub(3)).take(10).collect();
        format!("    {}\n", lines.join("\n    "))
    };
    Some(format!("line {}\n  expected:\n{}  said:\n{}", at + 1, around(expected), around(found)))
}

#[test]
fn an_expectation_that_does_not_hold_is_reported_even_while_rewriting() {
    let replay = replay("members 1\nexpect-leader 1\n----\n");
    assert!(replay.broken.is_some_and(|problem| problem.contains("line 2")));
}

#[test]
fn nonsense_in_a_script_is_reported() {
    for line in ["fly 1", "propose 9 \"x\"", "members 1 2 colour=red", "advance soon"] {
        assert!(replay(line).broken.is_some(), "{line}");
    }
}

/// A conversation that goes on as if nothing were wrong is worth nothing.
#[cfg(feature = "mutants")]
#[test]
fn each_planted_bug_breaks_a_conversation() {
    use coterie::raft::Mutant;

    let scripts: Vec<String> =
        scripts().iter().map(|path| fs::read_to_string(path).expect("a script is UTF-8")).collect();
    // What is broken anyway proves nothing.
    let sound: Vec<String> = scripts.into_iter().filter(|script| replay(script).broken.is_none()).collect();
    let mut unseen = Vec::new();
    for &mutant in Mutant::ALL {
        let broken = |script: &&String| {
            let mut cluster = Cluster::default();
            cluster.settings.mutant = Some(mutant);
            let replay = replay_in(cluster, script);
            replay.broken.is_some()
        };
        let count = sound.iter().filter(broken).count();
        println!("{mutant:?} breaks {count} of {}", sound.len());
        if count == 0 {
            unseen.push(mutant);
        }
    }
    assert!(unseen.is_empty(), "{unseen:?} break no expectation and no invariant of any conversation");
}
