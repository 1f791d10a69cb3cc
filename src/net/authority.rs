//! An authority of one's own, for tests and for clusters that have no other: certificates by which members and clients
//! know each other.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use std::sync::Arc;

/// Who gives out certificates.
pub struct Authority {
    certificate: String,
    key: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate. Anybody may know it.
    pub certificate: String,
    /// The key. Nobody else may.
    pub key: String,
}

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AuthorityError(String);

const NAME: &str = "Coterie authority";

impl Authority {
    /// A new one.
    pub fn new() -> Result<Self, AuthorityError> {
        let key = KeyPair::generate().map_err(complain)?;
        let params = params()?;
        let certificate = params.self_signed(&key).map_err(complain)?.pem();
        Ok(Self { certificate, key: key.serialize_pem(), issuer: Issuer::new(params, key) })
    }

    /// One that was made before, with what it has given out as [`Authority::certificate`] and [`Authority::key`].
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, AuthorityError> {
        let pair = KeyPair::from_pem(key).map_err(complain)?;
        let issuer = Issuer::new(params()?, pair);
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), issuer })
    }

    /// What everybody must have who is to believe its certificates.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// What makes it an authority. Who has it can let anybody in.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// A certificate for one who is found under these names: hosts, or addresses of theirs. A client needs none of them.
    pub fn issue(&self, names: &[String]) -> Result<Issued, AuthorityError> {
        // As who dials will read them.
        if let Some(wrong) = names.iter().find(|name| ServerName::try_from(name.as_str()).is_err()) {
            return Err(AuthorityError(format!("{wrong:?} is neither the name of a host nor an address")));
        }
        let key = KeyPair::generate().map_err(complain)?;
        let mut params = CertificateParams::new(names.to_vec()).map_err(complain)?;
        let name = names.first().map_or("a client", String::as_str);
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).map_err(complain)?;
        self.vouch(certificate.der())?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Whether the other ends will believe it: the files of two authorities may have got mixed up.
    fn vouch(&self, certificate: &CertificateDer<'_>) -> Result<(), AuthorityError> {
        let unrelated = |why: &dyn std::fmt::Display| {
            AuthorityError(format!("the authority's certificate and its key are no pair of ours: {why}"))
        };
        let root = CertificateDer::from_pem_slice(self.certificate.as_bytes());
        let mut roots = RootCertStore::empty();
        roots.add(root.map_err(|error| unrelated(&error))?).map_err(|error| unrelated(&error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let verifier = verifier.map_err(|error| unrelated(&error))?;
        let verified = verifier.verify_client_cert(certificate, &[], UnixTime::now());
        verified.map(drop).map_err(|error| unrelated(&error))
    }
}

/// The same each time, so that an authority can go on from its key alone.
fn params() -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::new(Vec::new()).map_err(complain)?;
    params.distinguished_name.push(DnType::CommonName, NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err hands over")]
fn complain(error: rcgen::Error) -> AuthorityError {
    AuthorityError(error.to_string())
}

/// Keys do not go into a log.
impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}
