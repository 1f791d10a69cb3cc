//! `coterie.raft` over `crate::raft`: its words, and a machine to drive by hand.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

use super::effects::{self, show_effects};
use super::words::{Word, class, dataclass, family, instant, one_of, span, unexpected};
use super::{errors, guard};
use crate::id::{NodeId, RequestId};
use crate::protocol::{Outbox, Protocol};
use crate::raft::{
    Answer, Batch, Beat, Change, Checkpoint, Entries, Error, Event, HardState, Lease, Membership, Message,
    Payload, Position, Raft, Record, Request, Role, Run, Settings, Snapshot, SnapshotId, Status, Timer,
    Weight,
};
use crate::random::Random;

const MEMBERSHIP: &str = "coterie.raft.membership";
const RECORDS: &str = "coterie.raft.records";
const ERRORS: &str = "coterie.raft.errors";

family!(Message, "coterie.raft.messages", "a message of Raft", {
    Append { term, previous, commit, matched, joined, beat, entries },
    Appended { term, matched, joined },
    Heard { term, beat, lease },
    Stored { term, last },
    Superseded { term, snapshot },
    RequestPreVote { term, last },
    PreVote { term, granted },
    RequestVote { term, last, transfer },
    Vote { term, granted },
    Rejected { term, previous, hint, joined, beat },
    Install { term, snapshot, offset, data, joined },
    Installed { term, snapshot, offset, joined },
    TimeoutNow { term, round },
    RequestRead { term, token },
    Read { term, token, index },
});

family!(Event, "coterie.raft.events", "an event of Raft", {
    Committed(entries),
    Role { role, term, leader },
    Restore(snapshot),
    Membership(index, membership),
    MakeSnapshot,
    Read { snapshot, offset, length, to },
    Write { snapshot, offset, data },
    Install(snapshot),
    Discard(snapshot),
    Halted(reason),
});

family!(Request, "coterie.raft.requests", "a request to Raft", {
    Propose { commands, deadline },
    Read { lease, deadline },
    Bootstrap(membership),
    Change { changes, deadline },
    Transfer { to },
    Campaign,
    Snapshotted { last, length },
    Chunk { snapshot, offset, to, data },
    Written { snapshot, offset },
});

family!(Answer, "coterie.raft.answers", "an answer of Raft", {
    Committed(last),
    Done,
    Read(index),
    Changed(index),
    Transferred { leader, term },
});

family!(Change, "coterie.raft.membership", "a change of a membership", {
    AddLearner(id),
    AddVoter(id, weight),
    Demote(id),
    Remove(id),
});

dataclass!(Beat, "coterie.raft.messages", "Beat", { round, sent });
dataclass!(Position, "coterie.raft.log", "Position", { term, index });
dataclass!(Run, "coterie.raft.log", "Run", { term, first, payload });
dataclass!(SnapshotId, "coterie.raft.log", "SnapshotId", { last, by });
dataclass!(Snapshot, "coterie.raft.log", "Snapshot", { id, membership, length });
dataclass!(HardState, "coterie.raft.records", "HardState", { term, vote });
dataclass!(Checkpoint, "coterie.raft.records", "Checkpoint", { cluster, id, hard, snapshot, base, membership, entries });

impl Word for Record {
    fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Identity { cluster, id } => {
                class!(py, RECORDS, "Identity")?.call1((cluster.show(py)?, id.show(py)?))
            }
            Self::HardState(hard) => hard.show(py),
            Self::Append(entries) => class!(py, RECORDS, "Append")?.call1((entries.show(py)?,)),
            Self::Checkpoint(checkpoint) => checkpoint.show(py),
        }
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = value.py();
        if value.is_exact_instance(class!(py, RECORDS, "Append")?) {
            return Ok(Self::Append(super::words::field(value, "entries")?));
        }
        if value.is_exact_instance(class!(py, RECORDS, "HardState")?) {
            return HardState::read(value).map(Self::HardState);
        }
        if value.is_exact_instance(class!(py, RECORDS, "Checkpoint")?) {
            return Checkpoint::read(value).map(Box::new).map(Self::Checkpoint);
        }
        if value.is_exact_instance(class!(py, RECORDS, "Identity")?) {
            let (cluster, id) = (super::words::field(value, "cluster")?, super::words::field(value, "id")?);
            return Ok(Self::Identity { cluster, id });
        }
        Err(unexpected(value, "a record of Raft"))
    }
}

impl Word for Membership {
    fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (voters, outgoing) = (self.voters().to_vec(), self.outgoing().to_vec());
        let learners = self.learners().to_vec();
        class!(py, MEMBERSHIP, "Membership")?.call1((
            voters.show(py)?,
            learners.show(py)?,
            outgoing.show(py)?,
        ))
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if !value.is_exact_instance(class!(value.py(), MEMBERSHIP, "Membership")?) {
            return Err(unexpected(value, "a Membership"));
        }
        let voters: Vec<(NodeId, Weight)> = super::words::field(value, "voters")?;
        let outgoing: Vec<NodeId> = super::words::field(value, "outgoing")?;
        let learners: Vec<NodeId> = super::words::field(value, "learners")?;
        Ok(Self::joint(voters, outgoing, learners))
    }
}

/// `None`, a membership, or a tuple of commands.
impl Word for Payload {
    fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Blank => Ok(py.None().into_bound(py)),
            Self::Membership(membership) => membership.show(py),
            Self::Commands(batch) => batch.show(py),
        }
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if value.is_none() {
            return Ok(Self::Blank);
        }
        if value.is_exact_instance(class!(value.py(), MEMBERSHIP, "Membership")?) {
            return Membership::read(value).map(Arc::new).map(Self::Membership);
        }
        Batch::read(value).map(Self::Commands)
    }
}

impl Word for Batch {
    fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let commands: Vec<_> = self.iter().map(|command| PyBytes::new(py, command)).collect();
        Ok(PyTuple::new(py, commands)?.into_any())
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        Vec::<Bytes>::read(value).map(Self::new)
    }
}

impl Word for Entries {
    fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let runs = self.runs().iter().map(|run| run.show(py)).collect::<PyResult<Vec<_>>>()?;
        Ok(PyTuple::new(py, runs)?.into_any())
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        Vec::<Arc<Run>>::read(value).map(Self::from_iter)
    }
}

impl Word for Role {
    fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(PyString::new(py, &self.to_string()).into_any())
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        one_of(value, &[Self::Follower, Self::PreCandidate, Self::Candidate, Self::Leader], "role")
    }
}

impl Word for Timer {
    fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(PyString::new(py, &self.to_string()).into_any())
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let all = [Self::Election, Self::Heartbeat, Self::Quorum, Self::Transfer, Self::Deadline];
        one_of(value, &all, "timer")
    }
}

/// Why a machine stopped. A process in Python may say anything; what it said is told in its own trace.
impl Word for &'static str {
    fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(PyString::new(py, self).into_any())
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        value.cast::<PyString>().map_err(|_| unexpected(value, "a str"))?;
        Ok("a process in Python stopped")
    }
}

impl Word for Error {
    fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::NotLeader { term, leader } => {
                class!(py, ERRORS, "NotLeader")?.call1((term.show(py)?, leader.show(py)?))
            }
            Self::Overloaded { limit } => class!(py, ERRORS, "Overloaded")?.call1((*limit,)),
            Self::TooLarge { bytes, limit } => class!(py, ERRORS, "TooLarge")?.call1((*bytes, *limit)),
            Self::Transferring { to } => class!(py, ERRORS, "Transferring")?.call1((to.0,)),
            Self::NoTarget { to } => class!(py, ERRORS, "NoTarget")?.call1((to.0,)),
            Self::ChangeInProgress => class!(py, ERRORS, "ChangeInProgress")?.call0(),
            Self::InvalidChange(reason) => class!(py, ERRORS, "InvalidChange")?.call1((reason.to_string(),)),
            Self::Behind { id, entries } => class!(py, ERRORS, "Behind")?.call1((id.0, *entries)),
            Self::Bootstrapped => class!(py, ERRORS, "Bootstrapped")?.call0(),
            Self::Overwritten => class!(py, ERRORS, "Overwritten")?.call0(),
            Self::TimedOut => class!(py, ERRORS, "TimedOut")?.call0(),
            Self::Stale => class!(py, ERRORS, "Stale")?.call0(),
            Self::Halted(reason) => class!(py, ERRORS, "Halted")?.call1((*reason,)),
            Self::Unknown => class!(py, ERRORS, "Unknown")?.call0(),
        }
    }

    /// Nobody has to be told of an error but who asked, so a process in Python answers with any value of its own.
    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        Err(unexpected(value, "an error that Raft itself has given"))
    }
}

impl Word for Status {
    fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let Self { id, role, term, vote, leader, commit, base, last, membership } = self;
        class!(py, "coterie.raft", "Status")?.call1((
            id.show(py)?,
            role.show(py)?,
            term.show(py)?,
            vote.show(py)?,
            leader.show(py)?,
            commit.show(py)?,
            base.show(py)?,
            last.show(py)?,
            membership.show(py)?,
        ))
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        Err(unexpected(value, "nothing: a status is only given"))
    }
}

/// The one-line form of a word of Raft, the same as in Rust. `kind` says which family it belongs to.
#[pyfunction]
pub(super) fn raft_line(kind: &str, word: &Bound<'_, PyAny>) -> PyResult<String> {
    guard::shielded(|| {
        Ok(match kind {
            "message" => Message::read(word)?.to_string(),
            "record" => Record::read(word)?.to_string(),
            // Two events may say anything in words.
            "event" => Event::read(word)?.to_string(),
            "answer" => Answer::read(word)?.to_string(),
            "beat" => Beat::read(word)?.to_string(),
            "run" => Run::read(word)?.to_string(),
            "snapshot" => Snapshot::read(word)?.to_string(),
            "membership" => Membership::read(word)?.to_string(),
            _ => return Err(errors::internal(&format!("no family of words is called {kind}"))),
        })
    })
}

/// The joint membership that begins a change.
#[pyfunction]
pub(super) fn raft_begin<'py>(
    membership: &Bound<'py, PyAny>,
    changes: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    guard::shielded(|| {
        let changes = Vec::<Change>::read(changes)?;
        Membership::read(membership)?
            .begin(&changes)
            .map_err(|invalid| errors::ConfigError::new_err(invalid.to_string()))?
            .show(membership.py())
    })
}

/// The compiled half of `coterie.raft.Node`: Raft's machine, which does nothing by itself.
#[pyclass(frozen, subclass, module = "coterie._coterie")]
pub(super) struct RaftNode {
    machine: Mutex<Raft>,
    id: NodeId,
    settings: Settings,
}

impl RaftNode {
    /// What another machine like this is made from.
    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) const fn node(&self) -> NodeId {
        self.id
    }

    /// Hands the machine one input; its effects, in order.
    fn drive<'py>(
        &self,
        py: Python<'py>,
        input: impl FnOnce(&mut Raft, &mut Outbox<Raft>),
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let mut out = Outbox::new();
        guard::attached(py, &self.machine, |machine| input(machine, &mut out))?;
        show_effects(py, &mut out)
    }
}

/// The length of a lease and what is added for drift, in seconds.
type LeaseArguments = (f64, f64);

#[pymethods]
impl RaftNode {
    #[new]
    #[pyo3(signature = (
        id, *, cluster, election_timeout, heartbeat_interval, pre_vote, check_quorum, lease, entry_bytes_max,
        message_bytes_max, in_flight_messages_max, in_flight_bytes_max, uncommitted_bytes_max, log_bytes_max,
        snapshot_log_bytes, snapshot_log_entries, retained_entries, chunk_bytes, pending_max
    ))]
    #[expect(clippy::too_many_arguments, reason = "one for each setting, by name")]
    fn new(
        id: u64,
        cluster: u64,
        election_timeout: f64,
        heartbeat_interval: f64,
        pre_vote: bool,
        check_quorum: bool,
        lease: Option<LeaseArguments>,
        entry_bytes_max: usize,
        message_bytes_max: usize,
        in_flight_messages_max: usize,
        in_flight_bytes_max: usize,
        uncommitted_bytes_max: usize,
        log_bytes_max: usize,
        snapshot_log_bytes: usize,
        snapshot_log_entries: u64,
        retained_entries: u64,
        chunk_bytes: usize,
        pending_max: usize,
    ) -> PyResult<Self> {
        guard::shielded(|| {
            let lease = match lease {
                Some((length, drift)) => {
                    Some(Lease { length: setting("lease", length)?, drift: setting("lease", drift)? })
                }
                None => None,
            };
            let settings = Settings {
                cluster,
                election_timeout: setting("election_timeout", election_timeout)?,
                heartbeat_interval: setting("heartbeat_interval", heartbeat_interval)?,
                pre_vote,
                check_quorum,
                lease,
                entry_bytes_max,
                message_bytes_max,
                in_flight_messages_max,
                in_flight_bytes_max,
                uncommitted_bytes_max,
                log_bytes_max,
                snapshot_log_bytes,
                snapshot_log_entries,
                retained_entries,
                chunk_bytes,
                pending_max,
                #[cfg(feature = "mutants")]
                mutant: None,
            };
            let id = NodeId(id);
            let machine = Raft::new(id, settings.clone())
                .map_err(|invalid| errors::ConfigError::new_err(invalid.to_string()))?;
            Ok(Self { machine: Mutex::new(machine), id, settings })
        })
    }

    /// Begins a life. The first verb of all, and only once.
    ///
    /// Parameters
    /// ----------
    /// now : float
    ///     Seconds on the caller's clock. It never goes back.
    /// seed : int
    ///     For what the machine draws: election time-outs.
    /// records : sequence of coterie.raft.records.Record, default ()
    ///     What the journal kept of earlier lives; none in the first.
    ///
    /// Returns
    /// -------
    /// list of coterie.protocol.Effect
    ///     What is to be done, in this order.
    ///
    /// Examples
    /// --------
    /// >>> from coterie import raft
    /// >>> for effect in raft.Node(1).start(0.0, seed=1):
    /// ...     print(effect)
    /// Persist Identity cluster=0 id=1
    /// Set Election 0.523734527
    #[pyo3(signature = (now, seed, records = None))]
    fn start<'py>(
        &self,
        py: Python<'py>,
        now: f64,
        seed: u64,
        records: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        guard::shielded(|| {
            let now = instant(now)?;
            let records = records.map(Vec::<Record>::read).transpose()?.unwrap_or_default();
            self.drive(py, |machine, out| machine.start(now, Random::new(seed), records, out))
        })
    }

    /// Takes a message from ``sender``: a peer, or itself for a promise that it made to itself.
    ///
    /// Parameters
    /// ----------
    /// now : float
    ///     Seconds on the caller's clock.
    /// sender : int
    ///     Who says it.
    /// message : coterie.raft.messages.Message
    ///     What is said.
    ///
    /// Returns
    /// -------
    /// list of coterie.protocol.Effect
    ///     What is to be done, in this order.
    fn receive<'py>(
        &self,
        py: Python<'py>,
        now: f64,
        sender: u64,
        message: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        guard::shielded(|| {
            let (now, message) = (instant(now)?, Message::read(message)?);
            self.drive(py, |machine, out| machine.receive(now, NodeId(sender), message, out))
        })
    }

    /// Takes an alarm that it had set.
    ///
    /// Parameters
    /// ----------
    /// now : float
    ///     Seconds on the caller's clock.
    /// timer : {"Election", "Heartbeat", "Quorum", "Transfer", "Deadline"}
    ///     Which. An alarm may be put off when it rings: then it is set anew.
    ///
    /// Returns
    /// -------
    /// list of coterie.protocol.Effect
    ///     What is to be done, in this order.
    fn expire<'py>(
        &self,
        py: Python<'py>,
        now: f64,
        timer: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        guard::shielded(|| {
            let (now, timer) = (instant(now)?, Timer::read(timer)?);
            self.drive(py, |machine, out| machine.expire(now, timer, out))
        })
    }

    /// Takes a request. It is answered exactly once in this life, now or later.
    ///
    /// Parameters
    /// ----------
    /// now : float
    ///     Seconds on the caller's clock.
    /// id : int
    ///     The caller's number for it, never the same twice.
    /// request : coterie.raft.requests.Request
    ///     What is asked.
    ///
    /// Returns
    /// -------
    /// list of coterie.protocol.Effect
    ///     What is to be done, in this order.
    fn request<'py>(
        &self,
        py: Python<'py>,
        now: f64,
        id: u64,
        request: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        guard::shielded(|| {
            let (now, request) = (instant(now)?, Request::read(request)?);
            self.drive(py, |machine, out| machine.request(now, RequestId(id), request, out))
        })
    }

    /// Takes a hint about the connection to ``peer``. Hints are often wrong; they serve liveness, never safety.
    ///
    /// Parameters
    /// ----------
    /// now : float
    ///     Seconds on the caller's clock.
    /// peer : int
    ///     To whom.
    /// link : {"Up", "Down", "Refused"}
    ///     Established; lost; nobody listens there.
    ///
    /// Returns
    /// -------
    /// list of coterie.protocol.Effect
    ///     What is to be done, in this order.
    fn link<'py>(
        &self,
        py: Python<'py>,
        now: f64,
        peer: u64,
        link: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        guard::shielded(|| {
            let (now, link) = (instant(now)?, effects::read_link(link)?);
            self.drive(py, |machine, out| machine.link(now, NodeId(peer), link, out))
        })
    }

    /// Ends a batch of inputs: what was gathered leaves now.
    ///
    /// Parameters
    /// ----------
    /// now : float
    ///     Seconds on the caller's clock.
    ///
    /// Returns
    /// -------
    /// list of coterie.protocol.Effect
    ///     What is to be done, in this order.
    fn flush<'py>(&self, py: Python<'py>, now: f64) -> PyResult<Vec<Bound<'py, PyAny>>> {
        guard::shielded(|| {
            let now = instant(now)?;
            self.drive(py, |machine, out| machine.flush(now, out))
        })
    }

    /// Who it is.
    #[getter]
    fn id(&self) -> u64 {
        self.id.0
    }

    /// The machine at a glance, a `coterie.raft.Status`.
    #[getter]
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        guard::shielded(|| guard::attached(py, &self.machine, |machine| machine.status())?.show(py))
    }

    /// Whether it leads and a lease lets it serve reads alone, at the latest time that it was told.
    #[getter]
    fn holds_lease(&self, py: Python<'_>) -> PyResult<bool> {
        guard::shielded(|| guard::attached(py, &self.machine, |machine| machine.holds_lease()))
    }

    /// The runs of its log, a tuple of `coterie.raft.Run`.
    #[getter]
    fn log<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        guard::shielded(|| {
            guard::attached(py, &self.machine, |machine| machine.runs().cloned().collect::<Vec<_>>())?
                .show(py)
        })
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        guard::shielded(|| {
            let status = guard::attached(py, &self.machine, |machine| machine.status())?;
            let leader = status.leader.map_or_else(|| "None".to_owned(), |leader| leader.to_string());
            Ok(format!("RaftNode(id={}, term={}, leader={leader})", status.id, status.term))
        })
    }

    fn __reduce__(_slf: &Bound<'_, Self>) -> PyResult<String> {
        Err(PyTypeError::new_err(
            "a Raft node cannot be pickled or copied: two machines of one id would vote twice",
        ))
    }
}

fn setting(name: &str, seconds: f64) -> PyResult<Duration> {
    span(seconds).map_err(|_| {
        errors::ConfigError::new_err(format!(
            "{name} is {seconds}; it must be a number of seconds, 0 or more"
        ))
    })
}
