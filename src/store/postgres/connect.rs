//! One connection: to the first server in the list that will do, encrypted and authenticated as asked.

use super::Shared;
use super::pooler;
use super::settings::{Binding, Prepare, Session, Settings, SslMode};
use crate::backend::dial::{DialError, Target, dial};
use crate::backend::tls::{self, Tls};
use crate::runtime::context;
use crate::runtime::executor::{JoinHandle, spawn, spawn_detached};
use crate::runtime::net::Stream;
use crate::runtime::time::timeout;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{AsyncMessage, Client, Error, SimpleQueryMessage};

/// Why there is no connection to one server.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("{}", super::fault::describe(.0))]
    Server(#[from] Error),
    #[error("it did not answer in time")]
    Timeout,
    #[error(
        "it takes no writes (a standby, or default_transaction_read_only), and target_session_attrs asks for one that does"
    )]
    ReadOnly,
}

/// How a connection ended, for those who use it.
#[derive(Default)]
pub(super) struct End {
    is: Cell<bool>,
    reason: RefCell<String>,
    hook: RefCell<Option<Box<dyn FnOnce()>>>,
}

impl End {
    pub(super) fn is(&self) -> bool {
        self.is.get()
    }

    pub(super) fn reason(&self) -> String {
        self.reason.borrow().clone()
    }

    /// Called once, when it ends; at once where it has.
    pub(super) fn then(&self, hook: impl FnOnce() + 'static) {
        if self.is.get() {
            hook();
        } else {
            *self.hook.borrow_mut() = Some(Box::new(hook));
        }
    }
}

/// When the server was last heard, nanoseconds of the worker's clock.
pub(super) type Heard = Rc<Cell<u64>>;

/// An open connection. Dropping it lets what is in flight finish, says goodbye, and cuts what takes too long.
pub(super) struct Link {
    client: Option<Client>,
    pub(super) end: Rc<End>,
    task: Option<JoinHandle<()>>,
    /// Which server.
    pub(super) target: Target,
    pub(super) heard: Heard,
    /// The process that serves it there, where that is known and stays the same: none where a pooler is in between.
    pub(super) backend: Option<i32>,
}

impl Link {
    /// What statements are sent through; none while it is being dropped.
    pub(super) fn client(&self) -> Option<&Client> {
        self.client.as_ref()
    }

    /// Ends it here and now, without a word to the server: whoever waits for an answer on it gets an error. For one that
    /// is dead, or whose answers cannot be believed.
    pub(super) fn cut(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Without its client, the connection finishes what is in flight, sends Terminate, and closes.
        self.client = None;
        let Some(mut task) = self.task.take() else { return };
        if task.is_finished() || !context::is_here() {
            return;
        }
        spawn_detached("postgres-goodbye", async move {
            let most = Duration::from_millis(crate::limits::postgres::GOODBYE_MS);
            if timeout(most, &mut task).await.is_err() {
                task.abort();
            }
        });
    }
}

/// Opens a connection to the first server that will do.
///
/// # Errors
/// What each of them said, in one line.
pub(super) async fn open(shared: &Shared) -> Result<Link, String> {
    let settings = &shared.settings;
    let mut targets: Vec<&Target> = settings.hosts.iter().collect();
    if settings.shuffle {
        context::random(|rng| rng.shuffle(&mut targets));
    }
    let attempt = async |at: usize| {
        let Some(target) = targets.get(at) else {
            return Err(String::new());
        };
        let attempt = open_one(settings, shared.tls.as_ref(), target);
        let outcome = timeout(settings.connect_timeout, attempt).await;
        outcome
            .unwrap_or(Err(Refusal::Timeout))
            .map_err(|refusal| match refusal {
                // It names the server itself.
                Refusal::Dial(error) => error.to_string(),
                refusal => format!("{target}: {refusal}"),
            })
    };
    let refusals = match first_of(targets.len(), attempt).await {
        Ok(link) => return Ok(link),
        Err(refusals) => refusals,
    };
    Err(format!("PostgreSQL is not reachable: {}", refusals.join("; ")))
}

/// The first success of `attempt(0)`, `attempt(1)`, ... below `count`. The next is begun where one failed, or where
/// `NEXT_HOST_MS` went by without an outcome, so that a host that swallows packets holds a failover up for a moment and
/// not for its whole `connect_timeout`. While none has an outcome, the oldest is also tried beside itself, anew after
/// `AGAIN_MS`, twice that, and so on: what it waits for may have been lost. Those that are not needed any more are dropped.
pub(super) async fn first_of<T>(
    count: usize,
    attempt: impl AsyncFn(usize) -> Result<T, String>,
) -> Result<T, Vec<String>> {
    use crate::limits::postgres::{AGAIN_MS, NEXT_HOST_MS};
    struct Attempt<F> {
        at: usize,
        is_beside: bool,
        future: Pin<Box<F>>,
    }
    let begin = |at: usize, is_beside: bool| Attempt {
        at,
        is_beside,
        future: Box::pin(attempt(at)),
    };
    let (mut under_way, mut refusals, mut next, mut again_ms) = (Vec::new(), Vec::new(), 0, AGAIN_MS);
    loop {
        if next < count {
            under_way.push(begin(next, false));
            next += 1;
        }
        let Some(oldest) = under_way.iter().find(|one| !one.is_beside).map(|one| one.at) else {
            return Err(refusals);
        };
        let outcome = poll_fn(|cx| {
            for at in 0..under_way.len() {
                let polled = under_way.get_mut(at).map(|one| one.future.as_mut().poll(cx));
                if let Some(Poll::Ready(outcome)) = polled {
                    drop(under_way.remove(at));
                    return Poll::Ready(outcome);
                }
            }
            Poll::Pending
        });
        let most = if next < count { NEXT_HOST_MS } else { again_ms };
        // A quarter more or less, so that workers who began together do not go on together.
        let pause = context::random(|rng| rng.u64(most - most / 4..=most + most / 4));
        match timeout(Duration::from_millis(pause), outcome).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(refusal)) if refusals.contains(&refusal) => {}
            Ok(Err(refusal)) => refusals.push(refusal),
            Err(_) if next < count => {}
            Err(_) => {
                again_ms = again_ms.saturating_mul(2);
                under_way.retain(|one| !one.is_beside);
                under_way.push(begin(oldest, true));
            }
        }
    }
}

async fn open_one(settings: &Settings, tls: Option<&Tls>, target: &Target) -> Result<Link, Refusal> {
    let stream = dial(target, settings.keepalive.as_ref(), settings.connect_timeout).await?;
    let mut config = tokio_postgres::Config::new();
    config.user(&settings.user).dbname(&settings.database);
    config.application_name(&settings.application_name);
    if let Some(password) = &settings.password {
        config.password(password.expose());
    }
    if let Some(options) = &settings.options {
        config.options(options);
    }
    config.channel_binding(match settings.binding {
        Binding::Disable => tokio_postgres::config::ChannelBinding::Disable,
        Binding::Prefer => tokio_postgres::config::ChannelBinding::Prefer,
        Binding::Require => tokio_postgres::config::ChannelBinding::Require,
    });
    let (host, encrypted) = match target {
        Target::Tcp { host, .. } => (host.clone(), settings.ssl),
        // As in libpq: what does not leave the machine is not encrypted.
        Target::Unix(_) => (String::new(), SslMode::Disable),
    };
    config.ssl_mode(match encrypted {
        SslMode::Disable => tokio_postgres::config::SslMode::Disable,
        SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
        SslMode::Require => tokio_postgres::config::SslMode::Require,
    });
    let encrypt = Encrypt {
        tls: tls.cloned(),
        host,
    };
    let heard: Heard = Rc::new(Cell::new(context::now_ns()));
    let greeting = Rc::new(Cell::new(crate::limits::postgres::GREETING_BYTES_MAX));
    let stream = Listening {
        stream,
        heard: Rc::clone(&heard),
        left: Rc::clone(&greeting),
    };
    let (client, mut connection) = config.connect_raw(stream, encrypt).await?;
    let end = Rc::new(End::default());
    let ending = Ending(Rc::clone(&end));
    let task = spawn("postgres", async move {
        let outcome = poll_fn(|cx| {
            loop {
                match ready!(connection.poll_message(cx)) {
                    Some(Ok(AsyncMessage::Notice(notice))) => {
                        tracing::debug!(notice = notice.message(), "PostgreSQL says");
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Poll::Ready(Some(error)),
                    None => return Poll::Ready(None),
                }
            }
        })
        .await;
        *ending.0.reason.borrow_mut() = outcome.map_or_else(String::new, |error| super::fault::describe(&error));
        drop(ending);
    });
    let mut link = Link {
        client: Some(client),
        end,
        task: Some(task),
        target: target.clone(),
        heard,
        backend: None,
    };
    link.backend = set_up(settings, &link).await?;
    greeting.set(u64::MAX);
    Ok(link)
}

/// Marks the end however the task ends: by itself, aborted, or with its runtime.
struct Ending(Rc<End>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.is.set(true);
        let hook = self.0.hook.borrow_mut().take();
        if let Some(hook) = hook {
            hook();
        }
    }
}

/// Asks, in one round trip, whether the server takes writes and whether a pooler is in between; where none is, sets the
/// session up:
///
/// * time limits, so that the server does not work on for who has given up;
/// * one plan for each statement. Every statement of the story path has one index that serves it whatever its parameters
///   (see [`super::statements`]), and planning a page anew takes the server longer than reading it. The plan is made
///   when a statement is first used, which may be while the table is empty, and must not be to read it from end to end.
async fn set_up(settings: &Settings, link: &Link) -> Result<Option<i32>, Refusal> {
    const READ_ONLY: &str = "pg_is_in_recovery() OR current_setting('transaction_read_only')::bool";
    const SETTINGS: [(&str, &str); 3] = [
        ("plan_cache_mode", "force_generic_plan"),
        ("enable_seqscan", "off"),
        ("enable_bitmapscan", "off"),
    ];
    let Some(client) = link.client() else { return Ok(None) };
    // With `off` the operator says that the session is not ours.
    let pid = match settings.prepare {
        Prepare::Off => None,
        Prepare::On | Prepare::Auto => pooler::told_pid(client).await,
    };
    let ours = pid.map_or_else(|| "false".to_owned(), |pid| format!("pg_backend_pid() = {pid}"));
    let ms = crate::limits::postgres::STATEMENT_MS.to_string();
    let times = ["statement_timeout", "lock_timeout"].map(|name| (name, ms.as_str()));
    let set = times
        .iter()
        .chain(&SETTINGS)
        .map(|(name, value)| format!("set_config('{name}', '{value}', false)"));
    let set: Vec<String> = set.collect();
    let text = format!(
        "SELECT {READ_ONLY}, {ours}, CASE WHEN {ours} THEN concat({}) END",
        set.join(", ")
    );
    let (mut read_only, mut is_ours) = (false, false);
    for message in &client.simple_query(&text).await? {
        if let SimpleQueryMessage::Row(row) = message {
            read_only = row.get(0) == Some("t");
            is_ours = row.get(1) == Some("t");
        }
    }
    if read_only && settings.session == Session::ReadWrite {
        return Err(Refusal::ReadOnly);
    }
    Ok(pid.filter(|_| is_ours))
}

/// A stream that notes when something was received, and takes so many bytes at most: tokio-postgres keeps whatever
/// comes until a message is whole, and the first four bytes of what is no PostgreSQL may announce two gigabytes.
struct Listening {
    stream: Stream,
    heard: Heard,
    left: Rc<Cell<u64>>,
}

impl AsyncRead for Listening {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let outcome = ready!(Pin::new(&mut self.stream).poll_read(cx, out));
        self.heard.set(context::now_ns());
        let bytes = out.filled().len().saturating_sub(before) as u64;
        Poll::Ready(match self.left.get().checked_sub(bytes) {
            Some(left) => {
                self.left.set(left);
                outcome
            }
            None => Err(io::Error::other("what answers there sends more than a greeting")),
        })
    }
}

impl AsyncWrite for Listening {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The step from a connected stream to an encrypted one, as tokio-postgres asks for it.
struct Encrypt {
    tls: Option<Tls>,
    host: String,
}

impl TlsConnect<Listening> for Encrypt {
    type Stream = Encrypted;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted>>>>;

    fn connect(self, stream: Listening) -> Self::Future {
        Box::pin(async move {
            let Some(tls) = &self.tls else {
                return Err(io::Error::other("TLS is not set up"));
            };
            Ok(Encrypted(tls.connect(&self.host, stream).await?))
        })
    }
}

/// An encrypted stream that knows its channel binding.
struct Encrypted(tls::TlsStream<Listening>);

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        match tls::server_end_point(&self.0) {
            Some(data) => ChannelBinding::tls_server_end_point(data),
            None => ChannelBinding::none(),
        }
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, out)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
