//! Files -> [`Loaded`].

use super::{Facts, MinVersion, TlsFiles};
use crate::limits;
use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{InconsistentKeys, RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is spoken on a connection, by its name (RFC 7301), the one liked best first. `http/1.0` is what old clients, and
/// `curl --http1.0`, ask for.
const PROTOCOLS: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];

/// Why there can be no TLS: what is wrong, the likely cause, the remedy.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{variable}: cannot read {path}: {error}.\n{hint}", path = path.display())]
    Unreadable {
        /// The variable that names it.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
        /// Cause and remedy.
        hint: &'static str,
    },
    /// A file does not hold what it should.
    #[error("{variable}: {path} holds no {what}.\nCause: {cause}.\nRemedy: {remedy}.", path = path.display())]
    Missing {
        /// The variable that names it.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// Why, as far as one can see.
        cause: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A certificate that rustls does not take.
    #[error(
        "{variable}: {path}: certificate {number} cannot be used: {problem}.\nCause: the file is damaged, or not an X.509 certificate of version 3.\nRemedy: look at it with `openssl x509 -in {path} -noout -text`, and have it issued anew.",
        path = path.display()
    )]
    Certificate {
        /// The variable that names the file.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// Which of those in the file, from 1.
        number: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A key of a kind that cannot be used.
    #[error(
        "TLS_KEY: {path}: this key cannot be used: {problem}.\nCause: it is damaged, or neither RSA (2048 bits or more), ECDSA (P-256 or P-384) nor Ed25519.\nRemedy: make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`, and have a certificate issued for it.",
        path = path.display()
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The key is another certificate's.
    #[error(
        "TLS_KEY: the key in {key} is not that of the first certificate in {cert}.\nCause: one of the two was replaced without the other, or the server's own certificate does not come first in the chain.\nRemedy: put both from one issue, the server's certificate first and those of its issuers behind it.",
        key = key.display(), cert = cert.display()
    )]
    Mismatch {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        cert: PathBuf,
    },
    /// rustls refuses for a reason of its own.
    #[error(
        "TLS cannot be set up: {0}.\nCause: see the words above.\nRemedy: check TLS_CERT, TLS_KEY and TLS_CLIENT_CA."
    )]
    Other(String),
}

/// A certificate that is served, ready for connections.
#[derive(Clone)]
pub struct Loaded {
    /// What connections are made with; shared by all workers.
    pub settings: Arc<ServerConfig>,
    /// The server's own certificate.
    pub facts: Facts,
    /// What the operator should hear.
    pub warnings: Vec<String>,
    /// The file of client authorities, as read: tickets are for those who were let in under it.
    client_ca: Vec<u8>,
    ticketer: Arc<dyn ProducesTickets>,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded")
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

/// Reads and checks the files. Sessions of `former` can be resumed, unless the client authorities are others: who was
/// let in by those must show that the new ones let it in. Blocks.
///
/// # Errors
/// [`TlsError`], with cause and remedy.
pub fn load(files: &TlsFiles, former: Option<&Loaded>) -> Result<Loaded, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut warnings = Vec::new();
    let pem = read("TLS_CERT", &files.cert)?;
    let chain = certificates("TLS_CERT", &files.cert, &pem)?;
    let facts = dates(&files.cert, &chain, &mut warnings)?;
    let key = private_key(&files.key, &mut warnings)?;
    let certified = certified(files, chain, key, &provider)?;

    let versions: &[&SupportedProtocolVersion] = match files.min_version {
        MinVersion::Tls12 => &[&version::TLS13, &version::TLS12],
        MinVersion::Tls13 => &[&version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(other)?;
    let (builder, client_ca) = match &files.client_ca {
        None => (builder.with_no_client_auth(), Vec::new()),
        Some(path) => {
            let pem = read("TLS_CLIENT_CA", path)?;
            let mut roots = RootCertStore::empty();
            for (at, authority) in certificates("TLS_CLIENT_CA", path, &pem)?.into_iter().enumerate() {
                roots.add(authority).map_err(|error| TlsError::Certificate {
                    variable: "TLS_CLIENT_CA",
                    path: path.clone(),
                    number: at + 1,
                    problem: error.to_string(),
                })?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| TlsError::Other(error.to_string()))?;
            (builder.with_client_cert_verifier(verifier), pem)
        }
    };
    let ticketer = match former.filter(|former| former.client_ca == client_ca) {
        Some(former) => Arc::clone(&former.ticketer),
        None => rustls::crypto::ring::Ticketer::new().map_err(other)?,
    };
    let mut settings = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    settings.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
    // Tickets, which any worker can read, in place of a list of sessions that all workers would lock.
    settings.session_storage = Arc::new(NoServerSessionStorage {});
    settings.ticketer = Arc::clone(&ticketer);
    // No early data: a peer could send it again.
    settings.max_early_data_size = 0;
    Ok(Loaded {
        settings: Arc::new(settings),
        facts,
        warnings,
        client_ca,
        ticketer,
    })
}

fn other(error: rustls::Error) -> TlsError {
    TlsError::Other(error.to_string())
}

fn read(variable: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |error: io::Error| TlsError::Unreadable {
        variable,
        path: path.to_owned(),
        hint: match error.kind() {
            io::ErrorKind::NotFound => {
                "Cause: there is no such file.\nRemedy: correct the path, or mount the secret that it stands in."
            }
            io::ErrorKind::PermissionDenied => {
                "Cause: this user may not read it.\nRemedy: make it readable for the user that the server runs as, and nobody else."
            }
            io::ErrorKind::IsADirectory => {
                "Cause: it is a folder, or another thing that is no file.\nRemedy: name the file in it (tls.crt and tls.key in a Kubernetes secret)."
            }
            io::ErrorKind::FileTooLarge => {
                "Cause: it is larger than 1 MiB, and so no PEM file of a certificate.\nRemedy: correct the path."
            }
            _ => "Cause: see the error above.\nRemedy: check the path and the file.",
        },
        error,
    };
    // Looked at before it is opened: a pipe would be waited for.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unreadable(io::ErrorKind::IsADirectory.into()));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(limits::tls::FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > limits::tls::FILE_BYTES_MAX {
        return Err(unreadable(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(bytes)
}

/// All certificates of a file, at least one.
fn certificates(variable: &'static str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let missing = |cause: String| TlsError::Missing {
        variable,
        path: path.to_owned(),
        what: "certificate",
        cause,
        remedy: "give it the certificate in PEM, which has lines `-----BEGIN CERTIFICATE-----`; from DER by `openssl x509 -inform der`",
    };
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, pem::Error>>()
        .map_err(|error| missing(format!("its PEM cannot be read ({error})")))?;
    if chain.is_empty() {
        return Err(missing(found_instead(pem)));
    }
    Ok(chain)
}

/// What stands in a file that was to hold something else.
fn found_instead(pem: &[u8]) -> String {
    let mut kinds: Vec<&str> = Vec::new();
    for (kind, _) in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem).flatten() {
        let name = match kind {
            SectionKind::Certificate => "a certificate",
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => "a private key",
            SectionKind::PublicKey => "a public key",
            SectionKind::Csr => "a request for a certificate",
            _ => "something else",
        };
        if !kinds.contains(&name) {
            kinds.push(name);
        }
    }
    let text = String::from_utf8_lossy(pem);
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        "it holds a private key under a passphrase, and nobody is there to type that".to_owned()
    } else if !kinds.is_empty() {
        format!("it holds {}", kinds.join(" and "))
    } else if pem.is_empty() {
        "it is empty".to_owned()
    } else {
        "it is not PEM".to_owned()
    }
}

/// What the server's own certificate says, and warnings about the dates of all.
fn dates(path: &Path, chain: &[CertificateDer<'_>], warnings: &mut Vec<String>) -> Result<Facts, TlsError> {
    let now = Timestamp::now();
    let mut own = None;
    for (at, der) in chain.iter().enumerate() {
        let facts = Facts::of(der).ok_or_else(|| TlsError::Certificate {
            variable: "TLS_CERT",
            path: path.to_owned(),
            number: at + 1,
            problem: "it cannot be read".to_owned(),
        })?;
        let (subject, from, to) = (&facts.subject, facts.not_before, facts.not_after);
        let place = format!("TLS_CERT: certificate {} in {} ({subject})", at + 1, path.display());
        if now > to {
            warnings.push(format!("{place} has expired on {to}: clients will refuse it; renew it"));
        } else if now < from {
            warnings.push(format!(
                "{place} is not valid before {from}: clients will refuse it until then; check this machine's clock, or wait"
            ));
        }
        own.get_or_insert(facts);
    }
    own.ok_or_else(|| TlsError::Other("an empty chain".to_owned()))
}

fn private_key(path: &Path, warnings: &mut Vec<String>) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = read("TLS_KEY", path)?;
    if std::fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o004 != 0) {
        warnings.push(format!(
            "TLS_KEY: every user of this machine can read {}: `chmod o-r` it (in Kubernetes, `defaultMode: 0400` of the secret's volume)",
            path.display()
        ));
    }
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| TlsError::Missing {
        variable: "TLS_KEY",
        path: path.to_owned(),
        what: "private key",
        cause: match error {
            pem::Error::NoItemsFound => found_instead(&pem),
            error => format!("its PEM cannot be read ({error})"),
        },
        remedy: "give it the key in PEM without a passphrase (`openssl pkey` takes one off)",
    })
}

fn certified(
    files: &TlsFiles,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| TlsError::Key {
            path: files.key.clone(),
            problem: error.to_string(),
        })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // Some kinds of key cannot tell their public half.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::Mismatch {
            key: files.key.clone(),
            cert: files.cert.clone(),
        }),
        Err(error) => Err(TlsError::Certificate {
            variable: "TLS_CERT",
            path: files.cert.clone(),
            number: 1,
            problem: error.to_string(),
        }),
    }
}
