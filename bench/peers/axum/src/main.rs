//! The service on axum, tokio, deadpool-postgres and redis-rs: what `roadtrip-bench tiers` holds against roadtrip-api.
//!
//! Same routes, same stories (the library's gazetteer and narrator), same tables, same keys and values in Redis, same
//! order of tiers, same headers. `../README.md` says what was chosen for it and what was left out in its favour.

mod http;
mod pg;
mod service;
mod shared;
mod story;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use service::Service;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// The environment; names as the service has them, those that begin with PEER_ are this program's.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) port: u16,
    pub(crate) database_url: String,
    pub(crate) redis_url: Option<String>,
    pub(crate) redis_prefix: String,
    pub(crate) redis_timeout: Duration,
    pub(crate) cache_bytes: u64,
    pub(crate) cache_ttl: Duration,
    workers: usize,
    /// One runtime of one thread for each worker, each with its own socket, cache and connections; else one runtime
    /// of `workers` threads that share them.
    per_core: bool,
    /// Connections to PostgreSQL of each runtime.
    pub(crate) pool: usize,
    /// Stories that arrive together share a statement.
    pub(crate) batches: bool,
}

fn variable<T: FromStr>(name: &str, preset: T) -> Result<T, Failure> {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .map_err(|_| format!("{name} is not understood: {text:?}").into()),
        Err(_) => Ok(preset),
    }
}

impl Settings {
    fn read() -> Result<Settings, Failure> {
        Ok(Settings {
            port: variable("PORT", 8080)?,
            database_url: std::env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set")?,
            redis_url: std::env::var("REDIS_URL").ok(),
            redis_prefix: variable("REDIS_PREFIX", "roadtrip:v1:".to_owned())?,
            // Whole seconds; the service understands more.
            redis_timeout: match variable("REDIS_TIMEOUT", 0)? {
                0 => Duration::from_millis(roadtrip_api::limits::redis::LOOKUP_MS),
                seconds => Duration::from_secs(seconds),
            },
            cache_bytes: variable("CACHE_BYTES", 64 << 20)?,
            cache_ttl: Duration::from_secs(variable("CACHE_TTL_SECONDS", 3600)?),
            workers: variable("WORKERS", std::thread::available_parallelism().map_or(1, usize::from))?,
            per_core: variable("PEER_RUNTIME", "per-core".to_owned())? == "per-core",
            pool: variable("PEER_POOL", 20)?,
            batches: variable("PEER_BATCHES", true)?,
        })
    }
}

/// Huge pages off in the allocator, which reads that before `main`. tokio's tasks are aligned to 128 bytes; the pages that
/// mimalloc makes for them are given back and taken anew all the time, and to zero two megabytes for each was a fifth
/// of the CPU time here.
fn without_huge_pages() -> Result<(), Failure> {
    const NAME: &str = "MIMALLOC_ALLOW_THP";
    if std::env::var_os(NAME).is_some() {
        return Ok(());
    }
    let mut again = std::process::Command::new(std::env::current_exe()?);
    Err(again.args(std::env::args_os().skip(1)).env(NAME, "0").exec().into())
}

fn main() -> Result<(), Failure> {
    without_huge_pages()?;
    let settings = Settings::read()?;
    // Built once, before anybody waits for it.
    roadtrip_api::story::gazetteer::Gazetteer::embedded();
    if !settings.per_core {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(settings.workers).enable_all().build()?;
        return runtime.block_on(serve(settings));
    }
    let threads: Vec<_> = (0..settings.workers)
        .map(|_| {
            let settings = settings.clone();
            std::thread::spawn(move || {
                let mut builder = tokio::runtime::Builder::new_current_thread();
                builder.enable_all().build()?.block_on(serve(settings))
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| "a worker panicked")??;
    }
    Ok(())
}

fn listen(port: u16) -> std::io::Result<tokio::net::TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    socket.listen(1024)?;
    tokio::net::TcpListener::from_std(socket.into())
}

async fn serve(settings: Settings) -> Result<(), Failure> {
    let port = settings.port;
    let service = Service::open(settings).await?;
    let router = TowerToHyperService::new(http::router(Arc::clone(&service)));
    let listener = listen(port)?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).pipeline_flush(true);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = terminate.recv() => return Ok(()),
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let connection = builder.serve_connection(TokioIo::new(stream), router.clone());
        tokio::spawn(async move {
            let _ = connection.await;
        });
    }
}
