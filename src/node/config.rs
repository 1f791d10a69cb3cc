//! How a member is set up, checked before anything is started.

use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use crate::net::{Pem, Secret, Tls};
use crate::raft::{self, Lease};
use crate::replica::{self, Limits};
use crate::store;
use crate::wal;
use crate::wire::{VERSION, VERSION_MIN};

/// How a member is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its name, which no other member of the cluster has. At most 64 bytes, no control characters.
    pub name: String,
    /// Where it listens, for peers and for clients: `host:port`. Port 0: whichever is free at the first start, and the
    /// same at each later one. Default `127.0.0.1:7433`.
    pub listen: String,
    /// Where others find it, if that is not where it listens.
    pub advertise: Option<String>,
    /// All first members, itself included: names, and where they listen. Used when the cluster is formed; later the log
    /// says who belongs to it. Empty: it forms a cluster alone. Whoever is to be added to a cluster names its members.
    pub peers: BTreeMap<String, String>,
    /// The folder with its journal and snapshots, its own.
    pub data_dir: PathBuf,
    /// The name of the cluster. Default `coterie`.
    pub cluster: String,
    /// What members and clients prove to know.
    pub secret: SecretSource,
    /// Certificates: needed off loopback, unless it is `insecure`.
    pub tls: Option<Certificates>,
    /// Listen off loopback without TLS, to anybody who can reach the port (and knows the secret, if one is given).
    pub insecure: bool,
    /// Whether it learns and does not vote, when the cluster is formed.
    pub observer: bool,
    /// How long a follower waits for its leader before it campaigns. Default 300 ms.
    pub election_timeout: Duration,
    /// How often a leader says that it is there. `None`: 50 ms; with leases, a third of a lease.
    pub heartbeat_interval: Option<Duration>,
    /// Leases for reads, of this length beside 10 % for drift; all members must be given the same. `None`: none. With them, the
    /// leader's process reads without asking anybody; clocks of members must not differ in speed by more than that.
    pub lease: Option<Duration>,
    /// How long a lease of the store lives on when its holder's connection has ended. Default 30 ms; `None`: its time
    /// to live.
    pub grace: Option<Duration>,
    /// How long a revision can be read at least. `None`: until somebody compacts it. Default 1 h.
    pub history: Option<Duration>,
    /// The bounds of the store. All members must be given the same.
    pub limits: store::Limits,
    /// The bounds of sessions. All members must be given the same.
    pub sessions: Limits,
    /// How large a segment of the journal grows. Default 64 MiB.
    pub segment_bytes: u64,
    /// After so many entries a snapshot is made. Default 100,000.
    pub snapshot_entries: u64,
    /// After so many bytes of log a snapshot is made, if that comes first. Default 32 MiB.
    pub snapshot_bytes: usize,
    /// How many bytes of log are kept in memory; beyond it, commands are refused. Default 128 MiB.
    pub log_bytes_max: usize,
    /// How many connections of clients there are at most. Default 4,096.
    pub clients_max: usize,
    /// The newest version of the formats that this member speaks and writes ([`crate::wire::VERSION`]). Default: this
    /// build's. The one before, while members are upgraded, keeps the way back open: the build before reads all that is
    /// written.
    pub format_version: u16,
}

/// Where the secret comes from that members and clients of a cluster share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SecretSource {
    /// On loopback, a file of the user's own that this machine's members and clients of a cluster share (see
    /// [`secrets`](super::secrets)). Off loopback, none: certificates prove it, or nothing does.
    #[default]
    Automatic,
    /// These bytes; at least 16.
    Bytes(Vec<u8>),
    /// What is in this file, without white space around it.
    File(PathBuf),
    /// None: whoever reaches the port belongs here, or shows a certificate.
    None,
}

/// Where certificates are. Both ends show theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificates {
    /// This member's, with those that lead from it to the authority.
    pub certificate: Pem,
    /// Its key.
    pub key: Pem,
    /// The authority whose certificates it believes.
    pub authority: Pem,
}

/// A setting that cannot work. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {complaint}")]
pub struct ConfigError {
    /// Which.
    pub setting: &'static str,
    /// What is wrong with it, and what to do.
    pub complaint: String,
}

/// Settings that can work.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub(super) config: Config,
    pub(super) replica: replica::Settings,
    pub(super) wal: wal::Settings,
    pub(super) secret: Option<Secret>,
    pub(super) tls: Option<Tls>,
}

const NAME_BYTES_MAX: usize = 64;
const SECRET_BYTES_MIN: usize = 16;

impl Config {
    /// The defaults, for a member of this name whose data is in this folder.
    pub fn new(name: impl Into<String>, data_dir: impl Into<PathBuf>) -> Self {
        let (raft, replica) = (raft::Settings::default(), replica::Settings::default());
        Self {
            name: name.into(),
            listen: "127.0.0.1:7433".to_owned(),
            advertise: None,
            peers: BTreeMap::new(),
            data_dir: data_dir.into(),
            cluster: "coterie".to_owned(),
            secret: SecretSource::Automatic,
            tls: None,
            insecure: false,
            observer: false,
            election_timeout: raft.election_timeout,
            heartbeat_interval: None,
            lease: None,
            grace: replica.grace,
            history: replica.history,
            limits: store::Limits::default(),
            sessions: Limits::default(),
            segment_bytes: wal::Settings::default().segment_bytes,
            snapshot_entries: raft.snapshot_log_entries,
            snapshot_bytes: raft.snapshot_log_bytes,
            log_bytes_max: raft.log_bytes_max,
            clients_max: 4096,
            format_version: VERSION,
        }
    }

    /// Refuses what cannot work. Looks up where to listen, and reads the secret and certificates.
    pub(super) fn check(&self) -> Result<Checked, ConfigError> {
        check_name("name", &self.name)?;
        check_name("cluster", &self.cluster)?;
        for (name, address) in &self.peers {
            check_name("peers", name)?;
            check_address("peers", address)?;
        }
        if !self.peers.is_empty() && !self.peers.contains_key(&self.name) {
            return complain("peers", format!("must name this member, {:?}, too", self.name));
        }
        if let Some(advertise) = &self.advertise {
            check_address("advertise", advertise)?;
        }
        if self.data_dir.as_os_str().is_empty() {
            return complain("data_dir", "must name a folder");
        }
        if self.clients_max == 0 {
            return complain("clients_max", "must be positive");
        }
        if !(1 << 16..=1 << 32).contains(&self.segment_bytes) {
            return complain("segment_bytes", "must be from 64 KiB to 4 GiB");
        }
        if !(VERSION_MIN..=VERSION).contains(&self.format_version) {
            return complain(
                "format_version",
                format!("this build speaks {VERSION_MIN} to {VERSION}, not {}", self.format_version),
            );
        }
        let loopback = self.is_on_loopback()?;
        if !loopback && self.tls.is_none() && !self.insecure {
            return complain(
                "listen",
                format!(
                    "{} is not on loopback: give certificates with `tls`, or say `insecure` if everybody who can \
                     reach the port may do as he likes",
                    self.listen
                ),
            );
        }
        let tls = self.tls.as_ref().map(Certificates::load).transpose()?;
        let secret = self.secret.load(&self.cluster, loopback && tls.is_none())?;
        let replica = self.replica();
        replica.check().map_err(|invalid| ConfigError {
            setting: invalid.setting,
            complaint: invalid.complaint.to_owned(),
        })?;
        let wal = wal::Settings { segment_bytes: self.segment_bytes, version: self.format_version };
        Ok(Checked { config: self.clone(), replica, wal, secret, tls })
    }

    fn replica(&self) -> replica::Settings {
        let lease = self.lease.map(|length| Lease { length, drift: length / 10 });
        let heartbeat = self.lease.map_or(raft::Settings::default().heartbeat_interval, |length| length / 3);
        let raft = raft::Settings {
            cluster: cluster_id(&self.cluster),
            election_timeout: self.election_timeout,
            heartbeat_interval: self.heartbeat_interval.unwrap_or(heartbeat),
            lease,
            snapshot_log_entries: self.snapshot_entries,
            snapshot_log_bytes: self.snapshot_bytes,
            log_bytes_max: self.log_bytes_max,
            ..raft::Settings::default()
        };
        replica::Settings { raft, grace: self.grace, history: self.history, ..replica::Settings::default() }
    }

    fn is_on_loopback(&self) -> Result<bool, ConfigError> {
        check_address("listen", &self.listen)?;
        let found: Vec<IpAddr> = match self.listen.to_socket_addrs() {
            Ok(addresses) => addresses.map(|address| address.ip()).collect(),
            Err(error) => return complain("listen", format!("{}: {error}", self.listen)),
        };
        Ok(!found.is_empty() && found.iter().all(IpAddr::is_loopback))
    }
}

/// The cluster's id in journals follows from its name.
pub(super) fn cluster_id(name: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(name.as_bytes())
}

impl SecretSource {
    /// The secret, if there is one.
    pub fn load(&self, cluster: &str, loopback: bool) -> Result<Option<Secret>, ConfigError> {
        let bytes = match self {
            Self::None => return Ok(None),
            Self::Automatic if !loopback => return Ok(None),
            Self::Automatic => super::secrets::of_this_user(cluster)
                .map_err(|error| ConfigError { setting: "secret", complaint: error.to_string() })?,
            Self::Bytes(bytes) => bytes.clone(),
            Self::File(path) => match std::fs::read(path) {
                Ok(bytes) => bytes.trim_ascii().to_vec(),
                Err(error) => return complain("secret", format!("{}: {error}", path.display())),
            },
        };
        if bytes.len() < SECRET_BYTES_MIN {
            return complain("secret", format!("must have at least {SECRET_BYTES_MIN} bytes"));
        }
        Ok(Some(Secret::new(&bytes)))
    }
}

impl Certificates {
    /// Reads them.
    pub fn load(&self) -> Result<Tls, ConfigError> {
        Tls::new(&self.certificate, &self.key, &self.authority)
            .map_err(|error| ConfigError { setting: "tls", complaint: error.to_string() })
    }
}

fn check_name(setting: &'static str, name: &str) -> Result<(), ConfigError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return complain(
            setting,
            format!("{name:?} must have 1 to {NAME_BYTES_MAX} bytes and no control characters"),
        );
    }
    Ok(())
}

fn check_address(setting: &'static str, address: &str) -> Result<(), ConfigError> {
    let port =
        address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    if matches!(port, Some(Ok(_))) {
        return Ok(());
    }
    complain(setting, format!("{address:?} must be host:port"))
}

fn complain<T>(setting: &'static str, complaint: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError { setting, complaint: complaint.into() })
}
