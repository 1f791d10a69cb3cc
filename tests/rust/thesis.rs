//! Ongaro's thesis, claim by claim, with the section of each.
//!
//! One member is spoken to, and what it wants done is compared, in the words of `src/raft/display.rs`: `→2 …` is sent at
//! once, `⇒2 …` when the disk has what was persisted before. What needs several members is in `tests/scripts`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use coterie::id::{NodeId, RequestId};
use coterie::protocol::{Effect, Outbox, Protocol};
use coterie::raft::{
    Batch, Beat, Change, Checkpoint, Entries, HardState, Membership, Message, Payload, Position, Raft,
    Record, Request, Role, Run, Settings, Snapshot, SnapshotId, Term, Timer,
};
use coterie::random::Random;
use coterie::time::Instant;

const ELECTION: Duration = Duration::from_millis(300);

/// Member 1 of a cluster, alone with the test.
struct Member {
    raft: Raft,
    now: Instant,
    alarms: BTreeMap<Timer, Instant>,
    asked: u64,
}

impl Member {
    /// Of `voters` members, in this term, with a log of entries of these terms.
    fn of(voters: u64, term: Term, log: &[Term]) -> Self {
        Self::with(settings(), voters, term, log, 1)
    }

    fn with(settings: Settings, voters: u64, term: Term, log: &[Term], seed: u64) -> Self {
        let checkpoint = Checkpoint {
            cluster: settings.cluster,
            id: NodeId(1),
            hard: HardState { term, vote: None },
            snapshot: None,
            base: Position::default(),
            membership: (0, Arc::new(Membership::of((1..=voters).map(NodeId)))),
            entries: entries(1, log),
        };
        let raft = Raft::new(NodeId(1), settings).expect("these settings can work");
        let mut member = Self { raft, now: Instant::ZERO, alarms: BTreeMap::new(), asked: 0 };
        let records = vec![Record::Checkpoint(Box::new(checkpoint))];
        member.verb(|raft, now, out| raft.start(now, Random::new(seed), records, out));
        member
    }

    /// The same, elected: the term is opened by its own campaign.
    fn leading(voters: u64, term: Term, log: &[Term]) -> Self {
        let mut member = Self::of(voters, term - 1, log);
        member.campaign();
        for voter in 2..=voters / 2 + 1 {
            member.hears(voter, Message::Vote { term, granted: true });
        }
        assert_eq!((member.raft.role(), member.raft.term()), (Role::Leader, term));
        member
    }

    fn hears(&mut self, from: u64, message: Message) -> Vec<String> {
        self.verb(|raft, now, out| raft.receive(now, NodeId(from), message, out))
    }

    fn asked(&mut self, request: Request) -> Vec<String> {
        self.asked += 1;
        let id = RequestId(self.asked);
        self.verb(|raft, now, out| raft.request(now, id, request, out))
    }

    fn proposed(&mut self, command: &str) -> Vec<String> {
        self.asked(Request::Propose { commands: Batch::new([command]), deadline: Instant::NEVER })
    }

    fn changed(&mut self, changes: Vec<Change>) -> Vec<String> {
        self.asked(Request::Change { changes, deadline: Instant::NEVER })
    }

    /// Lets the timer expire when it is due: alarms that ring early are put off.
    fn waits_for(&mut self, timer: Timer) -> Vec<String> {
        for _ in 0..3 {
            let at = self.alarms.remove(&timer).expect("the alarm was set");
            self.now = self.now.max(at);
            let done = self.verb(|raft, now, out| raft.expire(now, timer, out));
            if !done.is_empty() {
                return done;
            }
        }
        Vec::new()
    }

    /// Campaigns, and hears its own promise: its vote for itself.
    fn campaign(&mut self) -> Vec<String> {
        let done = self.waits_for(Timer::Election);
        let term = self.raft.term();
        self.hears(1, Message::Vote { term, granted: true });
        done
    }

    fn verb(&mut self, give: impl FnOnce(&mut Raft, Instant, &mut Outbox<Raft>)) -> Vec<String> {
        let mut out = Outbox::new();
        give(&mut self.raft, self.now, &mut out);
        self.raft.flush(self.now, &mut out);
        out.drain().filter_map(|effect| self.note(effect)).collect()
    }

    fn note(&mut self, effect: Effect<Raft>) -> Option<String> {
        Some(match effect {
            Effect::Send(to, message) => format!("→{to} {message}"),
            Effect::Promise(to, message) => format!("⇒{to} {message}"),
            Effect::Persist(record) => format!("Persist {record}"),
            Effect::Checkpoint(record) => record.to_string(),
            Effect::Answer(id, Ok(answer)) => format!("Answer r{id} {answer}"),
            Effect::Answer(id, Err(error)) => format!("Answer r{id} error: {error}"),
            Effect::Notify(event) => event.to_string(),
            Effect::Set(timer, at) => {
                self.alarms.insert(timer, at);
                return None;
            }
            Effect::Cancel(timer) => {
                self.alarms.remove(&timer);
                return None;
            }
        })
    }
}

/// Without pre-vote, which §9.6 adds.
fn settings() -> Settings {
    Settings { pre_vote: false, election_timeout: ELECTION, ..Settings::default() }
}

const fn at(term: Term, index: u64) -> Position {
    Position { term, index }
}

fn entries(first: u64, terms: &[Term]) -> Entries {
    let run = |(place, term): (usize, &Term)| {
        let first = first + place as u64;
        Arc::new(Run {
            term: *term,
            first,
            payload: Payload::Commands(Batch::new([format!("{term}/{first}")])),
        })
    };
    terms.iter().enumerate().map(run).collect()
}

/// An append of `terms` after `previous`.
fn append(term: Term, previous: Position, commit: u64, terms: &[Term]) -> Message {
    let entries = entries(previous.index + 1, terms);
    Message::Append { term, previous, commit, matched: 0, joined: 0, beat: None, entries }
}

fn beat(term: Term, previous: Position, commit: u64) -> Message {
    let beat = Some(Beat { round: 1, sent: Instant::ZERO });
    Message::Append {
        term,
        previous,
        commit,
        matched: previous.index,
        joined: 0,
        beat,
        entries: Entries::new(),
    }
}

const fn request_vote(term: Term, last: Position) -> Message {
    Message::RequestVote { term, last, transfer: None }
}

fn nothing() -> Vec<String> {
    Vec::new()
}

mod terms {
    use super::*;

    /// §3.3: "if one server's current term is smaller than the other's, then it updates its current term".
    #[test]
    fn a_later_one_is_adopted_and_written_down() {
        let mut member = Member::of(3, 1, &[1]);
        assert_eq!(
            member.hears(2, beat(4, at(1, 1), 0)),
            ["→2 Heard term=4 beat=1@0ms", "Persist HardState term=4", "Role Follower term=4 leader=2"]
        );
    }

    /// §3.3: "If a candidate or leader discovers that its term is out of date, it immediately reverts to follower".
    #[test]
    fn a_later_one_deposes_a_candidate_and_a_leader() {
        let refused = Message::Vote { term: 9, granted: false };
        let mut candidate = Member::of(3, 1, &[1]);
        candidate.campaign();
        assert_eq!(candidate.hears(2, refused), ["Persist HardState term=9", "Role Follower term=9"]);

        let mut leader = Member::leading(3, 2, &[1]);
        let heard = Message::Heard { term: 9, beat: Beat { round: 1, sent: Instant::ZERO }, lease: false };
        assert_eq!(leader.hears(2, heard), ["Persist HardState term=9", "Role Follower term=9"]);
    }

    /// §3.3: "If a server receives a request with a stale term number, it rejects the request".
    #[test]
    fn a_stale_one_is_rejected_by_telling_the_current_one() {
        let mut member = Member::of(3, 5, &[1]);
        assert_eq!(member.hears(2, beat(4, at(1, 1), 1)), ["→2 Heard term=5 beat=1@0ms"]);
        assert_eq!(member.hears(2, request_vote(4, at(3, 9))), ["→2 Vote term=5 refused"]);
        assert_eq!(member.hears(2, append(4, at(1, 1), 0, &[4])), ["→2 Heard term=5 beat=0@0ms"]);
        assert_eq!(member.raft.last(), at(1, 1));
    }
}

mod elections {
    use super::*;

    /// §3.4: "it increments its current term and transitions to candidate state. It then votes for itself and issues
    /// `RequestVote` RPCs"; what it says is a promise.
    #[test]
    fn begin_with_a_vote_for_oneself_in_a_new_term() {
        let mut member = Member::of(3, 1, &[1]);
        assert_eq!(
            member.waits_for(Timer::Election),
            [
                "Persist HardState term=2 vote=1",
                "⇒2 RequestVote term=2 last=1/1",
                "⇒3 RequestVote term=2 last=1/1",
                "⇒1 Vote term=2 granted",
                "Role Candidate term=2",
            ]
        );
    }

    /// §3.4: "election timeouts are chosen randomly from a fixed interval".
    #[test]
    fn begin_after_a_time_drawn_from_one_to_two_time_outs() {
        let waits: BTreeSet<Instant> = (0..100)
            .map(|seed| Member::with(settings(), 3, 1, &[1], seed).alarms[&Timer::Election])
            .collect();
        assert!(waits.len() > 90, "{} different of 100", waits.len());
        let (least, most) = (Instant::ZERO + ELECTION, Instant::ZERO + ELECTION * 2);
        assert!(waits.iter().all(|&wait| wait >= least && wait < most), "{waits:?}");
        // ... and the whole interval is used.
        assert!(*waits.first().expect("some") < least + ELECTION / 10);
        assert!(*waits.last().expect("some") + ELECTION / 10 > most);
    }

    /// §3.4: "Each server will vote for at most one candidate in a given term, on a first-come-first-served basis".
    #[test]
    fn give_one_vote_to_a_term() {
        let mut member = Member::of(3, 1, &[1]);
        assert_eq!(
            member.hears(2, request_vote(2, at(1, 1))),
            ["Persist HardState term=2 vote=2", "⇒2 Vote term=2 granted", "Role Follower term=2"]
        );
        assert_eq!(member.hears(3, request_vote(2, at(1, 1))), ["→3 Vote term=2 refused"]);
        // The same candidate may ask again: the answer was lost, perhaps.
        assert_eq!(member.hears(2, request_vote(2, at(1, 1))), ["⇒2 Vote term=2 granted"]);
    }

    /// §3.4: "A candidate wins an election if it receives votes from a majority of the servers in the full cluster for
    /// the same term."
    #[test]
    fn are_won_by_a_majority_and_by_no_less() {
        let mut member = Member::of(5, 1, &[1]);
        member.campaign();
        let vote = |term| Message::Vote { term, granted: true };
        assert_eq!(member.hears(2, vote(2)), nothing());
        assert_eq!(member.hears(2, vote(2)), nothing(), "the same vote twice");
        assert_eq!(member.hears(3, vote(1)), nothing(), "a vote of an earlier term");
        assert_eq!(member.hears(9, vote(2)), nothing(), "the vote of a stranger");
        assert_eq!(member.raft.role(), Role::Candidate);
        member.hears(4, vote(2));
        assert_eq!(member.raft.role(), Role::Leader);
    }

    /// §3.4: its own vote counts when it is written down, like any other.
    #[test]
    fn wait_for_the_own_disk_too() {
        let mut member = Member::of(3, 1, &[1]);
        member.waits_for(Timer::Election);
        assert_eq!(member.hears(2, Message::Vote { term: 2, granted: true }), nothing());
        member.hears(1, Message::Vote { term: 2, granted: true });
        assert_eq!(member.raft.role(), Role::Leader);
    }

    /// §3.4: "Once a candidate wins an election, it becomes leader. It then sends heartbeat messages to all of the other
    /// servers"; §6.4: with a blank entry of its own.
    #[test]
    fn make_a_leader_that_tells_all_with_a_blank_entry() {
        let mut member = Member::of(3, 1, &[1]);
        member.campaign();
        assert_eq!(
            member.hears(2, Message::Vote { term: 2, granted: true }),
            [
                "Persist Append [2/2 blank]",
                "→2 Append term=2 previous=1/1 commit=0 beat=1@MS [2/2 blank]",
                "→3 Append term=2 previous=1/1 commit=0 beat=1@MS [2/2 blank]",
                "Role Leader term=2 leader=1",
                "⇒1 Stored term=2 last=2",
            ]
            .map(|line| line.replace("@MS", &format!("@{}ms", member.now.as_nanos() as f64 / 1e6)))
        );
    }

    /// §3.4: "If the leader's term is at least as large as the candidate's current term, then the candidate recognizes
    /// the leader as legitimate and returns to follower state. If the term is smaller [it] continues in candidate state."
    #[test]
    fn end_for_a_candidate_that_hears_the_winner() {
        let mut member = Member::of(3, 1, &[1]);
        member.campaign();
        member.hears(2, beat(1, at(1, 1), 0));
        assert_eq!(member.raft.role(), Role::Candidate);
        member.hears(2, beat(2, at(1, 1), 0));
        assert_eq!((member.raft.role(), member.raft.leader()), (Role::Follower, Some(NodeId(2))));
    }

    /// §3.4: "each candidate will time out and start a new election by incrementing its term".
    #[test]
    fn that_nobody_wins_are_followed_by_another_in_a_later_term() {
        let mut member = Member::of(3, 1, &[1]);
        member.campaign();
        let again = member.campaign();
        assert_eq!(again[0], "Persist HardState term=3 vote=1");
        assert_eq!(member.raft.role(), Role::Candidate);
    }
}

mod replication {
    use super::*;

    /// §3.5: "The leader appends the command to its log as a new entry, then issues `AppendEntries` RPCs in parallel".
    #[test]
    fn sends_before_the_own_disk_has_answered() {
        let mut leader = Member::leading(3, 2, &[1]);
        for peer in [2, 3] {
            leader.hears(peer, Message::Appended { term: 2, matched: 2, joined: 0 });
        }
        assert_eq!(
            leader.proposed("x"),
            [
                "Persist Append [2/3 \"x\"]",
                "⇒1 Stored term=2 last=3",
                "→2 Append term=2 previous=2/2 commit=2 matched=2 [2/3 \"x\"]",
                "→3 Append term=2 previous=2/2 commit=2 matched=2 [2/3 \"x\"]",
            ]
        );
    }

    /// §3.5: "A log entry is committed once the leader that created the entry has replicated it on a majority".
    #[test]
    fn commits_what_a_majority_has_and_answers() {
        let mut leader = Member::leading(5, 2, &[1]);
        leader.proposed("x");
        for peer in [2, 3, 4, 5] {
            leader.hears(peer, Message::Appended { term: 2, matched: 2, joined: 0 });
        }
        leader.hears(2, Message::Appended { term: 2, matched: 3, joined: 0 });
        assert_eq!(leader.raft.commit(), 2);
        leader.hears(3, Message::Appended { term: 2, matched: 3, joined: 0 });
        assert_eq!(leader.raft.commit(), 2, "its own disk has not answered");
        let done = leader.hears(1, Message::Stored { term: 2, last: 3 });
        assert_eq!(leader.raft.commit(), 3);
        assert!(done.contains(&"Committed [2/3 \"x\"]".to_owned()), "{done:?}");
        assert!(done.contains(&"Answer r1 Committed 2/3".to_owned()), "{done:?}");
    }

    /// §3.5: "If the follower does not find an entry in its log with the same index and term, then it refuses".
    #[test]
    fn is_refused_without_the_entry_before() {
        let mut member = Member::of(3, 3, &[1, 1, 2]);
        assert_eq!(
            member.hears(2, append(3, at(3, 5), 0, &[3])),
            ["→2 Rejected term=3 previous=5 hint=2/3", "Role Follower term=3 leader=2"]
        );
        // Another term at that place: the hint skips all of it, since the leader's entries there are of term 1 at most.
        assert_eq!(member.hears(2, append(3, at(1, 3), 0, &[3])), ["→2 Rejected term=3 previous=3 hint=1/2"]);
    }

    /// §3.5: "conflicting entries in follower logs will be overwritten with entries from the leader's log".
    #[test]
    fn overwrites_what_conflicts_in_one_record() {
        let mut member = Member::of(3, 3, &[1, 1, 2, 2, 2]);
        assert_eq!(
            member.hears(2, append(3, at(1, 2), 0, &[3])),
            ["Persist Append [3/3 \"3/3\"]", "Role Follower term=3 leader=2", "⇒2 Appended term=3 matched=3"]
        );
        assert_eq!(member.raft.last(), at(3, 3));
    }

    /// Figure 3.1: "If an existing entry conflicts with a new one (same index but different terms), delete" it, and only
    /// then: an append that ends earlier than the log leaves the rest alone.
    #[test]
    fn truncates_nothing_that_agrees() {
        let mut member = Member::of(3, 3, &[1, 1, 3, 3]);
        assert_eq!(
            member.hears(2, append(3, at(1, 1), 0, &[1])),
            ["Role Follower term=3 leader=2", "⇒2 Appended term=3 matched=2"]
        );
        assert_eq!(member.raft.last(), at(3, 4));
    }

    /// Figure 3.1: "set commitIndex = min(leaderCommit, index of last new entry)".
    #[test]
    fn commits_no_more_than_what_has_arrived() {
        let mut member = Member::of(3, 2, &[1, 1, 1]);
        let done = member.hears(2, append(2, at(1, 1), 9, &[1]));
        assert_eq!(member.raft.commit(), 2, "entry 3 may be another than the leader's");
        assert!(done.contains(&"Committed [1/1 \"1/1\", 1/2 \"1/2\"]".to_owned()), "{done:?}");
    }

    /// §3.5: "the leader decrements nextIndex and retries": here to where the follower says that the logs may agree.
    #[test]
    fn is_retried_where_the_logs_may_agree() {
        let mut leader = Member::leading(3, 4, &[1, 1, 3, 3]);
        let rejected = Message::Rejected { term: 4, previous: 4, hint: at(2, 4), joined: 0, beat: None };
        assert_eq!(
            leader.hears(2, rejected),
            ["→2 Append term=4 previous=1/2 commit=0 [3/3 \"3/3\", 3/4 \"3/4\", 4/5 blank]"]
        );
    }

    /// §3.7: "Raft RPCs have the same effect if repeated": nothing is written twice, and the acknowledgement comes again.
    #[test]
    fn may_be_repeated() {
        let mut member = Member::of(3, 2, &[1]);
        member.hears(2, append(2, at(1, 1), 0, &[2]));
        assert_eq!(member.hears(2, append(2, at(1, 1), 0, &[2])), ["⇒2 Appended term=2 matched=2"]);
    }

    /// §3.5: "Raft never commits log entries from ... a leader never overwrites or deletes entries in its log".
    #[test]
    fn does_not_go_back_at_a_leader() {
        let mut leader = Member::leading(3, 2, &[1]);
        assert_eq!(leader.hears(2, append(2, at(1, 1), 0, &[2])), nothing());
        assert_eq!(leader.raft.last(), at(2, 2));
    }
}

mod safety {
    use super::*;

    /// §3.6.1: "If the logs have last entries with different terms, then the log with the later term is more up-to-date.
    /// If the logs end with the same term, then whichever log is longer is more up-to-date."
    #[test]
    fn votes_go_to_logs_that_are_up_to_date() {
        let cases = [
            (at(3, 3), true),  // the same
            (at(3, 4), true),  // longer
            (at(4, 1), true),  // a later term, though shorter
            (at(3, 2), false), // shorter
            (at(2, 9), false), // an earlier term, though longer
        ];
        for (last, granted) in cases {
            let mut member = Member::of(3, 4, &[1, 2, 3]);
            let done = member.hears(2, request_vote(5, last));
            assert_eq!(done.contains(&"⇒2 Vote term=5 granted".to_owned()), granted, "{last}: {done:?}");
            assert_eq!(member.raft.term(), 5, "the term is adopted either way");
        }
    }

    /// §3.6.2: "Raft never commits log entries from previous terms by counting replicas"; once one of its own is, "all
    /// prior entries are committed indirectly".
    #[test]
    fn entries_of_earlier_terms_are_committed_only_by_one_of_the_own() {
        let mut leader = Member::leading(3, 4, &[1, 2]);
        leader.hears(1, Message::Stored { term: 4, last: 3 });
        leader.hears(2, Message::Appended { term: 4, matched: 2, joined: 0 });
        assert_eq!(leader.raft.commit(), 0);
        leader.hears(2, Message::Appended { term: 4, matched: 3, joined: 0 });
        assert_eq!(leader.raft.commit(), 3);
    }

    /// §3.8: term, vote and log "must be persisted before responding": after a restart they are there.
    #[test]
    fn what_was_promised_is_known_after_a_restart() {
        let mut member = Member::of(3, 1, &[1]);
        member.hears(2, request_vote(2, at(1, 1)));
        let hard = member.raft.hard_state();
        assert_eq!(hard, HardState { term: 2, vote: Some(NodeId(2)) });
        let mut again = Raft::new(NodeId(1), settings()).expect("valid");
        let mut out = Outbox::new();
        let membership = Record::Append(Entries::one(Run {
            term: 0,
            first: 1,
            payload: Payload::Membership(Arc::new(Membership::of([NodeId(1), NodeId(2), NodeId(3)]))),
        }));
        again.start(Instant::ZERO, Random::new(9), vec![membership, Record::HardState(hard)], &mut out);
        again.receive(Instant::ZERO, NodeId(3), request_vote(2, at(1, 1)), &mut out);
        let granted = |effect: &Effect<Raft>| matches!(effect, Effect::Promise(..));
        assert!(!out.as_slice().iter().any(granted), "{out:?}");
    }

    /// §3.9: "broadcastTime ≪ electionTimeout": settings that cannot work are refused.
    #[test]
    fn time_outs_shorter_than_two_heartbeats_are_refused() {
        let short = Settings { election_timeout: Duration::from_millis(90), ..Settings::default() };
        assert!(Raft::new(NodeId(1), short).is_err_and(|invalid| invalid.setting == "election_timeout"));
    }

    /// §3.9: a follower that hears its leader does not campaign.
    #[test]
    fn heartbeats_put_elections_off() {
        let mut member = Member::of(3, 1, &[1]);
        for _ in 0..100 {
            member.now = member.now + Duration::from_millis(50);
            member.hears(2, beat(1, at(1, 1), 0));
            if member.alarms.get(&Timer::Election).is_some_and(|at| *at <= member.now) {
                member.alarms.remove(&Timer::Election);
                assert_eq!(member.verb(|raft, now, out| raft.expire(now, Timer::Election, out)), nothing());
            }
        }
        assert_eq!((member.raft.role(), member.raft.term()), (Role::Follower, 1));
    }
}

mod transfers {
    use super::*;

    fn ready() -> Member {
        let mut leader = Member::leading(3, 2, &[1]);
        leader.hears(1, Message::Stored { term: 2, last: 2 });
        leader.hears(2, Message::Appended { term: 2, matched: 2, joined: 0 });
        leader
    }

    /// §3.10: "The prior leader stops accepting new client requests", "sends a `TimeoutNow` request to the target".
    #[test]
    fn stop_proposals_and_tell_the_target_to_campaign() {
        let mut leader = ready();
        let done = leader.asked(Request::Transfer { to: NodeId(2) });
        assert!(done.contains(&"→2 TimeoutNow term=2 round=1".to_owned()), "{done:?}");
        assert_eq!(leader.proposed("x"), ["Answer r2 error: leadership is being handed to 2"]);
    }

    /// §3.10: "The prior leader fully updates the target server's log to match its own log" first.
    #[test]
    fn wait_until_the_target_has_the_whole_log() {
        let mut leader = ready();
        let done = leader.asked(Request::Transfer { to: NodeId(3) });
        assert!(!done.iter().any(|line| line.contains("TimeoutNow")), "{done:?}");
        let done = leader.hears(3, Message::Appended { term: 2, matched: 2, joined: 0 });
        assert!(done.contains(&"→3 TimeoutNow term=2 round=1".to_owned()), "{done:?}");
    }

    /// §3.10: "This request has the same effect as the target server's election timer firing": without a pre-vote, since
    /// the others hear a leader.
    #[test]
    fn let_the_target_campaign_at_once() {
        let mut member = Member::with(Settings { pre_vote: true, ..settings() }, 3, 2, &[1], 1);
        member.hears(2, beat(2, at(1, 1), 0));
        assert_eq!(
            member.hears(2, Message::TimeoutNow { term: 2, round: 1 })[..2],
            ["Persist HardState term=3 vote=1", "⇒2 RequestVote term=3 last=1/1 transfer=2:1"]
        );
        // ... but nobody else than its leader can make it.
        let mut member = Member::of(3, 2, &[1]);
        member.hears(2, beat(2, at(1, 1), 0));
        assert_eq!(member.hears(3, Message::TimeoutNow { term: 2, round: 1 }), nothing());
    }

    /// §3.10: "If leadership transfer does not complete after about an election timeout, the prior leader aborts the
    /// transfer and resumes accepting client requests."
    #[test]
    fn end_after_an_election_time_out() {
        let mut leader = ready();
        leader.asked(Request::Transfer { to: NodeId(3) });
        let begun = leader.now;
        assert_eq!(leader.waits_for(Timer::Transfer), ["Answer r1 error: not in time"]);
        assert_eq!(leader.now - begun, ELECTION);
        assert_eq!(leader.proposed("x")[0], "Persist Append [2/3 \"x\"]");
    }
}

mod memberships {
    use super::*;

    fn ready(voters: u64) -> Member {
        let mut leader = Member::leading(voters, 2, &[1]);
        leader.hears(1, Message::Stored { term: 2, last: 2 });
        for peer in 2..=voters {
            leader.hears(peer, Message::Appended { term: 2, matched: 2, joined: 0 });
        }
        leader
    }

    /// §4.1: "The new configuration takes effect on each server as soon as it is added to that server's log".
    #[test]
    fn are_effective_as_soon_as_they_are_in_the_log() {
        let mut leader = ready(3);
        let done = leader.changed(vec![Change::AddVoter(NodeId(4), 1)]);
        assert_eq!(done[..2], ["Persist Append [2/3 {1 2 3 4}-{1 2 3}]", "Membership 3 {1 2 3 4}-{1 2 3}"]);
        assert!(done.iter().any(|line| line.starts_with("→4 Append")), "{done:?}");
    }

    /// §4.1: "a server must be prepared to fall back to the previous configuration in its log" when it is truncated.
    #[test]
    fn fall_back_when_their_entry_is_overwritten() {
        let mut leader = ready(3);
        leader.changed(vec![Change::Remove(NodeId(3))]);
        let done = leader.hears(2, append(3, at(2, 2), 2, &[3]));
        assert!(done.contains(&"Membership 0 {1 2 3}".to_owned()), "{done:?}");
    }

    /// §4.1: "no further changes may begin until the previous change has completed"; and none before an entry of the
    /// leader's own term is committed (the correction of 2015).
    #[test]
    fn change_one_at_a_time() {
        let refusal = "error: another change of the membership is under way";
        let mut leader = ready(3);
        leader.changed(vec![Change::AddVoter(NodeId(4), 1)]);
        assert_eq!(leader.changed(vec![Change::Remove(NodeId(2))]), [format!("Answer r2 {refusal}")]);
        let mut fresh = Member::leading(3, 2, &[1]);
        assert_eq!(fresh.changed(vec![Change::Remove(NodeId(2))]), [format!("Answer r1 {refusal}")]);
    }

    /// §4.3: "Agreement (for elections and entry commitment) requires majorities from both the old and new
    /// configurations", then the leader leaves the joint one by itself.
    #[test]
    fn decide_with_both_majorities_while_joint() {
        let mut leader = ready(3);
        leader.changed(vec![Change::AddVoter(NodeId(4), 1), Change::AddVoter(NodeId(5), 1)]);
        leader.hears(1, Message::Stored { term: 2, last: 3 });
        for peer in [4, 5] {
            leader.hears(peer, Message::Appended { term: 2, matched: 3, joined: 3 });
        }
        assert_eq!(leader.raft.commit(), 2, "three of five new ones, one of three old ones");
        let done = leader.hears(2, Message::Appended { term: 2, matched: 3, joined: 0 });
        assert_eq!(done[0], "Persist Append [2/4 {1 2 3 4 5}]");
        assert_eq!(leader.raft.commit(), 3);
    }

    /// §4.2.1: a learner "does not count toward majorities"; one that lacks the log cannot be promoted.
    #[test]
    fn promote_learners_that_have_caught_up() {
        let mut leader = ready(3);
        leader.changed(vec![Change::AddLearner(NodeId(4))]);
        for (peer, joined) in [(1, 0), (2, 0), (3, 0)] {
            let message = |last| match peer {
                1 => Message::Stored { term: 2, last },
                _ => Message::Appended { term: 2, matched: last, joined },
            };
            leader.hears(peer, message(3));
            leader.hears(peer, message(4));
        }
        leader.hears(1, Message::Stored { term: 2, last: 4 });
        leader.hears(2, Message::Appended { term: 2, matched: 4, joined: 0 });
        assert_eq!(leader.raft.commit(), 4);
        let refused = leader.changed(vec![Change::AddVoter(NodeId(4), 1)]);
        assert_eq!(refused, ["Answer r2 error: 4 lacks 4 entries; wait until it has caught up"]);
        leader.hears(4, Message::Appended { term: 2, matched: 4, joined: 3 });
        let done = leader.changed(vec![Change::AddVoter(NodeId(4), 1)]);
        assert_eq!(done[0], "Persist Append [2/5 {1 2 3 4}-{1 2 3}]");
    }

    /// §4.2.2: a leader that is removed "manages a cluster that does not include itself; it replicates log entries but
    /// does not count itself in majorities".
    #[test]
    fn without_the_leader_count_without_it() {
        let mut leader = ready(3);
        leader.changed(vec![Change::Remove(NodeId(1))]);
        leader.hears(1, Message::Stored { term: 2, last: 3 });
        leader.hears(2, Message::Appended { term: 2, matched: 3, joined: 0 });
        assert_eq!(leader.raft.commit(), 2, "one of the two new ones");
        leader.hears(3, Message::Appended { term: 2, matched: 3, joined: 0 });
        assert_eq!(leader.raft.commit(), 3);
        leader.hears(2, Message::Appended { term: 2, matched: 4, joined: 0 });
        let done = leader.hears(3, Message::Appended { term: 2, matched: 4, joined: 0 });
        assert!(done.contains(&"Answer r1 Changed 4".to_owned()), "{done:?}");
        assert_eq!(leader.raft.role(), Role::Follower, "§4.2.2: it steps down once that is committed");
    }

    /// §4.2.3: "if a server receives a `RequestVote` request within the minimum election timeout of hearing from a current
    /// leader, it does not update its term or grant its vote".
    #[test]
    fn are_not_disturbed_by_those_that_were_removed() {
        let mut member = Member::of(3, 1, &[1]);
        member.hears(2, beat(1, at(1, 1), 0));
        member.now = member.now + ELECTION * 9 / 10;
        assert_eq!(member.hears(3, request_vote(7, at(1, 1))), nothing());
        member.now = member.now + ELECTION / 5;
        assert!(member.hears(3, request_vote(7, at(1, 1))).contains(&"⇒3 Vote term=7 granted".to_owned()));
    }

    /// §4.2.3: a leader that a quorum answers is not disturbed either.
    #[test]
    fn keep_their_leader() {
        let mut leader = ready(3);
        assert_eq!(leader.hears(3, request_vote(7, at(9, 9))), nothing());
        assert_eq!((leader.raft.role(), leader.raft.term()), (Role::Leader, 2));
    }
}

mod compaction {
    use super::*;

    fn install(term: Term, last: Position, data: &'static [u8]) -> Message {
        let membership = (0, Arc::new(Membership::of([NodeId(1), NodeId(2), NodeId(3)])));
        let id = SnapshotId { last, by: NodeId(2) };
        let snapshot = Arc::new(Snapshot { id, membership, length: data.len() as u64 });
        Message::Install { term, snapshot, offset: 0, data: data.into(), joined: 0 }
    }

    /// §5.1: "the follower [with a conflicting log] discards its entire log; it is all superseded by the snapshot".
    #[test]
    fn takes_the_place_of_a_log_that_conflicts() {
        let mut member = Member::of(3, 3, &[1, 1, 2, 2, 2]);
        assert_eq!(
            member.hears(2, install(3, at(3, 4), b"state")),
            ["Write 3/4@2(5) offset=0 data=\"state\"", "Role Follower term=3 leader=2"]
        );
        let id = SnapshotId { last: at(3, 4), by: NodeId(2) };
        assert_eq!(
            member.asked(Request::Written { snapshot: id, offset: 5 }),
            [
                "Answer r1 Done",
                "Checkpoint cluster=0 id=1 term=3 base=3/4 membership=0:{1 2 3} snapshot=3/4@2(5)",
                "Install 3/4@2(5)",
                "Membership 0 {1 2 3}",
                "⇒2 Appended term=3 matched=4",
            ]
        );
        assert_eq!(member.raft.last(), at(3, 4));
    }

    /// §5.1: "If ... the follower receives a snapshot that describes a prefix of its log", what follows "is still valid
    /// and must be retained".
    #[test]
    fn leaves_a_log_alone_that_has_more() {
        let mut member = Member::of(3, 3, &[1, 1, 3, 3]);
        let done = member.hears(2, install(3, at(3, 3), b"state"));
        assert!(done.contains(&"⇒2 Appended term=3 matched=3".to_owned()), "{done:?}");
        assert!(!done.iter().any(|line| line.starts_with("Write")), "{done:?}");
        assert_eq!((member.raft.last(), member.raft.commit()), (at(3, 4), 3));
    }
}

mod clients {
    use super::*;

    fn read(lease: bool) -> Request {
        Request::Read { lease, deadline: Instant::NEVER }
    }

    fn heard(round: u64) -> Message {
        Message::Heard { term: 2, beat: Beat { round, sent: Instant::ZERO }, lease: false }
    }

    /// §6.2: "a leader steps down if an election timeout elapses without a successful round of heartbeats to a majority".
    #[test]
    fn are_not_kept_by_a_leader_that_nobody_answers() {
        let mut leader = Member::leading(3, 2, &[1]);
        let begun = leader.now;
        let done = leader.waits_for(Timer::Quorum);
        assert!(done.contains(&"Role Follower term=2".to_owned()), "{done:?}");
        assert!(leader.now - begun <= ELECTION * 2);
    }

    /// §6.4: "the leader needs to make sure it has not been superseded by a newer leader of which it is unaware": a round
    /// of heartbeats that began after the read came.
    #[test]
    fn read_when_a_quorum_has_confirmed_the_leader_since() {
        let mut leader = Member::leading(3, 2, &[1]);
        leader.hears(1, Message::Stored { term: 2, last: 2 });
        leader.hears(2, Message::Appended { term: 2, matched: 2, joined: 0 });
        let done = leader.asked(read(false));
        assert!(done.iter().any(|line| line.contains("beat=2@")), "{done:?}");
        assert_eq!(leader.hears(2, heard(1)), nothing(), "the answer to a question from before the read");
        assert_eq!(leader.hears(2, heard(2)), ["Answer r1 Read 2"]);
    }

    /// §6.4: a new leader "may not know which entries are committed" and waits for its own first one.
    #[test]
    fn of_a_new_leader_read_at_its_first_entry() {
        let mut leader = Member::leading(3, 2, &[1]);
        leader.asked(read(false));
        assert_eq!(leader.raft.commit(), 0);
        assert!(leader.hears(2, heard(2)).contains(&"Answer r1 Read 2".to_owned()));
    }

    /// §6.4.1: a lease read needs an answered heartbeat; without the setting there is none, and it costs a round.
    #[test]
    fn read_by_lease_only_when_that_is_set() {
        let mut leader = Member::leading(3, 2, &[1]);
        leader.hears(1, Message::Stored { term: 2, last: 2 });
        leader.hears(2, Message::Appended { term: 2, matched: 2, joined: 0 });
        leader.hears(2, heard(1));
        assert!(!leader.asked(read(true)).iter().any(|line| line.starts_with("Answer")));
    }
}

mod pre_vote {
    use super::*;

    fn careful() -> Settings {
        Settings { pre_vote: true, ..settings() }
    }

    /// §9.6: "a candidate only increments its term if it first learns from a majority of the cluster that they would be
    /// willing to grant the candidate their votes".
    #[test]
    fn comes_before_a_term() {
        let mut member = Member::with(careful(), 5, 1, &[1], 1);
        let done = member.waits_for(Timer::Election);
        assert_eq!(done[0], "→2 RequestPreVote term=2 last=1/1");
        assert_eq!(done.last().map(String::as_str), Some("Role PreCandidate term=1"));
        let yes = Message::PreVote { term: 2, granted: true };
        assert_eq!(member.hears(2, yes.clone()), nothing());
        assert_eq!(member.hears(3, yes)[0], "Persist HardState term=2 vote=1");
    }

    /// §9.6: the voter's answer binds nothing: no term, no vote, no record.
    #[test]
    fn changes_nothing_at_the_voter() {
        let mut member = Member::with(careful(), 3, 1, &[1], 1);
        let ask = Message::RequestPreVote { term: 9, last: at(1, 1) };
        assert_eq!(member.hears(2, ask.clone()), ["→2 PreVote term=9 granted"]);
        assert_eq!(member.hears(3, ask), ["→3 PreVote term=9 granted"]);
        assert_eq!(member.raft.hard_state(), HardState { term: 1, vote: None });
    }

    /// §9.6: granted "if the candidate's log is sufficiently up-to-date, and the voters have not received heartbeats from
    /// a valid leader for at least a baseline election timeout".
    #[test]
    fn is_refused_to_a_short_log_and_by_those_who_hear_a_leader() {
        let mut member = Member::with(careful(), 3, 2, &[1, 2], 1);
        let ask = |last| Message::RequestPreVote { term: 3, last };
        assert_eq!(member.hears(3, ask(at(1, 9))), ["→3 PreVote term=2 refused"]);
        member.hears(2, beat(2, at(2, 2), 0));
        assert_eq!(member.hears(3, ask(at(2, 2))), ["→3 PreVote term=2 refused"]);
        member.now = member.now + ELECTION;
        assert_eq!(member.hears(3, ask(at(2, 2))), ["→3 PreVote term=3 granted"]);
    }
}
