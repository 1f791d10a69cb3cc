//! What the laws must know of Raft.

use std::sync::Arc;
use std::time::Duration;

use coterie::id::NodeId;
use coterie::raft::{
    Batch, Beat, Change, Entries, Error, Event, HardState, Lease, Membership, Message, Payload, Position,
    Raft, Record, Request, Run, Settings, Snapshot, SnapshotId, Timer,
};
use coterie::random::Random;
use coterie::time::Instant;

#[cfg(feature = "mutants")]
use coterie::raft::Mutant;

use super::{MEMBERS, Subject};

impl Subject for Raft {
    fn fresh(id: NodeId, seed: u64) -> Self {
        let settings = Settings {
            lease: seed.is_multiple_of(3).then(Lease::default),
            pre_vote: seed % 4 != 1,
            check_quorum: seed % 5 != 2,
            message_bytes_max: 64,
            in_flight_messages_max: 3,
            snapshot_log_entries: 8,
            retained_entries: 2,
            chunk_bytes: 5,
            pending_max: 20,
            uncommitted_bytes_max: 400,
            entry_bytes_max: 40,
            #[cfg(feature = "mutants")]
            mutant: seed
                .checked_shr(32)
                .and_then(|place| Mutant::ALL.get((place as usize).checked_sub(1)?))
                .copied(),
            ..Settings::default()
        };
        Self::new(id, settings).expect("these settings can work")
    }

    fn beginning(members: &[NodeId]) -> Option<Request> {
        Some(Request::Bootstrap(Membership::of(members.iter().copied())))
    }

    fn any_request(random: &mut Random, now: Instant) -> Request {
        let deadline = match random.below(4) {
            0 => now,
            1 => now + Duration::from_millis(random.below(400)),
            _ => Instant::NEVER,
        };
        let id = NodeId(1 + random.below(MEMBERS + 1));
        match random.below(20) {
            // Only one that is refused: those who begin together must be told the same.
            0 => Request::Bootstrap(Membership::default()),
            1..9 => {
                let commands = (0..random.below(4)).map(|_| vec![b'x'; random.below(50) as usize]);
                Request::Propose { commands: Batch::new(commands), deadline }
            }
            9..12 => Request::Read { lease: random.below(2) > 0, deadline },
            12..15 => Request::Change {
                changes: (0..=random.below(2)).map(|_| any_change(random)).collect(),
                deadline,
            },
            15 => Request::Transfer { to: id },
            16 => Request::Campaign,
            17 => Request::Snapshotted { last: random.below(40), length: 12 },
            18 => Request::Chunk { snapshot: any_snapshot(random).id, offset: 0, to: id, data: None },
            _ => Request::Written { snapshot: any_snapshot(random).id, offset: random.below(20) },
        }
    }

    fn reaction(&self, event: &Event) -> Option<Request> {
        Some(match event {
            Event::MakeSnapshot => Request::Snapshotted { last: self.commit(), length: 12 },
            Event::Read { snapshot, offset, length, to } => {
                let data = (*length < 100).then(|| vec![0; *length as usize].into());
                Request::Chunk { snapshot: *snapshot, offset: *offset, to: *to, data }
            }
            Event::Write { snapshot, offset, data } => {
                Request::Written { snapshot: snapshot.id, offset: offset + data.len() as u64 }
            }
            _ => return None,
        })
    }

    fn nonsense(random: &mut Random, like: Option<&Message>) -> Message {
        let mut message = like.cloned().unwrap_or_else(|| any_message(random));
        for _ in 0..random.below(3) {
            twist(random, &mut message);
        }
        message
    }

    fn timers() -> Vec<Timer> {
        vec![Timer::Election, Timer::Heartbeat, Timer::Quorum, Timer::Transfer, Timer::Deadline]
    }

    fn is_unknown(error: &Error) -> bool {
        *error == Error::Unknown
    }

    fn binds(message: &Message) -> bool {
        matches!(
            message,
            Message::RequestVote { .. }
                | Message::Vote { granted: true, .. }
                | Message::Appended { .. }
                | Message::Stored { .. }
                | Message::Superseded { .. }
        )
    }

    fn backs(records: &[Record], to: NodeId, promise: &Message) -> Result<(), String> {
        let (hard, last) = kept(records);
        let wants =
            |holds: bool| if holds { Ok(()) } else { Err(format!("the journal says {hard:?}, {last}")) };
        match promise {
            Message::RequestVote { term, .. } => wants(hard.term == *term && hard.vote.is_some()),
            Message::Vote { term, granted: true } => wants(hard.term == *term && hard.vote == Some(to)),
            Message::Appended { term, matched, .. } => wants(hard.term >= *term && last >= *matched),
            Message::Stored { term, last: stored } => wants(hard.term >= *term && last >= *stored),
            Message::Superseded { snapshot, .. } => {
                let newest = records.iter().rev().find_map(|record| match record {
                    Record::Checkpoint(checkpoint) => checkpoint.snapshot.as_ref(),
                    _ => None,
                });
                wants(newest.is_some_and(|newest| newest.id != *snapshot))
            }
            other => Err(format!("{other} is no promise")),
        }
    }

    fn decided(event: &Event) -> Vec<(u64, String)> {
        let Event::Committed(entries) = event else { return Vec::new() };
        let each = |run: &Arc<Run>| {
            let run = Arc::clone(run);
            (run.first..=run.last()).map(move |index| (index, run.slice(index, index).to_string()))
        };
        entries.runs().iter().flat_map(each).collect()
    }
}

/// Term and vote, and the last index, of a journal.
fn kept(records: &[Record]) -> (HardState, u64) {
    let (mut hard, mut last) = (HardState::default(), 0);
    for record in records {
        match record {
            Record::Identity { .. } => {}
            Record::HardState(newer) => hard = *newer,
            Record::Append(entries) => last = entries.last().map_or(last, |position| position.index),
            Record::Checkpoint(checkpoint) => {
                hard = checkpoint.hard;
                last = checkpoint.entries.last().map_or(checkpoint.base.index, |position| position.index);
            }
        }
    }
    (hard, last)
}

fn any_change(random: &mut Random) -> Change {
    let id = NodeId(1 + random.below(MEMBERS));
    match random.below(4) {
        0 => Change::AddLearner(id),
        1 | 2 => Change::AddVoter(id, random.below(3) as u8),
        _ if random.below(2) > 0 => Change::Demote(id),
        _ => Change::Remove(id),
    }
}

/// Small, or huge, or one of the edges where sums overflow.
fn number(random: &mut Random) -> u64 {
    match random.below(8) {
        0 => u64::MAX - random.below(3),
        1 => (1 << 62) - 1 + random.below(3),
        2 => random.word(),
        3 => 0,
        _ => random.below(20),
    }
}

fn position(random: &mut Random) -> Position {
    Position { term: number(random), index: number(random) }
}

fn any_snapshot(random: &mut Random) -> Snapshot {
    let id = SnapshotId { last: position(random), by: NodeId(1 + random.below(MEMBERS)) };
    let membership = (number(random), Arc::new(any_membership(random)));
    Snapshot { id, membership, length: number(random) }
}

fn any_membership(random: &mut Random) -> Membership {
    let ids = |random: &mut Random| (0..random.below(4)).map(|_| NodeId(random.below(7))).collect::<Vec<_>>();
    let voters: Vec<_> = ids(random).into_iter().map(|id| (id, random.below(3) as u8)).collect();
    Membership::joint(voters, ids(random), ids(random))
}

fn any_entries(random: &mut Random) -> Entries {
    let mut first = number(random);
    let count = random.below(4);
    let run = |random: &mut Random, first: u64| {
        let payload = match random.below(4) {
            0 => Payload::Blank,
            1 => Payload::Membership(Arc::new(any_membership(random))),
            _ => Payload::Commands(Batch::new((0..random.below(4)).map(|_| "nonsense"))),
        };
        Run { term: number(random), first, payload }
    };
    let mut runs = Vec::new();
    for _ in 0..count {
        let next = run(random, first);
        first = if random.below(4) > 0 { first.wrapping_add(next.len()) } else { number(random) };
        runs.push(next);
    }
    runs.into_iter().map(Arc::new).collect()
}

fn beat(random: &mut Random) -> Beat {
    Beat { round: number(random), sent: Instant::from_nanos(number(random)) }
}

fn any_message(random: &mut Random) -> Message {
    let term = number(random);
    let granted = random.below(2) > 0;
    let joined = number(random);
    match random.below(14) {
        0 => Message::RequestPreVote { term, last: position(random) },
        1 => Message::PreVote { term, granted },
        2 => {
            let transfer = granted.then(|| (number(random), number(random)));
            Message::RequestVote { term, last: position(random), transfer }
        }
        3 => Message::Vote { term, granted },
        4 | 5 => Message::Append {
            term,
            previous: position(random),
            commit: number(random),
            matched: number(random),
            joined,
            beat: granted.then(|| beat(random)),
            entries: any_entries(random),
        },
        6 => Message::Appended { term, matched: number(random), joined },
        7 => {
            let (previous, hint) = (number(random), position(random));
            Message::Rejected { term, previous, hint, joined, beat: granted.then(|| beat(random)) }
        }
        8 => Message::Heard { term, beat: beat(random), lease: granted },
        9 => {
            let snapshot = Arc::new(any_snapshot(random));
            let data = vec![0; random.below(20) as usize].into();
            Message::Install { term, snapshot, offset: number(random), data, joined }
        }
        10 => Message::Installed { term, snapshot: any_snapshot(random).id, offset: number(random), joined },
        11 => Message::TimeoutNow { term, round: number(random) },
        12 => Message::RequestRead { term, token: number(random) },
        _ if granted => Message::Read { term, token: number(random), index: number(random) },
        _ => Message::Stored { term, last: number(random) },
    }
}

/// One field becomes another; the rest stays plausible, so that it gets further.
fn twist(random: &mut Random, message: &mut Message) {
    let other = number(random);
    match message {
        Message::Append { term, previous, commit, matched, entries, .. } => match random.below(6) {
            0 => *term = other,
            1 => previous.index = other,
            2 => previous.term = other,
            3 => *commit = other,
            4 => *matched = other,
            _ => *entries = any_entries(random),
        },
        Message::Appended { matched, .. } => *matched = other,
        Message::Rejected { previous, hint, .. } => match random.below(3) {
            0 => *previous = other,
            1 => hint.index = other,
            _ => hint.term = other,
        },
        Message::Heard { term, beat, .. } => match random.below(3) {
            0 => *term = other,
            1 => beat.round = other,
            _ => beat.sent = Instant::from_nanos(other),
        },
        Message::Install { snapshot, offset, .. } => match random.below(4) {
            0 => Arc::make_mut(snapshot).id.last = position(random),
            1 => Arc::make_mut(snapshot).length = other,
            2 => Arc::make_mut(snapshot).membership = (other, Arc::new(any_membership(random))),
            _ => *offset = other,
        },
        Message::Installed { offset, .. } => *offset = other,
        Message::RequestPreVote { term, last } | Message::RequestVote { term, last, .. } => {
            if random.below(2) > 0 {
                *term = other;
            } else {
                *last = position(random);
            }
        }
        Message::PreVote { term, .. }
        | Message::Vote { term, .. }
        | Message::TimeoutNow { term, .. }
        | Message::RequestRead { term, .. }
        | Message::Read { term, .. }
        | Message::Stored { term, .. }
        | Message::Superseded { term, .. } => *term = other,
    }
}
