//! The judge of a world of a store.
//!
//! It follows the log with two stores of its own: a plain one, which says what each entry means, and one like the
//! members', whose digest every member must have at the same entry. The two are compared in full now and then.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

use super::super::super::host::{Host, Seen, Watch};
use super::super::raft::RaftJudge;
use super::super::replicated::{LIMITS, Replicates, heals};
use super::patrons::{NAMED, is_past};
use super::{Plain, Scenario, limits};
use crate::check::{Progress, Violation};
use crate::id::{NodeId, RequestId};
use crate::protocol::{self, Application};
use crate::raft::{Entries, Index, Payload, Record, Run};
use crate::replica::{
    self, Command as Entry, Consistency, Error, Event, Machine, Outcome, Request, SessionId, Shelf,
};
use crate::store::{
    self, Answer, Command, Done, LeaseId, Past, Query, Range, Refusal, Reply, Revision, Store, lock_key,
};
use crate::time::Instant;
use crate::wire::{Decode, Encode, VERSION};

/// Hands what happens to the judges, and holds each answer and each member's state to what the log means.
#[derive(Clone, Debug)]
pub struct Judge {
    /// What Raft promises.
    pub raft: RaftJudge,
    /// Whether something happens after the heal.
    pub progress: Progress,
    plain: Plain,
    reference: Machine<Store>,
    /// By index: what the command there gave, once it has given something; and a digest of the command.
    results: BTreeMap<Index, Bytes>,
    commands: BTreeMap<Index, u64>,
    /// By index: the digest of the whole store after it.
    digests: Vec<u64>,
    /// By revision: the keys after it, as far back as somebody may still see them.
    states: BTreeMap<Revision, BTreeMap<Bytes, store::Entry>>,
    /// By index: when a lease was granted or attached there.
    granted: BTreeMap<Index, Instant>,
    /// By name of a lock: the greatest token so far.
    tokens: BTreeMap<Bytes, Revision>,
    leases: BTreeMap<LeaseId, Belief>,
    sections: Vec<Section>,
    /// By lock and lease, or by lease: when somebody last asked to let go.
    let_go: BTreeMap<(Bytes, LeaseId), Instant>,
    /// The greatest revision that somebody was told.
    acknowledged: Revision,
    asked: BTreeMap<RequestId, Asked>,
    /// By member that is alive: what its application had applied when it was last looked at, and its revision.
    members: BTreeMap<NodeId, (Index, Revision)>,
    /// By index: a digest of the sessions in a snapshot there.
    sessions: BTreeMap<Index, u64>,
    /// Sessions that the log has closed; and those of which somebody was told so.
    closed: BTreeSet<SessionId>,
    known_closed: BTreeSet<SessionId>,
    core: Vec<NodeId>,
    patience: Duration,
    /// Whether leases end before their time when connections seem to.
    hasty: bool,
    /// When all was whole again.
    healed: Option<Instant>,
    live: bool,
    counts: Counts,
}

/// What was judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answers to commands.
    pub answers: u64,
    /// Answers to queries that were compared with the log.
    pub reads: u64,
    /// Events that watches were told.
    pub events: u64,
    /// Answers to watches that history did not reach back to.
    pub compacted: u64,
    /// Sections that a lock has guarded.
    pub sections: u64,
    /// Of them, those for which somebody had to wait.
    pub waited: u64,
    /// Renewals that were confirmed.
    pub renewals: u64,
    /// Leases that ended because nobody renewed them, or their holders were gone.
    pub expired: u64,
    /// Transactions of more than one step that took effect.
    pub transactions: u64,
    /// Comparisons of a member's state with what the log means.
    pub states: u64,
    /// Sessions that were closed.
    pub closed: u64,
}

/// What its holder may believe of a lease.
#[derive(Clone, Copy, Debug)]
struct Belief {
    /// It lives until then, at least.
    until: Instant,
    /// When somebody last asked something that lets it live longer.
    touched: Instant,
    /// Its holder went without goodbye.
    gone: bool,
}

/// What a lock guards, from when its holder knows that he has it until he asks to let go.
#[derive(Clone, Debug)]
struct Section {
    name: Bytes,
    lease: LeaseId,
    token: Revision,
}

#[derive(Clone, Debug)]
struct Asked {
    node: NodeId,
    at: Instant,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Command(u64, Command),
    /// A command of a session that its asker knows to be closed.
    Late(SessionId),
    Close(SessionId),
    /// What must be seen at least.
    Query(Query, Revision),
    Lease(LeaseId, bool),
    Order,
}

/// Something of a session took effect, or was told, after it was closed.
fn came_back(session: SessionId, what: &dyn Debug) -> Violation {
    Violation::new("nothing of a closed session comes back", format!("{session} gave {what:?}"))
}

/// A leader's clock may go faster than the world's by a hundredth.
fn by_any_clock(span: Duration) -> Duration {
    span / 1_000 * 985
}

/// How many revisions back somebody may still be reading.
const STATES: usize = 3_000;

impl Judge {
    pub(super) fn new(scenario: &Scenario, bound: Duration) -> Self {
        let mut progress = Progress::new(bound);
        let (from, core) = heals(&scenario.world.faults);
        let (live, clients) = (scenario.is_live(), &scenario.clients);
        let from = from.filter(|_| live && clients.rate > 0.0 && clients.count > 0);
        if let Some(from) = from {
            progress.expect_from(Instant::ZERO + from);
        }
        Self {
            raft: RaftJudge::default(),
            progress,
            plain: Plain::new(limits()),
            reference: Machine::open(NodeId(0), Store::new(limits()), LIMITS, Shelf::new()),
            results: BTreeMap::new(),
            commands: BTreeMap::new(),
            digests: vec![Store::new(limits()).digest()],
            states: BTreeMap::from([(0, BTreeMap::new()), (1, BTreeMap::new())]),
            granted: BTreeMap::new(),
            tokens: BTreeMap::new(),
            leases: BTreeMap::new(),
            sections: Vec::new(),
            let_go: BTreeMap::new(),
            acknowledged: 1,
            asked: BTreeMap::new(),
            members: BTreeMap::new(),
            sessions: BTreeMap::new(),
            closed: BTreeSet::new(),
            known_closed: BTreeSet::new(),
            core,
            patience: clients.timeout * 5 + Duration::from_secs(4),
            hasty: scenario.replica.grace.is_some(),
            healed: from.map(|from| Instant::ZERO + from),
            live,
            counts: Counts::default(),
        }
    }

    /// What was judged.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// A last word: there was progress, whoever asked a member that is whole was answered, and no lease lives that
    /// nobody renews.
    pub fn finish(&self, now: Instant) -> Result<(), Violation> {
        self.progress.check(now)?;
        let whole = |node: NodeId| self.core.is_empty() || self.core.contains(&node);
        let hangs = self.asked.iter().find(|(_, asked)| whole(asked.node) && now - asked.at > self.patience);
        if let Some((id, asked)) = hangs {
            let detail = format!("{id:?} waits at {:?} since {:?}: {:?}", asked.node, asked.at, asked.what);
            return Err(Violation::new("answered by its deadline", detail));
        }
        let reference = self.reference.state().contents();
        if reference != self.plain.contents() {
            return Err(Violation::new("the store means what the log means", "at the end".to_owned()));
        }
        let Some(healed) = self.healed.filter(|_| self.live) else { return Ok(()) };
        for (lease, terms) in self.plain.leases() {
            let touched = self.leases.get(&lease).map_or(Instant::ZERO, |belief| belief.touched);
            let granted = self.granted.get(&terms.attachment).copied().unwrap_or_default();
            let touched = touched.max(granted);
            // Full time from then, once more from a leader that came later, and time to agree.
            if now - touched.max(healed) > terms.ttl * 2 + super::PROGRESS_BOUND {
                let detail = format!("{lease:x} lives at {now:?}, was touched at {touched:?}");
                return Err(Violation::new("leases end", detail));
            }
        }
        Ok(())
    }
}

/// The log.
impl Judge {
    /// The first member to apply an entry tells what stood there.
    fn advance(&mut self, at: Instant, entries: &Entries) -> Result<(), Violation> {
        for run in entries.runs() {
            let last = self.digests.len() as u64 - 1;
            for index in run.first.max(last + 1)..=run.last() {
                let place = (index - run.first) as usize;
                let payload = match &run.payload {
                    Payload::Commands(batch) => Payload::Commands(batch.slice(place, place + 1)),
                    other => other.clone(),
                };
                self.take(at, index, Run { term: run.term, first: index, payload })?;
            }
        }
        Ok(())
    }

    fn take(&mut self, at: Instant, index: Index, run: Run) -> Result<(), Violation> {
        let entry = match &run.payload {
            Payload::Commands(batch) => batch.shared().next(),
            _ => None,
        };
        let answers = Application::<replica::Replica>::hear(
            &mut self.reference,
            Event::Apply { entries: Entries::one(run), wanted: true },
        );
        let mut outcome = Outcome::Nothing;
        for answer in answers {
            match answer {
                Request::Applied { mut outcomes, .. } => {
                    outcome = outcomes.pop().unwrap_or(Outcome::Nothing);
                }
                Request::Woken(woken) => self.woken(woken)?,
                _ => {}
            }
        }
        if let Some(entry) = entry {
            self.entry(at, index, &entry, outcome)?;
        }
        self.digests.push(self.reference.state().digest());
        let revision = self.plain.revision();
        if !self.states.contains_key(&revision) {
            self.states.insert(revision, self.plain.state().clone());
            if self.states.len() > STATES {
                self.states.pop_first();
            }
        }
        if index.is_multiple_of(64) && self.reference.state().contents() != self.plain.contents() {
            let detail = format!("at {index}");
            return Err(Violation::new("the store means what the log means", detail));
        }
        Ok(())
    }

    fn entry(&mut self, at: Instant, index: Index, entry: &Bytes, outcome: Outcome) -> Result<(), Violation> {
        let decoded = Entry::decode(entry);
        if let Some(Entry::Stamped(stamp, _)) = &decoded
            && self.closed.contains(&stamp.session)
        {
            return match outcome {
                Outcome::SessionExpired => Ok(()),
                other => Err(came_back(stamp.session, &other)),
            };
        }
        match decoded {
            Some(Entry::Plain(command) | Entry::Stamped(_, command)) => {
                let fresh = matches!(outcome, Outcome::Result { index: first, .. } | Outcome::Waiting { ticket: first } if first == index);
                if !fresh {
                    return Ok(());
                }
                self.commands.insert(index, xxh3_64(command));
                let foreign = |_| Violation::new("only what was asked", format!("a command at {index}"));
                let command =
                    Command::from_bytes(Bytes::copy_from_slice(command), VERSION).map_err(foreign)?;
                let meant = self.plain.operate(index, &command);
                let given = match outcome {
                    Outcome::Result { result, .. } => Some(result),
                    _ => None,
                };
                // What was never answered may take effect when its asker has asked for the lock again.
                self.lets_go(at, &command);
                self.agree(index, meant, given)?;
                self.see(at, index, &command);
            }
            Some(Entry::Expire { lease, attachment }) => {
                if self.plain.expire(lease, attachment) {
                    self.counts.expired += 1;
                    self.ended(at, lease)?;
                }
                self.settle_woken()?;
            }
            Some(Entry::Compact(revision)) => {
                self.plain.operate(index, &Command::Compact { revision });
            }
            Some(Entry::Open) => {}
            Some(Entry::Close(session)) => {
                self.closed.insert(session);
            }
            None => return Err(Violation::new("only what was asked", format!("an entry at {index}"))),
        }
        Ok(())
    }

    /// The two stores of the judge agree.
    fn agree(&mut self, index: Index, meant: Option<Answer>, given: Option<Bytes>) -> Result<(), Violation> {
        let meant = meant.map(|answer| answer.to_bytes());
        if meant != given {
            let detail = format!("{index} gave {given:?} instead of {meant:?}");
            return Err(Violation::new("the store means what the log means", detail));
        }
        if let Some(result) = given {
            self.results.insert(index, result);
        }
        self.settle_woken()
    }

    /// The reference has woken these, before the plain one could say so.
    fn woken(&mut self, woken: Vec<(Index, Option<Bytes>)>) -> Result<(), Violation> {
        for (ticket, result) in woken {
            let Some(result) = result else {
                return Err(Violation::new("who waits is answered", format!("{ticket} was given nothing")));
            };
            self.results.insert(ticket, result);
        }
        Ok(())
    }

    fn settle_woken(&mut self) -> Result<(), Violation> {
        for (ticket, answer) in self.plain.take_woken() {
            if self.results.get(&ticket) != Some(&answer.to_bytes()) {
                let detail = format!("{ticket} was not given {answer:?}");
                return Err(Violation::new("the store means what the log means", detail));
            }
            self.grant(&answer.reply)?;
        }
        Ok(())
    }

    /// What is worth knowing of a command that took effect.
    fn see(&mut self, at: Instant, index: Index, command: &Command) {
        if let Command::Transaction { success, failure, .. } = command
            && success.len().max(failure.len()) > 1
        {
            self.counts.transactions += 1;
        }
        let answer = self.results.get(&index).cloned().map(|bytes| Answer::from_bytes(bytes, VERSION));
        if let Some(Ok(Answer { reply, .. })) = answer {
            if matches!(reply, Reply::Granted { .. } | Reply::Attached { .. }) {
                self.granted.insert(index, at);
            }
            // A grant that is not new is the same grant.
            let _ = self.grant(&reply);
        }
    }

    /// A lock is handed to somebody: in the order of the log, tokens grow.
    fn grant(&mut self, reply: &Reply) -> Result<(), Violation> {
        let Reply::Locked { key, token } = reply else { return Ok(()) };
        let name = key.rsplitn(2, |byte| *byte == b'/').nth(1).unwrap_or_default();
        let latest = self.tokens.entry(Bytes::copy_from_slice(name)).or_default();
        if *token < *latest {
            let detail = format!("{key:?} holds by {token}, after {latest}");
            return Err(Violation::new("tokens grow", detail));
        }
        *latest = *token;
        Ok(())
    }

    /// A lease has ended by itself.
    fn ended(&self, at: Instant, lease: LeaseId) -> Result<(), Violation> {
        let Some(belief) = self.leases.get(&lease) else { return Ok(()) };
        if self.hasty || belief.gone || belief.until <= at {
            return Ok(());
        }
        let detail =
            format!("{lease:x} ended at {at:?}; its holder was told that it lives until {:?}", belief.until);
        Err(Violation::new("no lease ends early", detail))
    }
}

/// Members.
impl Judge {
    /// A member's state is what the log means.
    fn state_agrees(&mut self, node: NodeId, host: &Machine<Store>) -> Result<(), Violation> {
        let index = host.applied().index;
        let revision = host.state().revision();
        let Some(known) = self.members.get_mut(&node) else { return Ok(()) };
        if known.0 == index {
            return Ok(());
        }
        // A snapshot that was installed may be all that a member knows, but it never knows less than before.
        if known.1 > revision {
            let detail = format!("{node:?} was at revision {}, and is at {revision}", known.1);
            return Err(Violation::new("revisions only grow", detail));
        }
        *known = (index, revision);
        let Some(digest) = self.digests.get(index as usize) else {
            return Err(Violation::new("only what was asked", format!("{node:?} has applied {index}")));
        };
        self.counts.states += 1;
        if host.state().digest() != *digest {
            let detail = format!("{node:?} is in another state at {index}");
            return Err(Violation::new("state-machine safety", detail));
        }
        Ok(())
    }

    /// All that make or take a snapshot at an index have the same sessions.
    fn sessions_agree(&mut self, node: NodeId, host: &Machine<Store>) -> Result<(), Violation> {
        let index = host.applied().index;
        let digest = xxh3_64(&host.sessions().to_bytes());
        if *self.sessions.entry(index).or_insert(digest) == digest {
            return Ok(());
        }
        let detail = format!("the sessions of {node:?} at {index} are not those of another");
        Err(Violation::new("state-machine safety", detail))
    }
}

/// Questions and answers.
impl Judge {
    fn classify(&mut self, at: Instant, node: NodeId, request: &Request) -> Option<What> {
        Some(match request {
            Request::Command { session: Some(stamp), .. } if self.known_closed.contains(&stamp.session) => {
                What::Late(stamp.session)
            }
            Request::CloseSession { session, .. } => What::Close(*session),
            Request::Command { command, .. } => {
                let digest = xxh3_64(command);
                let command = Command::from_bytes(command.clone(), VERSION).ok()?;
                self.begins(at, &command);
                What::Command(digest, command)
            }
            Request::Query { query, consistency, .. } => {
                let query = Query::from_bytes(query.clone(), VERSION).ok()?;
                let known = self.members.get(&node).map_or(0, |known| known.1);
                let floor = if *consistency == Consistency::Stale { known } else { self.acknowledged };
                What::Query(query, floor)
            }
            Request::Lease { lease, renew, .. } => {
                if *renew {
                    self.touch(at, *lease);
                }
                What::Lease(*lease, *renew)
            }
            Request::Detached { lease, .. } => {
                self.touch(at, *lease).gone = true;
                self.let_go(at, Bytes::new(), *lease);
                return None;
            }
            Request::Change { .. } | Request::Transfer { .. } => What::Order,
            _ => return None,
        })
    }

    /// From here on, who asks counts on less.
    fn begins(&mut self, at: Instant, command: &Command) {
        self.lets_go(at, command);
        if let Command::Attach { lease, .. } = command {
            self.touch(at, *lease);
        }
    }

    /// Any command may take away any key, also those of locks; ours touch no others' but by these.
    fn lets_go(&mut self, at: Instant, command: &Command) {
        match command {
            Command::Release { name, lease } => self.let_go(at, name.clone(), *lease),
            Command::Revoke { lease } => self.let_go(at, Bytes::new(), *lease),
            _ => {}
        }
    }

    /// Somebody asks to let go of a lock, or of all that a lease holds (no name).
    fn let_go(&mut self, at: Instant, name: Bytes, lease: LeaseId) {
        self.sections.retain(|section| section.lease != lease || (!name.is_empty() && section.name != name));
        self.let_go.insert((name, lease), at);
    }

    fn touch(&mut self, at: Instant, lease: LeaseId) -> &mut Belief {
        let fresh = Belief { until: Instant::ZERO, touched: at, gone: false };
        let belief = self.leases.entry(lease).or_insert(fresh);
        belief.touched = at;
        belief
    }

    fn answered(
        &mut self,
        at: Instant,
        id: RequestId,
        answer: &Result<replica::Answer, Error>,
    ) -> Result<(), Violation> {
        let Some(asked) = self.asked.remove(&id) else { return Ok(()) };
        match (asked.what, answer) {
            (What::Command(digest, command), Ok(replica::Answer::Result { index, result })) => {
                self.progress.made(at)?;
                self.counts.answers += 1;
                let known = self.commands.get(index) == Some(&digest);
                if !known || self.results.get(index) != Some(result) {
                    let meant = self.results.get(index);
                    let detail =
                        format!("{command:?} was answered {result:?} at {index}; there it gave {meant:?}");
                    return Err(Violation::new("results are the log's", detail));
                }
                let Ok(answer) = Answer::from_bytes(result.clone(), VERSION) else { return Ok(()) };
                self.acknowledged = self.acknowledged.max(answer.revision);
                self.done(at, asked.at, *index, &command, &answer)
            }
            (What::Query(query, floor), Ok(replica::Answer::Queried(result))) => {
                let answer = Answer::from_bytes(result.clone(), VERSION);
                let answer =
                    answer.map_err(|_| Violation::new("answers fit their questions", format!("{id:?}")))?;
                if answer.revision < floor {
                    let detail = format!("{query:?} saw revision {} after {floor}", answer.revision);
                    return Err(Violation::new("linearizable reads", detail));
                }
                self.read(&query, &answer)
            }
            (What::Lease(lease, renew), Ok(replica::Answer::Lease { left, .. })) => {
                if renew {
                    self.counts.renewals += 1;
                    let until = asked.at + by_any_clock(*left);
                    let belief = self.touch(asked.at, lease);
                    belief.until = belief.until.max(until);
                }
                Ok(())
            }
            (What::Close(session), Ok(_)) => {
                self.progress.made(at)?;
                self.counts.closed += 1;
                self.known_closed.insert(session);
                if self.closed.contains(&session) {
                    return Ok(());
                }
                let detail = format!("{session} was said to be closed");
                Err(Violation::new("a closed session is closed", detail))
            }
            (What::Late(session), Ok(answer)) => Err(came_back(session, answer)),
            (What::Lease(lease, _), Err(Error::LeaseNotFound)) => self.gone(at, asked.at, lease),
            (_, Ok(replica::Answer::Result { .. } | replica::Answer::Queried(_))) => {
                Err(Violation::new("answers fit their questions", format!("{id:?}: {answer:?}")))
            }
            _ => Ok(()),
        }
    }

    /// A lease that is said to be over is over: or it was granted anew, or ended, while the question was under way.
    fn gone(&self, at: Instant, asked: Instant, lease: LeaseId) -> Result<(), Violation> {
        let Some(terms) = self.plain.lease(lease) else { return Ok(()) };
        let touched = self.leases.get(&lease).map_or(at, |belief| belief.touched);
        if touched >= asked || self.granted_since(terms.attachment) {
            return Ok(());
        }
        Err(Violation::new("a lease that is over is gone", format!("{lease:x} lives")))
    }

    /// Whether the entry at `index` is a recent one, which not everybody may know of.
    fn granted_since(&self, index: Index) -> bool {
        self.digests.len() as u64 - index < 200
    }

    fn done(
        &mut self,
        at: Instant,
        asked: Instant,
        index: Index,
        command: &Command,
        answer: &Answer,
    ) -> Result<(), Violation> {
        match (command, &answer.reply) {
            (Command::Grant { ttl, .. }, Reply::Granted { lease, .. }) => {
                // Unless it is a late answer, to who has asked twice.
                if self.plain.lease(*lease).is_some_and(|terms| terms.attachment == index) {
                    // Who has to ask twice counts from the first time.
                    let asked = self.granted.get(&index).map_or(asked, |granted| asked.min(*granted));
                    let until = asked + by_any_clock(*ttl);
                    let belief = Belief { until, touched: at, gone: false };
                    self.leases.insert(*lease, belief);
                    // What an earlier lease of that name guarded is over.
                    self.sections.retain(|section| section.lease != *lease);
                }
                Ok(())
            }
            (Command::Attach { lease, .. }, Reply::Attached { .. }) => {
                if self.plain.lease(*lease).is_some_and(|terms| terms.attachment == index) {
                    self.touch(at, *lease).gone = false;
                }
                Ok(())
            }
            (Command::Acquire { name, lease, .. }, Reply::Locked { token, .. }) => {
                let let_go = |name: Bytes| self.let_go.get(&(name, *lease)).is_some_and(|at| *at >= asked);
                if let_go(name.clone()) || let_go(Bytes::new()) {
                    return Ok(());
                }
                self.enters(at, index, Section { name: name.clone(), lease: *lease, token: *token })
            }
            _ => Ok(()),
        }
    }

    /// Somebody is told that he holds a lock. Whoever was told so before him, and believes that his lease lives, has let
    /// go.
    fn enters(&mut self, at: Instant, index: Index, section: Section) -> Result<(), Violation> {
        let there = self.plain.state().get(&lock_key(&section.name, section.lease));
        // A late answer, to who has asked twice, tells of what was.
        if there.is_none_or(|entry| entry.create_revision != section.token) {
            return Ok(());
        }
        for other in self.sections.iter().filter(|other| other.name == section.name) {
            if other.token == section.token {
                return Ok(());
            }
            if other.lease == section.lease {
                continue;
            }
            let belief = self.leases.get(&other.lease);
            let believes = belief.is_some_and(|belief| !belief.gone && belief.until > at) && !self.hasty;
            if believes || other.token > section.token {
                let detail = format!("{section:?} and {other:?}");
                return Err(Violation::new("mutual exclusion", detail));
            }
        }
        self.counts.sections += 1;
        // It is answered at its own place, and took effect later if it had to wait.
        let at_once = self.digests.len() as u64 - index < 3;
        self.counts.waited += u64::from(!at_once);
        self.sections.retain(|other| other.name != section.name);
        self.sections.push(section);
        Ok(())
    }

    /// A query saw what was there at the revision that it names.
    fn read(&mut self, query: &Query, answer: &Answer) -> Result<(), Violation> {
        let seen = || Violation::new("reads are of what was", format!("{query:?} saw {answer:?}"));
        match (query, &answer.reply) {
            (Query::Watch(watch), reply) => return self.watched(watch, answer.revision, reply),
            (Query::Range(range), Reply::Done(Done::Range { entries, more, .. })) => {
                let revision = is_past(query).unwrap_or(answer.revision);
                let Some(state) = self.states.get(&revision) else { return Ok(()) };
                let meant = state.values().filter(|entry| range.keys.contains(&entry.key));
                let limit = if *more { entries.len() } else { usize::MAX };
                if !meant.take(limit).eq(entries.iter()) {
                    return Err(seen());
                }
            }
            (Query::Range(Range { past: Past::At(revision), .. }), Reply::Refused(refusal)) => {
                let sound = match refusal {
                    Refusal::Compacted { revision: first } => {
                        revision < first && *first <= self.plain.compacted()
                    }
                    Refusal::Future { revision: last } => revision > last,
                    _ => false,
                };
                if !sound {
                    return Err(seen());
                }
            }
            (Query::Holder(name), Reply::Done(Done::Range { entries, .. })) => {
                let Some(state) = self.states.get(&answer.revision) else { return Ok(()) };
                let prefix = [name, &b"/"[..]].concat();
                let under = state.values().filter(|entry| entry.key.starts_with(&prefix));
                let oldest = under.min_by_key(|entry| entry.create_revision);
                if oldest != entries.first() {
                    return Err(seen());
                }
            }
            (Query::Status, Reply::Status(status)) => {
                // Some state that was, recently as a rule.
                if !self.digests.iter().rev().any(|digest| *digest == status.digest) {
                    return Err(seen());
                }
            }
            (Query::Leases, Reply::Leases(leases)) => {
                let known = |lease: &LeaseId| *lease >= NAMED || self.granted.contains_key(lease);
                if !leases.is_sorted() || !leases.iter().all(known) {
                    return Err(seen());
                }
            }
            (Query::Lease(_), Reply::Lease { .. } | Reply::Refused(Refusal::LeaseNotFound)) => {}
            _ => return Err(seen()),
        }
        self.counts.reads += 1;
        Ok(())
    }

    /// A watch was told all that happened, in order, each event once, and no revision in parts.
    fn watched(&mut self, watch: &store::Watch, revision: Revision, reply: &Reply) -> Result<(), Violation> {
        match reply {
            Reply::Events { events, next } => {
                // Who begins with what comes next does not say what that is.
                let first = events.first().map_or(*next, |event| event.entry.mod_revision);
                let from = if watch.from == 0 { first } else { watch.from };
                let meant = self.plain.happened(from, *next);
                let meant = meant.filter(|(_, event)| watch.keys.contains(&event.entry.key));
                let mut told = events.iter();
                for (_, event) in meant {
                    let Some(next) = told.next() else {
                        let detail = format!("{watch:?} was not told {event:?}");
                        return Err(Violation::new("watches miss nothing", detail));
                    };
                    let same = (next.kind, &next.entry) == (event.kind, &event.entry);
                    let known = next.previous.is_none() || next.previous == event.previous;
                    if !same || !known {
                        let detail = format!("{watch:?} was told {next:?} instead of {event:?}");
                        return Err(Violation::new("watches miss nothing", detail));
                    }
                }
                if told.next().is_some() || *next > from.max(revision + 1) {
                    let detail = format!("{watch:?} was told {events:?} before {next}");
                    return Err(Violation::new("watches see what happened", detail));
                }
                self.counts.events += events.len() as u64;
                Ok(())
            }
            Reply::Refused(Refusal::Compacted { revision: first })
                if watch.from < *first && *first <= self.plain.compacted() =>
            {
                self.counts.compacted += 1;
                Ok(())
            }
            other => {
                let detail = format!("{watch:?} was answered {other:?}");
                Err(Violation::new("answers fit their questions", detail))
            }
        }
    }
}

impl<P: Replicates, H: Host<P> + AsRef<Machine<Store>>> Watch<P, H> for Judge {
    fn recovered(&mut self, _at: Instant, node: NodeId, records: &[Record]) -> Result<(), Violation> {
        self.members.insert(node, (0, 0));
        self.raft.recovered(node, records)
    }

    fn asked(
        &mut self,
        at: Instant,
        node: NodeId,
        id: RequestId,
        request: &Request,
    ) -> Result<(), Violation> {
        if let Some(what) = self.classify(at, node, request)
            && self.members.contains_key(&node)
        {
            self.asked.insert(id, Asked { node, at, what });
        }
        Ok(())
    }

    fn handled(&mut self, seen: &Seen<'_, P, H>, _effects: &[protocol::Effect<P>]) -> Result<(), Violation> {
        self.raft.handled(seen)?;
        self.state_agrees(seen.node, seen.host.as_ref())
    }

    fn effect(&mut self, seen: &Seen<'_, P, H>, effect: &protocol::Effect<P>) -> Result<(), Violation> {
        self.raft.effect(seen, effect)?;
        match effect {
            protocol::Effect::Notify(Event::Apply { entries, .. }) => self.advance(seen.at, entries),
            protocol::Effect::Notify(Event::MakeSnapshot) => {
                self.sessions_agree(seen.node, seen.host.as_ref())
            }
            protocol::Effect::Answer(id, answer) => self.answered(seen.at, *id, answer),
            _ => Ok(()),
        }
    }

    fn promised(&mut self, seen: &Seen<'_, P, H>, to: NodeId, message: &P::Message) -> Result<(), Violation> {
        self.raft.promised(seen, to, message)
    }

    fn target(&self, whom: NodeId) -> Option<NodeId> {
        self.raft.target(whom)
    }

    fn crashed(&mut self, _at: Instant, node: NodeId) -> Result<(), Violation> {
        self.members.remove(&node);
        self.asked.retain(|_, asked| asked.node != node);
        self.raft.crashed(node);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
