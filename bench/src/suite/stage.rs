//! What suites have in common: servers started anew, requests asked by hand, loads run and judged.

use std::cell::Cell;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::report::{State, Step};
use crate::compare::Workshop;
use crate::group::Group;
use crate::load::{self, Document};
use crate::server::Server;
use crate::target::{RequestArgs, Target};
use crate::tiers::alike::{Heard, ask};
use crate::tiers::backends::{Backends, free_address};
use crate::told::quoted;

/// Where stories are told.
pub(super) const GENERATE: &str = "/api/v1/stories/generate";
/// The story that is asked for again and again.
pub(super) const STORY: &str = r#"{"location":"San Francisco","style":"adventure"}"#;
/// How often a story is asked for until it is at hand.
const PRIME_TRIES: u32 = 100;
/// How long a server may take until it says that it is ready.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// How a step is judged where the generator or the server comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judge {
    /// Closed loop: throughput, and CPU a request. A busy generator makes the throughput a lower bound.
    Throughput,
    /// A rate below what the server can do: a generator that was the limit makes all of it unsound.
    Latency,
    /// A rate at or beyond what the server can do: errors are expected, and a generator at its limit makes what is answered
    /// a lower bound.
    Beyond,
}

/// What a step is to do.
pub(super) struct Spec<'s> {
    pub(super) name: &'s str,
    pub(super) what: &'s str,
    /// Words of `load` besides those that every step has.
    pub(super) words: Vec<String>,
    /// Conditions of `load --fail-if`.
    pub(super) fail_if: &'s [&'s str],
    pub(super) judge: Judge,
    /// In place of the usual: warm-up and duration.
    pub(super) seconds: Option<(f64, f64)>,
}

/// A server that runs.
pub(super) struct Running {
    pub(super) server: Server,
    pub(super) address: SocketAddr,
}

impl Running {
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Asks once; the answer must be 200.
    ///
    /// # Errors
    /// It is not, or nothing comes.
    pub(super) fn ask(&self, path: &str, body: Option<&str>, headers: &[&str]) -> Result<Heard, String> {
        let target = Target::parse(&self.url(path))?;
        let request = target.request_bytes(&RequestArgs {
            method: if body.is_some() { "POST" } else { "GET" }.to_owned(),
            body: body.map(str::to_owned),
            body_file: None,
            headers: headers.iter().map(|one| (*one).to_owned()).collect(),
        })?;
        let heard = ask(self.address, &request)?;
        match heard.status {
            200 => Ok(heard),
            status => Err(format!(
                "{path} was answered {status}: {}",
                String::from_utf8_lossy(&heard.body)
            )),
        }
    }

    /// Has the story told that cached answers are of, until it comes from the cache.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn prime(&self) -> Result<Heard, String> {
        let mut last = String::new();
        // Each worker has a cache of its own, and which of them answers is the kernel's choice.
        for _ in 0..PRIME_TRIES {
            let heard = self.ask(GENERATE, Some(STORY), &[])?;
            heard.field("cache-status").clone_into(&mut last);
            if last.contains("hit") {
                return Ok(heard);
            }
        }
        Err(format!("a story told again and again is no hit: {last}"))
    }
}

/// What all suites have.
pub(super) struct Stage {
    pub(super) workshop: Workshop,
    /// Starts the service, port and all from its environment; `{port}` is filled in.
    pub(super) command: String,
    pub(super) workers: u32,
    pub(super) seconds: f64,
    pub(super) warmup: f64,
    pub(super) quick: bool,
    pub(super) soak_seconds: f64,
    pub(super) server_cpu: Option<usize>,
    pub(super) load_cpu: Option<usize>,
    /// What servers run in that have a share of a CPU, and the share.
    pub(super) group: Option<(Group, f64)>,
    /// Requests a second of the cached story.
    pub(super) capacity: Option<f64>,
    /// Where whole runs go.
    pub(super) out: Option<PathBuf>,
    pub(super) stores: Cell<u32>,
}

impl Stage {
    /// A file of this run's own.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn file(&self, name: &str, text: &[u8]) -> Result<String, String> {
        let path = self.workshop.folder.join(name);
        fs::write(&path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        Ok(path.display().to_string())
    }

    /// Starts the service on a port and with a store of its own, and waits until it is ready.
    ///
    /// # Errors
    /// It does not start.
    pub(super) fn serve(&self, env: &[(&str, &str)]) -> Result<Running, String> {
        let words = self.group.as_ref().map(|(group, _)| group.words());
        self.serve_by(&words.unwrap_or_default(), self.server_cpu, env)
    }

    /// The same behind words of the caller's, which the command's follow, and on its CPU.
    ///
    /// # Errors
    /// It does not start.
    pub(super) fn serve_by(&self, words: &str, cpu: Option<usize>, env: &[(&str, &str)]) -> Result<Running, String> {
        let address = free_address()?;
        let number = self.stores.get();
        self.stores.set(number.saturating_add(1));
        let store = self.workshop.folder.join(format!("store-{number}"));
        let mut all = vec![
            ("PORT", address.port().to_string()),
            ("HOST", address.ip().to_string()),
            ("WORKERS", self.workers.to_string()),
            ("PIN", "never".to_owned()),
            ("LOG_LEVEL", "warning".to_owned()),
            ("DATA_DIR", store.display().to_string()),
        ];
        for (name, value) in env {
            all.retain(|(known, _)| known != name);
            // Empty: as it is without.
            if !value.is_empty() {
                all.push((name, (*value).to_owned()));
            }
        }
        let assigned: String = all
            .iter()
            .map(|(name, value)| format!(" {name}={}", quoted(Path::new(value))))
            .collect();
        let command = format!(
            "{words} env -u DATABASE_URL -u REDIS_URL -u WORKERS{assigned} {}",
            self.command.replace("{port}", &address.port().to_string())
        );
        let server = Server::start(command.trim_start(), address, cpu)?;
        let running = Running { server, address };
        let begun = Instant::now();
        while let Err(why) = running.ask("/health/v2/ready", None, &[]) {
            if begun.elapsed() > READY_LIMIT {
                return Err(format!(
                    "the service is not ready after {} s: {why}",
                    READY_LIMIT.as_secs()
                ));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(running)
    }

    /// PostgreSQL and Redis; `Err` where they cannot be had.
    pub(super) fn backends(&self) -> Result<Backends, String> {
        Backends::start(self.load_cpu)
    }

    /// Runs a load against a server and judges it. What goes wrong is the step's state; the suite goes on.
    pub(super) fn step(&self, suite: &str, running: &Running, spec: &Spec<'_>) -> Step {
        self.step_on(self.load_cpu.as_slice(), suite, running, spec)
    }

    /// The same from these CPUs, a thread of the generator on each; none: one thread anywhere.
    pub(super) fn step_on(&self, cpus: &[usize], suite: &str, running: &Running, spec: &Spec<'_>) -> Step {
        let (warmup, seconds) = spec.seconds.unwrap_or((self.warmup, self.seconds));
        let mut words = spec.words.clone();
        let mut add = |name: &str, value: String| words.extend([name.to_owned(), value]);
        add("--warmup", warmup.to_string());
        add("--duration", seconds.to_string());
        add("--timeout", "10".to_owned());
        add("--server-pid", running.server.pid.to_string());
        if !cpus.is_empty() {
            let all: Vec<String> = cpus.iter().map(usize::to_string).collect();
            add("--threads", all.len().to_string());
            add("--cpus", all.join(","));
        }
        for condition in spec.fail_if {
            add("--fail-if", (*condition).to_owned());
        }
        words.push("--quiet".to_owned());
        let step = match load::step(&words) {
            Ok(document) => self.judged(suite, spec, document),
            Err(why) => Step::without_run(spec.name, spec.what, State::Broken, Some(self.workshop.told(&why))),
        };
        eprintln!(
            "{suite:<10} {:<16} {:<9} {:>8.0}/s  p50 {:.0} us, p99 {:.0} us{}",
            step.name,
            step.state.word(),
            step.requests_per_second,
            step.latency_us.p50,
            step.latency_us.p99,
            step.reasons.first().map_or(String::new(), |why| format!("  {why}"))
        );
        step
    }

    fn judged(&self, suite: &str, spec: &Spec<'_>, mut document: Document) -> Step {
        // The process id and the run's folder are of no use to who reads it.
        let command = self.workshop.told(&crate::told::line(&document.command));
        document.command = document.command.iter().map(|word| self.workshop.told(word)).collect();
        let report = &document.report;
        let mut step = Step {
            command: Some(command),
            rate: report.rate,
            requests: report.requests,
            requests_per_second: report.requests_per_second,
            is_lower_bound: spec.judge != Judge::Latency && !report.generator_limits.is_empty(),
            latency_us: report.latency_us.clone(),
            errors: report.error_count,
            first_error: report.errors.first.clone(),
            cpu_us_per_request: document.server.as_ref().map(|server| server.cpu_us_per_request),
            cpu_utilisation: document.server.as_ref().map(|server| server.cpu_utilisation),
            checks: document.thresholds.clone(),
            generator_limits: report.generator_limits.clone(),
            ..Step::without_run(spec.name, spec.what, State::Passed, None)
        };
        // Where a refusal is allowed it is told apart from what was asked for.
        let of = |class: char| {
            report
                .statuses
                .iter()
                .filter(move |(status, _)| status.starts_with(class))
        };
        if let Some(refused) = of('5').map(|(_, count)| *count).reduce(u64::saturating_add) {
            let kept = of('2').map(|(_, count)| *count).fold(0, u64::saturating_add);
            step.figures.insert("answers_of_5xx".to_owned(), refused as f64);
            step.figures.insert(
                "answers_of_2xx_per_second".to_owned(),
                kept as f64 / report.seconds.max(1e-9),
            );
        }
        if let Some(imbalance) = document.server.as_ref().and_then(|server| server.worker_imbalance)
            && imbalance > 1.0
        {
            step.figures.insert("busiest_worker_over_mean".to_owned(), imbalance);
        }
        let erred = report.error_count > 0 && spec.judge != Judge::Beyond || report.requests == 0;
        if erred {
            let first = step.first_error.as_deref().unwrap_or("no answer");
            step.reasons.push(format!("{} errors, first: {first}", step.errors));
            step.state = State::Broken;
        }
        for judged in step.checks.iter().filter(|judged| judged.failed) {
            step.state = State::Failed;
            step.reasons
                .push(format!("{} holds: {:.4}", judged.fail_if, judged.value));
        }
        // Above all else, as with `load`: what a generator at its limit sees need not be the server's doing.
        if !report.generator_limits.is_empty() {
            let limits = report.generator_limits.join("; ");
            match spec.judge {
                Judge::Throughput => {}
                Judge::Latency => {
                    step.state = State::Unsound;
                    step.reasons.push(format!("the generator was the limit: {limits}"));
                }
                Judge::Beyond => step.reasons.push(format!(
                    "the generator was the limit, so latencies are its own: {limits}"
                )),
            }
        }
        match self.keep(suite, spec.name, &document) {
            Ok(file) => step.file = file,
            Err(why) => {
                step.state = State::Broken;
                step.reasons.push(why);
            }
        }
        step
    }

    /// Writes a whole run; gives its name from the folder of the suites.
    fn keep(&self, suite: &str, name: &str, document: &Document) -> Result<Option<String>, String> {
        let Some(out) = &self.out else { return Ok(None) };
        let text = sonic_rs::to_string_pretty(document).map_err(|e| format!("cannot write the run: {e}"))?;
        let file = format!("{suite}/{name}.json");
        let folder = out.join(suite);
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(out.join(&file), format!("{text}\n")))
            .map_err(|e| format!("cannot write {file}: {e}"))?;
        Ok(Some(file))
    }

    /// Words that ask for the cached story.
    pub(super) fn cached_story(&self, running: &Running) -> Vec<String> {
        words(&["--url", &running.url(GENERATE), "--method", "POST", "--body", STORY])
    }
}

/// Holds a closed loop against the quota of its server. One that used it up did what it can, however busy the generator
/// was; of any other the throughput is a lower bound, whatever kept it waiting.
pub(super) fn hold_to_quota(step: &mut Step, quota: f64, used_min: f64) {
    let used = step.cpu_utilisation.unwrap_or(0.0) / quota;
    step.figures.insert("share_of_quota_used".to_owned(), used);
    step.is_lower_bound = used < used_min;
    if step.is_lower_bound {
        let limits = step.generator_limits.join("; ");
        let why = if limits.is_empty() {
            "though the generator was not at its limit".to_owned()
        } else {
            format!("and the generator was at its limit: {limits}")
        };
        step.reasons.push(format!(
            "the server used {:.0} % of its quota of {quota:.2} CPUs, {why}: its throughput is a lower bound",
            used * 100.0
        ));
    }
}

/// Words as `load` takes them.
pub(super) fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|word| (*word).to_owned()).collect()
}

/// A thread beside a load that ends when it is told to; what it found is given back.
///
/// # Errors
/// It could not be started, or broke down.
pub(super) fn beside<T: Send, R>(
    work: impl FnOnce(&AtomicBool) -> T + Send,
    load: impl FnOnce() -> R,
) -> Result<(R, T), String> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| work(&is_over));
        let done = load();
        is_over.store(true, Ordering::Release);
        let found = beside
            .join()
            .map_err(|_| "what ran beside the load broke down".to_owned())?;
        Ok((done, found))
    })
}
