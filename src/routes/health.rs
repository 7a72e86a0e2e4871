//! /health/v2: liveness, readiness, status, the worker, and the graceful end; all from what `checks` found last.

use super::checks::Dependency;
use super::dress::NO_STORE;
use super::journal;
use super::problem::Problem;
use super::process::Lifecycle;
use super::{Call, JSON, Worker};
use crate::http::negotiate::MediaType;
use crate::http::{FieldName, Status, field};
use crate::resilience::memory::Level;
use crate::runtime::context;
use crate::server::{Outbox, Outcome, Request};
use crate::story::gazetteer::Gazetteer;
use serde::Serialize;

pub(super) fn live(call: &Call<'_>, request: &Request<'_>, outbox: Outbox<'_>) -> Outcome {
    let worker = call.worker;
    let stuck = worker.process.stuck();
    let status = if stuck.is_empty() {
        Status::OK
    } else {
        Status::SERVICE_UNAVAILABLE
    };
    call.write_probe(outbox, status, |out| {
        let word: &[u8] = if stuck.is_empty() { b"alive" } else { b"stuck" };
        out.extend_from_slice(b"{\"status\":\"");
        out.extend_from_slice(word);
        out.extend_from_slice(b"\",\"worker_id\":\"");
        out.extend_from_slice(worker.id.as_bytes());
        out.extend_from_slice(b"\",\"timestamp\":\"");
        worker.checks.timestamp(out, request.unix_ns);
        out.extend_from_slice(b"\"");
        if let Some(first) = stuck.first() {
            let detail = format!(
                ",\"stuck\":{{\"worker\":{},\"task\":\"{}\",\"seconds\":{}}}",
                first.worker, first.task, first.seconds
            );
            out.extend_from_slice(detail.as_bytes());
        }
        out.push(b'}');
    })
}

#[derive(Serialize)]
struct Check<'c> {
    ok: bool,
    kind: &'c str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'c str>,
}

pub(super) fn ready(call: &Call<'_>, outbox: Outbox<'_>) -> Outcome {
    #[derive(Serialize)]
    struct Ready<'c> {
        ready: bool,
        status: &'c str,
        worker_id: &'c str,
        checks: ReadyChecks<'c>,
    }
    #[derive(Serialize)]
    struct ReadyChecks<'c> {
        worker: Check<'c>,
        database: Check<'c>,
        redis: Check<'c>,
    }
    let worker = call.worker;
    let lifecycle = worker.process.lifecycle();
    let answers = worker.checks.store.is_up();
    // With the database away the journal keeps stories: the pod serves on.
    let store_up = answers || journal::takes_over(worker);
    let reason = worker.checks.store.reason.borrow();
    let redis = worker.service.redis().map(|_| &worker.checks.redis);
    let redis_reason = redis.map(|redis| redis.reason.borrow());
    // Without Redis a pod is slower and as right: it stays ready.
    let redis_up = redis.is_none_or(Dependency::is_up);
    let stuck = worker.process.stuck();
    let is_short = worker.process.memory.level() == Level::Hard;
    let (ready, word) = match lifecycle {
        Lifecycle::Draining => (false, "shutdown"),
        Lifecycle::Serving if store_up && stuck.is_empty() && !is_short => (true, "ready"),
        Lifecycle::Serving | Lifecycle::Starting => (false, "not_ready"),
    };
    let worker_reason = match lifecycle {
        Lifecycle::Starting => Some("starting"),
        Lifecycle::Serving if !stuck.is_empty() => Some("a worker is stuck"),
        Lifecycle::Serving if is_short => Some("memory is short"),
        Lifecycle::Serving => None,
        Lifecycle::Draining => Some("shutting down"),
    };
    let body = Ready {
        ready,
        status: word,
        worker_id: &worker.id,
        checks: ReadyChecks {
            worker: Check {
                ok: worker_reason.is_none(),
                kind: context::driver_name(),
                reason: worker_reason,
            },
            database: Check {
                ok: store_up,
                kind: worker.process.store_kind,
                reason: if answers {
                    None
                } else {
                    Some(reason.as_deref().unwrap_or("not checked yet"))
                },
            },
            redis: Check {
                ok: redis_up,
                kind: if redis.is_some() { "redis" } else { "not configured" },
                reason: match &redis_reason {
                    Some(reason) if !redis_up => Some(reason.as_deref().unwrap_or("not checked yet")),
                    _ => None,
                },
            },
        },
    };
    let status = if ready { Status::OK } else { Status::SERVICE_UNAVAILABLE };
    call.write_probe(outbox, status, |out| {
        let _ = sonic_rs::to_writer(out, &body);
    })
}

pub(super) fn status(call: &Call<'_>, request: &Request<'_>, outbox: Outbox<'_>) -> Outcome {
    if !call.takes(&MediaType::JSON) {
        return call.refuse_kind(outbox, JSON);
    }
    #[derive(Serialize)]
    struct Body<'c> {
        status: &'c str,
        timestamp: &'c str,
        worker_id: &'c str,
        version: &'c str,
        components: Components<'c>,
    }
    #[derive(Serialize)]
    struct Components<'c> {
        worker: WorkerPart<'c>,
        database: Database<'c>,
        redis: super::redis::Part,
        external_api: Unused,
        rate_limit: super::rate::State,
        system: super::system::System,
    }
    #[derive(Serialize)]
    struct WorkerPart<'c> {
        status: &'c str,
        workers: usize,
        workers_stuck: usize,
        io_driver: &'c str,
        #[serde(skip_serializing_if = "Option::is_none")]
        io_driver_fallback: Option<String>,
        uptime_seconds: f64,
        requests: u64,
        active_requests: u64,
        open_connections: u64,
        stalls: u64,
        overload: crate::resilience::overload::Figures,
        cache: CachePart,
        topology: &'c crate::runtime::topology::Topology,
    }
    #[derive(Serialize)]
    struct CachePart {
        entries: u64,
        bytes: u64,
        capacity_bytes: u64,
        hits: u64,
        misses: u64,
    }
    #[derive(Serialize)]
    struct Database<'c> {
        status: &'c str,
        kind: &'c str,
        /// Finer than the status, and of this moment.
        state: crate::store::State,
        stories: u64,
        file_bytes: u64,
        queue_depth: u64,
        ping_ms: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        connections: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pool: Option<crate::store::postgres::PoolFigures>,
        places: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        journal: Option<journal::Part>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'c str>,
    }
    #[derive(Serialize)]
    struct Unused {
        status: &'static str,
        configured: bool,
    }
    let worker = call.worker;
    let stuck = worker.process.stuck();
    let reason = worker.checks.store.reason.borrow();
    let store = worker.service.store().health();
    let draining = worker.process.lifecycle() == Lifecycle::Draining;
    let journal = journal::part(worker, request.unix_ns);
    let is_well = journal.as_ref().is_none_or(|(_, is_well)| *is_well);
    let database = match worker.checks.store.word() {
        "unhealthy" if journal::takes_over(worker) => "degraded",
        // It may be slow, or take no writes, and answer the checks.
        "healthy" if !is_well || store.state != crate::store::State::Serving => "degraded",
        word => word,
    };
    let redis = super::redis::part(worker);
    let rate_limit = super::rate::State::of(worker);
    let overload = worker.service.admission().figures();
    let worker_word = if !stuck.is_empty() {
        "unhealthy"
    } else if worker.process.fallback().is_some() || overload.overloaded {
        "degraded"
    } else {
        "healthy"
    };
    // Redis away is never more than degraded: nothing is wrong with the answers.
    let system = super::system::part(worker);
    let overall = match (database, worker_word) {
        _ if draining => "shutting_down",
        _ if system.status == "unhealthy" => "unhealthy",
        ("unhealthy", _) | (_, "unhealthy") => "unhealthy",
        ("degraded", _) | (_, "degraded") => "degraded",
        _ if redis.status != "healthy" || rate_limit.status != "healthy" => "degraded",
        _ if system.status != "healthy" => "degraded",
        _ => "healthy",
    };
    let mut timestamp = Vec::with_capacity(24);
    worker.checks.timestamp(&mut timestamp, request.unix_ns);
    let figures = worker.service.cache().borrow().figures();
    let body = Body {
        status: overall,
        timestamp: std::str::from_utf8(&timestamp).unwrap_or_default(),
        worker_id: &worker.id,
        version: env!("CARGO_PKG_VERSION"),
        components: Components {
            worker: WorkerPart {
                status: worker_word,
                workers: worker.process.registry.lives.workers(),
                workers_stuck: stuck.len(),
                io_driver: context::driver_name(),
                io_driver_fallback: worker.process.fallback(),
                uptime_seconds: uptime(worker),
                requests: worker.requests.get(),
                active_requests: active(worker),
                open_connections: worker.metrics.connections_open(),
                stalls: worker.heartbeat.stalls(),
                overload,
                cache: CachePart {
                    entries: figures.entries,
                    bytes: figures.bytes,
                    capacity_bytes: figures.capacity_bytes,
                    hits: figures.hits,
                    misses: figures.misses,
                },
                topology: &worker.process.topology,
            },
            database: Database {
                status: database,
                kind: worker.process.store_kind,
                state: store.state,
                stories: store.stories,
                file_bytes: store.file_bytes,
                queue_depth: (store.put_queue + store.read_queue) as u64,
                ping_ms: worker.checks.store.ping_ms(),
                connections: (worker.process.store_kind != "embedded").then_some(store.connections),
                pool: worker.service.store().pool(),
                places: Gazetteer::embedded().len(),
                journal: journal.map(|(part, _)| part),
                reason: reason.as_deref().or(store.reason.as_deref()),
            },
            redis,
            external_api: Unused {
                status: "healthy",
                configured: false,
            },
            rate_limit,
            system,
        },
    };
    let code = if draining || overall == "unhealthy" {
        Status::SERVICE_UNAVAILABLE
    } else {
        Status::OK
    };
    let write = |out: &mut Vec<u8>| {
        let _ = sonic_rs::to_writer(out, &body);
    };
    let fields: &[(FieldName, &'static [u8])] = &[(field::CACHE_CONTROL, NO_STORE.as_bytes())];
    call.written(write, |body| call.coded(outbox, code, JSON, fields, body))
}

fn uptime(worker: &Worker) -> f64 {
    context::now_ns().saturating_sub(worker.started_ns) as f64 / 1e9
}

/// Requests being answered, without the one that asks.
fn active(worker: &Worker) -> u64 {
    worker.metrics.requests_active().saturating_sub(1)
}

pub(super) fn worker(call: &Call<'_>, outbox: Outbox<'_>) -> Outcome {
    if !call.takes(&MediaType::JSON) {
        return call.refuse_kind(outbox, JSON);
    }
    #[derive(Serialize)]
    struct Body<'c> {
        worker_id: &'c str,
        worker: u32,
        pid: u32,
        io_driver: &'c str,
        cpu: Option<usize>,
        uptime_seconds: f64,
        checks_performed: u64,
        requests: u64,
        active_requests: u64,
        open_connections: u64,
        accepting_requests: bool,
        shutting_down: bool,
        overload: crate::resilience::overload::Figures,
    }
    let worker = call.worker;
    let body = Body {
        overload: worker.service.admission().figures(),
        worker_id: &worker.id,
        worker: worker.metrics.id(),
        pid: std::process::id(),
        io_driver: context::driver_name(),
        cpu: worker.process.topology.cpu_of(worker.metrics.id() as usize),
        uptime_seconds: uptime(worker),
        checks_performed: worker.checks.done.get(),
        requests: worker.requests.get(),
        active_requests: active(worker),
        open_connections: worker.metrics.connections_open(),
        accepting_requests: worker.accepting.get(),
        shutting_down: worker.process.lifecycle() == Lifecycle::Draining,
    };
    call.write_probe(outbox, Status::OK, |out| {
        let _ = sonic_rs::to_writer(out, &body);
    })
}

/// Whether whoever asks may use the admin routes: from loopback, or with the admin token.
///
/// # Errors
/// The 403.
pub(super) fn administers(call: &Call<'_>, request: &Request<'_>) -> Result<(), Problem> {
    // A proxy on this machine comes from loopback, too, for whoever stands behind it: unless it is a trusted one, which
    // says who that is, a word of forwarding means that it is not known. So does a page in a browser.
    let has = |name: &str| request.head.headers.get(name).is_some();
    let client = call.worker.client(request);
    let is_known = client.hops > 0 || !["forwarded", "x-forwarded-for", "via"].iter().any(|name| has(name));
    let loopback = client.is_local && is_known && !has("origin");
    let bearer = request.head.authorization().and_then(|value| {
        let (scheme, token) = value.split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
    });
    let token = match (&call.worker.process.admin_token, bearer) {
        (Some(token), Some(sent)) => token.matches(sent),
        _ => false,
    };
    if !loopback && !token {
        return Err(Problem::new(
            Status::FORBIDDEN,
            "only from loopback, or with the admin token as bearer",
        ));
    }
    Ok(())
}

pub(super) fn shutdown(call: &Call<'_>, request: &Request<'_>, outbox: Outbox<'_>) -> Outcome {
    if let Err(problem) = administers(call, request) {
        return call.problem(outbox, &problem);
    }
    tracing::info!(
        request_id = call.id.as_str(),
        trace_id = call.trace().trace_id(),
        span_id = call.trace().span_id(),
        worker_id = call.worker.id,
        "a graceful end was asked for"
    );
    // The supervisor ends the process in one way, whoever asks: as on SIGTERM.
    if let Err(error) = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM) {
        tracing::error!(%error, "the process cannot signal itself");
        return call.problem(
            outbox,
            &Problem::new(Status::INTERNAL_SERVER_ERROR, "the end could not be begun"),
        );
    }
    call.probe(outbox, Status::ACCEPTED, br#"{"status":"shutting_down"}"#)
}
