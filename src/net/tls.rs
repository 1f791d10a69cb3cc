//! TLS 1.3, both ways: who has no certificate of the cluster's authority is a stranger.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// An encrypted connection.
pub(super) type TlsStream = tokio_rustls::TlsStream<TcpStream>;

/// Certificates or a key in PEM.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// In a file.
    File(PathBuf),
    /// As they are.
    Bytes(Vec<u8>),
}

/// How this end shows who it is, and whom it believes.
#[derive(Clone)]
pub struct Tls {
    client: TlsConnector,
    server: TlsAcceptor,
}

/// What is wrong with certificates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds none of what it should.
    #[error("{what}: {why}")]
    Unreadable {
        /// What was to be read.
        what: String,
        /// Why it was not.
        why: String,
    },
    /// They do not fit together.
    #[error("{0}")]
    Unfit(String),
}

impl Tls {
    /// This end's certificate, with those that lead from it to its authority, its key, and the authority that the other
    /// ends' certificates must come from.
    pub fn new(certificate: &Pem, key: &Pem, authority: &Pem) -> Result<Self, TlsError> {
        let chain = certificate.certificates("the certificate")?;
        let key = PrivateKeyDer::from_pem_slice(&key.bytes("the key")?)
            .map_err(|error| unreadable(&key.named("the key"), &error))?;
        let mut roots = RootCertStore::empty();
        for root in authority.certificates("the authority")? {
            roots.add(root).map_err(|error| unreadable(&authority.named("the authority"), &error))?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = &[&rustls::version::TLS13];
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .and_then(|builder| {
                let builder = builder.with_root_certificates(Arc::clone(&roots));
                builder.with_client_auth_cert(chain.clone(), key.clone_key())
            })
            .map_err(|error| unfit(&error))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| TlsError::Unfit(error.to_string()))?;
        let server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .and_then(|builder| builder.with_client_cert_verifier(verifier).with_single_cert(chain, key))
            .map_err(|error| unfit(&error))?;
        Ok(Self { client: Arc::new(client).into(), server: Arc::new(server).into() })
    }

    /// Dials in. The certificate at the other end must be for the host that was dialled. What TLS has against it is
    /// [`io::ErrorKind::PermissionDenied`], which no other attempt will change; a network that fails is itself.
    pub(super) async fn connect(&self, address: &str, stream: TcpStream) -> io::Result<TlsStream> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let refused = |why: String| io::Error::new(io::ErrorKind::PermissionDenied, TlsError::Unfit(why));
        let name = ServerName::try_from(host.to_owned()).map_err(|error| refused(error.to_string()))?;
        let connected = self.client.connect(name, stream).await;
        connected.map(Into::into).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => refused(error.to_string()),
            _ => error,
        })
    }

    /// Takes who dialled in.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream> {
        self.server.accept(stream).await.map(Into::into)
    }
}

impl Pem {
    fn certificates(&self, what: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let bytes = self.bytes(what)?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let found = found.map_err(|error| unreadable(&self.named(what), &error))?;
        if found.is_empty() {
            Err(unreadable(&self.named(what), &"no certificate is in it"))
        } else {
            Ok(found)
        }
    }

    fn bytes(&self, what: &str) -> Result<Vec<u8>, TlsError> {
        match self {
            Self::File(path) => std::fs::read(path).map_err(|error| unreadable(&self.named(what), &error)),
            Self::Bytes(bytes) => Ok(bytes.clone()),
        }
    }

    fn named(&self, what: &str) -> String {
        match self {
            Self::File(path) => format!("{what}, {}", path.display()),
            Self::Bytes(_) => what.to_owned(),
        }
    }
}

fn unreadable(what: &str, why: &dyn std::fmt::Display) -> TlsError {
    TlsError::Unreadable { what: what.to_owned(), why: why.to_string() }
}

fn unfit(error: &rustls::Error) -> TlsError {
    TlsError::Unfit(error.to_string())
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls(…)")
    }
}

/// A key does not go into a log.
impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}
