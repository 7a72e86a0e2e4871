//! `load` itself: runs what the command line asks for, says what came of it, and how sure that is.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;

use super::accounting::Accountant;
use super::args::Args;
use super::arrivals::Law;
use super::engine::{self, Job, Measured, Moment};
use super::output::document::{Document, Opening, Verdict};
use super::output::{files, live::Live};
use super::prepare::prepare;
use super::profile::Profile;
use super::report::Report;
use super::search::{self, Search};
use super::threshold::Threshold;
use crate::clock::SECOND_NS;
use crate::{EXIT_FOUND_ERRORS, EXIT_GENERATOR_LIMIT, EXIT_MISSED_THRESHOLD, open_files};

/// Descriptors that this process needs besides the connections.
const SPARE_FILES: u64 = 128;

/// A run, and all that is known of it.
struct Run {
    job: Arc<Job>,
    measured: Measured,
    document: Document,
}

/// Runs what is asked for, and judges it.
fn carried_out(args: &Args) -> Result<Run, String> {
    let prepared = prepare(args)?;
    open_files::allow(u64::from(prepared.job.connections).saturating_add(SPARE_FILES))?;
    let opening = Opening::new(args.url.clone(), prepared.name);
    let mut run = if args.search.is_empty() {
        once(args, &opening, Arc::new(prepared.job))?
    } else {
        searched(args, &opening, &prepared.job)?
    };
    let names = run.job.source.class_names();
    for condition in &args.fail_if {
        let judged = condition.judge(&run.document.report, &names, &run.measured)?;
        run.document.thresholds.push(judged);
    }
    run.document.verdict = verdict(args, &run.document);
    Ok(run)
}

/// A run by the words of a command line, for other subcommands: the same engine in this process, the same report.
///
/// # Errors
/// Words that are none, or nothing could be measured.
pub(crate) fn step(words: &[String]) -> Result<Document, String> {
    let args = Words::try_parse_from(words).map_err(|e| e.to_string())?.args;
    let mut document = carried_out(&args)?.document;
    document.command = ["roadtrip-bench", "load"]
        .into_iter()
        .map(str::to_owned)
        .chain(words.iter().cloned())
        .collect();
    Ok(document)
}

/// A command line without the program's name.
#[derive(clap::Parser)]
#[command(no_binary_name = true)]
struct Words {
    #[command(flatten)]
    args: Args,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    let run = carried_out(args)?;
    leave(args, &run)?;
    crate::print_report(args.json, &run.document, |document| {
        let mut text = document.text();
        let verdict = &document.verdict;
        if verdict.exit_code != 0 {
            let word = if verdict.sound { "failed" } else { "not sound" };
            let reasons = verdict.reasons.join("; ");
            text.push_str(&format!(
                "\nverdict       {word} (exit code {}): {reasons}",
                verdict.exit_code
            ));
        }
        text
    })?;
    Ok(ExitCode::from(run.document.verdict.exit_code))
}

/// One run with everything around it.
fn once(args: &Args, opening: &Opening, job: Arc<Job>) -> Result<Run, String> {
    let mut accountant = match args.server_pid.as_deref() {
        None => None,
        Some("auto") => Some(Accountant::new(None, job.address, args.syscalls)?),
        Some(pid) => {
            let pid = pid
                .parse()
                .map_err(|_| format!("{pid:?} is no process id: a number, or auto"))?;
            Some(Accountant::new(Some(pid), job.address, args.syscalls)?)
        }
    };
    let title = format!("{} {}", opening.url, opening.name);
    let mut live = Live::new(&job, title, args.quiet);
    let mut trouble = None;
    let measured = engine::run(&job, |moment| match moment {
        Moment::Interval(snapshot) => {
            if let Some(live) = &mut live {
                live.add(snapshot);
            }
        }
        Moment::Connected | Moment::Answered => {
            if let Some(accountant) = &mut accountant
                && trouble.is_none()
            {
                trouble = match moment {
                    Moment::Connected => accountant.connected(),
                    _ => accountant.answered(),
                }
                .err();
            }
        }
    })?;
    let report = Report::of(&job, &measured);
    let requests = report.requests_with_warmup;
    let mut document = Document::new(opening, &job, &measured, report)?;
    if let Some(why) = trouble {
        return Err(format!("cannot account for the server: {why}"));
    }
    let kept_open = !job.short_lived && job.spawn_rate.is_none();
    document.server = accountant
        .map(|accountant| accountant.accounts(requests, job.connections, kept_open))
        .transpose()?;
    Ok(Run {
        job,
        measured,
        document,
    })
}

/// What of the goal is missed.
fn missed(goal: &[Threshold], run: &Run) -> Result<Vec<String>, String> {
    let names = run.job.source.class_names();
    let mut missed = Vec::new();
    for condition in goal {
        let judged = condition.judge(&run.document.report, &names, &run.measured)?;
        if judged.failed {
            missed.push(judged.fail_if);
        }
    }
    Ok(missed)
}

fn searched(args: &Args, opening: &Opening, job: &Job) -> Result<Run, String> {
    let seconds = job.duration_ns as f64 / SECOND_NS as f64;
    let plan = search::Plan {
        from: args.search_from,
        most: args.search_max,
        within: args.search_within.clamp(0.001, 0.5),
        accept_limits: args.accept_generator_limits,
    };
    let mut last: Option<Run> = None;
    let goal = args.search.iter().map(ToString::to_string).collect();
    let rest = Duration::try_from_secs_f64(args.search_rest).map_err(|e| format!("--search-rest: {e}"))?;
    let found = search::search(&plan, goal, |rate| {
        if last.is_some() {
            std::thread::sleep(rest);
        }
        let profile = Profile::flat(rate, seconds)?;
        let law = match &job.law {
            Law::Poisson(_) => Law::Poisson(profile),
            _ => Law::Constant(profile),
        };
        if !args.quiet {
            eprintln!("trial at {rate:.0} requests/s");
        }
        let run = once(args, opening, Arc::new(Job { law, ..job.clone() }))?;
        let why = missed(&args.search, &run)?;
        let report = run.document.report.clone();
        last = Some(run);
        Ok(search::Found { report, why })
    })?;
    let mut run = last.ok_or("no rate was tried")?;
    run.document.search = Some(found);
    Ok(run)
}

fn verdict(args: &Args, document: &Document) -> Verdict {
    let report = &document.report;
    let mut reasons = Vec::new();
    let limit = match &document.search {
        Some(search) => search.generator_limit.clone().into_iter().collect(),
        None => report.generator_limits.clone(),
    };
    let limited = !limit.is_empty() && !args.accept_generator_limits;
    reasons.extend(
        limit
            .into_iter()
            .map(|why| format!("the generator was the limit: {why}")),
    );
    let failed: Vec<String> = document
        .thresholds
        .iter()
        .filter(|judged| judged.failed)
        .map(|judged| format!("{} holds: {:.4}", judged.fail_if, judged.value))
        .collect();
    let lost = document
        .search
        .as_ref()
        .is_some_and(|s: &Search| s.found_rate.is_none() || !s.confirmed);
    let missed = !failed.is_empty() || lost;
    reasons.extend(failed);
    if lost {
        reasons.push("no rate keeps what was searched for".to_owned());
    }
    let of_errors = args.fail_if.iter().chain(&args.search).any(Threshold::is_of_errors);
    // Where conditions speak of errors, they alone decide; a run without one answer is no success by any.
    let erred = report.error_count > 0 && !of_errors || report.requests == 0;
    if erred {
        let first = report.errors.first.as_deref().unwrap_or("no answer");
        reasons.push(format!("{} errors; first: {first}", report.error_count));
    }
    let exit_code = match (limited, missed, erred) {
        (true, ..) => EXIT_GENERATOR_LIMIT,
        (_, true, _) => EXIT_MISSED_THRESHOLD,
        (_, _, true) => EXIT_FOUND_ERRORS,
        _ => 0,
    };
    Verdict {
        sound: !limited,
        exit_code,
        reasons,
    }
}

/// Writes the files.
fn leave(args: &Args, run: &Run) -> Result<(), String> {
    if let Some(path) = &args.json_file {
        let text = sonic_rs::to_string_pretty(&run.document).map_err(|e| format!("cannot write the report: {e}"))?;
        files::write(path, text.as_bytes())?;
    }
    if let Some(path) = &args.csv {
        files::write(path, files::csv(&run.document).as_bytes())?;
    }
    if let Some(path) = &args.hgrm {
        files::write(path, files::hgrm(&run.document.report.latency).as_bytes())?;
    }
    if let Some(path) = &args.hlog {
        files::write(path, &files::interval_log(&run.job, &run.measured)?)?;
    }
    Ok(())
}
