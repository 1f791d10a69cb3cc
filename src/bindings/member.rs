//! Members, for Python: settings in, a handle out.

use std::collections::BTreeMap;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use super::client::ClientCore;
use super::{errors, guard};
use crate::client::{Connection, Endpoints, Heard, Responder, Transport};
use crate::net::{Authority, AuthorityError, Pem};
use crate::node::{self, Config, Failure, Member, Part, SecretSource, StartError};
use crate::replica::asks::{self, Ask};
use crate::store::{Answer, Query};

/// A member's settings, as Python has checked their types.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Settings<'py> {
    name: String,
    data_dir: PathBuf,
    listen: String,
    advertise: Option<String>,
    peers: BTreeMap<String, String>,
    cluster: String,
    secret: Option<Secret<'py>>,
    tls: Option<Certificates<'py>>,
    insecure: bool,
    observer: bool,
    election_timeout: f64,
    heartbeat_interval: Option<f64>,
    read_lease: Option<f64>,
    grace: Option<f64>,
    history: Option<f64>,
    quota: u64,
    segment_bytes: u64,
    snapshot_entries: u64,
    format_version: Option<u16>,
}

/// What members and clients prove to know.
#[derive(FromPyObject)]
pub(super) enum Secret<'py> {
    Bytes(Bound<'py, PyBytes>),
    Wanted(bool),
    File(PathBuf),
}

/// A certificate, its key, and everybody's authority.
pub(super) type Certificates<'py> = (File<'py>, File<'py>, File<'py>);

/// What is in a file, or the file.
#[derive(FromPyObject)]
pub(super) enum File<'py> {
    Bytes(Bound<'py, PyBytes>),
    Path(PathBuf),
}

impl File<'_> {
    fn pem(self) -> Pem {
        match self {
            Self::Bytes(bytes) => Pem::Bytes(bytes.as_bytes().to_vec()),
            Self::Path(path) => Pem::File(path),
        }
    }
}

impl Settings<'_> {
    fn config(self) -> PyResult<Config> {
        let mut config = Config::new(self.name, self.data_dir);
        config.listen = self.listen;
        config.advertise = self.advertise;
        config.peers = self.peers;
        config.cluster = self.cluster;
        config.secret = source(self.secret);
        config.tls = self.tls.map(certificates);
        config.insecure = self.insecure;
        config.observer = self.observer;
        config.election_timeout = seconds("election_timeout", self.election_timeout)?;
        let optional = |name, value: Option<f64>| value.map(|value| seconds(name, value)).transpose();
        config.heartbeat_interval = optional("heartbeat_interval", self.heartbeat_interval)?;
        config.lease = optional("read_lease", self.read_lease)?;
        config.grace = optional("grace", self.grace)?;
        config.history = optional("history", self.history)?;
        config.limits.quota = self.quota;
        config.segment_bytes = self.segment_bytes;
        config.snapshot_entries = self.snapshot_entries;
        config.format_version = self.format_version.unwrap_or(config.format_version);
        Ok(config)
    }
}

fn source(secret: Option<Secret<'_>>) -> SecretSource {
    match secret {
        None | Some(Secret::Wanted(true)) => SecretSource::Automatic,
        Some(Secret::Wanted(false)) => SecretSource::None,
        Some(Secret::Bytes(bytes)) => SecretSource::Bytes(bytes.as_bytes().to_vec()),
        Some(Secret::File(path)) => SecretSource::File(path),
    }
}

fn certificates((certificate, key, authority): Certificates<'_>) -> node::Certificates {
    node::Certificates { certificate: certificate.pem(), key: key.pem(), authority: authority.pem() }
}

/// Whom a client speaks to, and how it shows that it may.
pub(super) fn endpoints(
    addresses: Vec<String>,
    cluster: String,
    secret: Option<Secret<'_>>,
    tls: Option<Certificates<'_>>,
) -> PyResult<Endpoints> {
    let wrong = |error: node::ConfigError| errors::ConfigError::new_err(error.to_string());
    let tls = tls.map(|tls| certificates(tls).load()).transpose().map_err(wrong)?;
    // Who cannot be looked up now may be later.
    let is_loopback = |address: &String| {
        address.to_socket_addrs().is_ok_and(|mut found| found.all(|address| address.ip().is_loopback()))
    };
    let loopback = tls.is_none() && addresses.iter().all(is_loopback);
    let secret = source(secret).load(&cluster, loopback).map_err(wrong)?;
    Ok(Endpoints { addresses, cluster, secret, tls })
}

/// From a client to the member in the same process.
struct Local {
    member: Arc<Member>,
    closed: AtomicBool,
    heard: Mutex<Option<Weak<dyn Heard>>>,
}

impl Transport for Local {
    fn submit(&self, patience: Duration, ask: Ask, respond: Responder) {
        if self.closed.load(Ordering::Acquire) {
            respond(Err(asks::Error::Stopped("the client is closed".to_owned())));
        } else {
            self.member.submit(patience, ask, respond);
        }
    }

    fn read(&self, query: &Query) -> Option<Answer> {
        self.member.lease_read(|store| store.query(query))
    }

    fn connection(&self) -> Option<Connection> {
        (!self.member.has_ended()).then(|| Connection { member: self.member.id(), number: 1 })
    }

    fn listen(&self, heard: Weak<dyn Heard>) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(heard);
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}

impl Local {
    fn start(member: &Arc<Member>) -> std::io::Result<Arc<Self>> {
        let member = Arc::clone(member);
        let local = Arc::new(Self { member, closed: AtomicBool::new(false), heard: Mutex::new(None) });
        let watched = Arc::downgrade(&local);
        // What is held by way of a member is lost with it.
        std::thread::Builder::new().name("coterie-member-end".to_owned()).spawn(move || {
            while let Some(local) = watched.upgrade() {
                if local.member.wait(LOOK) {
                    let heard = local.heard.lock().unwrap_or_else(PoisonError::into_inner).take();
                    if let Some(heard) = heard.and_then(|heard| heard.upgrade()) {
                        heard.down();
                    }
                    return;
                }
            }
        })?;
        Ok(local)
    }
}

/// How often the thread that waits for a member's end looks whether anybody still wants to know.
const LOOK: Duration = Duration::from_millis(500);

fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    match Duration::try_from_secs_f64(value) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => {
            Err(errors::ConfigError::new_err(format!("{name}: {value} is not a positive number of seconds")))
        }
    }
}

/// A running member.
#[pyclass(frozen, module = "coterie._coterie")]
pub(super) struct MemberCore {
    member: Arc<Member>,
}

#[pymethods]
impl MemberCore {
    #[new]
    fn new(py: Python<'_>, settings: Settings<'_>) -> PyResult<Self> {
        guard::shielded(|| {
            let config = settings.config()?;
            let member = py.detach(|| Member::start(&config)).map_err(|error| start_error(py, &error))?;
            Ok(Self { member: Arc::new(member) })
        })
    }

    /// A client that asks this member, in this process.
    fn client(&self, grace: Option<f64>) -> PyResult<ClientCore> {
        guard::shielded(|| {
            let local = Local::start(&self.member).map_err(|error| {
                errors::ConfigError::new_err(format!("no thread can be started: {error}"))
            })?;
            Ok(ClientCore::over(local, grace))
        })
    }

    #[getter]
    fn id(&self) -> u64 {
        self.member.id().0
    }

    #[getter]
    fn name(&self) -> &str {
        self.member.name()
    }

    /// Where it listens.
    #[getter]
    fn address(&self) -> String {
        self.member.address().to_string()
    }

    /// How it is, in plain values.
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        guard::shielded(|| {
            let status = py.detach(|| self.member.status());
            let told = PyDict::new(py);
            told.set_item("id", status.member.id.0)?;
            told.set_item("name", &status.member.name)?;
            told.set_item("role", part(status.part))?;
            told.set_item("term", status.member.term)?;
            told.set_item("leader", status.member.leader.map(|leader| leader.0))?;
            told.set_item("last", status.member.last)?;
            told.set_item("commit", status.member.commit)?;
            told.set_item("applied", status.member.applied)?;
            told.set_item("pending", status.member.pending)?;
            told.set_item("address", &status.address)?;
            told.set_item("revision", status.revision)?;
            told.set_item("syncs", status.syncs)?;
            let members = PyList::empty(py);
            for member in &status.members {
                let each = PyDict::new(py);
                each.set_item("id", member.id.0)?;
                each.set_item("name", &member.name)?;
                each.set_item("address", &member.address)?;
                each.set_item("votes", member.vote.is_some())?;
                each.set_item("connected", status.connected.contains(&member.id))?;
                members.append(each)?;
            }
            told.set_item("members", members)?;
            let network = PyDict::new(py);
            for (name, count) in status.network.each() {
                network.set_item(name, count)?;
            }
            told.set_item("network", network)?;
            Ok(told)
        })
    }

    /// The error that it stopped with by itself, if it did.
    fn failure(&self, py: Python<'_>) -> Option<PyErr> {
        self.member.failure().map(|failure| failed(py, &failure))
    }

    /// Whether it has ended.
    fn has_ended(&self) -> bool {
        self.member.has_ended()
    }

    /// Waits so many seconds for its end; says whether it has ended.
    fn wait(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        guard::shielded(|| {
            let timeout = Duration::try_from_secs_f64(timeout).unwrap_or(Duration::MAX);
            Ok(py.detach(|| self.member.wait(timeout)))
        })
    }

    /// Ends it in order. Two seconds at most.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        guard::shielded(|| {
            py.detach(|| self.member.close());
            Ok(())
        })
    }

    /// Ends it as SIGKILL would.
    fn kill(&self, py: Python<'_>) -> PyResult<()> {
        guard::shielded(|| {
            py.detach(|| self.member.kill());
            Ok(())
        })
    }

    /// Cuts it off from the peer of that name.
    fn partition(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        guard::shielded(|| {
            py.detach(|| self.member.partition(name));
            Ok(())
        })
    }

    /// Ends all of that.
    fn heal(&self, py: Python<'_>) -> PyResult<()> {
        guard::shielded(|| {
            py.detach(|| self.member.heal());
            Ok(())
        })
    }
}

fn part(part: Part) -> &'static str {
    match part {
        Part::Waiting => "waiting",
        Part::Learner => "observer",
        Part::Follower => "follower",
        Part::Candidate => "candidate",
        Part::Leader => "leader",
    }
}

fn start_error(py: Python<'_>, error: &StartError) -> PyErr {
    match error {
        StartError::Config(error) => errors::ConfigError::new_err(error.to_string()),
        StartError::Failure(failure) => failed(py, failure),
    }
}

fn failed(py: Python<'_>, failure: &Failure) -> PyErr {
    match failure {
        Failure::Storage { path, offset, .. } => {
            errors::storage(py, &failure.to_string(), &path.to_string_lossy(), *offset)
        }
        Failure::Refused { complaint } => errors::ConfigError::new_err(complaint.clone()),
        Failure::Internal { complaint } => errors::internal(complaint),
    }
}

/// A new authority: its certificate and its key, in PEM.
#[pyfunction]
pub(super) fn make_authority(py: Python<'_>) -> PyResult<(String, String)> {
    guard::shielded(|| {
        let made = py.detach(Authority::new).map_err(|error| unissued(&error))?;
        Ok((made.certificate().to_owned(), made.key().to_owned()))
    })
}

/// A certificate and its key, in PEM, from an authority that `make_authority` has made, for these hosts.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "what Python hands over is owned")]
pub(super) fn make_certificate(
    py: Python<'_>,
    certificate: &str,
    key: &str,
    hosts: Vec<String>,
) -> PyResult<(String, String)> {
    guard::shielded(|| {
        let issued = py.detach(|| Authority::from_pem(certificate, key)?.issue(&hosts));
        issued.map(|issued| (issued.certificate, issued.key)).map_err(|error| unissued(&error))
    })
}

fn unissued(error: &AuthorityError) -> PyErr {
    errors::ConfigError::new_err(error.to_string())
}
