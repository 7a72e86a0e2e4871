//! Certificates and keys: from files to what a TLS server needs, and what to say where that fails.
//!
//! Called by `supervisor`, at boot and at each SIGHUP, and by the `check` command; `server::tls` speaks with the result.
//! One certificate, one key and, where clients must show one too, the authorities that theirs may come from. Reads files,
//! so never on a worker. Deliberately absent: SNI with several certificates, OCSP stapling, revocation lists, keys in
//! hardware, and early data (0-RTT), which a peer could replay.

mod certificate;
mod load;
mod probe;
#[cfg(test)]
mod tests;

pub use certificate::Facts;
pub use load::{Loaded, TlsError, load};
pub use probe::probe;

use std::path::PathBuf;

/// Which files, and what is asked of clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, PEM; the server's own comes first.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Authorities, PEM: a client must show a certificate of one of them. None: clients show nothing.
    pub client_ca: Option<PathBuf>,
    /// The least version.
    pub min_version: MinVersion,
}

/// The least version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}
