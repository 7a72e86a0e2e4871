//! `arena`: what public comparisons of web frameworks ask, each with this service's own answers. Where the API has no
//! such thing it is said: there is no route that changes or deletes a story, so CRUD is create, read and list.

use std::time::Duration;

use super::report::{State, Step};
use super::stage::{GENERATE, Judge, Running, STORY, Spec, Stage, words};
use crate::load::{self, Plan};
use crate::target::Target;
use crate::tiers::backends::Backends;
use crate::tiers::wishes;
use crate::{clock, idle, open_files};

const NAME: &str = "arena";
/// Sizes of bodies, up to the service's limit of 64 KiB.
const UPLOADS: [(&str, usize); 3] = [
    ("upload-1k", 1024),
    ("upload-16k", 16 * 1024),
    ("upload-64k", 64 * 1024),
];
/// Stories told ahead for the databases.
const TOLD: u32 = 8000;
const TOLD_QUICK: u32 = 500;
const TELL_ROUNDS: u32 = 5;
/// Idle connections, and how many descriptors are left to everything else.
const IDLE: u64 = 10_000;
const SPARE_FILES: u64 = 256;

pub(super) fn run(stage: &Stage) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    {
        let running = stage.serve(&[])?;
        let story = running.prime()?;
        plain(stage, &running, &mut steps);
        by_id(stage, &running, story.field("content-location"), &mut steps);
        compressed(stage, &running, &mut steps);
        uploads(stage, &running, &mut steps)?;
    }
    match stage.backends() {
        Ok(backends) => {
            if let Err(why) = databases(stage, &backends, &mut steps) {
                steps.push(Step::without_run(
                    "databases",
                    "PostgreSQL and Redis",
                    State::Broken,
                    Some(why),
                ));
            }
        }
        Err(why) => steps.push(Step::without_run(
            "databases",
            "PostgreSQL and Redis",
            State::Skipped,
            Some(why),
        )),
    }
    steps.push(idle_connections(stage));
    Ok(steps)
}

fn throughput<'s>(name: &'s str, what: &'s str, words: Vec<String>) -> Spec<'s> {
    Spec {
        name,
        what,
        words,
        fail_if: &[],
        judge: Judge::Throughput,
        seconds: None,
    }
}

fn plain(stage: &Stage, running: &Running, steps: &mut Vec<Step>) {
    let live = running.url("/health/v2/live");
    let url = |more: &[&str]| {
        let mut all = words(&["--url", &live, "-c", "64"]);
        all.extend(words(more));
        all
    };
    for (name, what, words) in [
        ("baseline", "GET /health/v2/live, 64 kept connections", url(&[])),
        (
            "pipelined",
            "the same, 16 requests under way on each",
            url(&["--pipeline", "16"]),
        ),
        (
            "short-lived",
            "the same, a connection for each request",
            url(&["--short-lived"]),
        ),
        ("json", "a cached story of 2.7 kB, by POST", stage.cached_story(running)),
    ] {
        steps.push(stage.step(NAME, running, &throughput(name, what, words)));
    }
}

fn by_id(stage: &Stage, running: &Running, location: &str, steps: &mut Vec<Step>) {
    let url = running.url(location);
    let spec = throughput("json-by-id", "a story by its id", words(&["--url", &url]));
    steps.push(stage.step(NAME, running, &spec));
}

fn compressed(stage: &Stage, running: &Running, steps: &mut Vec<Step>) {
    for (name, coding) in [("gzip", "gzip"), ("br", "br")] {
        let field = format!("Accept-Encoding: {coding}");
        let what = format!("the cached story with {field}");
        // The load looks at framing, not at codings: that is done here.
        let bytes = match running.ask(GENERATE, Some(STORY), &[&field]) {
            Ok(heard) if heard.field("content-encoding") == coding => heard.body.len(),
            Ok(_) => {
                let why = format!("{coding} was asked for, and the answer does not have it");
                steps.push(Step::without_run(name, &what, State::Failed, Some(why)));
                continue;
            }
            Err(why) => {
                steps.push(Step::without_run(name, &what, State::Broken, Some(why)));
                continue;
            }
        };
        let mut words = stage.cached_story(running);
        words.extend(["--header".to_owned(), field.clone()]);
        let mut step = stage.step(NAME, running, &throughput(name, &what, words));
        step.figures.insert("body_bytes".to_owned(), bytes as f64);
        steps.push(step);
    }
}

/// The one route that takes bodies takes them with white space up to its limit.
fn uploads(stage: &Stage, running: &Running, steps: &mut Vec<Step>) -> Result<(), String> {
    for (name, size) in UPLOADS {
        let mut body = STORY.trim_end_matches('}').to_owned();
        body.push_str(&" ".repeat(size.saturating_sub(body.len()).saturating_sub(1)));
        body.push('}');
        let file = stage.file(&format!("{name}.json"), body.as_bytes())?;
        let url = running.url(GENERATE);
        let words = words(&["--url", &url, "--method", "POST", "--body-file", &file, "-c", "16"]);
        let what = format!("POST of {size} bytes, answered from the cache");
        let mut step = stage.step(NAME, running, &throughput(name, &what, words));
        let bytes = step.requests_per_second * size as f64;
        step.figures.insert("upload_bytes_per_second".to_owned(), bytes);
        steps.push(step);
    }
    Ok(())
}

/// Has so many different stories told and kept. A server that sheds new stories while it is busy is asked again.
fn tell(stage: &Stage, running: &Running, count: u32) -> Result<(), String> {
    let mut why = String::new();
    for _ in 0..TELL_ROUNDS {
        match told(stage, running, count)? {
            None => return Ok(()),
            Some(first) => why = first,
        }
    }
    Err(format!("{count} stories could not be told ahead: {why}"))
}

/// Asks for each of them once; gives the first error.
fn told(stage: &Stage, running: &Running, count: u32) -> Result<Option<String>, String> {
    let target = Target::parse(&running.url(GENERATE))?;
    let told = load::measure(&Plan {
        address: running.address,
        requests: wishes::requests(&target, 0..count, (0..count).collect(), false)?,
        expect: None,
        head_request: false,
        connections: 8,
        threads: 1,
        duration_ns: 300 * clock::SECOND_NS,
        warmup_ns: 0,
        rate: None,
        connect_timeout_ns: 10 * clock::SECOND_NS,
        timeout_ns: 30 * clock::SECOND_NS,
        cpus: stage.load_cpu.into_iter().collect(),
    })?;
    Ok((told.error_count > 0).then(|| told.errors.first.unwrap_or_default()))
}

/// A scenario of this run's own; gives words that load it.
fn scenario(stage: &Stage, running: &Running, name: &str, text: &str) -> Result<Vec<String>, String> {
    let file = stage.file(&format!("{name}.toml"), format!("name = \"{name}\"\n{text}").as_bytes())?;
    Ok(words(&["--url", &running.url(""), "--scenario", &file, "-c", "32"]))
}

fn databases(stage: &Stage, backends: &Backends, steps: &mut Vec<Step>) -> Result<(), String> {
    let count = if stage.quick { TOLD_QUICK } else { TOLD };
    let (database, redis) = (backends.database_url(), backends.redis_url());
    // Without a cache of its own, so that every answer is PostgreSQL's, and then Redis'.
    let own = [("DATABASE_URL", database.as_str()), ("CACHE_BYTES", "0")];
    let both = [own[0], own[1], ("REDIS_URL", redis.as_str()), ("REDIS_TIMEOUT", "2")];
    tell(stage, &stage.serve(&both)?, count)?;
    // It writes a story and its wish to Redis, behind its answers.
    backends.wait_for_redis(2 * count as usize)?;
    let told: String = (0..count).map(|number| wishes::body(number) + "\n").collect();
    backends.sql("VACUUM ANALYZE stories")?;
    let ids = backends.sql(&format!("SELECT id FROM stories ORDER BY id LIMIT {count}"))?;
    let first = ids
        .lines()
        .next()
        .ok_or("PostgreSQL has none of the stories told ahead")?;
    uuid_alone(first)?;
    stage.file("ids.txt", ids.as_bytes())?;
    stage.file("told.txt", told.as_bytes())?;
    {
        let running = stage.serve(&both)?;
        let text = format!(
            "[data.wish]\nfile = \"told.txt\"\nin_turn = true\n[[request]]\nname = \"redis\"\nmethod = \"POST\"\npath = \"{GENERATE}\"\n\
             body = '{{{{wish}}}}'\ncache_status = \"redis\"\n"
        );
        let words = scenario(stage, &running, "redis", &text)?;
        let spec = throughput("redis", "stories from Redis, none in the server's own cache", words);
        steps.push(stage.step(NAME, &running, &spec));
    }
    let running = stage.serve(&own)?;
    let (data, read, list) = (
        "[data.id]\nfile = \"ids.txt\"\nzipf = 0.9\n[data.number]\nrange = [0, 10000000]\nin_turn = true\n",
        "[[request]]\nname = \"read\"\nweight = 8\npath = \"/api/v1/stories/{{id}}\"\n",
        "[[request]]\nname = \"list\"\nweight = 1\npath = \"/api/v1/stories?style=history&limit=20\"\n",
    );
    // Digits before the number: no wish of one step is one of another's, or of those told ahead.
    let create = |digits: u32| {
        format!(
            "[[request]]\nname = \"create\"\nweight = 1\nmethod = \"POST\"\npath = \"{GENERATE}\"\n\
             body = '{{\"location\":\"Paris\",\"length\":\"short\",\"variation\":{digits}{{{{number}}}}}}'\nstatus = [200, 503]\n"
        )
    };
    for (name, what, requests) in [
        ("crud-read", "stories by id from PostgreSQL", read.to_owned()),
        ("crud-list", "pages of 20 of a style from PostgreSQL", list.to_owned()),
        (
            "crud-create",
            "new stories, kept in PostgreSQL before they are answered",
            create(71),
        ),
        (
            "crud-mix",
            "8 reads, 1 page, 1 new story; the API changes and deletes none",
            format!("{read}{list}{}", create(72)),
        ),
    ] {
        let words = scenario(stage, &running, name, &format!("{data}{requests}"))?;
        steps.push(stage.step(NAME, &running, &throughput(name, what, words)));
    }
    Ok(())
}

/// An id that may stand in a path.
fn uuid_alone(id: &str) -> Result<(), String> {
    let fits = id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    fits.then_some(()).ok_or_else(|| format!("{id:?} is no id of a story"))
}

fn idle_connections(stage: &Stage) -> Step {
    let (name, what) = (
        "idle-10k",
        "bytes of resident memory that an idle connection costs, each used once",
    );
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .maximum
        .unwrap_or(u64::MAX);
    let count = IDLE.min(limit.saturating_sub(SPARE_FILES));
    let measure = || -> Result<(idle::Cost, usize), String> {
        // The server inherits the limit.
        open_files::allow(count.saturating_add(SPARE_FILES))?;
        let most = count.saturating_add(1000).to_string();
        let running = stage.serve(&[("CONNECTIONS_MAX", &most), ("CONNECTIONS_PER_ADDRESS", "0")])?;
        let target = Target::parse(&running.url("/health/v2/live"))?;
        let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", target.path, target.authority);
        let cost = idle::Cost::measure(&idle::Question {
            pid: running.server.pid,
            address: running.address,
            request: request.as_bytes(),
            head: false,
            warmup: 64,
            connections: usize::try_from(count).unwrap_or(0),
            settle: Duration::from_millis(300),
        })?;
        let closed = cost.closed_by_server;
        Ok((cost, closed))
    };
    match measure() {
        Err(why) => Step::without_run(name, what, State::Broken, Some(why)),
        Ok((cost, closed)) => {
            let mut step = Step::without_run(name, what, State::Passed, None);
            step.figures.insert("connections".to_owned(), count as f64);
            step.figures
                .insert("rss_bytes_per_connection".to_owned(), cost.rss_per_connection());
            step.check("closed_by_server>0", closed as f64, closed > 0);
            step
        }
    }
}
