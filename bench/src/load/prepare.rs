//! From the command line and the scenario file to a [`Job`].

use std::sync::Arc;
use std::time::Duration;

use super::args::Args;
use super::arrivals::Law;
use super::engine::{Job, Protocol, Rules};
use super::profile::Profile;
use super::replay::{Dress, Replay};
use super::scenario::{Class, Expect, Mix, Scenario, Template};
use super::source::Source;
use super::tls;
use crate::target::Target;

/// Shortest interval of the series, in seconds.
const INTERVAL_SECONDS_MIN: f64 = 0.01;

/// A job, and what it is called.
pub(super) struct Prepared {
    pub(super) job: Job,
    pub(super) name: String,
}

/// Seconds of the command line in nanoseconds.
fn nanos(name: &str, value: f64) -> Result<u64, String> {
    Duration::try_from_secs_f64(value)
        .ok()
        .filter(|d| d.as_secs() <= 86_400)
        .and_then(|d| u64::try_from(d.as_nanos()).ok())
        .ok_or_else(|| format!("{name} takes 0 to 86400 seconds, not {value}"))
}

fn at_least_one_ns(name: &str, value: f64) -> Result<u64, String> {
    nanos(name, value).map(|ns| ns.max(1))
}

/// One request of the command line as a mix of one.
fn one(args: &Args, target: &Target, short_lived: bool) -> Result<Mix, String> {
    let mut mix = Mix::new(Vec::new(), &target.authority, short_lived);
    let headers = args.request.header_pairs()?;
    mix.add(Class {
        name: format!("{} {}", args.request.method, target.path),
        weight: 1.0,
        method: args.request.method.clone(),
        path: Template::text(&target.path),
        headers: headers
            .into_iter()
            .map(|(name, value)| (name, Template::text(&value)))
            .collect(),
        body: args.request.body_bytes()?.map(Template::bytes),
        expect: Expect::default(),
        told: args.cache_status,
        sse: args.sse,
        think: None,
    })?;
    Ok(mix)
}

fn replay(args: &Args, target: &Target, short_lived: bool) -> Result<Option<Arc<Replay>>, String> {
    let Some(path) = &args.replay else { return Ok(None) };
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read the log {}: {e}", path.display()))?;
    let dress = Dress {
        authority: target.authority.clone(),
        headers: args.request.header_pairs()?,
        body: args.request.body_bytes()?,
        close: short_lived,
    };
    let replay = Replay::parse(&text, dress).map_err(|e| format!("{}: {e}", path.display()))?;
    if replay.unread > 0 {
        eprintln!(
            "{}: {} lines are no request that can be read",
            path.display(),
            replay.unread
        );
    }
    if replay.bodiless > 0 {
        eprintln!(
            "{}: {} requests are left out, as their bodies are not in the log; --body gives them one",
            path.display(),
            replay.bodiless
        );
    }
    if !(args.replay_speed > 0.0 && args.replay_speed <= 1e6) {
        return Err("--replay-speed takes more than 0".to_owned());
    }
    Ok(Some(Arc::new(replay)))
}

/// Makes the job.
///
/// # Errors
/// A sentence that says which of the wishes cannot be met.
pub(super) fn prepare(args: &Args) -> Result<Prepared, String> {
    let target = Target::parse_any(&args.url)?;
    let base = target.path.trim_end_matches('/');
    let scenario = args
        .scenario
        .as_ref()
        .map(|path| Scenario::read(path, &target.authority, base, args.short_lived))
        .transpose()?;
    let defaults = scenario.as_ref().map(|s| s.load.clone()).unwrap_or_default();
    let short_lived = args.short_lived || defaults.short_lived;
    let http2 = args.http2 || defaults.http2 && args.pipeline.is_none();
    let replay = replay(args, &target, short_lived)?;
    let from_file = scenario.as_ref().map_or(Vec::new(), |s| s.profile.clone());

    let mut duration = args.duration.or(defaults.duration).unwrap_or(10.0);
    let law = if let Some(text) = &args.profile {
        Some(Profile::parse(text)?)
    } else if let Some(rate) = args.rate {
        Some(Profile::flat(rate, duration)?)
    } else if !args.search.is_empty() {
        // The search sets the rate of each trial.
        Some(Profile::flat(args.search_from, duration)?)
    } else if !from_file.is_empty() {
        Some(Profile::new(from_file)?)
    } else if let Some(rate) = defaults.rate {
        Some(Profile::flat(rate, duration)?)
    } else {
        None
    };
    let law = match (law, &replay) {
        (Some(profile), _) => {
            duration = profile.seconds();
            if args.poisson || defaults.poisson {
                Law::Poisson(profile)
            } else {
                Law::Constant(profile)
            }
        }
        (None, Some(replay)) if !args.replay_closed => {
            duration = args.duration.unwrap_or(replay.seconds() / args.replay_speed);
            Law::Log(Arc::clone(replay), args.replay_speed)
        }
        _ if args.poisson => return Err("--poisson is of the open loop: it needs a --rate or a --profile".to_owned()),
        _ => Law::Closed,
    };
    let (source, name) = match (replay, scenario) {
        (Some(replay), _) => (Source::Replay(replay), "replay".to_owned()),
        (None, Some(scenario)) => (Source::Mix(scenario.mix), scenario.name),
        (None, None) => (Source::Mix(one(args, &target, short_lived)?), "url".to_owned()),
    };
    let rules = match &source {
        Source::Mix(mix) => mix
            .classes()
            .iter()
            .map(|class| Rules {
                expect: class.expect.clone(),
                told: class.told,
            })
            .collect(),
        _ => Vec::new(),
    };
    let spawn_rate = args.spawn_rate.or(defaults.spawn_rate);
    if spawn_rate.is_some_and(|rate| !(rate > 0.0 && rate.is_finite())) {
        return Err("--spawn-rate takes more than 0 connections a second".to_owned());
    }
    if !(INTERVAL_SECONDS_MIN..=3600.0).contains(&args.interval) {
        return Err(format!("--interval takes {INTERVAL_SECONDS_MIN} to 3600 seconds"));
    }
    let depth = if http2 {
        args.streams.or(defaults.streams).unwrap_or(1)
    } else {
        args.pipeline.or(defaults.pipeline).unwrap_or(1)
    };
    let alpn: &[u8] = if http2 { b"h2" } else { b"http/1.1" };
    let tls = target
        .tls
        .then(|| tls::towards(&target.host, alpn, args.cacert.as_deref(), args.insecure))
        .transpose()?;
    let job = Job {
        address: target.address()?,
        tls,
        protocol: if http2 { Protocol::H2 } else { Protocol::H1 },
        source,
        rules,
        law,
        connections: args.connections.or(defaults.connections).unwrap_or(64),
        depth: if short_lived { 1 } else { depth },
        short_lived,
        spawn_rate,
        threads: args.threads,
        cpus: args.cpus.clone(),
        driver: args.driver.parse()?,
        warmup_ns: nanos("--warmup", args.warmup.or(defaults.warmup).unwrap_or(0.0))?,
        duration_ns: at_least_one_ns("--duration", duration)?,
        interval_ns: at_least_one_ns("--interval", args.interval)?,
        in_flight_max: args.in_flight_max,
        connect_limit: Duration::from_nanos(at_least_one_ns("--connect-timeout", args.connect_timeout)?),
        answer_limit: Duration::from_nanos(at_least_one_ns("--timeout", args.timeout)?),
        seed: args.seed,
    };
    Ok(Prepared { job, name })
}
