//! A TLS client for a probe of this very machine.

use crate::backend::tls::Anyone;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// TLS over `stream` with whoever answers there: the server's certificate is not checked, since it names the service
/// and not this machine's loopback, and since nothing secret is said. For `healthcheck` only.
///
/// # Errors
/// When rustls cannot be set up; errors of the handshake come with the first write or read.
pub fn probe<S: io::Read + io::Write>(stream: S) -> io::Result<StreamOwned<ClientConnection, S>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone::new(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connection = ClientConnection::new(Arc::new(config), ServerName::from(IpAddr::from(Ipv4Addr::LOCALHOST)))
        .map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, stream))
}
