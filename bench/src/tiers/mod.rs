//! `tiers`: two services of the same behaviour side by side, by where a story comes from: the server's own memory,
//! Redis, PostgreSQL, told and kept, and a mix of all. Both with the same PostgreSQL and Redis, in one run, in turns.
//!
//! First it is looked at whether they are the same service (`alike`). Then each run starts its server anew and asks for
//! stories that this process has not seen, so that every answer comes from the tier that the row names; the answer's
//! Cache-Status must say so, or it is an error.

pub(crate) mod alike;
pub(crate) mod backends;
mod report;
mod side;
pub(crate) mod wishes;

use std::process::ExitCode;

use backends::Backends;
use report::{Pair, Report, Row, line, text};
use side::{Errand, Setup, Side};
use wishes::Draw;

use crate::answer::Told;
use crate::load::Requests;
use crate::{EXIT_FOUND_ERRORS, clock};

/// Bytes of each server's own cache: the service's default.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// The same in the mix, where it is to hold a part of what is asked for.
const CACHE_BYTES_OF_MIX: u64 = 8 * 1024 * 1024;
/// Wishes that the row `l1` goes round.
const AT_HAND: u32 = 200;
/// Of the mix: one wish of so many has not been told before.
const UNTOLD_OF: u32 = 50;
/// Where each new wish begins, above all that were told ahead.
const NEW_FROM: u32 = 100_000_000;

/// Compare two story services by where the story comes from: own memory, Redis, PostgreSQL, told and kept
///
/// Starts PostgreSQL and Redis in a folder of its own, has stories told ahead, and for each row measures A and B in
/// turns: A, B, B, A ... Each run starts its server anew (on --server-cpu, one worker; the load and the databases on
/// --load-cpu), warms it, asks in a closed loop for --duration seconds (requests per CPU-second, from the exact run time
/// of all its threads), and as long again at a constant rate (p50, p99). Every answer must be 200 and name the row's
/// tier in Cache-Status. Before that it is checked that both tell the same stories and read what the other has kept.
#[derive(clap::Args)]
#[command(after_help = "Example:
  roadtrip-bench tiers --a-cmd 'target/max/roadtrip-api serve' --a-name ours \\
      --b-cmd target/peers/release/peer-axum --b-name axum")]
pub(crate) struct Args {
    /// Command that starts server A; it gets PORT, HOST, DATABASE_URL, REDIS_URL, WORKERS=1 and CACHE_BYTES
    #[arg(long)]
    a_cmd: String,
    /// Name of A in the report
    #[arg(long, default_value = "A")]
    a_name: String,
    /// Command that starts server B
    #[arg(long)]
    b_cmd: String,
    /// Name of B in the report
    #[arg(long, default_value = "B")]
    b_name: String,
    /// Rows to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Kind::ALL)]
    rows: Vec<Kind>,
    /// Pairs of runs; medians of fewer than 5 are not quoted as results
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pairs: u32,
    /// Seconds of each of a run's two loads
    #[arg(long, short = 'd', default_value_t = 1.5)]
    duration: f64,
    /// Connections
    #[arg(long, short = 'c', default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Stories told ahead: what the rows `redis` and `store` can ask for in one run
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(400..=1_000_000))]
    stories: u32,
    /// Wishes of each run's warm-up
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    warmup: u32,
    /// Requests per second of the second load, in place of each row's own
    #[arg(long)]
    rate: Option<f64>,
    /// CPU that the servers are pinned to
    #[arg(long)]
    server_cpu: Option<usize>,
    /// CPU that the load, PostgreSQL and Redis run on
    #[arg(long)]
    load_cpu: Option<usize>,
    /// Exit with code 1 where a row's ratio is below this
    #[arg(long)]
    min_ratio: Option<f64>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// A row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Kind {
    /// In the server's own memory
    L1,
    /// In Redis, and not yet in the server's own memory
    Redis,
    /// In PostgreSQL alone: Redis is empty, and gets the story
    Store,
    /// All of them by Zipf's law: some wishes come again and again, many once, one in 50 is new
    Mix,
    /// Told now, and kept before it is answered
    Told,
}

impl Kind {
    /// In the order in which one leaves the databases as the next needs them.
    const ALL: [Self; 5] = [Self::L1, Self::Redis, Self::Store, Self::Mix, Self::Told];

    fn name(self) -> &'static str {
        match self {
            Self::L1 => "l1",
            Self::Redis => "redis",
            Self::Store => "store",
            Self::Mix => "mix",
            Self::Told => "told",
        }
    }

    /// Where each answer must come from.
    fn expect(self) -> Option<Told> {
        match self {
            Self::L1 => Some(Told::Hit),
            Self::Redis => Some(Told::Redis),
            Self::Store => Some(Told::Store),
            Self::Told => Some(Told::Stored),
            Self::Mix => None,
        }
    }

    /// Requests a second of the second load: a fifth or less of what one core answers, or of what a disk commits.
    fn rate(self) -> f64 {
        match self {
            Self::L1 => 5000.0,
            Self::Redis => 2000.0,
            Self::Store => 1000.0,
            Self::Mix => 2000.0,
            Self::Told => 300.0,
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    if !(args.duration > 0.0 && args.duration <= 600.0) {
        return Err(format!("--duration takes up to 600 seconds, not {}", args.duration));
    }
    let backends = Backends::start(args.load_cpu)?;
    let setup = Setup {
        args,
        backends: &backends,
    };
    let side = |name: &str, command: &str| -> Result<Side, String> {
        Ok(Side {
            name: name.to_owned(),
            command: command.to_owned(),
            address: backends::free_address()?,
        })
    };
    let (a, b) = (side(&args.a_name, &args.a_cmd)?, side(&args.b_name, &args.b_cmd)?);
    // The tables are made by the first that serves.
    drop(setup.serve(&a, CACHE_BYTES)?);
    alike::check(&setup, &backends, [&a, &b])?;
    eprintln!("both tell the same stories, and read what the other has kept");
    let mut rows = args.rows.clone();
    rows.sort();
    rows.dedup();
    let mut table = Table {
        setup: &setup,
        told_ahead: 0,
        newest: String::new(),
        new_from: NEW_FROM,
    };
    if rows.iter().any(|&row| row != Kind::Told) {
        table.tell_ahead(&a)?;
    }
    let mut measured = Vec::new();
    for kind in rows {
        measured.push(table.row(kind, &a, &b)?);
    }
    let report = Report {
        cautions: cautions(args, &measured),
        a: args.a_name.clone(),
        b: args.b_name.clone(),
        a_command: args.a_cmd.clone(),
        b_command: args.b_cmd.clone(),
        connections: args.connections,
        seconds_per_load: args.duration,
        stories: args.stories,
        rows: measured,
    };
    crate::print_report(args.json, &report, text)?;
    let failed = report.rows.iter().any(|row| row.errors > 0);
    let missed = args
        .min_ratio
        .is_some_and(|least| report.rows.iter().any(|row| row.ratio < least));
    if missed {
        eprintln!("a ratio is below --min-ratio");
    }
    Ok(if failed || missed {
        ExitCode::from(EXIT_FOUND_ERRORS)
    } else {
        ExitCode::SUCCESS
    })
}

fn cautions(args: &Args, rows: &[Row]) -> Vec<String> {
    let mut found = Vec::new();
    if args.pairs < 5 {
        found.push(format!("{} pairs are too few for a result: take 5 or more", args.pairs));
    }
    if args.server_cpu.is_none() || args.load_cpu.is_none() || args.server_cpu == args.load_cpu {
        found.push("server and load were not pinned to CPUs of their own".to_owned());
    }
    found.extend(rows.iter().flat_map(Row::cautions));
    found
}

/// The rows' common state.
struct Table<'a> {
    setup: &'a Setup<'a>,
    /// Wishes below this are in PostgreSQL.
    told_ahead: u32,
    /// The id of the last of them.
    newest: String,
    /// Wishes from here on have never been asked for.
    new_from: u32,
}

impl Table<'_> {
    /// Has the stories told that the rows ask for, by A, and written to Redis.
    fn tell_ahead(&mut self, a: &Side) -> Result<(), String> {
        let (args, backends) = (self.setup.args, self.setup.backends);
        backends.forget_all()?;
        let begun_ns = clock::now_ns();
        let _server = self.setup.serve(a, CACHE_BYTES)?;
        let count = args.stories;
        let requests = wishes::requests(&a.target()?, 0..count, (0..count).collect(), false)?;
        let told = self.setup.load(a, requests, Some(Told::Stored), None, 600.0)?;
        if told.error_count > 0 || told.requests != u64::from(count) {
            let first = told.errors.first.unwrap_or_default();
            return Err(format!(
                "{} of {count} stories could be told ahead: {first}",
                told.requests
            ));
        }
        self.told_ahead = count;
        self.newest = backends.sql("SELECT id FROM stories ORDER BY id DESC LIMIT 1")?;
        backends.sql("VACUUM ANALYZE stories")?;
        backends.wait_for_redis(2 * count as usize)?;
        let seconds = clock::now_ns().saturating_sub(begun_ns) as f64 / 1e9;
        eprintln!("{count} stories told ahead in {seconds:.1} s");
        Ok(())
    }

    /// Measures a row.
    fn row(&mut self, kind: Kind, a: &Side, b: &Side) -> Result<Row, String> {
        let args = self.setup.args;
        let rate = args.rate.unwrap_or(kind.rate());
        let mut pairs = Vec::new();
        for index in 0..args.pairs {
            // ABBA: what drifts with time does not fall on one of the two. Both are asked for the same.
            let order = if index % 2 == 0 { [a, b] } else { [b, a] };
            let mut runs = Vec::new();
            for side in order {
                self.reset(kind)?;
                let errand = self.errand(kind, side, u64::from(index), rate)?;
                runs.push(self.setup.run(side, errand)?);
            }
            self.new_from = self.new_from.saturating_add(1_000_000);
            if index % 2 == 1 {
                runs.reverse();
            }
            let (Some(of_b), Some(of_a)) = (runs.pop(), runs.pop()) else {
                return Err("a pair has two runs".to_owned());
            };
            let pair = Pair {
                ratio: of_a.requests_per_cpu_second / of_b.requests_per_cpu_second,
                a: of_a,
                b: of_b,
            };
            eprintln!(
                "{:<6} pair {} of {}: {}",
                kind.name(),
                index + 1,
                args.pairs,
                line(&pair)
            );
            pairs.push(pair);
        }
        Ok(Row::new(kind.name(), rate, pairs))
    }

    /// Brings the databases to where each run of the row begins.
    fn reset(&self, kind: Kind) -> Result<(), String> {
        let backends = self.setup.backends;
        match kind {
            Kind::L1 | Kind::Redis => {}
            Kind::Store => drop(backends.redis("FLUSHALL")?),
            Kind::Mix => {
                backends.redis("FLUSHALL")?;
                backends.sql(&format!("DELETE FROM stories WHERE id > '{}'", self.newest))?;
                backends.sql("VACUUM stories")?;
            }
            Kind::Told => {
                backends.forget_all()?;
                backends.sql("CHECKPOINT")?;
            }
        }
        Ok(())
    }

    /// What a run of the row asks.
    fn errand(&self, kind: Kind, side: &Side, run: u64, rate: f64) -> Result<Errand, String> {
        let (args, target) = (self.setup.args, side.target()?);
        let all = self.told_ahead;
        let warm_count = match kind {
            // Telling is slow, and a few have shown all of it.
            Kind::Told => args.warmup / 8 + 1,
            Kind::L1 => AT_HAND,
            _ => args.warmup.min(all / 8),
        };
        let open_count = (rate * args.duration).ceil() as usize + 1;
        let in_turn = |numbers: std::ops::Range<u32>| {
            let count = numbers.end.saturating_sub(numbers.start);
            wishes::requests(&target, numbers, (0..count).collect(), false)
        };
        let series = |requests: &[Vec<u8>], order: &[u32]| {
            Requests::series(requests.iter().map(Vec::as_slice), order.to_vec(), false)
        };
        let (warm, closed, open) = match kind {
            Kind::L1 => {
                let round = wishes::requests(&target, 0..AT_HAND, (0..AT_HAND).collect(), true)?;
                (in_turn(0..AT_HAND)?, round.clone(), round)
            }
            Kind::Redis | Kind::Store => {
                let requests = (0..all)
                    .map(|number| wishes::request(&target, wishes::body(number)))
                    .collect::<Result<Vec<_>, _>>()?;
                let order = Draw(run).shuffled(all);
                let (warm, rest) = order.split_at_checked(warm_count as usize).unwrap_or_default();
                let Some((closed, open)) = rest
                    .len()
                    .checked_sub(open_count)
                    .and_then(|at| rest.split_at_checked(at))
                else {
                    return Err(format!("--stories {all} are too few for a rate of {rate}"));
                };
                (
                    series(&requests, warm),
                    series(&requests, closed),
                    series(&requests, open),
                )
            }
            Kind::Mix => {
                // One in `UNTOLD_OF` is a new one in the place of its number.
                let requests = (0..all)
                    .map(|number| match number % UNTOLD_OF {
                        last if last == UNTOLD_OF - 1 => self.new_from.saturating_add(number),
                        _ => number,
                    })
                    .map(|number| wishes::request(&target, wishes::body(number)))
                    .collect::<Result<Vec<_>, _>>()?;
                let ranks = Draw(run).shuffled(all);
                let mut draw = Draw(run.saturating_add(1000));
                let mut drawn = |count: usize| -> Vec<u32> {
                    let places = draw.zipf(all, count).into_iter();
                    places.filter_map(|rank| ranks.get(rank as usize).copied()).collect()
                };
                let warm = drawn(warm_count as usize);
                let closed = drawn(all as usize * 4);
                let open = drawn(open_count);
                (
                    series(&requests, &warm),
                    series(&requests, &closed),
                    series(&requests, &open),
                )
            }
            Kind::Told => {
                let at = |offset: u32| self.new_from.saturating_add(offset);
                let warm_end = at(warm_count);
                let open_end = warm_end.saturating_add(u32::try_from(open_count).unwrap_or(u32::MAX));
                let closed_end = open_end.saturating_add((args.duration * 20_000.0) as u32 + 1000);
                (
                    in_turn(at(0)..warm_end)?,
                    in_turn(open_end..closed_end)?,
                    in_turn(warm_end..open_end)?,
                )
            }
        };
        Ok(Errand {
            warm,
            warm_count: warm_count as usize,
            closed,
            open,
            rate,
            expect: kind.expect(),
            cache_bytes: if kind == Kind::Mix {
                CACHE_BYTES_OF_MIX
            } else {
                CACHE_BYTES
            },
        })
    }
}
