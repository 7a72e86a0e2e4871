//! TLS under a connection: the same HTTP, sealed.
//!
//! `begin` calls [`greet`] for connections of a port that speaks TLS; [`TlsTransport`] is what `connection` and `http2`
//! then see. The protocol is rustls', without buffers of its own, so that an idle connection holds keys and nothing
//! else. Certificates and settings come from `crate::tls` by way of [`Server::set_tls`](super::Server::set_tls).
//! Deliberately absent: early data (0-RTT), renegotiation, and keys in the kernel (kTLS).

mod greet;
mod session;
mod transport;

pub(super) use greet::greet;
#[cfg(test)]
pub(super) use transport::{PANICKED, TlsTransport};
