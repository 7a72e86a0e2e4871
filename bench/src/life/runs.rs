//! The runs, and what is common to all: a server, a load that is warm, what happens, and what came of it.

use super::load::Load;
use super::report::{Broken, Must, Row};
use super::stage::{Plan, Server, Stop};
use super::{ends, faults, signals};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Load before anything happens: every client has a connection, every old story is known.
const WARM: Duration = Duration::from_millis(1200);
/// Load behind the last thing that happened.
const AFTER: Duration = Duration::from_secs(1);

/// What the command line says.
pub(super) struct Bench {
    pub(super) binary: PathBuf,
    /// One that can be asked for faults.
    pub(super) faulty: Option<PathBuf>,
    pub(super) rate: f64,
    pub(super) seconds: f64,
}

/// One run.
pub(super) struct Run {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    /// On epoll, too.
    pub(super) on_both: bool,
    pub(super) act: fn(&Stand<'_>) -> Result<Row, Stop>,
}

/// In the order of the table.
pub(super) const RUNS: &[Run] = &[
    run("baseline", "nothing happens", true, signals::baseline),
    run("hup", "SIGHUP", true, signals::hup),
    run("hup10", "SIGHUP x10 in a row", true, signals::hup10),
    run("ttin", "SIGTTIN, SIGTTOU, twice", true, signals::workers_come_and_go),
    run(
        "usr1",
        "SIGUSR1 behind a rename of LOG_FILE",
        false,
        signals::log_is_reopened,
    ),
    run("usr2", "SIGUSR2, embedded store", true, signals::upgrade),
    run(
        "usr2-postgres",
        "SIGUSR2, PostgreSQL",
        false,
        signals::upgrade_with_postgres,
    ),
    run(
        "usr2-driver",
        "SIGUSR2 to the other IO_DRIVER and back, PostgreSQL",
        true,
        signals::upgrade_to_the_other_driver,
    ),
    run(
        "usr2-broken",
        "SIGUSR2 to a binary that ends",
        true,
        signals::broken_upgrade,
    ),
    run(
        "usr2-pid1",
        "SIGUSR2 to process 1 of a PID namespace",
        false,
        signals::upgrade_of_process_1,
    ),
    run("max-requests", "MAX_REQUESTS replaces workers", true, signals::worn),
    run("rss-max", "WORKER_RSS_MAX replaces a worker", false, signals::too_big),
    run("panic", "20 handlers panic", true, faults::panics),
    run(
        "breakdown",
        "a worker breaks down (its driver fails)",
        true,
        faults::breakdown,
    ),
    run("stuck", "a worker is stuck for 4 s", true, faults::stuck),
    run("descriptors", "no descriptors for 1.5 s", true, faults::descriptors),
    run("memory", "memory pressure (MEMORY_MAX)", false, faults::memory),
    run(
        "clock",
        "wall clock a day ahead, then a day behind",
        true,
        faults::clock,
    ),
    run("stopped", "SIGSTOP for 2 s, SIGCONT", false, faults::stopped),
    run("postgres", "PostgreSQL restarts", false, faults::postgres),
    run(
        "journal",
        "PostgreSQL restarts, STORE_OUTAGE=journal",
        false,
        faults::journal,
    ),
    run("redis", "Redis restarts", false, faults::redis),
    run(
        "successor",
        "SIGTERM, a successor behind the same balancer",
        false,
        ends::successor,
    ),
    run(
        "systemd",
        "SIGTERM, and a new start on systemd's socket",
        true,
        ends::systemd,
    ),
    run(
        "kill",
        "SIGKILL, and a new start (control: must fail)",
        false,
        ends::kill,
    ),
];

const fn run(name: &'static str, what: &'static str, on_both: bool, act: fn(&Stand<'_>) -> Result<Row, Stop>) -> Run {
    Run {
        name,
        what,
        on_both,
        act,
    }
}

/// A run on a driver.
pub(super) struct Stand<'a> {
    pub(super) bench: &'a Bench,
    pub(super) run: &'a Run,
    pub(super) driver: &'a str,
}

/// What happens has this in hand.
pub(super) struct Scene<'a> {
    pub(super) server: &'a mut Server,
    pub(super) load: &'a Load,
    pub(super) broken: Vec<Broken>,
}

impl Stand<'_> {
    /// The server as it is started here.
    pub(super) fn plan(&self) -> Result<Plan, Stop> {
        Ok(Plan::new(&self.bench.binary, self.driver)?)
    }

    /// One that can be asked for faults.
    pub(super) fn faulty_plan(&self) -> Result<Plan, Stop> {
        let binary = self.bench.faulty.as_ref().ok_or_else(|| {
            Stop::Skip("needs a debug build of the server, which can be asked for faults: --faulty-server".to_owned())
        })?;
        Ok(Plan::new(binary, self.driver)?.env("FAULTS", "1"))
    }

    /// A load while something happens, which says by what it is known.
    pub(super) fn under_load(
        &self,
        plan: Plan,
        happens: impl FnOnce(&mut Scene<'_>) -> Result<String, Stop>,
    ) -> Result<Row, Stop> {
        let mut server = Server::start(plan)?;
        let addr = server.addr();
        let row = self.at(addr, &mut server, happens)?;
        server.end()?;
        Ok(row)
    }

    /// The same, on a load that asks `addr`.
    pub(super) fn at(
        &self,
        addr: SocketAddr,
        server: &mut Server,
        happens: impl FnOnce(&mut Scene<'_>) -> Result<String, Stop>,
    ) -> Result<Row, Stop> {
        let begun = Instant::now();
        let load = Load::start(addr, self.bench.rate)?;
        std::thread::sleep(WARM);
        load.watch_gaps();
        let happening = Instant::now();
        let mut scene = Scene {
            server,
            load: &load,
            broken: Vec::new(),
        };
        let seen = happens(&mut scene)?;
        let broken = scene.broken;
        let whole = Duration::from_secs_f64(self.bench.seconds);
        std::thread::sleep(whole.saturating_sub(happening.elapsed()).max(AFTER));
        let tally = load.stop()?;
        let seconds = begun.elapsed().as_secs_f64();
        let mut row = Row::new(self.run.name, self.run.what, self.driver, seconds, &tally);
        row.settle(&tally.failures, &broken);
        row.seen = seen;
        Ok(row)
    }

    /// Marks a row as one whose requests must fail.
    pub(super) fn control(mut row: Row) -> Row {
        row.must = Must::FailSome;
        row
    }
}
