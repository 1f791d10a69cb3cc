//! What the judge lets pass and what it sees, told step by step.

use super::*;
use crate::raft::Batch;
use crate::replica::SessionStamp;

const MEMBER: NodeId = NodeId(1);
const LOCK: Bytes = Bytes::from_static(b"l0");
const MINE: LeaseId = NAMED;
const YOURS: LeaseId = NAMED + 1;

/// A judge, and a log that is told to it.
struct Story {
    judge: Judge,
    now: Instant,
    index: Index,
    requests: u64,
}

impl Story {
    /// Two clients have leases that they believe in.
    fn new() -> Self {
        let mut scenario = Scenario::new(0);
        scenario.replica.grace = None;
        let judge = Judge::new(&scenario, Duration::from_secs(60));
        let mut story = Self { judge, now: Instant::ZERO, index: 0, requests: 0 };
        for lease in [MINE, YOURS] {
            let ttl = Duration::from_secs(1_000);
            story.does(&Command::Grant { lease, ttl, home: 1 }).expect("a lease");
        }
        story
    }

    fn asks(&mut self, request: &Request) -> RequestId {
        self.now = self.now + Duration::from_millis(1);
        self.requests += 1;
        let (id, at) = (RequestId(self.requests), self.now);
        let what = self.judge.classify(at, MEMBER, request).expect("what is judged");
        self.judge.asked.insert(id, Asked { node: MEMBER, at, what });
        id
    }

    fn asks_plainly(&mut self, command: &Command) -> RequestId {
        let (command, deadline) = (command.to_bytes(), Instant::ZERO);
        self.asks(&Request::Command { session: None, command, deadline })
    }

    /// An entry takes effect.
    fn applies(&mut self, entry: &Entry<'_>) -> Result<Index, Violation> {
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        self.index += 1;
        let payload = Payload::Commands(Batch::new([bytes]));
        self.judge.take(self.now, self.index, Run { term: 1, first: self.index, payload })?;
        Ok(self.index)
    }

    fn applies_plainly(&mut self, command: &Command) -> Result<Index, Violation> {
        self.applies(&Entry::Plain(&command.to_bytes()))
    }

    fn hears(&mut self, id: RequestId, index: Index) -> Result<(), Violation> {
        let result = self.judge.results[&index].clone();
        self.judge.answered(self.now, id, &Ok(replica::Answer::Result { index, result }))
    }

    /// A command is asked, takes effect and is answered.
    fn does(&mut self, command: &Command) -> Result<(), Violation> {
        let id = self.asks_plainly(command);
        let index = self.applies_plainly(command)?;
        self.hears(id, index)
    }
}

const fn acquire(lease: LeaseId) -> Command {
    Command::Acquire { name: LOCK, lease, value: Bytes::new(), wait: false }
}

const fn release(lease: LeaseId) -> Command {
    Command::Release { name: LOCK, lease }
}

#[test]
fn a_release_that_comes_late_ends_the_section_of_who_asked_for_it() {
    let mut story = Story::new();
    story.does(&acquire(MINE)).expect("it was free");
    // It is asked, nobody answers, and who asked begins anew.
    story.asks_plainly(&release(MINE));
    story.does(&acquire(MINE)).expect("it is still his");
    assert_eq!(story.judge.sections.len(), 1);
    story.applies_plainly(&release(MINE)).expect("late");
    story.does(&acquire(YOURS)).expect("nobody holds it any more");
}

#[test]
fn who_is_told_that_he_holds_what_another_holds_is_seen() {
    let mut story = Story::new();
    story.does(&acquire(MINE)).expect("it was free");
    // The keys go, by a command that no client of these worlds has, and so not by whoever holds it.
    let keys = store::Keys::prefix(LOCK);
    story.applies_plainly(&Command::Delete { keys, previous: false }).expect("any client may");
    let verdict = story.does(&acquire(YOURS));
    assert_eq!(verdict.expect_err("both hold it").invariant, "mutual exclusion");
}

#[test]
fn nothing_of_a_closed_session_comes_back() {
    let mut story = Story::new();
    let session = story.applies(&Entry::Open).expect("a session");
    let stamp = SessionStamp { session, sequence: 0, answered_below: 0 };
    let command = acquire(MINE).to_bytes();
    story.applies(&Entry::Stamped(stamp, &command)).expect("it is open");
    let late = Request::Command { session: Some(stamp), command: command.clone(), deadline: Instant::ZERO };
    let close = story.asks(&Request::CloseSession { session, deadline: Instant::ZERO });
    let mut early = story.judge.clone();
    let verdict = early.answered(story.now, close, &Ok(replica::Answer::Done));
    assert_eq!(verdict.expect_err("it is open").invariant, "a closed session is closed");
    story.applies(&Entry::Close(session)).expect("it is closed");
    story.judge.answered(story.now, close, &Ok(replica::Answer::Done)).expect("it is closed");
    let id = story.asks(&late);
    story.applies(&Entry::Stamped(stamp, &command)).expect("it is refused");
    story.judge.clone().answered(story.now, id, &Err(Error::SessionExpired)).expect("it is refused");
    let result = story.judge.results.values().next_back().cloned().expect("a result");
    let answer = replica::Answer::Result { index: story.index, result };
    let verdict = story.judge.answered(story.now, id, &Ok(answer));
    assert_eq!(verdict.expect_err("it was closed").invariant, "nothing of a closed session comes back");
}
