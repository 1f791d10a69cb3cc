//! Three members in one thread, with a disk that answers at once: the shortest stories.

use std::collections::VecDeque;
use std::time::Duration;

use coterie::id::{NodeId, RequestId};
use coterie::protocol::{Effect, Outbox, Protocol};
use coterie::raft::{
    Answer, Batch, Event, Membership, Message, Payload, Raft, Record, Request, Role, Settings, Timer,
};
use coterie::random::Random;
use coterie::time::Instant;

struct Member {
    raft: Raft,
    records: Vec<Record>,
    alarms: Vec<(Timer, Instant)>,
    applied: Vec<String>,
    answers: Vec<(RequestId, Result<Answer, coterie::raft::Error>)>,
}

struct Cluster {
    now: Instant,
    members: Vec<Member>,
    messages: VecDeque<(NodeId, NodeId, Message)>,
    cut: Option<NodeId>,
    requests: u64,
}

impl Cluster {
    fn new(count: u64) -> Self {
        let ids: Vec<NodeId> = (1..=count).map(NodeId).collect();
        let members = ids
            .iter()
            .map(|&id| Member {
                raft: Raft::new(id, Settings::default()).expect("the defaults are valid"),
                records: vec![],
                alarms: vec![],
                applied: vec![],
                answers: vec![],
            })
            .collect();
        let mut cluster =
            Self { now: Instant::ZERO, members, messages: VecDeque::new(), cut: None, requests: 0 };
        for at in 0..count as usize {
            let mut out = Outbox::new();
            cluster.members[at].raft.start(cluster.now, Random::new(at as u64), vec![], &mut out);
            cluster.perform(at, out);
            cluster.ask(at, Request::Bootstrap(Membership::of(ids.iter().copied())));
        }
        cluster
    }

    fn ask(&mut self, at: usize, request: Request) -> RequestId {
        self.requests += 1;
        let id = RequestId(self.requests);
        let mut out = Outbox::new();
        let member = &mut self.members[at];
        member.raft.request(self.now, id, request, &mut out);
        member.raft.flush(self.now, &mut out);
        self.perform(at, out);
        id
    }

    fn perform(&mut self, at: usize, mut out: Outbox<Raft>) {
        let own = NodeId(at as u64 + 1);
        let mut to_oneself = vec![];
        for effect in out.drain() {
            let member = &mut self.members[at];
            match effect {
                Effect::Promise(to, message) if to == own => to_oneself.push(message),
                Effect::Send(to, message) | Effect::Promise(to, message) => {
                    self.messages.push_back((own, to, message));
                }
                Effect::Persist(record) => member.records.push(record),
                Effect::Checkpoint(record) => member.records = vec![record],
                Effect::Set(timer, when) => {
                    member.alarms.retain(|(other, _)| *other != timer);
                    member.alarms.push((timer, when));
                }
                Effect::Cancel(timer) => member.alarms.retain(|(other, _)| *other != timer),
                Effect::Answer(id, answer) => member.answers.push((id, answer)),
                Effect::Notify(Event::Committed(entries)) => {
                    for run in entries.runs() {
                        if let Payload::Commands(batch) = &run.payload {
                            member
                                .applied
                                .extend(batch.iter().map(|c| String::from_utf8_lossy(c).into_owned()));
                        }
                    }
                }
                Effect::Notify(_) => {}
            }
        }
        for message in to_oneself {
            let mut out = Outbox::new();
            self.members[at].raft.receive(self.now, own, message, &mut out);
            self.members[at].raft.flush(self.now, &mut out);
            self.perform(at, out);
        }
    }

    fn settle(&mut self) {
        while let Some((from, to, message)) = self.messages.pop_front() {
            if self.cut.is_some_and(|cut| cut == from || cut == to) {
                continue;
            }
            let at = to.0 as usize - 1;
            let mut out = Outbox::new();
            self.members[at].raft.receive(self.now, from, message, &mut out);
            self.members[at].raft.flush(self.now, &mut out);
            self.perform(at, out);
        }
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            self.settle();
            let alarms = self.members.iter().enumerate();
            let next =
                alarms.flat_map(|(at, m)| m.alarms.iter().map(move |&(timer, when)| (when, at, timer))).min();
            let Some((when, at, timer)) = next.filter(|(when, _, _)| *when <= end) else { break };
            self.now = self.now.max(when);
            self.members[at].alarms.retain(|(other, _)| *other != timer);
            let mut out = Outbox::new();
            self.members[at].raft.expire(self.now, timer, &mut out);
            self.members[at].raft.flush(self.now, &mut out);
            self.perform(at, out);
        }
        self.now = end;
    }

    fn leader(&self) -> usize {
        let leads = |m: &&Member| m.raft.role() == Role::Leader && Some(m.raft.id()) != self.cut;
        let leaders: Vec<_> = self.members.iter().filter(leads).map(|m| m.raft.id().0 as usize - 1).collect();
        assert_eq!(
            leaders.len(),
            1,
            "{:?}",
            self.members.iter().map(|m| m.raft.status()).collect::<Vec<_>>()
        );
        leaders[0]
    }
}

#[test]
fn three_members_elect_one_and_all_apply_what_it_takes() {
    let mut cluster = Cluster::new(3);
    cluster.pass(Duration::from_secs(1));
    let leader = cluster.leader();
    let id =
        cluster.ask(leader, Request::Propose { commands: Batch::new(["a", "b"]), deadline: Instant::NEVER });
    cluster.pass(Duration::from_secs(1));
    assert!(cluster.members.iter().all(|m| m.applied == ["a", "b"]));
    assert!(
        matches!(cluster.members[leader].answers.last(), Some((other, Ok(Answer::Committed(_)))) if *other == id)
    );
}

#[test]
fn a_leader_that_is_cut_off_is_replaced_and_follows_when_it_is_back() {
    let mut cluster = Cluster::new(3);
    cluster.pass(Duration::from_secs(1));
    let old = cluster.leader();
    cluster.cut = Some(NodeId(old as u64 + 1));
    cluster.pass(Duration::from_secs(1));
    let new = cluster.leader();
    assert_ne!(old, new);
    cluster.ask(new, Request::Propose { commands: Batch::new(["x"]), deadline: Instant::NEVER });
    cluster.cut = None;
    cluster.pass(Duration::from_secs(1));
    assert_eq!(cluster.leader(), new);
    assert!(cluster.members.iter().all(|m| m.applied == ["x"]));
}
