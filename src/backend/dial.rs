//! Connects to a server, within a deadline.

use super::dns::{DnsError, Resolver};
use crate::runtime::context;
pub use crate::runtime::driver::Keepalive;
use crate::runtime::driver::SocketAddrAny;
use crate::runtime::net::Stream;
use crate::runtime::time::timeout;
use rustix::net::SocketAddrUnix;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A name or an IP address (without brackets), and a port.
    Tcp {
        /// Name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Target::Tcp { host, port } => write!(f, "{host}:{port}"),
            Target::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No address to try.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// This process has no helper thread for names.
    #[error("the name {0} cannot be looked up: the system refused the thread for it")]
    NoResolver(String),
    /// The last of the addresses refused.
    #[error("{target}{} refused: {error}", at(*.addr))]
    Refused {
        /// As configured.
        target: Target,
        /// As resolved, for TCP.
        addr: Option<SocketAddr>,
        /// From connect(2).
        error: io::Error,
    },
    /// No address answered within the deadline.
    #[error("{0} did not take the connection in time")]
    Timeout(Target),
}

fn at(addr: Option<SocketAddr>) -> String {
    addr.map(|addr| format!(" ({addr})")).unwrap_or_default()
}

/// Connects within `deadline`, all of it: name, and each address in the order of the answer with a fair share of the
/// time that is left, so that a first address that swallows packets does not keep from the second.
///
/// # Errors
/// [`DialError`]; with several addresses, that of the last.
pub async fn dial(target: &Target, keepalive: Option<&Keepalive>, deadline: Duration) -> Result<Stream, DialError> {
    let end_ns = context::now_ns().saturating_add(u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX));
    let left = || Duration::from_nanos(end_ns.saturating_sub(context::now_ns()));
    let (host, port) = match target {
        Target::Unix(path) => {
            let addr = SocketAddrUnix::new(path.as_path()).map_err(|errno| refused(target, None, errno.into()))?;
            return match timeout(deadline, Stream::connect(addr.into())).await {
                Ok(Ok(stream)) => Ok(stream),
                Ok(Err(error)) => Err(refused(target, None, error)),
                Err(_) => Err(DialError::Timeout(target.clone())),
            };
        }
        Target::Tcp { host, port } => (host, *port),
    };
    let addresses = match super::dns::literal(host) {
        Some(ip) => vec![SocketAddr::new(ip, port)],
        None => {
            let resolver = Resolver::of_process().ok_or_else(|| DialError::NoResolver(host.clone()))?;
            resolver.resolve(host, port, deadline).await?
        }
    };
    let mut last = DialError::Timeout(target.clone());
    let mut to_try = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for addr in addresses {
        let share = left() / to_try.max(1);
        to_try = to_try.saturating_sub(1);
        if share.is_zero() {
            break;
        }
        match timeout(share, Stream::connect(SocketAddrAny::from(addr))).await {
            Ok(Ok(stream)) => {
                if let Some(keepalive) = keepalive {
                    // Without it the connection works as well; only a silent death is found later.
                    let _ = stream.set_keepalive(keepalive);
                }
                return Ok(stream);
            }
            Ok(Err(error)) => last = refused(target, Some(addr), error),
            Err(_) => last = DialError::Timeout(target.clone()),
        }
    }
    Err(last)
}

fn refused(target: &Target, addr: Option<SocketAddr>, error: io::Error) -> DialError {
    DialError::Refused {
        target: target.clone(),
        addr,
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::tests::run;
    use std::io::{Read, Write};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const PATIENCE: Duration = Duration::from_secs(20);

    fn keepalive() -> Keepalive {
        Keepalive {
            idle: Duration::from_secs(30),
            interval: Duration::from_secs(5),
            probes: 3,
            user_timeout: Duration::from_secs(15),
        }
    }

    /// Takes one connection and answers what it reads once.
    fn echo(mut taken: impl Read + Write) {
        let mut bytes = [0; 5];
        taken.read_exact(&mut bytes).unwrap();
        taken.write_all(&bytes).unwrap();
    }

    async fn talk(mut stream: Stream) {
        stream.write_all(b"hello").await.unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"hello");
    }

    #[test]
    fn tcp_by_name_and_a_unix_socket() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || echo(listener.accept().unwrap().0));
        run(async move {
            // Names may give ::1 first, which nobody listens on: the next address is tried.
            let target = Target::Tcp {
                host: "localhost".into(),
                port,
            };
            talk(dial(&target, Some(&keepalive()), PATIENCE).await.unwrap()).await;
        });
        thread.join().unwrap();

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let thread = std::thread::spawn(move || echo(listener.accept().unwrap().0));
        run(async move { talk(dial(&Target::Unix(path), None, PATIENCE).await.unwrap()).await });
        thread.join().unwrap();
    }

    #[test]
    fn errors_name_the_server() {
        run(async {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let target = Target::Tcp {
                host: "127.0.0.1".into(),
                port,
            };
            let error = dial(&target, None, PATIENCE).await.unwrap_err();
            assert!(matches!(error, DialError::Refused { .. }));
            assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
            let missing = Target::Unix("/nonexistent/.s.PGSQL.5432".into());
            let error = dial(&missing, None, PATIENCE).await.unwrap_err().to_string();
            assert!(error.contains("/nonexistent/.s.PGSQL.5432"), "{error}");
            let long = Target::Unix("x".repeat(200).into());
            assert!(dial(&long, None, PATIENCE).await.is_err());
        });
    }
}
