//! TLS towards a server: rustls over any `AsyncRead + AsyncWrite`, as `AsyncRead + AsyncWrite`.
//!
//! The protocol is rustls with ring; `tokio-rustls` joins it to the traits and asks nothing of tokio's runtime.
//!
//! Roots come from a PEM file that the operator names, else from the system (`rustls-native-certs`: the files that
//! OpenSSL would read, SSL_CERT_FILE and SSL_CERT_DIR included). A list compiled into the binary (webpki-roots) would
//! work in an image without files, and was not taken: it ages with the binary, knows nothing of the CA of a company or
//! of a cloud's database service, and could not be taken out of trust by who runs the machine. An image that has no
//! certificates (scratch) mounts a file; the error says so.
//!
//! Differences from OpenSSL that an operator may meet: names are looked for in subjectAltName only, never in the common
//! name; certificates of version 1 and signatures by SHA-1 are refused; TLS 1.2 is the oldest.

mod binding;
mod verify;

pub use binding::server_end_point;
pub use tokio_rustls::client::TlsStream;
pub(crate) use verify::Anyone;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

/// How much of the server's certificate is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Encrypted, with whoever answers: no protection against somebody in the middle.
    Nothing,
    /// Signed by a trusted CA, whatever name it is for.
    Ca,
    /// Signed by a trusted CA for the name that was dialled.
    Full,
}

/// What the connection string asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// How much is verified.
    pub verify: Verify,
    /// PEM file of trusted CAs; none: the system's.
    pub roots: Option<PathBuf>,
    /// PEM files of this client's certificate (chain) and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Refuse TLS 1.2.
    pub only_tls13: bool,
}

/// Why TLS cannot be set up: a matter of files, found at boot.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds nothing of the kind.
    #[error("{what} in {}: {reason}", path.display())]
    File {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system trusts nobody.
    #[error(
        "the server's certificate is to be verified, but this system has no trusted certificates: name a PEM file of the CA in the connection string, or mount one and set SSL_CERT_FILE"
    )]
    NoRoots,
    /// rustls refuses what the files hold.
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Ready to encrypt connections. Cheap to clone; sessions are resumed between clones.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads the files: it blocks, so call it at boot.
    ///
    /// # Errors
    /// [`TlsError`] names the file.
    pub fn new(settings: &TlsSettings) -> Result<Tls, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions: &[_] = if settings.only_tls13 {
            &[&rustls::version::TLS13]
        } else {
            rustls::DEFAULT_VERSIONS
        };
        let verifier = verifier(settings, &provider)?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match &settings.identity {
            None => config.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = certificates("a client certificate", chain)?;
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| in_file("an unencrypted private key", key, error))?;
                config.with_client_auth_cert(chain, key)?
            }
        };
        Ok(Tls(Arc::new(config)))
    }

    /// Shakes hands over a connected stream. `host` is the name or address that was dialled. The caller bounds the time.
    ///
    /// # Errors
    /// Those of the stream; InvalidData, with rustls's words, where the server is not to be believed.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(&self, host: &str, stream: S) -> io::Result<TlsStream<S>> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{host} is no name for TLS")))?;
        tokio_rustls::TlsConnector::from(Arc::clone(&self.0))
            .connect(name, stream)
            .await
    }
}

fn verifier(settings: &TlsSettings, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    if settings.verify == Verify::Nothing {
        return Ok(Arc::new(Anyone::new(Arc::clone(provider))));
    }
    let mut roots = RootCertStore::empty();
    match &settings.roots {
        Some(path) => {
            let certificates = certificates("a CA certificate", path)?;
            let (added, _) = roots.add_parsable_certificates(certificates);
            if added == 0 {
                return Err(TlsError::File {
                    what: "no usable CA certificate",
                    path: path.clone(),
                    reason: "none can be parsed".to_owned(),
                });
            }
        }
        None => {
            let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if added == 0 {
                return Err(TlsError::NoRoots);
            }
        }
    }
    let full = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| TlsError::Rustls(rustls::Error::General(error.to_string())))?;
    Ok(match settings.verify {
        Verify::Ca => Arc::new(verify::AnyName(full)),
        _ => full,
    })
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    match read() {
        Ok(certificates) if certificates.is_empty() => Err(TlsError::File {
            what,
            path: path.to_owned(),
            reason: "the file holds none".to_owned(),
        }),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(in_file(what, path, error)),
    }
}

fn in_file(what: &'static str, path: &Path, error: rustls::pki_types::pem::Error) -> TlsError {
    TlsError::File {
        what,
        path: path.to_owned(),
        reason: match error {
            rustls::pki_types::pem::Error::NoItemsFound => "the file holds none".to_owned(),
            other => other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests;
