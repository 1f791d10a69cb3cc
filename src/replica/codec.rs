//! The bytes of an entry, and of what members say to each other.

use super::{LeaseReply, Message, Outcome, Reply, SessionId, SessionStamp};
use crate::store::{LeaseId, Revision};
use crate::wire::variants;

/// What one entry asks of every member's machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// A command of nobody's: at most once.
    Plain(&'a [u8]),
    /// A command of a session: exactly once.
    Stamped(SessionStamp, &'a [u8]),
    /// A new session.
    Open,
    /// The end of one.
    Close(SessionId),
    /// The leader's: the time of a lease is over, or its holder is gone.
    Expire {
        /// Which.
        lease: LeaseId,
        /// By which attachment. A later one makes the entry void.
        attachment: u64,
    },
    /// The leader's: history before this revision is old.
    Compact(Revision),
}

/// The version of entries. A later one appears in a log only when every member knows it.
const VERSION: u8 = 1;
const PLAIN: u8 = 0;
const STAMPED: u8 = 1;
const OPEN: u8 = 2;
const CLOSE: u8 = 3;
const EXPIRE: u8 = 4;
const COMPACT: u8 = 5;

/// The most that an entry has beside the machine's command: version, kind, and a stamp.
pub const HEADER_BYTES: usize = 2 + 3 * 8;

impl<'a> Command<'a> {
    /// Appends the entry's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Plain(command) => {
                out.extend_from_slice(&[VERSION, PLAIN]);
                out.extend_from_slice(command);
            }
            Self::Stamped(stamp, command) => {
                out.extend_from_slice(&[VERSION, STAMPED]);
                for word in [stamp.session, stamp.sequence, stamp.answered_below] {
                    out.extend_from_slice(&word.to_le_bytes());
                }
                out.extend_from_slice(command);
            }
            Self::Open => out.extend_from_slice(&[VERSION, OPEN]),
            Self::Close(session) => {
                out.extend_from_slice(&[VERSION, CLOSE]);
                out.extend_from_slice(&session.to_le_bytes());
            }
            Self::Expire { lease, attachment } => {
                out.extend_from_slice(&[VERSION, EXPIRE]);
                for word in [lease, attachment] {
                    out.extend_from_slice(&word.to_le_bytes());
                }
            }
            Self::Compact(revision) => {
                out.extend_from_slice(&[VERSION, COMPACT]);
                out.extend_from_slice(&revision.to_le_bytes());
            }
        }
    }

    /// Reads an entry; `None` when no member of ours wrote it.
    pub fn decode(entry: &'a [u8]) -> Option<Self> {
        let (&[version, kind], rest) = entry.split_first_chunk()?;
        match (version, kind) {
            (VERSION, PLAIN) => Some(Self::Plain(rest)),
            (VERSION, STAMPED) => {
                let (session, rest) = word(rest)?;
                let (sequence, rest) = word(rest)?;
                let (answered_below, command) = word(rest)?;
                Some(Self::Stamped(SessionStamp { session, sequence, answered_below }, command))
            }
            (VERSION, OPEN) => rest.is_empty().then_some(Self::Open),
            (VERSION, CLOSE) => {
                let (session, rest) = word(rest)?;
                rest.is_empty().then_some(Self::Close(session))
            }
            (VERSION, EXPIRE) => {
                let (lease, rest) = word(rest)?;
                let (attachment, rest) = word(rest)?;
                rest.is_empty().then_some(Self::Expire { lease, attachment })
            }
            (VERSION, COMPACT) => {
                let (revision, rest) = word(rest)?;
                rest.is_empty().then_some(Self::Compact(revision))
            }
            _ => None,
        }
    }

    /// Whether asking it twice is asking it once, so that it may be sent again without knowing what became of the
    /// first sending. A session opened twice is one opened, and one that expires unused (thesis §6.3).
    pub const fn is_repeatable(&self) -> bool {
        !matches!(self, Self::Plain(_))
    }

    /// Whether a client may ask for it. The others are the leader's, who proposes them from its own clock.
    pub const fn is_of_clients(&self) -> bool {
        !matches!(self, Self::Expire { .. } | Self::Compact(_))
    }
}

fn word(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((u64::from_le_bytes(*word), rest))
}

variants!(Message {
    1 => Raft(message),
    2 => Forward { term, life, settled, first, patience, commands },
    3 => Forwarded(replies),
    4 => AskLeases { term, asks },
    5 => Leases(replies),
    6 => Detached(leases),
});

variants!(LeaseReply {
    1 => Alive { ttl, left },
    2 => Over,
    3 => Refused { term, leader },
});

variants!(Reply {
    1 => Applied(outcome),
    2 => Refused { term, leader },
    3 => Overloaded,
    4 => Unknown,
});

variants!(Outcome {
    1 => Nothing,
    2 => Result { index, result },
    3 => Opened(session),
    4 => Closed,
    5 => SessionExpired,
    6 => TooManyResults,
    7 => Answered,
    8 => Malformed,
    9 => Waiting { ticket },
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_they_were_written_and_nothing_else_is_one() {
        let stamp = SessionStamp { session: 7, sequence: 8, answered_below: 6 };
        for command in [
            Command::Plain(b"x"),
            Command::Plain(b""),
            Command::Stamped(stamp, b"put"),
            Command::Open,
            Command::Close(9),
            Command::Expire { lease: 3, attachment: 12 },
            Command::Compact(8),
        ] {
            let mut bytes = Vec::new();
            command.encode(&mut bytes);
            assert_eq!(Command::decode(&bytes), Some(command));
            let kept = match command {
                Command::Plain(command) | Command::Stamped(_, command) => command.len(),
                _ => 0,
            };
            assert!(bytes.len() - kept <= HEADER_BYTES);
            for cut in 0..bytes.len() - kept {
                assert_eq!(Command::decode(&bytes[..cut]), None, "{command:?} cut to {cut} bytes");
            }
        }
        for nonsense in [&b"\x02\x00x"[..], b"\x01\x06", b"\x01\x02x", b"\x01\x0312345678x"] {
            assert_eq!(Command::decode(nonsense), None);
        }
    }
}
