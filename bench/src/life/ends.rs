//! Runs in which the process ends: with a successor for those outside, and without.

use super::report::Row;
use super::runs::Stand;
use super::signals::backends;
use super::stage::{Folder, Killed, Plan, Server, Stop, free_address, is_there, signal};
use rustix::io::FdFlags;
use rustix::process::Signal;
use std::fs;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// HAProxy as a Service: by connections, without a retry, with readiness alone to go by.
pub(super) fn successor(stand: &Stand<'_>) -> Result<Row, Stop> {
    if !is_there("haproxy") {
        return Err(Stop::Skip("needs haproxy".to_owned()));
    }
    // Both keep their stories in one place, as pods do.
    let backends = backends()?;
    let plan = || -> Result<Plan, Stop> {
        Ok(stand
            .plan()?
            .env("DATABASE_URL", &backends.database_url())
            .env("CONNECTIONS_PER_ADDRESS", "0")
            .env("DRAIN_DELAY", "2s"))
    };
    let (old, next) = (plan()?, plan()?);
    let (front, folder) = (free_address()?, Folder::new()?);
    let config = format!(
        "defaults\n mode tcp\n timeout connect 2s\n timeout client 60s\n timeout server 60s\n retries 0\n\
         frontend service\n bind {front}\n default_backend pods\n\
         backend pods\n balance roundrobin\n option httpchk GET /health/v2/ready\n \
         default-server check inter 200ms fall 1 rise 1\n server old {}\n server next {}\n",
        old.addr, next.addr
    );
    let file = folder.0.join("haproxy.cfg");
    fs::write(&file, config).map_err(|e| format!("cannot write {}: {e}", file.display()))?;
    let mut server = Server::start(old)?;
    let balancer = Command::new("haproxy")
        .args(["-db", "-f"])
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _balancer = Killed(balancer.map_err(|e| format!("cannot start haproxy: {e}"))?);
    // It takes both for healthy until it has looked.
    std::thread::sleep(Duration::from_secs(1));
    let by_balancer = |wanted: Option<u32>| -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let found = super::stage::get(front, "/health/v2/worker", "")
                .ok()
                .map(|answer| answer.body);
            let text = String::from_utf8_lossy(&found.unwrap_or_default()).into_owned();
            match wanted {
                None if text.contains("\"pid\"") => return Ok(()),
                Some(pid) if text.contains(&format!("\"pid\":{pid}")) => return Ok(()),
                _ if begun.elapsed() > Duration::from_secs(20) => {
                    return Err("the balancer does not lead there".to_owned());
                }
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    };
    by_balancer(None)?;
    let mut successor = None;
    let row = stand.at(front, &mut server, |scene| {
        let next = Server::start(next)?;
        by_balancer(Some(next.first()))?;
        signal(scene.server.first(), Signal::TERM);
        scene.server.wait()?;
        let cut_off = scene.server.said("cut off");
        successor = Some(next);
        Ok(format!("the old process ended, {cut_off} cut off"))
    })?;
    if let Some(mut next) = successor {
        next.end()?;
    }
    Ok(row)
}

/// systemd by hand: this process keeps the listening socket, and whoever is started next finds what waits in its queue.
pub(super) fn systemd(stand: &Stand<'_>) -> Result<Row, Stop> {
    let mut plan = stand.plan()?;
    let listener = TcpListener::bind(plan.addr).map_err(|e| format!("cannot listen: {e}"))?;
    let kept = rustix::io::fcntl_dupfd_cloexec(&listener, 100).map_err(|e| format!("no descriptor: {e}"))?;
    rustix::io::fcntl_setfd(&kept, FdFlags::empty()).map_err(|e| format!("no descriptor: {e}"))?;
    let number = kept.as_raw_fd();
    let script = format!("exec 3<&{number} {number}<&-; export LISTEN_PID=$$ LISTEN_FDS=1; exec $BINARY serve");
    plan.wrapper = ["bash", "-c", &script].map(str::to_owned).to_vec();
    stand.under_load(plan, |scene| {
        for _ in 0..2 {
            signal(scene.server.first(), Signal::TERM);
            scene.server.wait()?;
            scene.server.start_again()?;
        }
        Ok("2 ends, 2 new starts".to_owned())
    })
}

/// What this load says where requests are lost.
pub(super) fn kill(stand: &Stand<'_>) -> Result<Row, Stop> {
    let row = stand.under_load(stand.plan()?, |scene| {
        signal(scene.server.first(), Signal::KILL);
        scene.server.wait()?;
        // The kernel takes a killed process's ring apart behind its end: until then the port is taken.
        std::thread::sleep(Duration::from_secs(1));
        scene.server.start_again()?;
        Ok("the process was killed and started".to_owned())
    })?;
    Ok(Stand::control(row))
}
