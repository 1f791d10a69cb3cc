//! The cluster that a conversation is about: members, what is in flight between them, and one clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use coterie::id::{NodeId, RequestId};
use coterie::protocol::{Effect, Link, Outbox, Protocol};
use coterie::raft::{Answer, Error, Event, Message, Raft, Record, Request, Settings, Timer};
use coterie::random::{Random, mix};
use coterie::time::Instant;

use super::invariants::Invariants;
use super::member::Member;

/// The ids of requests that no script has asked (the application's, and the first membership).
const OWN: u64 = 1 << 32;
/// Nobody talks that long to settle something.
const SETTLED: usize = 20_000;

#[derive(Default)]
pub(super) struct Cluster {
    pub(super) now: Instant,
    pub(super) settings: Settings,
    pub(super) seed: u64,
    pub(super) members: BTreeMap<NodeId, Member>,
    pub(super) flying: VecDeque<Letter>,
    /// What `delay` has put aside.
    pub(super) late: VecDeque<Letter>,
    /// Who cannot be heard by whom.
    pub(super) cuts: BTreeSet<(NodeId, NodeId)>,
    pub(super) answers: BTreeMap<RequestId, Result<Answer, Error>>,
    pub(super) asked: u64,
    own: u64,
    /// How many effects there were but the setting of alarms.
    done: u64,
    /// The lines to print.
    pub(super) said: Vec<String>,
    pub(super) detail: Detail,
    invariants: Invariants,
}

/// How much is said.
#[derive(Clone, Copy, Default, PartialEq)]
pub(super) enum Detail {
    /// Each effect but the setting of alarms.
    #[default]
    All,
    /// Answers, and what applications hear.
    Outcomes,
    Nothing,
}

/// A message under way.
#[derive(Clone)]
pub(super) struct Letter {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) message: Message,
}

impl std::fmt::Display for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}→{} {}", self.from, self.to, self.message)
    }
}

/// What a machine may be given.
pub(super) enum Input {
    Receive(NodeId, Message),
    Expire(Timer),
    Request(RequestId, Request),
    Link(NodeId, Link),
}

type Outcome = Result<(), String>;

impl Cluster {
    /// A new member, with what its journal holds.
    pub(super) fn join(&mut self, id: NodeId, records: Vec<Record>) -> Outcome {
        if self.members.insert(id, Member::new(records)).is_some() {
            return Err(format!("{id} is here already"));
        }
        self.start(id)
    }

    /// Begins a life.
    pub(super) fn start(&mut self, id: NodeId) -> Outcome {
        let settings = self.settings.clone();
        let (now, seed) = (self.now, self.seed);
        let member = self.members.get_mut(&id).ok_or("nobody of that name")?;
        if member.machine.is_some() {
            return Err(format!("{id} runs"));
        }
        member.lives += 1;
        let random = Random::new(mix(seed ^ mix(id.0) ^ member.lives.rotate_left(32)));
        let mut machine = Raft::new(id, settings).map_err(|invalid| invalid.to_string())?;
        let mut out = Outbox::new();
        machine.start(now, random, member.disk.durable.clone(), &mut out);
        machine.flush(now, &mut out);
        member.machine = Some(machine);
        self.act(id, &mut out)
    }

    /// Ends a life; of the records that are not durable the first `keep` survive.
    pub(super) fn crash(&mut self, id: NodeId, keep: usize) -> Outcome {
        let member = self.members.get_mut(&id).ok_or("nobody of that name")?;
        member.machine = None;
        member.paused = false;
        member.alarms.clear();
        member.application.forget();
        member.disk.crash(keep);
        let term = member.disk.durable_term();
        self.invariants.restarts(id, term);
        Ok(())
    }

    /// Asks on behalf of the script: the next number.
    pub(super) fn ask(&mut self, id: NodeId, request: Request) -> Outcome {
        self.awake(id)?;
        self.asked += 1;
        self.give(id, Input::Request(RequestId(self.asked), request))
    }

    /// Asks on behalf of nobody: the answer does not matter.
    pub(super) fn ask_silently(&mut self, id: NodeId, request: Request) -> Outcome {
        self.own += 1;
        self.give(id, Input::Request(RequestId(OWN + self.own), request))
    }

    /// Gives a machine one input, which is a batch of its own.
    pub(super) fn give(&mut self, id: NodeId, input: Input) -> Outcome {
        let now = self.now;
        let machine = self.awake(id)?.machine.as_mut().ok_or("it is down")?;
        let mut out = Outbox::new();
        match input {
            Input::Receive(from, message) => machine.receive(now, from, message, &mut out),
            Input::Expire(timer) => machine.expire(now, timer, &mut out),
            Input::Request(request, what) => machine.request(now, request, what, &mut out),
            Input::Link(peer, link) => machine.link(now, peer, link, &mut out),
        }
        machine.flush(now, &mut out);
        self.act(id, &mut out)
    }

    fn awake(&mut self, id: NodeId) -> Result<&mut Member, String> {
        let member = self.members.get_mut(&id).ok_or_else(|| format!("{id} is nobody here"))?;
        if member.awake() { Ok(member) } else { Err(format!("{id} is down or paused")) }
    }

    fn member(&mut self, id: NodeId) -> &mut Member {
        self.members.get_mut(&id).expect("whoever acts is here")
    }

    /// Does what a machine wants done.
    fn act(&mut self, id: NodeId, out: &mut Outbox<Raft>) -> Outcome {
        for effect in out.drain() {
            self.done += u64::from(!matches!(effect, Effect::Set(..) | Effect::Cancel(_)));
            match effect {
                Effect::Send(to, message) => self.send(id, to, message),
                Effect::Persist(record) => {
                    self.say(Detail::All, || format!("{id} Persist {record}"));
                    self.member(id).disk.queued.push(record);
                }
                Effect::Checkpoint(record) => {
                    self.say(Detail::All, || format!("{id} {record}"));
                    self.member(id).disk.queued.push(record);
                }
                Effect::Promise(to, message) => {
                    let waits = if self.member(id).disk.held { " waits" } else { "" };
                    self.say(Detail::All, || format!("{id}⇒{to} {message}{waits}"));
                    self.member(id).disk.promise(to, message);
                }
                Effect::Set(timer, at) => drop(self.member(id).alarms.insert(timer, at)),
                Effect::Cancel(timer) => drop(self.member(id).alarms.remove(&timer)),
                Effect::Answer(request, answer) => self.answer(id, request, answer)?,
                Effect::Notify(event) => self.notify(id, &event)?,
            }
        }
        if self.member(id).disk.held { Ok(()) } else { self.sync(id) }
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        let letter = Letter { from, to, message };
        self.say(Detail::All, || letter.to_string());
        self.flying.push_back(letter);
    }

    fn answer(&mut self, id: NodeId, request: RequestId, answer: Result<Answer, Error>) -> Outcome {
        if request.0 > OWN {
            return Ok(());
        }
        self.say(Detail::Outcomes, || match &answer {
            Ok(answer) => format!("{id} Answer r{request} {answer}"),
            Err(error) => format!("{id} Answer r{request} error: {error}"),
        });
        match self.answers.insert(request, answer) {
            Some(_) => Err(format!("r{request} was answered twice")),
            None => Ok(()),
        }
    }

    fn notify(&mut self, id: NodeId, event: &Event) -> Outcome {
        let detail = match event {
            Event::Read { .. } | Event::Write { .. } | Event::Discard(_) => Detail::All,
            _ => Detail::Outcomes,
        };
        self.say(detail, || format!("{id} {event}"));
        if let Event::Committed(entries) = event {
            self.invariants.committed(id, entries)?;
        }
        let asks = self.member(id).application.hear(event)?;
        self.member(id).disk.written.extend(asks);
        Ok(())
    }

    /// The disk of `id` answers: promises leave; those to itself, and what the application asks, come back.
    pub(super) fn sync(&mut self, id: NodeId) -> Outcome {
        let disk = &mut self.member(id).disk;
        let (promises, asks) = (disk.sync(), std::mem::take(&mut disk.written));
        let held = disk.held;
        for (to, message) in promises {
            if held {
                self.say(Detail::All, || format!("{id}⇒{to} {message}"));
            }
            if to == id {
                self.give(id, Input::Receive(id, message))?;
            } else {
                self.flying.push_back(Letter { from: id, to, message });
            }
        }
        asks.into_iter().try_for_each(|request| self.ask_silently(id, request))
    }

    /// Takes out of the air what `wanted` picks.
    pub(super) fn pick(&mut self, wanted: impl Fn(&Letter) -> bool, count: usize) -> VecDeque<Letter> {
        let mut picked = VecDeque::new();
        self.flying.retain(|letter| {
            let take = picked.len() < count && wanted(letter);
            if take {
                picked.push_back(letter.clone());
            }
            !take
        });
        picked
    }

    /// A message arrives, unless nobody is there or nothing gets through.
    pub(super) fn arrive(&mut self, letter: Letter) -> Outcome {
        let there = self.members.get(&letter.to).is_some_and(|member| member.machine.is_some());
        if !there || self.cuts.contains(&(letter.from, letter.to)) {
            self.say(Detail::All, || format!("✗ {letter}"));
            return Ok(());
        }
        self.say(Detail::All, || format!("> {letter}"));
        self.give(letter.to, Input::Receive(letter.from, letter.message))
    }

    /// Whether `id` sleeps: what is sent to it stays in the air.
    pub(super) fn sleeps(&self, id: NodeId) -> bool {
        self.members.get(&id).is_some_and(|member| member.machine.is_some() && member.paused)
    }

    /// Lets all messages arrive, and those that they cause, in the order in which they were sent.
    pub(super) fn settle(&mut self) -> Outcome {
        for _ in 0..SETTLED {
            let Some(at) = self.flying.iter().position(|letter| !self.sleeps(letter.to)) else {
                return Ok(());
            };
            let letter = self.flying.remove(at).ok_or("it was just there")?;
            self.arrive(letter)?;
        }
        Err("they talk for ever".to_owned())
    }

    /// Lets the timer of `id` expire. A machine may put an alarm off when it rings: then it rings again.
    pub(super) fn expire(&mut self, id: NodeId, timer: Timer) -> Outcome {
        let before = self.done;
        self.ring(id, timer)?;
        let put_off = before == self.done && self.member(id).alarms.contains_key(&timer);
        if put_off { self.ring(id, timer) } else { Ok(()) }
    }

    /// Rings the alarm of `id`, at its time or, if that is past, now.
    fn ring(&mut self, id: NodeId, timer: Timer) -> Outcome {
        let Some(at) = self.awake(id)?.alarms.remove(&timer) else {
            return Err(format!("{id} has set no alarm {timer}"));
        };
        self.now = self.now.max(at);
        self.give(id, Input::Expire(timer))
    }

    /// Lets time pass: each alarm rings when it is due, and messages take no time.
    pub(super) fn advance(&mut self, span: Duration, deliver: bool) -> Outcome {
        let end = self.now + span;
        for _ in 0..SETTLED {
            if deliver {
                self.settle()?;
            }
            let alarms = self
                .members
                .iter()
                .filter(|(_, member)| member.awake())
                .flat_map(|(id, member)| member.alarms.iter().map(move |(timer, at)| (*at, *id, *timer)));
            let Some((_, id, timer)) = alarms.min().filter(|(at, ..)| *at <= end) else {
                self.now = end;
                return Ok(());
            };
            self.ring(id, timer)?;
        }
        Err("alarms ring for ever".to_owned())
    }

    /// `id`, which is down, loses its disk.
    pub(super) fn wipe(&mut self, id: NodeId) -> Outcome {
        if self.members.get(&id).is_none_or(|member| member.machine.is_some()) {
            return Err(format!("{id} runs"));
        }
        self.members.insert(id, Member::new(Vec::new()));
        self.invariants.restarts(id, 0);
        Ok(())
    }

    pub(super) fn check(&mut self) -> Outcome {
        self.invariants.check(&self.members)
    }

    fn say(&mut self, detail: Detail, line: impl FnOnce() -> String) {
        if self.detail == Detail::All || self.detail == detail {
            self.said.push(line());
        }
    }
}
