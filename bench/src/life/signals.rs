//! Runs in which an operator wants something: signals, upgrades, recycling.

use super::report::Row;
use super::runs::Stand;
use super::stage::{Plan, Server, Stop, is_gone, is_there, signal};
use crate::tiers::backends::Backends;
use rustix::process::Signal;
use std::fs;
use std::time::{Duration, Instant};

const ROUND: &str = "the round is over";

pub(super) fn baseline(stand: &Stand<'_>) -> Result<Row, Stop> {
    stand.under_load(stand.plan()?, |_| Ok("-".to_owned()))
}

pub(super) fn hup(stand: &Stand<'_>) -> Result<Row, Stop> {
    stand.under_load(stand.plan()?, |scene| {
        signal(scene.server.first(), Signal::HUP);
        scene.server.until("the round", |server| server.said(ROUND) == 1)?;
        let replaced = scene.server.metric("worker_restarts_total", "reason=\"reload\"")?;
        Ok(format!("{replaced} workers replaced"))
    })
}

pub(super) fn hup10(stand: &Stand<'_>) -> Result<Row, Stop> {
    stand.under_load(stand.plan()?, |scene| {
        for number in 1..=10 {
            signal(scene.server.first(), Signal::HUP);
            // Some fall into a round, some between two.
            std::thread::sleep(Duration::from_millis(130 * number));
        }
        let begun = |server: &Server| {
            let said = server.all_said();
            said.matches("every worker is replaced").count() + said.matches("another round follows").count()
        };
        scene.server.until("the rounds", |server| {
            server.said(ROUND) == begun(server) && begun(server) >= 2
        })?;
        let replaced = scene.server.metric("worker_restarts_total", "reason=\"reload\"")?;
        Ok(format!("{} rounds, {replaced} workers replaced", begun(scene.server)))
    })
}

fn workers(server: &Server) -> Option<u64> {
    use sonic_rs::JsonValueTrait;
    server.json("/health/v2/status").ok()?["components"]["worker"]["workers"].as_u64()
}

pub(super) fn workers_come_and_go(stand: &Stand<'_>) -> Result<Row, Stop> {
    stand.under_load(stand.plan()?, |scene| {
        let healthy = |server: &Server| server.metric("worker_health_status", "worker").unwrap_or(0.0);
        for _ in 0..2 {
            signal(scene.server.first(), Signal::TTIN);
            scene.server.until("three workers", |server| {
                workers(server) == Some(3) && healthy(server) > 2.0
            })?;
            std::thread::sleep(Duration::from_millis(500));
            signal(scene.server.first(), Signal::TTOU);
            scene.server.until("two workers", |server| {
                workers(server) == Some(2) && healthy(server) < 3.0
            })?;
        }
        Ok("2, 3, 2, 3, 2 workers".to_owned())
    })
}

pub(super) fn log_is_reopened(stand: &Stand<'_>) -> Result<Row, Stop> {
    let folder = super::stage::Folder::new()?;
    let (log, old) = (folder.0.join("api.log"), folder.0.join("api.log.1"));
    let plan = stand.plan()?.env("LOG_FILE", &log.display().to_string());
    stand.under_load(plan, |scene| {
        for _ in 0..3 {
            fs::rename(&log, &old).map_err(|e| format!("cannot rename the log: {e}"))?;
            signal(scene.server.first(), Signal::USR1);
            scene.server.until("a new log", |_| {
                fs::read_to_string(&log).is_ok_and(|text| text.contains("the log was opened again"))
            })?;
        }
        Ok("3 new files".to_owned())
    })
}

/// USR2 to `to`; gives the process that serves then, once the one before has ended, unless that stays.
fn upgraded(server: &Server, to: u32, stays: bool) -> Result<u32, String> {
    let old = server.serving()?;
    server.reinstall()?;
    signal(to, Signal::USR2);
    server.until("another process to serve", |server| {
        server.serving().is_ok_and(|serving| serving != old)
    })?;
    if !stays {
        server.until("the old process to end", |_| is_gone(to))?;
    }
    server.serving()
}

fn upgrade_twice(stand: &Stand<'_>, plan: Plan) -> Result<Row, Stop> {
    stand.under_load(plan, |scene| {
        let second = upgraded(scene.server, scene.server.first(), false)?;
        upgraded(scene.server, second, false)?;
        Ok("2 new processes".to_owned())
    })
}

pub(super) fn upgrade(stand: &Stand<'_>) -> Result<Row, Stop> {
    upgrade_twice(stand, stand.plan()?)
}

/// PostgreSQL and Redis, where they are installed.
pub(super) fn backends() -> Result<Backends, Stop> {
    Backends::start(None).map_err(Stop::Skip)
}

pub(super) fn upgrade_with_postgres(stand: &Stand<'_>) -> Result<Row, Stop> {
    let backends = backends()?;
    upgrade_twice(stand, stand.plan()?.env("DATABASE_URL", &backends.database_url()))
}

pub(super) fn broken_upgrade(stand: &Stand<'_>) -> Result<Row, Stop> {
    stand.under_load(stand.plan()?.env("UPGRADE_TIMEOUT", "2s"), |scene| {
        let server = &scene.server;
        let serving = server.serving()?;
        // It gets the store, which is the last thing that the old one gives up, and ends.
        let takes_the_store = "#!/usr/bin/env bash\nn=${ROADTRIP_API_HANDOVER##*ready=}; n=${n%% *}; printf P >&$n; \
                               sleep 0.5; exit 3\n";
        for (number, script) in ["#!/bin/sh\nexit 7\n", takes_the_store].into_iter().enumerate() {
            server.replace_by_script(script)?;
            signal(serving, Signal::USR2);
            server.until("the old one to go on", |server| {
                server.said("this one goes on") == number + 1
            })?;
            std::thread::sleep(Duration::from_millis(500));
        }
        if server.serving()? != serving {
            return Err("another process serves".into());
        }
        let failed = server.metric("process_upgrades_failed_total", "")?;
        Ok(format!("{failed} upgrades taken back"))
    })
}

pub(super) fn upgrade_of_process_1(stand: &Stand<'_>) -> Result<Row, Stop> {
    let words = ["unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"];
    let is_allowed = std::process::Command::new("unshare")
        .args([&words[1..], &["true"]].concat())
        .status();
    if !is_there("unshare") || !is_allowed.is_ok_and(|status| status.success()) {
        return Err(Stop::Skip("needs root, and unshare of util-linux".to_owned()));
    }
    let mut plan = stand.plan()?;
    plan.wrapper = words.map(str::to_owned).to_vec();
    stand.under_load(plan, |scene| {
        let server = &scene.server;
        let first = server.first();
        let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap_or_default();
        let process_1 = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
        let process_1: u32 = process_1.ok_or("unshare has no child")?;
        if server.serving()? != 1 {
            return Err("it is not process 1".into());
        }
        let second = upgraded(server, process_1, true)?;
        let third = upgraded(server, process_1, true)?;
        if is_gone(process_1) {
            return Err("process 1 has ended".into());
        }
        Ok(format!("served by 1, {second}, {third}; 1 stays"))
    })
}

pub(super) fn worn(stand: &Stand<'_>) -> Result<Row, Stop> {
    let each = (stand.bench.rate * 0.7).max(50.0) as u64;
    let plan = stand
        .plan()?
        .env("MAX_REQUESTS", &each.to_string())
        .env("MAX_REQUESTS_JITTER", &(each / 4).to_string());
    stand.under_load(plan, |scene| {
        let restarts = |server: &Server| server.metric("worker_restarts_total", "max_requests").unwrap_or(0.0);
        scene
            .server
            .until("four lives to be over", |server| restarts(server) >= 4.0)?;
        Ok(format!("{} workers replaced", restarts(scene.server)))
    })
}

pub(super) fn too_big(stand: &Stand<'_>) -> Result<Row, Stop> {
    // Less than any process has.
    stand.under_load(stand.plan()?.env("WORKER_RSS_MAX", "1M"), |scene| {
        let begun = Instant::now();
        let restarts = |server: &Server| server.metric("worker_restarts_total", "memory").unwrap_or(0.0);
        scene
            .server
            .until("a worker to be replaced", |server| restarts(server) >= 1.0)?;
        Ok(format!(
            "{} worker replaced, {} s after the first look",
            restarts(scene.server),
            begun.elapsed().as_secs()
        ))
    })
}
