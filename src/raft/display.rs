//! How what members say, keep, answer and tell is written in one line: compact, stable, the same in Rust and Python.
//!
//! A name, then `field=value` for what the name alone leaves open. Fields that are nothing (0, none) are left out where
//! that is the usual case. Conversations in `tests/scripts` are written in these words.

use std::fmt::{Display, Formatter, Result};

use super::{
    Answer, Batch, Beat, Checkpoint, Entries, Event, HardState, Membership, Message, Payload, Record, Role,
    Run, Snapshot, SnapshotId, Timer,
};
use crate::time::Instant;

impl Display for Message {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::RequestPreVote { term, last } => write!(f, "RequestPreVote term={term} last={last}"),
            Self::PreVote { term, granted } => write!(f, "PreVote term={term} {}", verdict(*granted)),
            Self::RequestVote { term, last, transfer } => {
                write!(f, "RequestVote term={term} last={last}")?;
                transfer.map_or(Ok(()), |(term, round)| write!(f, " transfer={term}:{round}"))
            }
            Self::Vote { term, granted } => write!(f, "Vote term={term} {}", verdict(*granted)),
            Self::Append { term, previous, commit, matched, joined, beat, entries } => {
                write!(f, "Append term={term} previous={previous} commit={commit}")?;
                unless_zero(f, "matched", *matched)?;
                unless_zero(f, "joined", *joined)?;
                if_any(f, "beat", beat.as_ref())?;
                if entries.is_empty() { Ok(()) } else { write!(f, " {entries}") }
            }
            Self::Appended { term, matched, joined } => {
                write!(f, "Appended term={term} matched={matched}")?;
                unless_zero(f, "joined", *joined)
            }
            Self::Rejected { term, previous, hint, joined, beat } => {
                write!(f, "Rejected term={term} previous={previous} hint={hint}")?;
                unless_zero(f, "joined", *joined)?;
                if_any(f, "beat", beat.as_ref())
            }
            Self::Heard { term, beat, lease } => {
                write!(f, "Heard term={term} beat={beat}{}", if *lease { " lease" } else { "" })
            }
            Self::Install { term, snapshot, offset, data, joined } => {
                write!(f, "Install term={term} {snapshot} offset={offset} data={}", Bytes(data))?;
                unless_zero(f, "joined", *joined)
            }
            Self::Installed { term, snapshot, offset, joined } => {
                write!(f, "Installed term={term} {snapshot} offset={offset}")?;
                unless_zero(f, "joined", *joined)
            }
            Self::TimeoutNow { term, round } => {
                write!(f, "TimeoutNow term={term}")?;
                unless_zero(f, "round", *round)
            }
            // A token is drawn; which one it was tells nobody anything.
            Self::RequestRead { term, .. } => write!(f, "RequestRead term={term}"),
            Self::Read { term, index, .. } => write!(f, "Read term={term} index={index}"),
            Self::Stored { term, last } => write!(f, "Stored term={term} last={last}"),
            Self::Superseded { term, snapshot } => write!(f, "Superseded term={term} snapshot={snapshot}"),
        }
    }
}

impl Display for Record {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Identity { cluster, id } => write!(f, "Identity cluster={cluster} id={id}"),
            Self::HardState(hard) => write!(f, "HardState {hard}"),
            Self::Append(entries) => write!(f, "Append {entries}"),
            Self::Checkpoint(checkpoint) => write!(f, "Checkpoint {checkpoint}"),
        }
    }
}

impl Display for Event {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Restore(snapshot) => write!(f, "Restore {snapshot}"),
            Self::Committed(entries) => write!(f, "Committed {entries}"),
            Self::Role { role, term, leader } => {
                write!(f, "Role {role} term={term}")?;
                if_any(f, "leader", leader.as_ref())
            }
            Self::Membership(index, membership) => write!(f, "Membership {index} {membership}"),
            Self::MakeSnapshot => f.write_str("MakeSnapshot"),
            Self::Read { snapshot, offset, length, to } => {
                write!(f, "Read {snapshot} offset={offset} length={length} to={to}")
            }
            Self::Write { snapshot, offset, data } => {
                write!(f, "Write {snapshot} offset={offset} data={}", Bytes(data))
            }
            Self::Install(snapshot) => write!(f, "Install {snapshot}"),
            Self::Discard(snapshot) => write!(f, "Discard {snapshot}"),
            Self::Halted(reason) => write!(f, "Halted: {reason}"),
        }
    }
}

impl Display for Answer {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Done => f.write_str("Done"),
            Self::Committed(last) => write!(f, "Committed {last}"),
            Self::Read(index) => write!(f, "Read {index}"),
            Self::Changed(index) => write!(f, "Changed {index}"),
            Self::Transferred { leader, term } => write!(f, "Transferred leader={leader} term={term}"),
        }
    }
}

impl Display for Checkpoint {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "cluster={} id={} {} base={}", self.cluster, self.id, self.hard, self.base)?;
        write!(f, " membership={}:{}", self.membership.0, self.membership.1)?;
        if_any(f, "snapshot", self.snapshot.as_ref())?;
        if self.entries.is_empty() { Ok(()) } else { write!(f, " {}", self.entries) }
    }
}

impl Display for HardState {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "term={}", self.term)?;
        if_any(f, "vote", self.vote.as_ref())
    }
}

impl Display for Snapshot {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}({})", self.id, self.length)
    }
}

impl Display for SnapshotId {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}@{}", self.last, self.by)
    }
}

impl Display for Beat {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}@{}", self.round, Milliseconds(self.sent))
    }
}

impl Display for Entries {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("[")?;
        for (place, run) in self.runs().iter().enumerate() {
            write!(f, "{}{run}", if place > 0 { ", " } else { "" })?;
        }
        f.write_str("]")
    }
}

impl Display for Run {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}/{}", self.term, self.first)?;
        // A run that came from afar may be nonsense: it has no last entry when it has none, or no room for it.
        if self.len() > 1 {
            write!(f, "..{}", self.first.saturating_add(self.len() - 1))?;
        }
        match &self.payload {
            Payload::Blank => f.write_str(" blank"),
            Payload::Membership(membership) => write!(f, " {membership}"),
            Payload::Commands(batch) => write!(f, "{batch}"),
        }
    }
}

impl Display for Batch {
    /// Each command after a space.
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.iter().try_for_each(|command| write!(f, " {}", Bytes(command)))
    }
}

impl Display for Membership {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        std::fmt::Debug::fmt(self, f)
    }
}

impl Display for Role {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        std::fmt::Debug::fmt(self, f)
    }
}

impl Display for Timer {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        std::fmt::Debug::fmt(self, f)
    }
}

/// Bytes as a string in quotes, escaped; of a long one the beginning, and how long it is.
struct Bytes<'a>(&'a [u8]);

impl Display for Bytes<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        const SHOWN: usize = 32;
        match self.0.get(..SHOWN) {
            Some(start) if self.0.len() > SHOWN => {
                write!(f, "\"{}…\"({})", start.escape_ascii(), self.0.len())
            }
            _ => write!(f, "\"{}\"", self.0.escape_ascii()),
        }
    }
}

/// An instant in milliseconds, with as many decimals as it needs.
struct Milliseconds(Instant);

impl Display for Milliseconds {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        const NANOSECONDS: u64 = 1_000_000;
        let (whole, rest) = (self.0.as_nanos() / NANOSECONDS, self.0.as_nanos() % NANOSECONDS);
        if rest == 0 {
            return write!(f, "{whole}ms");
        }
        write!(f, "{whole}.{}ms", format!("{rest:06}").trim_end_matches('0'))
    }
}

const fn verdict(granted: bool) -> &'static str {
    if granted { "granted" } else { "refused" }
}

fn unless_zero(f: &mut Formatter<'_>, field: &str, value: u64) -> Result {
    if value == 0 { Ok(()) } else { write!(f, " {field}={value}") }
}

fn if_any(f: &mut Formatter<'_>, field: &str, value: Option<impl Display>) -> Result {
    value.map_or(Ok(()), |value| write!(f, " {field}={value}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;
    use crate::raft::Position;

    #[test]
    fn an_append_says_what_is_unusual_about_it() {
        let run = Run { term: 2, first: 2, payload: Payload::Commands(Batch::new(["x", "y\n"])) };
        let plain = Message::Append {
            term: 2,
            previous: Position { term: 1, index: 1 },
            commit: 1,
            matched: 0,
            joined: 0,
            beat: None,
            entries: Entries::one(run),
        };
        assert_eq!(plain.to_string(), r#"Append term=2 previous=1/1 commit=1 [2/2..3 "x" "y\n"]"#);
        let beat = Beat { round: 7, sent: Instant::from_nanos(50_250_000) };
        let heard = Message::Heard { term: 2, beat, lease: true };
        assert_eq!(heard.to_string(), "Heard term=2 beat=7@50.25ms lease");
    }

    #[test]
    fn a_record_and_an_event_fit_on_a_line() {
        let hard = HardState { term: 2, vote: Some(NodeId(1)) };
        assert_eq!(Record::HardState(hard).to_string(), "HardState term=2 vote=1");
        let role = Event::Role { role: Role::Leader, term: 2, leader: Some(NodeId(1)) };
        assert_eq!(role.to_string(), "Role Leader term=2 leader=1");
    }

    #[test]
    fn long_bytes_are_cut_and_counted() {
        assert_eq!(Bytes(&[b'a'; 40]).to_string(), format!("\"{}…\"(40)", "a".repeat(32)));
        assert_eq!(Bytes(b"\"").to_string(), r#""\"""#);
    }
}
