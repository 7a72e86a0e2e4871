//! Names to addresses, off the workers.
//!
//! getaddrinfo(3) is what operators expect to be asked (it reads /etc/hosts, search domains and nsswitch.conf), and it
//! blocks for as long as a name server is silent. So it runs on two helper threads of the process, behind a bounded
//! queue; a worker waits with a deadline. Two, so that one dead name does not hold up the lookup of another. Nothing is
//! remembered: each reconnect asks anew, since a failover is often nothing but a changed record.

use crate::limits::backend as limits;
use crate::runtime::time::timeout;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// How a name is looked up; getaddrinfo but for tests.
type Lookup = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

struct Question {
    host: String,
    port: u16,
    answer: oneshot::Sender<io::Result<Vec<SocketAddr>>>,
}

/// Why a name has no address now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// The resolver's own words.
    #[error("the name {host} has no address: {reason}")]
    NotFound {
        /// The name.
        host: String,
        /// What getaddrinfo said.
        reason: String,
    },
    /// No answer within the deadline.
    #[error("the name server gave no address of {0} in time")]
    Timeout(String),
    /// Too many lookups wait already.
    #[error("too many name lookups wait already; that of {0} was not begun")]
    Overloaded(String),
}

/// Asks for addresses. Cheap to clone; the helper threads end with the last clone.
#[derive(Clone)]
pub struct Resolver {
    questions: SyncSender<Question>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl Resolver {
    /// The one of this process, started when first asked for; none where the system refuses the threads.
    pub fn of_process() -> Option<&'static Resolver> {
        static RESOLVER: OnceLock<Option<Resolver>> = OnceLock::new();
        RESOLVER
            .get_or_init(|| {
                let started = Resolver::start(limits::DNS_THREADS, limits::DNS_QUEUE_MAX, |host, port| {
                    (host, port).to_socket_addrs().map(Iterator::collect)
                });
                started
                    .inspect_err(|error| tracing::error!(%error, "no thread for name lookups; only IP addresses work"))
                    .ok()
            })
            .as_ref()
    }

    /// With these threads and this many questions waiting at most.
    ///
    /// # Errors
    /// When not even one thread can be started.
    pub fn start(
        threads: usize,
        queue: usize,
        lookup: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> io::Result<Resolver> {
        let (questions, waiting) = sync_channel(queue);
        let waiting = Arc::new(Mutex::new(waiting));
        let lookup: Arc<Lookup> = Arc::new(lookup);
        let mut started = 0;
        for number in 0..threads.max(1) {
            let (waiting, lookup) = (Arc::clone(&waiting), Arc::clone(&lookup));
            let thread = std::thread::Builder::new()
                .name(format!("dns-{number}"))
                .spawn(move || answer_all(&waiting, &*lookup));
            match thread {
                Ok(_) => started += 1,
                Err(error) if started == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(Resolver { questions })
    }

    /// The addresses of `host`, in the order to try them; an IP address (with or without brackets) is its own.
    ///
    /// # Errors
    /// [`DnsError`]; after a timeout the answer that comes later is let go.
    pub async fn resolve(&self, host: &str, port: u16, deadline: Duration) -> Result<Vec<SocketAddr>, DnsError> {
        if let Some(ip) = literal(host) {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let (answer, waiting) = oneshot::channel();
        let question = Question {
            host: host.to_owned(),
            port,
            answer,
        };
        let not_found = |reason: String| DnsError::NotFound {
            host: host.to_owned(),
            reason,
        };
        match self.questions.try_send(question) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(DnsError::Overloaded(host.to_owned())),
            Err(TrySendError::Disconnected(_)) => return Err(not_found("the resolver has ended".to_owned())),
        }
        match timeout(deadline, waiting).await {
            Err(_) => Err(DnsError::Timeout(host.to_owned())),
            Ok(Err(_)) => Err(not_found("the resolver failed".to_owned())),
            Ok(Ok(Err(error))) => Err(not_found(error.to_string())),
            Ok(Ok(Ok(addresses))) if addresses.is_empty() => Err(not_found("no address".to_owned())),
            Ok(Ok(Ok(addresses))) => Ok(addresses),
        }
    }
}

/// A host that is an IP address already.
pub fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

fn answer_all(waiting: &Mutex<Receiver<Question>>, lookup: &Lookup) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(question) = next else { return };
        // Nobody waits any more: an outage must not keep the threads busy with questions of long ago.
        if question.answer.is_closed() {
            continue;
        }
        let _ = question.answer.send(lookup(&question.host, question.port));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::tests::run;
    use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn names_and_addresses() {
        run(async {
            let resolver = Resolver::of_process().unwrap();
            let localhost = resolver.resolve("localhost", 5432, PATIENCE).await.unwrap();
            assert!(
                localhost
                    .iter()
                    .all(|addr| addr.ip().is_loopback() && addr.port() == 5432)
            );
            for (host, addr) in [("127.0.0.1", "127.0.0.1:1"), ("::1", "[::1]:1"), ("[::1]", "[::1]:1")] {
                let found = resolver.resolve(host, 1, PATIENCE).await.unwrap();
                assert_eq!(found, [addr.parse().unwrap()]);
            }
            let nobody = resolver.resolve("no-such-name.invalid", 1, PATIENCE).await;
            assert!(
                matches!(nobody, Err(DnsError::NotFound { .. } | DnsError::Timeout(_))),
                "{nobody:?}"
            );
        });
    }

    #[test]
    fn each_question_is_asked_anew_and_a_silent_name_server_costs_the_deadline_only() {
        let asked = Arc::new(AtomicU16::new(0));
        let silent = Arc::new(AtomicBool::new(false));
        let (count, hang) = (Arc::clone(&asked), Arc::clone(&silent));
        let resolver = Resolver::start(1, 1, move |_, port| {
            while hang.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            let turn = count.fetch_add(1, Ordering::Relaxed);
            Ok(vec![SocketAddr::from(([10, 0, 0, turn as u8], port))])
        })
        .unwrap();
        run(async move {
            let first = resolver.resolve("db", 1, PATIENCE).await.unwrap();
            let second = resolver.resolve("db", 1, PATIENCE).await.unwrap();
            assert_ne!(first, second, "the answer was remembered");

            silent.store(true, Ordering::Relaxed);
            let short = Duration::from_millis(20);
            assert_eq!(
                resolver.resolve("db", 1, short).await,
                Err(DnsError::Timeout("db".into()))
            );
            // One hangs in the thread, one waits in the queue; the next is refused at once.
            let mut refused = false;
            for _ in 0..3 {
                refused |= resolver.resolve("db", 1, short).await == Err(DnsError::Overloaded("db".into()));
            }
            assert!(refused, "the queue has no bound");
            silent.store(false, Ordering::Relaxed);
            // What nobody waits for any more is skipped, and it goes on.
            let mut again = resolver.resolve("db", 1, PATIENCE).await;
            while again == Err(DnsError::Overloaded("db".into())) {
                crate::runtime::time::sleep(Duration::from_millis(5)).await;
                again = resolver.resolve("db", 1, PATIENCE).await;
            }
            again.unwrap();
        });
    }
}
