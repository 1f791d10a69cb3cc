//! What the laws must know of a replica: what they know of its Raft, and what is its own.

use std::time::Duration;

use coterie::id::NodeId;
use coterie::raft::{self, Membership, Payload, Raft};
use coterie::random::Random;
use coterie::replica::{
    Consistency, Error, Event, LeaseReply, Message, Outcome, Replica, Reply, Request, SessionStamp, Settings,
    Timer,
};
use coterie::store::{LeaseChange, LeaseTerms};
use coterie::time::Instant;

use super::Subject;

impl Subject for Replica {
    fn fresh(id: NodeId, seed: u64) -> Self {
        let raft = Raft::fresh(id, seed).settings().clone();
        let settings = Settings { raft, pending_max: 20, pending_bytes_max: 400, ..Settings::default() };
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
        match random.below(28) {
            20..24 => Request::Lease { lease: random.below(5), renew: random.below(3) > 0, deadline },
            24 => Request::Detached { lease: random.below(5), attachment: random.below(4) },
            25 => Request::Noted {
                anew: random.below(8) == 0,
                leases: (0..random.below(3)).map(|_| any_lease(random)).collect(),
                revision: random.below(1_000),
            },
            26 => {
                let ticket = random.below(30);
                Request::Woken(vec![(ticket, (random.below(2) > 0).then(|| "at last".into()))])
            }
            27 => Request::Held { token: random.word() },
            0..9 => {
                let stamp = SessionStamp {
                    session: random.below(20),
                    sequence: random.below(5),
                    answered_below: random.below(3),
                };
                let command = vec![b'x'; random.below(30) as usize].into();
                Request::Command { session: (random.below(2) > 0).then_some(stamp), command, deadline }
            }
            9 => Request::OpenSession { deadline },
            10 => Request::CloseSession { session: random.below(20), deadline },
            11..15 => {
                let kinds = [Consistency::Linearizable, Consistency::Lease, Consistency::Stale];
                let consistency = kinds[random.below(3) as usize];
                Request::Query { query: "what".into(), consistency, deadline }
            }
            15 => Request::Queried { token: random.word(), result: "nobody asked".into() },
            16 => Request::Applied { through: random.below(4), outcomes: Vec::new() },
            _ => of_raft(Raft::any_request(random, now)),
        }
    }

    fn reaction(&self, event: &Event) -> Option<Request> {
        Some(match event {
            Event::Apply { entries, wanted } => {
                let last = entries.last()?.index;
                let outcomes = entries.runs().iter().flat_map(|run| {
                    let commands = matches!(run.payload, Payload::Commands(_));
                    (run.first..=run.last()).map(move |index| {
                        if commands && index % 7 == 0 {
                            Outcome::Waiting { ticket: index }
                        } else if commands {
                            Outcome::Result { index, result: "applied".into() }
                        } else {
                            Outcome::Nothing
                        }
                    })
                });
                Request::Applied { through: last, outcomes: outcomes.filter(|_| *wanted).collect() }
            }
            Event::Restore(snapshot) | Event::Install(snapshot) => {
                Request::Applied { through: snapshot.id.last.index, outcomes: Vec::new() }
            }
            Event::Parked(tickets) => {
                Request::Woken(tickets.iter().map(|ticket| (*ticket, Some("long ago".into()))).collect())
            }
            Event::Query { token, .. } if token % 3 == 0 => Request::Held { token: *token },
            Event::Query { token, .. } => Request::Queried { token: *token, result: "so".into() },
            Event::MakeSnapshot => Request::Snapshotted { last: self.applied(), length: 12 },
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
        match (random.below(6), like) {
            (0, Some(Message::Raft(like))) => Message::Raft(Raft::nonsense(random, Some(like))),
            (0, _) => Message::Raft(Raft::nonsense(random, None)),
            (1, _) => Message::Forward {
                term: random.below(9),
                life: random.word(),
                settled: random.word(),
                first: u64::MAX - random.below(3),
                patience: Duration::from_nanos(random.word()),
                commands: raft::Batch::new((0..random.below(4)).map(|_| vec![7; random.below(50) as usize])),
            },
            (2, _) => Message::AskLeases {
                term: random.below(9),
                asks: (0..random.below(4))
                    .map(|_| (random.word(), (random.below(5), random.below(2) > 0)))
                    .collect(),
            },
            (3, _) => Message::Leases(
                (0..random.below(4)).map(|_| (random.word(), any_lease_reply(random))).collect(),
            ),
            (4, _) => {
                Message::Detached((0..random.below(4)).map(|_| (random.below(5), random.word())).collect())
            }
            _ => {
                Message::Forwarded((0..random.below(4)).map(|_| (random.word(), any_reply(random))).collect())
            }
        }
    }

    fn timers() -> Vec<Timer> {
        Raft::timers().into_iter().map(Timer::Raft).chain(OWN_TIMERS).collect()
    }

    fn is_unknown(error: &Error) -> bool {
        *error == Error::Unknown
    }

    fn binds(message: &Message) -> bool {
        matches!(message, Message::Raft(message) if Raft::binds(message))
    }

    fn backs(records: &[raft::Record], to: NodeId, promise: &Message) -> Result<(), String> {
        match promise {
            Message::Raft(promise) => Raft::backs(records, to, promise),
            other => Err(format!("{other:?} is no promise")),
        }
    }

    fn decided(event: &Event) -> Vec<(u64, String)> {
        match event {
            Event::Apply { entries, .. } => Raft::decided(&raft::Event::Committed(entries.clone())),
            _ => Vec::new(),
        }
    }
}

const OWN_TIMERS: [Timer; 4] = [Timer::Deadline, Timer::Retry, Timer::Lease, Timer::History];

fn any_lease(random: &mut Random) -> LeaseChange {
    let ttl = Duration::from_millis(1 + random.below(500));
    let terms = LeaseTerms { ttl, home: random.below(5), attachment: random.below(4) };
    LeaseChange { lease: random.below(5), terms: (random.below(3) > 0).then_some(terms) }
}

fn any_lease_reply(random: &mut Random) -> LeaseReply {
    let some = Duration::from_nanos(random.word());
    match random.below(3) {
        0 => LeaseReply::Alive { ttl: some, left: some },
        1 => LeaseReply::Over,
        _ => LeaseReply::Refused { term: random.word(), leader: Some(NodeId(random.below(9))) },
    }
}

fn any_reply(random: &mut Random) -> Reply {
    match random.below(5) {
        4 => Reply::Applied(Outcome::Waiting { ticket: random.below(30) }),
        0 => Reply::Applied(Outcome::Result { index: random.word(), result: "made up".into() }),
        1 => Reply::Refused { term: random.word(), leader: Some(NodeId(random.below(9))) },
        2 => Reply::Overloaded,
        _ => Reply::Unknown,
    }
}

/// What a replica hands on as it is; what its Raft alone takes becomes a campaign.
fn of_raft(request: raft::Request) -> Request {
    match request {
        raft::Request::Bootstrap(membership) => Request::Bootstrap(membership),
        raft::Request::Change { changes, deadline } => Request::Change { changes, deadline },
        raft::Request::Transfer { to } => Request::Transfer { to },
        raft::Request::Snapshotted { last, length } => Request::Snapshotted { last, length },
        raft::Request::Chunk { snapshot, offset, to, data } => Request::Chunk { snapshot, offset, to, data },
        raft::Request::Written { snapshot, offset } => Request::Written { snapshot, offset },
        raft::Request::Propose { .. } | raft::Request::Read { .. } | raft::Request::Campaign => {
            Request::Campaign
        }
    }
}
