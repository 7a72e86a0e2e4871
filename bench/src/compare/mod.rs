//! `compare`: the service against every peer, two handlers, pair by pair.
//!
//! `peers` is the table of who takes part, `prepare` builds them or says why not, `answers` has them answer alike, `side`
//! measures one run, `report`, `budgets` and `markdown` say what it comes to. The statistics are `crate::stats`.

mod answers;
pub(crate) mod budgets;
mod config;
mod markdown;
mod peers;
mod prepare;
mod report;
mod side;
mod turn;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::machine::{self, Machine, Version};
use answers::Answers;
use peers::{Kind, Peer};
use prepare::Absent;
pub(crate) use prepare::Workshop;
use report::{Asked, Idle, Noise, Pair, Row, Settings};
pub(crate) use report::{PeerReport, Report, State};
use serde::{Deserialize, Serialize};
use side::{Side, Way};
use turn::Turns;

use crate::group::Group;
use crate::guard::Folder;
use crate::told::{dated, typed};
use crate::{EXIT_FOUND_ERRORS, open_files};

/// Microseconds in which a server gets its share of a CPU once: in the rest, requests of all connections gather.
pub(crate) const PERIOD_US: u64 = 5000;
/// Server utilisation below which the server waited for the load.
pub(crate) const UTILISATION_MIN: f64 = 0.9;
/// What a run of the JSON schema is named.
pub(crate) const FORMAT: &str = "roadtrip-bench compare 1";

/// Compare the service with every peer that can be built: CPU a request, throughput, latency, memory
///
/// Builds the service (profile max) and the peers of bench/peers, checks that all answer alike, and measures the
/// service (A) and each peer (B) in turns: A B, B A, A B ..., each run in a new process on --server-cpu. The first peer
/// is the service itself: what that differs by is noise, and a verdict is given only beyond it. What cannot be built
/// or is not installed is named with the reason. Prints Markdown; exit code 1 where a peer failed or had errors.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo run --release -p roadtrip-bench -- compare --quick
  cargo run --release -p roadtrip-bench -- compare --server-cpu 0 --load-cpu 1 --out bench/runs
  cargo run --release -p roadtrip-bench -- compare --only aa,axum --pairs 9")]
pub(crate) struct Args {
    /// Peers to measure; `aa` is the A/A run, without which nothing is judged
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<String>,
    /// Print the peers, and what each is, and end
    #[arg(long)]
    list: bool,
    /// A small version, meant for ten minutes from a clean clone: built without link-time optimisation, a few peers, short runs
    #[arg(long)]
    quick: bool,
    /// Pairs of runs for each peer and handler; fewer than 5 are not judged, and 6 give an interval of 95 %
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pairs: Option<u32>,
    /// Seconds of each run's closed loop, and as long at a fixed rate
    #[arg(long)]
    seconds: Option<f64>,
    /// Connections
    #[arg(long, short = 'c', default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Idle connections, for the memory of one; 0 leaves that out
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    idle_connections: u32,
    /// CPU that servers are pinned to
    #[arg(long)]
    server_cpu: Option<usize>,
    /// CPU that the load (and FastAPI's Redis) runs on
    #[arg(long)]
    load_cpu: Option<usize>,
    /// Share of a CPU that a server gets in the closed loop, by the quota of a control group: as little as the load can keep
    /// busy, as the load costs about as much as what it measures. 1: no quota
    #[arg(long, value_name = "CPUS", default_value_t = 0.3)]
    server_share: f64,
    /// Take what was built before
    #[arg(long)]
    no_build: bool,
    /// Command that starts the service, in place of the one built here; `{port}` is filled in, as is PORT in its environment
    #[arg(long, value_name = "COMMAND")]
    ours: Option<String>,
    /// A further peer; may be repeated
    #[arg(long = "peer", value_name = "NAME=COMMAND")]
    more: Vec<String>,
    /// File for the JSON report (bench/schema/compare.schema.json)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Folder that gets a folder DATE-compare (DATE-compare-2 ...) with the JSON and the Markdown
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// What is to be said of the circumstances; stands in the report
    #[arg(long)]
    note: Option<String>,
    /// A file to hold locked (flock) while measuring, two and a half minutes at a stretch: for machines where others build
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Seconds after which no further peer is begun: those left are named as not measured
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    limit: Option<u64>,
    /// The repository, where it is not the one that this program was built from
    #[arg(long, value_name = "FOLDER")]
    repo: Option<PathBuf>,
}

/// A handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scenario {
    Live,
    Story,
}

impl Scenario {
    pub(crate) const ALL: [Self; 2] = [Self::Live, Self::Story];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Story => "story",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Live => "GET /health/v2/live",
            Self::Story => "POST /api/v1/stories/generate, cached",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Live => "/health/v2/live",
            Self::Story => "/api/v1/stories/generate",
        }
    }

    /// Method of the service.
    fn method(self) -> &'static str {
        match self {
            Self::Live => "GET",
            Self::Story => "POST",
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    let peers = chosen(args)?;
    if args.list {
        let line = |peer: &Peer| format!("{:<13} {}\n", peer.name, peer.what);
        let text: String = peers.iter().map(line).collect();
        return crate::print_report(false, &(), |()| text.trim_end().to_owned()).map(|()| ExitCode::SUCCESS);
    }
    let mut settings = settings(args)?;
    let group = if settings.server_share < 1.0 {
        // Where none can be made, a caution says that the load was the limit.
        let made = Group::new("compare", PERIOD_US, settings.server_share);
        made.inspect_err(|why| eprintln!("no --server-share: {why}")).ok()
    } else {
        None
    };
    let share = group.is_some().then_some(settings.server_share);
    settings.server_share = share.unwrap_or(1.0);
    let group = group.map(Rc::new);
    let folder = Folder::named("bench-compare")?;
    let workshop = Workshop {
        root: PathBuf::new(),
        folder: folder.0.clone(),
        quick: args.quick,
        no_build: args.no_build,
        load_cpu: args.load_cpu,
        group: group.clone(),
    }
    .at_its_place(args.repo.as_deref())?;
    let (command, version) = match &args.ours {
        Some(command) => (command.clone(), command.clone()),
        None => workshop.ours()?,
    };
    let way = Way {
        seconds_closed: settings.seconds_closed,
        seconds_open: settings.seconds_open,
        connections: settings.connections,
        idle_connections: settings.idle_connections,
        server_cpu: args.server_cpu,
        load_cpu: args.load_cpu,
        share,
    };
    open_files::allow(u64::from(way.idle_connections.max(way.connections)).saturating_add(256))?;
    let ours = Side::new("service", command.clone(), &workshop.folder, group)?;
    let answers = Answers::of(|scenario| ours.ask(scenario, scenario.method(), &way))?;
    answers.write(&workshop.folder)?;
    let mut session = Session {
        workshop,
        command,
        ours,
        answers,
        way,
        settings,
        turns: Turns::of(args.lock.as_deref())?,
        noise: Vec::new(),
        measured_seconds: 0.0,
        end: args
            .limit
            .and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds))),
    };
    let begun = jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default();
    let mut machine = Machine::read();
    let reports: Vec<PeerReport> = peers.iter().map(|peer| session.peer(peer)).collect();
    session.turns.leave()?;
    machine.load_after = machine::load();
    let report = Report {
        format: FORMAT.to_owned(),
        begun: begun.to_string(),
        seconds: session.measured_seconds,
        command: typed(),
        note: args.note.clone(),
        version: Version {
            bench: env!("CARGO_PKG_VERSION").to_owned(),
            commit: machine::commit(&session.workshop.root),
            ours: version,
        },
        machine,
        cautions: cautions(&session.settings, &reports),
        settings: session.settings,
        noise: session.noise,
        budgets: budgets::all(&reports),
        peers: reports,
    };
    publish(args, &report)?;
    let wrong = |peer: &PeerReport| peer.state == State::Failed || peer.rows.iter().any(|row| row.errors > 0);
    Ok(if report.peers.iter().any(wrong) {
        ExitCode::from(EXIT_FOUND_ERRORS)
    } else {
        ExitCode::SUCCESS
    })
}

/// The peers that take part.
fn chosen(args: &Args) -> Result<Vec<Peer>, String> {
    let mut peers = Peer::all();
    for text in &args.more {
        let (name, command) = text
            .split_once('=')
            .ok_or_else(|| format!("--peer takes NAME=COMMAND, not {text:?}"))?;
        if peers.iter().any(|peer| peer.name == name) {
            return Err(format!("there are two peers of the name {name}"));
        }
        peers.push(Peer::command(name, command));
    }
    if let Some(unknown) = args
        .only
        .iter()
        .find(|name| !peers.iter().any(|peer| peer.name == **name))
    {
        let names: Vec<_> = peers.iter().map(|peer| peer.name.as_str()).collect();
        return Err(format!("there is no peer {unknown}, but {}", names.join(", ")));
    }
    peers.retain(|peer| match args.only.is_empty() {
        true => peer.quick || !args.quick,
        false => args.only.contains(&peer.name),
    });
    Ok(peers)
}

fn settings(args: &Args) -> Result<Settings, String> {
    let seconds = args.seconds.unwrap_or(if args.quick { 0.5 } else { 1.5 });
    if !(seconds > 0.0 && seconds <= 600.0) {
        return Err(format!("--seconds takes up to 600 seconds, not {seconds}"));
    }
    if !(0.05..=1.0).contains(&args.server_share) {
        return Err(format!("--server-share takes 0.05 to 1, not {}", args.server_share));
    }
    let pairs = args.pairs.unwrap_or(if args.quick { 5 } else { 6 });
    Ok(Settings {
        quick: args.quick,
        pairs,
        seconds_closed: seconds,
        seconds_open: seconds,
        connections: args.connections,
        idle_connections: args.idle_connections,
        idle_rounds: if args.idle_connections == 0 { 0 } else { pairs.min(3) },
        server_cpu: args.server_cpu,
        load_cpu: args.load_cpu,
        server_share: args.server_share,
    })
}

/// What all peers have in common.
struct Session {
    workshop: Workshop,
    command: String,
    ours: Side,
    answers: Answers,
    way: Way,
    settings: Settings,
    turns: Turns,
    noise: Vec<Noise>,
    measured_seconds: f64,
    /// When no further peer is begun.
    end: Option<Instant>,
}

impl Session {
    /// Builds, checks and measures a peer; whatever goes wrong stands in its report, and the next one's turn comes.
    fn peer(&mut self, peer: &Peer) -> PeerReport {
        let mut report = PeerReport {
            name: peer.name.clone(),
            what: peer.what.to_owned(),
            version: None,
            fairness: peer.fairness.to_owned(),
            state: State::Measured,
            reason: None,
            command: None,
            rows: Vec::new(),
            idle: None,
        };
        if self.end.is_some_and(|end| Instant::now() >= end) {
            return self.gone(report, State::Missing, "the time of --limit was up".to_owned());
        }
        // A build is no measurement.
        if !self.workshop.no_build
            && let Err(why) = self.turns.leave()
        {
            return self.gone(report, State::Failed, why);
        }
        let contender = match self.workshop.contender(peer, &self.command, &self.answers) {
            Ok(contender) => contender,
            Err(absent) => {
                let (state, why) = match absent {
                    Absent::Missing(why) => (State::Missing, why),
                    Absent::Failed(why) => (State::Failed, why),
                };
                return self.gone(report, state, why);
            }
        };
        report.version = contender.version;
        report.command = Some(self.workshop.told(&contender.side.command_of(Scenario::Live)));
        let begun = Instant::now();
        let measured = self.measure(peer, &contender.side, &mut report);
        self.measured_seconds += begun.elapsed().as_secs_f64();
        match measured {
            Ok(()) => report,
            Err(why) => self.gone(report, State::Failed, why),
        }
    }

    fn gone(&self, report: PeerReport, state: State, why: String) -> PeerReport {
        let why = self.workshop.told(&why);
        eprintln!("{}: not measured: {why}", report.name);
        PeerReport {
            state,
            reason: Some(why),
            ..report
        }
    }

    fn measure(&mut self, peer: &Peer, other: &Side, report: &mut PeerReport) -> Result<(), String> {
        self.turns.begin()?;
        let mut asked = Vec::new();
        for scenario in Scenario::ALL {
            let method = peer.method(scenario);
            let b_answer_bytes = other.check(scenario, method, &self.way, &self.answers)?;
            asked.push(Asked {
                scenario,
                rate: peer.rate,
                request: format!("{method} {}", scenario.path()),
                a_answer_bytes: self.answers.of_scenario(scenario).bytes.len() as u64,
                b_answer_bytes,
            });
        }
        for asked in asked {
            let scenario = asked.scenario;
            let pairs = self.pairs(peer, other, scenario)?;
            if peer.kind == Kind::Itself {
                self.noise.push(Noise::of(scenario, &pairs));
            }
            let noise = self.noise.iter().find(|noise| noise.scenario == scenario);
            report.rows.extend(Row::of(asked, pairs, noise));
        }
        let (mut a_bytes, mut b_bytes) = (Vec::new(), Vec::new());
        for _ in 0..self.settings.idle_rounds {
            self.turns.begin()?;
            a_bytes.push(self.ours.idle(&self.way, &self.answers)?);
            b_bytes.push(other.idle(&self.way, &self.answers)?);
            self.turns.end()?;
        }
        if !a_bytes.is_empty() {
            report.idle = Some(Idle::of(self.way.idle_connections, a_bytes, b_bytes));
        }
        Ok(())
    }

    fn pairs(&mut self, peer: &Peer, other: &Side, scenario: Scenario) -> Result<Vec<Pair>, String> {
        let mut pairs = Vec::new();
        for index in 0..self.settings.pairs {
            self.turns.begin()?;
            let (way, answers) = (&self.way, &self.answers);
            let a = || self.ours.run(scenario, scenario.method(), peer.rate, way, answers);
            let b = || other.run(scenario, peer.method(scenario), peer.rate, way, answers);
            // What drifts with time does not fall on one of the two.
            let pair = if index % 2 == 0 {
                let a = a()?;
                Pair {
                    order: "ab".to_owned(),
                    a,
                    b: b()?,
                }
            } else {
                let b = b()?;
                Pair {
                    order: "ba".to_owned(),
                    a: a()?,
                    b,
                }
            };
            self.turns.end()?;
            eprintln!(
                "{:<13} {:<5} pair {} of {}: {:7.2} us and {:7.2} us a request, ratio {:.3}",
                peer.name,
                scenario.name(),
                index + 1,
                self.settings.pairs,
                pair.a.cpu_us_per_request,
                pair.b.cpu_us_per_request,
                pair.a.requests_per_cpu_second / pair.b.requests_per_cpu_second,
            );
            pairs.push(pair);
        }
        Ok(pairs)
    }
}

fn cautions(settings: &Settings, peers: &[PeerReport]) -> Vec<String> {
    let mut found = Vec::new();
    if settings.pairs < 5 {
        found.push(format!("{} pairs are too few to judge: take 6 or more", settings.pairs));
    }
    if settings.quick {
        found.push("a quick run: short, and without link-time optimisation on either side".to_owned());
    }
    if settings.server_cpu.is_none() || settings.load_cpu.is_none() || settings.server_cpu == settings.load_cpu {
        found.push("servers and load were not pinned to CPUs of their own (--server-cpu, --load-cpu)".to_owned());
    }
    let rows = || peers.iter().flat_map(|peer| &peer.rows);
    let half_idle = rows().filter(|row| row.a.utilisation < UTILISATION_MIN).count();
    if half_idle > 0 {
        let least = rows().map(|row| row.a.utilisation).fold(1.0, f64::min);
        found.push(format!(
            "in {half_idle} of {} rows the service was less than {:.0} % busy in the closed loop ({:.0} % at least): the \
             load was the limit, so requests/s are the load's, and CPU a request has wake-ups in it",
            rows().count(),
            UTILISATION_MIN * 100.0,
            least * 100.0
        ));
    }
    for peer in peers {
        found.extend(peer.rows.iter().flat_map(|row| row.cautions(&peer.name)));
    }
    found
}

/// Prints the report, and writes the files asked for.
fn publish(args: &Args, report: &Report) -> Result<(), String> {
    let json = sonic_rs::to_string_pretty(report).map_err(|e| format!("cannot write the report: {e}"))?;
    let page = markdown::page(report);
    let put = |path: &Path, text: &str| {
        std::fs::write(path, format!("{text}\n")).map_err(|e| format!("cannot write {}: {e}", path.display()))
    };
    if let Some(path) = &args.json {
        put(path, &json)?;
    }
    if let Some(folder) = &args.out {
        let folder = dated(folder, &report.begun, "compare")?;
        put(&folder.join("compare.json"), &json)?;
        put(&folder.join("README.md"), &page)?;
    }
    crate::print_report(false, &(), |()| page)
}
