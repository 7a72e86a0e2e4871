//! `load`: the load generator. Closed loop (each connection asks again when answered) or open loop (requests are due at
//! times of their own, and latency counts from then), over HTTP/1.1 and HTTP/2, in the clear and under TLS.
//!
//! The way through: [`args`] and [`prepare`] make a [`Job`] of the command line and a [`scenario`]; the [`engine`] runs it,
//! each thread drawing from its [`source`] when its [`arrivals`] are due and counting in its [`tally`]; [`report`] sums up
//! and judges the generator itself; [`threshold`] and [`search`] judge the server; [`accounting`] reads what the run cost it;
//! [`output`] tells. Other subcommands call [`measure`]. Deliberately absent: bodies that end with the connection (their
//! end cannot be checked), cookies, redirects, HTTP/3.

mod accounting;
mod args;
mod arrivals;
mod command;
mod engine;
mod errors;
mod output;
mod prepare;
mod profile;
mod replay;
mod report;
mod requests;
mod scenario;
mod search;
mod source;
mod tally;
mod threshold;
mod tls;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use args::Args;
pub(crate) use command::{run, step};
pub(crate) use errors::Errors;
pub(crate) use output::document::Document;
pub(crate) use report::{Percentiles, Report};
pub(crate) use requests::Requests;
pub(crate) use threshold::Judged;

use crate::answer::Told;
use crate::clock::SECOND_NS;
use arrivals::Law;
use engine::{Job, Protocol, Rules};
use profile::Profile;
use roadtrip_api::runtime::driver::choose::IoDriver;
use source::Source;

/// What one run of kept HTTP/1.1 connections is to do, for other subcommands. All times in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Where the server listens.
    pub(crate) address: std::net::SocketAddr,
    /// What is asked.
    pub(crate) requests: Requests,
    /// What each answer's Cache-Status must say.
    pub(crate) expect: Option<Told>,
    /// Answers have no body, as the request is HEAD.
    pub(crate) head_request: bool,
    /// Connections over all threads; at least one for each thread is opened.
    pub(crate) connections: u32,
    /// Threads; at least one.
    pub(crate) threads: u32,
    /// Time measured.
    pub(crate) duration_ns: u64,
    /// Time before that.
    pub(crate) warmup_ns: u64,
    /// Requests per second over all threads; `None` is the closed loop.
    pub(crate) rate: Option<f64>,
    /// Limit of opening a connection.
    pub(crate) connect_timeout_ns: u64,
    /// Limit of an answer.
    pub(crate) timeout_ns: u64,
    /// CPUs to pin to, by thread, round robin; empty for no pinning.
    pub(crate) cpus: Vec<usize>,
}

/// Runs the load and reports.
///
/// # Errors
/// Where nothing could be measured: no connection, no thread, no CPU of that number. Errors of single requests are
/// counted in the report.
pub(crate) fn measure(plan: &Plan) -> Result<Report, String> {
    let seconds = plan.duration_ns as f64 / SECOND_NS as f64;
    let job = Job {
        address: plan.address,
        tls: None,
        protocol: Protocol::H1,
        source: Source::Series(plan.requests.clone(), plan.head_request),
        rules: vec![Rules {
            told: plan.expect,
            ..Rules::default()
        }],
        law: match plan.rate {
            Some(rate) => Law::Constant(Profile::flat(rate, seconds)?),
            None => Law::Closed,
        },
        connections: plan.connections,
        depth: 1,
        short_lived: false,
        spawn_rate: None,
        threads: plan.threads,
        cpus: plan.cpus.clone(),
        driver: IoDriver::Auto,
        warmup_ns: plan.warmup_ns,
        duration_ns: plan.duration_ns,
        interval_ns: SECOND_NS,
        in_flight_max: u64::MAX,
        connect_limit: Duration::from_nanos(plan.connect_timeout_ns),
        answer_limit: Duration::from_nanos(plan.timeout_ns),
        seed: 1,
    };
    let job = Arc::new(job);
    let measured = engine::run(&job, |_| {})?;
    Ok(Report::of(&job, &measured))
}
