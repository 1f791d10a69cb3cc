//! The commands of a conversation: `tests/scripts/README.md` tells them one by one.

use std::sync::Arc;
use std::time::Duration;

use coterie::id::{NodeId, RequestId};
use coterie::protocol::Link;
use coterie::raft::{
    Batch, Change, Checkpoint, Entries, HardState, Lease, Membership, Payload, Position, Record, Request,
    Role, Run, Timer, WEIGHT, Weight,
};
use coterie::time::Instant;

use super::cluster::{Cluster, Detail, Input, Letter};
use super::member::Member;

type Outcome = Result<(), String>;

/// Does what a line says; then all invariants must hold.
pub(super) fn obey(cluster: &mut Cluster, line: &str) -> Outcome {
    // How much to say comes last.
    let (line, said) = match line.trim_end().rsplit_once(' ') {
        Some((rest, "quietly")) => (rest, Some(Detail::Nothing)),
        Some((rest, "all")) => (rest, Some(Detail::All)),
        _ => (line, None),
    };
    let words = Words::read(line)?;
    let usual = match words.name.as_str() {
        "members" | "given" => Detail::Nothing,
        "settle" | "advance" | "elect" => Detail::Outcomes,
        _ => Detail::All,
    };
    cluster.detail = said.unwrap_or(usual);
    if words.name.starts_with("expect") {
        expect(cluster, &words)?;
    } else {
        act(cluster, &words)?;
    }
    cluster.check()
}

fn act(cluster: &mut Cluster, words: &Words) -> Outcome {
    match words.name.as_str() {
        "settings" => settings(cluster, words),
        "members" => members(cluster, words),
        "given" => given(cluster, words),
        "start" => cluster.join(words.id(0)?, Vec::new()),
        "campaign" => cluster.ask(words.id(0)?, Request::Campaign),
        "elect" => {
            cluster.ask(words.id(0)?, Request::Campaign)?;
            cluster.settle()
        }
        "propose" => {
            let request = Request::Propose {
                commands: Batch::new(&words.plain[1..]),
                deadline: words.deadline(cluster)?,
            };
            cluster.ask(words.id(0)?, request)
        }
        "read" => {
            let request = Request::Read { lease: words.says("lease"), deadline: words.deadline(cluster)? };
            cluster.ask(words.id(0)?, request)
        }
        "change" => {
            let request = Request::Change { changes: changes(words)?, deadline: words.deadline(cluster)? };
            cluster.ask(words.id(0)?, request)
        }
        "transfer" => cluster.ask(words.id(0)?, Request::Transfer { to: words.id(1)? }),
        "snapshot" => snapshot(cluster, words),
        "link" => cluster.give(words.id(0)?, Input::Link(words.id(1)?, link(words.plain(2)?)?)),
        "expire" => cluster.expire(words.id(0)?, timer(words.plain(1)?)?),
        "advance" => cluster.advance(duration(words.plain(0)?)?, !words.says("undelivered")),
        "settle" => cluster.settle(),
        _ => faults(cluster, words),
    }
}

fn faults(cluster: &mut Cluster, words: &Words) -> Outcome {
    match words.name.as_str() {
        "deliver" => {
            let picked = picked(cluster, words)?;
            picked.into_iter().try_for_each(|letter| cluster.arrive(letter))
        }
        "drop" => picked(cluster, words).map(drop),
        "delay" => picked(cluster, words).map(|mut picked| cluster.late.append(&mut picked)),
        "late" => {
            cluster.flying.append(&mut cluster.late);
            Ok(())
        }
        "duplicate" => {
            let before = cluster.flying.clone();
            let copies = picked(cluster, words)?;
            cluster.flying = before;
            cluster.flying.extend(copies);
            Ok(())
        }
        "cut" => cut(cluster, words),
        "heal" => {
            cluster.cuts.clear();
            Ok(())
        }
        "crash" => cluster.crash(words.id(0)?, words.number("keep")?.unwrap_or(0) as usize),
        "restart" => cluster.start(words.id(0)?),
        "wipe" => cluster.wipe(words.id(0)?),
        "pause" | "resume" => {
            member(cluster, words.id(0)?)?.paused = words.name == "pause";
            Ok(())
        }
        "hold-disk" => {
            member(cluster, words.id(0)?)?.disk.held = true;
            Ok(())
        }
        "sync" => cluster.sync(words.id(0)?),
        "release-disk" => {
            cluster.sync(words.id(0)?)?;
            member(cluster, words.id(0)?)?.disk.held = false;
            Ok(())
        }
        _ => look(cluster, words),
    }
}

fn look(cluster: &mut Cluster, words: &Words) -> Outcome {
    let mut lines = Vec::new();
    match words.name.as_str() {
        "status" => lines.extend(cluster.members.iter().map(|(id, member)| status(*id, member))),
        "log" => {
            let disk = &member(cluster, words.id(0)?)?.disk;
            let log = disk.log();
            if log.base.index > 0 {
                lines.push(format!("after {}", log.base));
            }
            lines.extend(log.entries.into_iter().map(|entry| {
                Run { term: entry.term, first: entry.index, payload: entry.payload }.to_string()
            }));
        }
        "journal" => {
            let disk = &member(cluster, words.id(0)?)?.disk;
            lines.extend(disk.durable.iter().map(ToString::to_string));
            lines.extend(disk.queued.iter().map(|record| format!("{record} (not durable)")));
        }
        "flying" => lines.extend(cluster.flying.iter().map(ToString::to_string)),
        unknown => return Err(format!("no command is called {unknown}")),
    }
    cluster.said.extend(lines);
    Ok(())
}

fn status(id: NodeId, member: &Member) -> String {
    let Some(machine) = &member.machine else { return format!("{id} down") };
    let leader = machine.leader().map_or(String::new(), |leader| format!(" leader={leader}"));
    format!(
        "{id} {} term={}{leader} commit={} last={}{}",
        machine.role(),
        machine.term(),
        machine.commit(),
        machine.last(),
        if member.paused { " paused" } else { "" },
    )
}

fn expect(cluster: &mut Cluster, words: &Words) -> Outcome {
    match words.name.as_str() {
        "expect-leader" => {
            let id = words.id(0)?;
            let machine = machine(cluster, id)?;
            if let Some(term) = words.number("term")? {
                equal("the term", machine.term(), term)?;
            }
            equal("the role", machine.role(), Role::Leader)
        }
        "expect-no-leader" => {
            let leads = |member: &Member| {
                member.machine.as_ref().is_some_and(|machine| machine.role() == Role::Leader)
            };
            let leader = cluster.members.iter().find(|(_, member)| leads(member)).map(|(id, _)| *id);
            leader.map_or(Ok(()), |leader| Err(format!("{leader} leads")))
        }
        "expect-role" => {
            equal("the role", machine(cluster, words.id(0)?)?.role().to_string(), words.plain(1)?.to_owned())
        }
        "expect-term" => equal("the term", machine(cluster, words.id(0)?)?.term(), words.integer(1)?),
        "expect-commit" => {
            equal("the commit index", machine(cluster, words.id(0)?)?.commit(), words.integer(1)?)
        }
        "expect-log" => {
            let terms = member(cluster, words.id(0)?)?.disk.log().terms();
            equal("the terms of the log", terms.as_str(), words.plain(1).unwrap_or_default())
        }
        "expect-state" => {
            let application = &member(cluster, words.id(0)?)?.application;
            equal("the state", application.commands().join(" "), words.plain[1..].join(" "))
        }
        "expect-same-logs" => same_logs(cluster, words),
        "expect-answer" => {
            let answer = match cluster.answers.get(&words.request(0)?) {
                Some(Ok(answer)) => answer.to_string(),
                Some(Err(error)) => format!("error: {error}"),
                None => "none".to_owned(),
            };
            let expected = words.plain(1)?;
            if answer.contains(expected) { Ok(()) } else { Err(format!("the answer is {answer}")) }
        }
        "expect-no-lease" => equal("the lease", machine(cluster, words.id(0)?)?.holds_lease(), false),
        "expect-quiet" => equal("in flight", cluster.flying.len(), 0),
        unknown => Err(format!("no command is called {unknown}")),
    }
}

/// The logs end at one place and are equal where both still hold them; so are the states.
fn same_logs(cluster: &mut Cluster, words: &Words) -> Outcome {
    let all: Vec<NodeId> = cluster.members.keys().copied().collect();
    let ids = if words.plain.is_empty() { Ok(all) } else { words.ids(0) }?;
    let first = *ids.first().ok_or("of whom?")?;
    let log = member(cluster, first)?.disk.log();
    let state = member(cluster, first)?.application.commands().join(" ");
    for id in ids {
        let member = member(cluster, id)?;
        let twin = member.disk.log();
        equal("the end of the log", twin.last(), log.last())?;
        for entry in &log.entries {
            if twin.at(entry.index).is_some_and(|other| other != entry) {
                return Err(format!("{first} and {id} differ at {}", entry.index));
            }
        }
        equal("the state", member.application.commands().join(" "), state.clone())?;
    }
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "most of what is compared was just made")]
fn equal<T: ToString, U: ToString>(what: &str, found: T, expected: U) -> Outcome {
    let (found, expected) = (found.to_string(), expected.to_string());
    if found == expected { Ok(()) } else { Err(format!("{what} is {found:?}, not {expected:?}")) }
}

fn settings(cluster: &mut Cluster, words: &Words) -> Outcome {
    let settings = &mut cluster.settings;
    for (key, value) in &words.named {
        let size = || value.parse::<usize>().map_err(|_| format!("{value} is no number"));
        match key.as_str() {
            "election" => settings.election_timeout = duration(value)?,
            "heartbeat" => settings.heartbeat_interval = duration(value)?,
            "pre-vote" => settings.pre_vote = on(value)?,
            "check-quorum" => settings.check_quorum = on(value)?,
            "lease" => settings.lease = Some(Lease { length: duration(value)?, ..Lease::default() }),
            "entry-bytes" => settings.entry_bytes_max = size()?,
            "message-bytes" => settings.message_bytes_max = size()?,
            "in-flight" => settings.in_flight_messages_max = size()?,
            "in-flight-bytes" => settings.in_flight_bytes_max = size()?,
            "uncommitted-bytes" => settings.uncommitted_bytes_max = size()?,
            "log-bytes" => settings.log_bytes_max = size()?,
            "snapshot-entries" => settings.snapshot_log_entries = size()? as u64,
            "retained" => settings.retained_entries = size()? as u64,
            "chunk" => settings.chunk_bytes = size()?,
            "pending" => settings.pending_max = size()?,
            "seed" => cluster.seed = size()? as u64,
            unknown => return Err(format!("no setting is called {unknown}")),
        }
    }
    Ok(())
}

/// Members that begin a cluster together.
fn members(cluster: &mut Cluster, words: &Words) -> Outcome {
    let voters = words.ids(0)?;
    let learners = words.list("learner").map(id).collect::<Result<Vec<_>, _>>()?;
    let mut weights = Vec::new();
    for pair in words.list("weight") {
        weights.push(weighted(pair)?);
    }
    let weight =
        |voter: NodeId| weights.iter().find(|(id, _)| *id == voter).map_or(WEIGHT, |(_, weight)| *weight);
    let membership =
        Membership::new(voters.iter().map(|&voter| (voter, weight(voter))), learners.iter().copied());
    settings(cluster, &words.without(&["learner", "weight"]))?;
    for &id in voters.iter().chain(&learners) {
        cluster.join(id, Vec::new())?;
        cluster.ask_silently(id, Request::Bootstrap(membership.clone()))?;
    }
    Ok(())
}

/// A member with a past: a journal that says so.
fn given(cluster: &mut Cluster, words: &Words) -> Outcome {
    let id = words.id(0)?;
    let voters = words.list("members").map(self::id).collect::<Result<Vec<_>, _>>()?;
    let mut entries = Entries::new();
    for (place, term) in words.list("log").enumerate() {
        let first = place as u64 + 1;
        let commands = Batch::new([format!("{term}/{first}")]);
        let term = term.parse().map_err(|_| format!("{term} is no term"))?;
        entries.push(Run { term, first, payload: Payload::Commands(commands) });
    }
    let vote = words.list("vote").map(self::id).next().transpose()?;
    let hard = HardState { term: words.number("term")?.unwrap_or(0), vote };
    let membership = (0, Arc::new(Membership::of(voters)));
    let cluster_id = cluster.settings.cluster;
    let checkpoint = Checkpoint {
        cluster: cluster_id,
        id,
        hard,
        snapshot: None,
        base: Position::default(),
        membership,
        entries,
    };
    cluster.join(id, vec![Record::Checkpoint(Box::new(checkpoint))])
}

fn snapshot(cluster: &mut Cluster, words: &Words) -> Outcome {
    let id = words.id(0)?;
    let last = words.number("through")?.ok_or("through=INDEX is missing")?;
    let length = member(cluster, id)?.application.snapshot(id, last);
    cluster.ask(id, Request::Snapshotted { last, length })
}

fn changes(words: &Words) -> Result<Vec<Change>, String> {
    let mut changes = Vec::new();
    for (key, value) in words.named.iter().filter(|(key, _)| key != "within") {
        for value in value.split(',') {
            changes.push(match key.as_str() {
                "add-learner" => Change::AddLearner(id(value)?),
                "add-voter" => {
                    let (id, weight) = weighted(value)?;
                    Change::AddVoter(id, weight)
                }
                "demote" => Change::Demote(id(value)?),
                "remove" => Change::Remove(id(value)?),
                unknown => return Err(format!("no change is called {unknown}")),
            });
        }
    }
    Ok(changes)
}

/// `cut 1`: from everybody; `cut 1 2`: these two; `cut 1>2`: 2 does not hear 1.
fn cut(cluster: &mut Cluster, words: &Words) -> Outcome {
    if let Some((from, to)) = words.plain(0)?.split_once('>') {
        cluster.cuts.insert((id(from)?, id(to)?));
        return Ok(());
    }
    let one = words.id(0)?;
    let others: Vec<NodeId> = match words.plain.get(1) {
        Some(_) => words.ids(1)?,
        None => cluster.members.keys().copied().filter(|other| *other != one).collect(),
    };
    cluster.cuts.extend(others.into_iter().flat_map(|other| [(one, other), (other, one)]));
    Ok(())
}

fn picked(cluster: &mut Cluster, words: &Words) -> Result<std::collections::VecDeque<Letter>, String> {
    let wanted = |key: &'static str| words.list(key).next();
    let (from, to) = (wanted("from").map(id).transpose()?, wanted("to").map(id).transpose()?);
    let kind = wanted("kind");
    let count = words.number("count")?.unwrap_or(u64::MAX) as usize;
    let asleep: Vec<NodeId> = cluster.members.keys().copied().filter(|id| cluster.sleeps(*id)).collect();
    let delivers = words.name == "deliver";
    let picked = cluster.pick(
        |letter| {
            from.is_none_or(|from| letter.from == from)
                && to.is_none_or(|to| letter.to == to)
                && kind.is_none_or(|kind| letter.message.to_string().split(' ').next() == Some(kind))
                && !(delivers && asleep.contains(&letter.to))
        },
        count,
    );
    if picked.is_empty() { Err("no such message is in flight".to_owned()) } else { Ok(picked) }
}

fn member(cluster: &mut Cluster, id: NodeId) -> Result<&mut Member, String> {
    cluster.members.get_mut(&id).ok_or_else(|| format!("{id} is nobody here"))
}

fn machine(cluster: &mut Cluster, id: NodeId) -> Result<&coterie::raft::Raft, String> {
    member(cluster, id)?.machine.as_ref().ok_or_else(|| format!("{id} is down"))
}

/// A line: a name, plain words and strings, and pairs.
struct Words {
    name: String,
    plain: Vec<String>,
    named: Vec<(String, String)>,
}

impl Words {
    fn read(line: &str) -> Result<Self, String> {
        let mut words = Self { name: String::new(), plain: Vec::new(), named: Vec::new() };
        let mut rest = line.trim();
        while !rest.is_empty() {
            if let Some(quoted) = rest.strip_prefix('"') {
                let (text, after) = quoted.split_once('"').ok_or("a string without an end")?;
                words.plain.push(text.to_owned());
                rest = after.trim_start();
                continue;
            }
            let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
            match word.split_once('=') {
                Some((key, value)) => words.named.push((key.to_owned(), value.to_owned())),
                None if words.name.is_empty() => word.clone_into(&mut words.name),
                None => words.plain.push(word.to_owned()),
            }
            rest = after.trim_start();
        }
        Ok(words)
    }

    fn plain(&self, place: usize) -> Result<&str, String> {
        self.plain.get(place).map(String::as_str).ok_or_else(|| format!("{} needs more", self.name))
    }

    fn id(&self, place: usize) -> Result<NodeId, String> {
        id(self.plain(place)?)
    }

    fn ids(&self, from: usize) -> Result<Vec<NodeId>, String> {
        self.plain[from..].iter().map(|word| id(word)).collect()
    }

    fn integer(&self, place: usize) -> Result<u64, String> {
        self.plain(place)?.parse().map_err(|_| format!("{} needs a number", self.name))
    }

    fn request(&self, place: usize) -> Result<RequestId, String> {
        let number = self.plain(place)?.strip_prefix('r').and_then(|number| number.parse().ok());
        number.map(RequestId).ok_or_else(|| "requests are called r1, r2, …".to_owned())
    }

    fn says(&self, word: &str) -> bool {
        self.plain.iter().any(|plain| plain == word)
    }

    /// The values of `key`, split at commas.
    fn list<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.named.iter().filter(move |(name, _)| name == key).flat_map(|(_, value)| value.split(','))
    }

    fn number(&self, key: &str) -> Result<Option<u64>, String> {
        self.list(key)
            .next()
            .map(|value| value.parse().map_err(|_| format!("{value} is no number")))
            .transpose()
    }

    fn deadline(&self, cluster: &Cluster) -> Result<Instant, String> {
        let within = self.list("within").next().map(duration).transpose()?;
        Ok(within.map_or(Instant::NEVER, |span| cluster.now + span))
    }

    fn without(&self, keys: &[&str]) -> Self {
        let named = self.named.iter().filter(|(key, _)| !keys.contains(&key.as_str())).cloned().collect();
        Self { name: self.name.clone(), plain: self.plain.clone(), named }
    }
}

fn id(word: &str) -> Result<NodeId, String> {
    word.parse().map(NodeId).map_err(|_| format!("{word} is no member"))
}

/// `4` or `4:5`.
fn weighted(word: &str) -> Result<(NodeId, Weight), String> {
    let (member, weight) = word.split_once(':').unwrap_or((word, "1"));
    Ok((id(member)?, weight.parse().map_err(|_| format!("{weight} is no weight"))?))
}

/// `50ms` or `2s`.
fn duration(word: &str) -> Result<Duration, String> {
    let (number, unit): (&str, fn(u64) -> Duration) = match word.strip_suffix("ms") {
        Some(number) => (number, Duration::from_millis),
        None => (word.strip_suffix('s').unwrap_or_default(), Duration::from_secs),
    };
    number.parse().map(unit).map_err(|_| format!("{word} is no duration"))
}

fn on(word: &str) -> Result<bool, String> {
    match word {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("{word} is neither on nor off")),
    }
}

fn link(word: &str) -> Result<Link, String> {
    match word {
        "up" => Ok(Link::Up),
        "down" => Ok(Link::Down),
        "refused" => Ok(Link::Refused),
        _ => Err(format!("{word} is nothing that a link can be")),
    }
}

fn timer(word: &str) -> Result<Timer, String> {
    let timers = [Timer::Election, Timer::Heartbeat, Timer::Quorum, Timer::Transfer, Timer::Deadline];
    timers
        .into_iter()
        .find(|timer| timer.to_string() == word)
        .ok_or_else(|| format!("no alarm is called {word}"))
}
