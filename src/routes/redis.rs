//! Redis as the status page has it.

use super::Worker;
use crate::cache::redis::Fault;
use serde::Serialize;

/// Redis as the worker that answers sees it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Part {
    pub(super) status: &'static str,
    configured: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    figures: Option<Figures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
struct Figures {
    breaker: &'static str,
    takes_writes: bool,
    hits: u64,
    misses: u64,
    in_flight: usize,
    connections_made: u64,
    ping_ms: f64,
    version: String,
    role: String,
}

pub(super) fn part(worker: &Worker) -> Part {
    let Some(redis) = worker.service.redis() else {
        return Part {
            status: "healthy",
            ..Part::default()
        };
    };
    let figures = redis.figures();
    let status = match worker.checks.redis.word() {
        "healthy" if figures.trouble.is_some() || figures.writes_off.is_some() => "degraded",
        word => word,
    };
    let known = worker.checks.redis.reason.borrow().clone();
    let trouble = figures.trouble.or(figures.writes_off);
    Part {
        status,
        configured: true,
        server: Some(redis.server()),
        reason: trouble.map(|fault| fault.to_string()).or(known),
        figures: Some(Figures {
            breaker: match figures.trouble {
                None => "closed",
                Some(Fault::Lost) => "half_open",
                Some(_) => "open",
            },
            takes_writes: figures.trouble.is_none() && figures.writes_off.is_none(),
            hits: figures.hits,
            misses: figures.misses,
            in_flight: figures.in_flight,
            connections_made: figures.connects,
            ping_ms: worker.checks.redis.ping_ms(),
            version: figures.version,
            role: figures.role,
        }),
    }
}
