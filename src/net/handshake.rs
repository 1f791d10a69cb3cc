//! How two ends show each other who they are.

use bytes::Bytes;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::secret::PROOF;
use super::{HANDSHAKE_TIMEOUT, Secret};
use crate::id::NodeId;
use crate::wire::{Decode, Encode, Malformed, Reader, VERSION_MIN, structures, variants};

/// What an end is on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// A member of the cluster, or one that wants to be.
    Peer,
    /// A client.
    Client,
}

/// Who an end is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What it is.
    pub party: Party,
    /// The name of the cluster that it means.
    pub cluster: String,
    /// A member's id; a client has 0.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where it listens, for those who dial it; a client has none.
    pub address: String,
    /// Whether it has a cluster already, or its journal knows of none yet.
    pub formed: bool,
    /// Whether it wants to learn only and not to vote, when the cluster is formed.
    pub observes: bool,
    /// The members that it knows, itself included.
    pub members: Vec<Known>,
}

/// What a handshake has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Who is at the other end.
    pub hello: Hello,
    /// The version of all frames, both ways: the newest that both ends speak.
    pub version: u16,
}

/// What is known of a member. A hint: it helps to find it, and decides nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// Which of its lives has said so: a later one knows better.
    pub life: u64,
}

/// Why the other end goes no further. It says so itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It belongs to another cluster.
    #[error("it belongs to another cluster")]
    OtherCluster,
    /// There is no version that both speak.
    #[error("it speaks versions {min} to {max}")]
    Version {
        /// The oldest that it speaks.
        min: u16,
        /// The newest.
        max: u16,
    },
    /// It wants a proof that was not given, or was wrong.
    #[error("the secret is not that of the cluster")]
    Secret,
    /// Another member has this name.
    #[error("{name} is a member already, with another journal (id {id})")]
    NameTaken {
        /// The name.
        name: String,
        /// The member that has it.
        id: NodeId,
    },
    /// It has no room for another connection now.
    #[error("it has no room for another connection")]
    Full,
    /// It is about to stop.
    #[error("it is about to stop")]
    Stopping,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The network says so.
    #[error(transparent)]
    Network(#[from] io::Error),
    /// It took too long.
    #[error("the other end did not show in time who it is")]
    TooSlow,
    /// The other end speaks another language.
    #[error("what answers there is none of ours: {0}")]
    Garbage(&'static str),
    /// The other end speaks TLS, and this one does not.
    #[error("it asks for certificates: give `tls`")]
    Encrypted,
    /// The other end refuses.
    #[error("refused: {0}")]
    ByPeer(Refusal),
    /// This end refuses.
    #[error("refused here: {0}")]
    Here(Refusal),
}

/// What both ends send first. Older and newer builds must understand as much, so it is no frame of any version.
const MAGIC: &[u8; 8] = b"coterie\x01";
/// What TLS answers to who does not speak it: the type of an alert, and the first half of any version (RFC 8446, section
/// 5.1).
const TLS_ALERT: &[u8] = &[21, 3];
/// The most that a part of a handshake may have.
const PART_MAX: usize = 256 << 10;
/// The encoding of the parts themselves. Later builds only append to a part.
const ENCODING: u16 = 1;
const CHALLENGE: usize = 32;

const DIALS: &str = "coterie: dials";
const ACCEPTS: &str = "coterie: accepts";

/// A hello as it travels.
struct Opening {
    version_min: u16,
    version_max: u16,
    /// Whether it proves, and wants to see proved, that the other end knows the secret.
    proves: bool,
    challenge: Bytes,
    hello: Hello,
}

/// The last word of the handshake.
struct Verdict {
    proof: Bytes,
    refusal: Option<Refusal>,
}

structures! {
    Hello {
        party: Party,
        cluster: String,
        id: NodeId,
        name: String,
        address: String,
        formed: bool,
        observes: bool,
        members: Vec<Known>
    }
    Known { id: NodeId, name: String, address: String, life: u64 }
    Opening { version_min: u16, version_max: u16, proves: bool, challenge: Bytes, hello: Hello }
    Verdict { proof: Bytes, refusal: Option<Refusal> }
}

variants!(Party {
    1 => Peer,
    2 => Client,
});

variants!(Refusal {
    1 => OtherCluster,
    2 => Version { min, max },
    3 => Secret,
    4 => NameTaken { name, id },
    5 => Full,
    6 => Stopping,
});

/// Shows the other end who dials and up to which version it speaks, and hears who is there.
pub async fn dial_in<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    hello: &Hello,
    version: u16,
    secret: Option<&Secret>,
) -> Result<Agreement, Refused> {
    let handshake = async {
        let ours = Opening::new(hello, version, secret)?.to_bytes();
        send(stream, &ours).await?;
        let theirs = receive(stream).await?;
        let opening: Opening = decode(theirs.clone())?;
        let said: &[&[u8]] = &[&ours, &theirs];
        let refusal = opening.refusal(&hello.cluster, version, secret);
        // Even who knows already that it comes to nothing says what it can, so that the other end can say why.
        let proof =
            secret.map_or_else(Bytes::new, |secret| Bytes::copy_from_slice(&secret.prove(DIALS, said)));
        send(stream, &Verdict { proof, refusal: refusal.clone() }.to_bytes()).await?;
        if let Some(refusal) = refusal {
            return Err(Refused::Here(refusal));
        }
        let verdict: Verdict = decode(receive(stream).await?)?;
        if let Some(refusal) = verdict.refusal {
            return Err(Refused::ByPeer(refusal));
        }
        match secret {
            Some(secret) if !secret.verify(ACCEPTS, said, &verdict.proof) => {
                Err(Refused::Here(Refusal::Secret))
            }
            _ => Ok(opening.agree(version)),
        }
    };
    in_time(HANDSHAKE_TIMEOUT, handshake).await
}

/// Hears who has dialled, and shows who is here; `judge` may have a reason against who proved to belong here.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    hello: &Hello,
    version: u16,
    secret: Option<&Secret>,
    judge: impl FnOnce(&Hello) -> Option<Refusal>,
) -> Result<Agreement, Refused> {
    accept_within(HANDSHAKE_TIMEOUT, stream, hello, version, secret, judge).await
}

async fn accept_within<S: AsyncRead + AsyncWrite + Unpin>(
    patience: Duration,
    stream: &mut S,
    hello: &Hello,
    version: u16,
    secret: Option<&Secret>,
    judge: impl FnOnce(&Hello) -> Option<Refusal>,
) -> Result<Agreement, Refused> {
    in_time(patience, async {
        let theirs = receive(stream).await?;
        let opening: Opening = decode(theirs.clone())?;
        let stranger = opening.refusal(&hello.cluster, version, secret);
        // A stranger does not learn who the members are.
        let shown = if stranger.is_some() { hello.anonymous() } else { hello.clone() };
        let ours = Opening::new(&shown, version, secret)?.to_bytes();
        send(stream, &ours).await?;
        let said: &[&[u8]] = &[&theirs, &ours];
        let word: Verdict = decode(receive(stream).await?)?;
        let unproved = secret.filter(|secret| !secret.verify(DIALS, said, &word.proof));
        let refusal =
            stranger.or_else(|| unproved.map(|_| Refusal::Secret)).or_else(|| judge(&opening.hello));
        let proof = match secret {
            Some(secret) if refusal.is_none() => Bytes::copy_from_slice(&secret.prove(ACCEPTS, said)),
            _ => Bytes::new(),
        };
        send(stream, &Verdict { proof, refusal: refusal.clone() }.to_bytes()).await?;
        match (refusal, word.refusal) {
            (Some(refusal), _) => Err(Refused::Here(refusal)),
            (None, Some(refusal)) => Err(Refused::ByPeer(refusal)),
            (None, None) => Ok(opening.agree(version)),
        }
    })
    .await
}

impl Opening {
    fn new(hello: &Hello, version: u16, secret: Option<&Secret>) -> Result<Self, Refused> {
        let mut challenge = [0; CHALLENGE];
        let random = ring::rand::SystemRandom::new();
        ring::rand::SecureRandom::fill(&random, &mut challenge)
            .map_err(|_| io::Error::other("the system gives no random bytes"))?;
        Ok(Self {
            version_min: VERSION_MIN,
            version_max: version,
            proves: secret.is_some(),
            challenge: Bytes::copy_from_slice(&challenge),
            hello: hello.clone(),
        })
    }

    /// What speaks against the other end, before it has proved anything.
    fn refusal(&self, cluster: &str, version: u16, secret: Option<&Secret>) -> Option<Refusal> {
        if self.version_max < VERSION_MIN || self.version_min > version {
            return Some(Refusal::Version { min: VERSION_MIN, max: version });
        }
        if self.hello.cluster != cluster {
            return Some(Refusal::OtherCluster);
        }
        (self.proves != secret.is_some() || self.challenge.len() != CHALLENGE).then_some(Refusal::Secret)
    }

    fn agree(self, version: u16) -> Agreement {
        Agreement { hello: self.hello, version: version.min(self.version_max) }
    }
}

impl Hello {
    /// As much of it as anybody may know who can reach the port.
    fn anonymous(&self) -> Self {
        Self { members: Vec::new(), address: String::new(), ..self.clone() }
    }
}

async fn in_time<T>(
    patience: Duration,
    handshake: impl Future<Output = Result<T, Refused>>,
) -> Result<T, Refused> {
    tokio::time::timeout(patience, handshake).await.unwrap_or(Err(Refused::TooSlow))
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), part: &[u8]) -> Result<(), Refused> {
    let mut bytes = Vec::with_capacity(MAGIC.len() + 8 + part.len());
    bytes.extend_from_slice(MAGIC);
    (part.len() as u32).encode(&mut bytes);
    crc32c::crc32c(part).encode(&mut bytes);
    bytes.extend_from_slice(part);
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    Ok(())
}

async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Result<Bytes, Refused> {
    // What comes instead may be shorter, and is looked at all the same.
    let mut magic = [0; MAGIC.len()];
    let mut read = 0;
    while read < magic.len() && magic[..read] == MAGIC[..read] {
        match stream.read(&mut magic[read..]).await? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            more => read += more,
        }
    }
    if magic != *MAGIC {
        return Err(if magic.starts_with(TLS_ALERT) {
            Refused::Encrypted
        } else {
            Refused::Garbage("it does not begin as ours do")
        });
    }
    let (length, checksum) = (stream.read_u32_le().await? as usize, stream.read_u32_le().await?);
    if length > PART_MAX {
        return Err(Refused::Garbage("its handshake is too long"));
    }
    // What is reserved grows with what comes, so that a length alone costs nothing.
    let mut part = Vec::new();
    stream.take(length as u64).read_to_end(&mut part).await?;
    if part.len() < length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    if crc32c::crc32c(&part) != checksum {
        return Err(Refused::Garbage("its handshake is damaged"));
    }
    Ok(part.into())
}

/// Reads a part; a later build may have appended something.
fn decode<T: Decode>(part: Bytes) -> Result<T, Refused> {
    let decoded: Result<T, Malformed> = T::decode(&mut Reader::new(part, ENCODING));
    decoded.map_err(|malformed| Refused::Garbage(malformed.what))
}

const _: () = assert!(PROOF == 32, "a proof is a SHA-256");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::VERSION;
    use tokio::io::duplex;

    fn hello(name: &str) -> Hello {
        let known = Known { id: NodeId(1), name: name.to_owned(), address: "here:1".to_owned(), life: 1 };
        Hello {
            party: Party::Peer,
            cluster: "ours".to_owned(),
            id: NodeId(1),
            name: name.to_owned(),
            address: "here:1".to_owned(),
            formed: false,
            observes: false,
            members: vec![known],
        }
    }

    /// What the dialling end and the accepting end make of each other.
    fn meet(
        one: &Hello,
        two: &Hello,
        secrets: (Option<&str>, Option<&str>),
        judge: impl FnOnce(&Hello) -> Option<Refusal>,
    ) -> (Result<Agreement, Refused>, Result<Agreement, Refused>) {
        meet_in((VERSION, VERSION), one, two, secrets, judge)
    }

    fn meet_in(
        versions: (u16, u16),
        one: &Hello,
        two: &Hello,
        secrets: (Option<&str>, Option<&str>),
        judge: impl FnOnce(&Hello) -> Option<Refusal>,
    ) -> (Result<Agreement, Refused>, Result<Agreement, Refused>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let secret = |words: Option<&str>| words.map(|words| Secret::new(words.as_bytes()));
        let (dials, accepts) = (secret(secrets.0), secret(secrets.1));
        let (mut left, mut right) = duplex(1 << 16);
        runtime.expect("a runtime").block_on(async {
            tokio::join!(
                dial_in(&mut left, one, versions.0, dials.as_ref()),
                accept(&mut right, two, versions.1, accepts.as_ref(), judge)
            )
        })
    }

    fn why(outcome: Result<Agreement, Refused>) -> String {
        outcome.expect_err("a refusal").to_string()
    }

    #[test]
    fn who_shares_the_cluster_and_its_secret_learns_who_the_other_is() {
        for secret in [None, Some("a secret")] {
            let (dialled, accepted) = meet(&hello("a"), &hello("b"), (secret, secret), |_| None);
            assert_eq!(dialled.expect("welcome"), Agreement { hello: hello("b"), version: VERSION });
            assert_eq!(accepted.expect("welcome"), Agreement { hello: hello("a"), version: VERSION });
        }
    }

    #[test]
    fn both_ends_speak_the_newest_version_that_both_know() {
        let (dials, accepts) = (VERSION + 3, VERSION + 1);
        for versions in [(dials, accepts), (accepts, dials)] {
            let (dialled, accepted) = meet_in(versions, &hello("a"), &hello("b"), (None, None), |_| None);
            assert_eq!(dialled.expect("welcome").version, accepts);
            assert_eq!(accepted.expect("welcome").version, accepts);
        }
        let (dialled, accepted) =
            meet_in((VERSION_MIN - 1, VERSION), &hello("a"), &hello("b"), (None, None), |_| None);
        let complaint = format!("refused here: it speaks versions {VERSION_MIN} to {VERSION}");
        assert_eq!(why(accepted), complaint);
        assert!(dialled.is_err());
    }

    #[test]
    fn both_ends_hear_why_it_comes_to_nothing() {
        let other = Hello { cluster: "theirs".to_owned(), ..hello("a") };
        let (dialled, accepted) = meet(&other, &hello("b"), (None, None), |_| None);
        assert_eq!(why(dialled), "refused here: it belongs to another cluster");
        assert_eq!(why(accepted), "refused here: it belongs to another cluster");
        let (dialled, accepted) = meet(&hello("a"), &hello("b"), (Some("wrong"), Some("right")), |_| None);
        assert_eq!(why(dialled), "refused: the secret is not that of the cluster");
        assert_eq!(why(accepted), "refused here: the secret is not that of the cluster");
        let taken = |_: &Hello| Some(Refusal::NameTaken { name: "a".to_owned(), id: NodeId(7) });
        let (dialled, _) = meet(&hello("a"), &hello("b"), (Some("right"), Some("right")), taken);
        assert_eq!(why(dialled), "refused: a is a member already, with another journal (id 7)");
    }

    #[test]
    fn who_proves_nothing_learns_nothing_of_the_members() {
        let (dialled, accepted) = meet(&hello("a"), &hello("b"), (None, Some("right")), |_| None);
        assert_eq!(why(dialled), "refused here: the secret is not that of the cluster");
        assert_eq!(why(accepted), "refused here: the secret is not that of the cluster");
        assert!(hello("b").anonymous().members.is_empty());
    }

    #[test]
    fn garbage_a_lie_about_a_length_and_silence_are_refused() {
        let outcome = |said: &'static [u8], ends: bool| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            runtime.expect("a runtime").block_on(async {
                let (mut left, mut right) = duplex(1 << 16);
                left.write_all(said).await.expect("room");
                if ends {
                    left.shutdown().await.expect("an end");
                }
                accept_within(Duration::from_millis(20), &mut right, &hello("b"), VERSION, None, |_| None)
                    .await
            })
        };
        assert!(matches!(outcome(b"GET / HTTP/1.1\r\n\r\n", false), Err(Refused::Garbage(_))));
        assert!(matches!(outcome(b"coterie\x01\xff\xff\xff\xff\0\0\0\0", false), Err(Refused::Garbage(_))));
        assert!(matches!(outcome(b"coterie\x01\x01\0\0\0\0\0\0\0x", false), Err(Refused::Garbage(_))));
        assert!(matches!(outcome(b"coterie\x01\x09\0\0\0\0\0\0\0x", true), Err(Refused::Network(_))));
        assert!(matches!(outcome(b"coterie\x01\x09\0\0\0", false), Err(Refused::TooSlow)));
        assert!(matches!(outcome(b"", false), Err(Refused::TooSlow)));
    }
}
