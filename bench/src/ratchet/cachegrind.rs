//! A server under cachegrind, from its start to its total. Only its counter is used: no cache is simulated. callgrind
//! counts the same (0.1 % more or less), in more time.
//!
//! valgrind shows a program its own list of auxiliary values, without the vDSO, which it cannot follow. Since Linux 6.4
//! prctl(2) has another way to the list, which rustix takes and valgrind does not know; so it is refused to the server,
//! and rustix reads /proc/self/auxv, as before.
//!
//! On epoll: valgrind 3.19 lets io_uring through, but the two drivers differ by little, and epoll is there everywhere.
//! One connection asks and waits, so that each request is one turn of the worker whatever the machine's mood; asked in a
//! rush, turns would share work and the count would move.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::scenario::Scenario;

/// Requests of the shorter run, which both have: caches, pools and buffers are as they stay by then.
pub(super) const WARMUP_REQUESTS: u32 = 500;
/// How long a server under cachegrind may take to listen, or to end; it is some fifty times slower there.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long it may take to answer once.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// What a thread in the background may take to compress a story that was asked for in a coding, beside the first answer.
const SETTLE: Duration = Duration::from_millis(500);

/// What one run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    /// Instructions of the whole process, user space.
    pub(super) instructions: u64,
    /// Answers to the scenario's own requests.
    pub(super) answers: u32,
}

/// Runs the server for `requests` writes of the scenario.
///
/// # Errors
/// valgrind is missing, the server does not start, answer or end as it should, or an answer is not the one meant.
pub(super) fn count(server: &Path, scenario: &Scenario, requests: u32, keep: Option<&Path>) -> Result<Counts, String> {
    let folder = Folder::new(scenario.name, requests, keep)?;
    let mut running = Running::start(server, &folder)?;
    let mut client = running.connect()?;
    for before in &scenario.before {
        client.ask(before, 1)?;
    }
    // The first answer may come plain while its coding is made.
    client.ask(&scenario.request, scenario.answers)?;
    std::thread::sleep(SETTLE);
    for _ in 1..requests {
        client.ask(&scenario.request, scenario.answers)?;
    }
    let head = client.last_head();
    if let Some(missing) = scenario.marks.iter().find(|mark| !head.contains(**mark)) {
        return Err(format!(
            "{}: the last answer has no {missing:?}:\n{head}",
            scenario.name
        ));
    }
    drop(client);
    running.end()?;
    let text = std::fs::read_to_string(&folder.counts)
        .map_err(|e| format!("cachegrind left no {}: {e}", folder.counts.display()))?;
    Ok(Counts {
        instructions: total(&text).ok_or_else(|| format!("{} has no summary", folder.counts.display()))?,
        answers: requests.saturating_mul(scenario.answers),
    })
}

/// The line `summary: N` at the end of a cachegrind file (valgrind manual, "Cachegrind File Format").
fn total(text: &str) -> Option<u64> {
    let line = text.lines().rev().find_map(|line| line.strip_prefix("summary:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Where a run has its data and its counts; goes away with it, but for counts that are kept.
struct Folder {
    scratch: PathBuf,
    counts: PathBuf,
}

impl Folder {
    fn new(name: &str, requests: u32, keep: Option<&Path>) -> Result<Self, String> {
        let number = crate::clock::now_ns();
        let scratch = std::env::temp_dir().join(format!("roadtrip-ratchet-{}-{requests}-{number}", std::process::id()));
        let made =
            |path: &Path| std::fs::create_dir_all(path).map_err(|e| format!("cannot make {}: {e}", path.display()));
        made(&scratch)?;
        let counts = match keep {
            Some(keep) => {
                made(keep)?;
                keep.join(format!("cachegrind.{name}.{requests}"))
            }
            None => scratch.join("cachegrind.out"),
        };
        Ok(Self { scratch, counts })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}

/// A server under cachegrind.
struct Running {
    child: Child,
    address: SocketAddr,
    begun: Instant,
    log: PathBuf,
}

impl Running {
    fn start(server: &Path, folder: &Folder) -> Result<Self, String> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .map_err(|e| format!("cannot find a free port: {e}"))?
            .port();
        let log = folder.scratch.join("log");
        let file = std::fs::File::create(&log).map_err(|e| format!("cannot make {}: {e}", log.display()))?;
        let mut command = Command::new("valgrind");
        command
            .args(["--tool=cachegrind", "--cache-sim=no"])
            .arg(format!("--cachegrind-out-file={}", folder.counts.display()))
            // One thread runs at a time; fair, or whoever has nothing to do would keep the others waiting.
            .arg("--fair-sched=try")
            .arg("--quiet")
            .arg(server)
            .arg("serve")
            .env_clear()
            .envs([
                ("PORT", port.to_string()),
                ("HOST", Ipv4Addr::LOCALHOST.to_string()),
                ("WORKERS", "1".to_owned()),
                ("PIN", "never".to_owned()),
                ("IO_DRIVER", "epoll".to_owned()),
                ("LOG_LEVEL", "warn".to_owned()),
                ("DATA_DIR", folder.scratch.join("data").display().to_string()),
                // libc chooses its memcpy by these, and the widest that valgrind shows is not on every machine.
                (
                    "GLIBC_TUNABLES",
                    "glibc.cpu.hwcaps=-AVX2_Usable,-AVX2,-ERMS,-FSRM".to_owned(),
                ),
                // Slowness is no fault here.
                ("WORKER_TIMEOUT", "600s".to_owned()),
            ])
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file);
        let child = spawn_without_auxv_by_prctl(command)?;
        Ok(Self {
            child,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            begun: Instant::now(),
            log,
        })
    }

    /// A connection, as soon as the server listens.
    fn connect(&mut self) -> Result<Client, String> {
        loop {
            if let Ok(stream) = TcpStream::connect(self.address) {
                return Client::new(stream).map_err(|e| format!("cannot set up the connection: {e}"));
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                return Err(format!("the server under cachegrind ended with {status}: {log}"));
            }
            if self.begun.elapsed() > PATIENCE {
                return Err(format!(
                    "the server under cachegrind does not listen after {} s",
                    PATIENCE.as_secs()
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the server as an orchestrator would, so that cachegrind writes its counts.
    fn end(&mut self) -> Result<(), String> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or("the server has no process id")?;
        // It has not been waited for, so the id is still its own.
        kill_process(pid, Signal::TERM).map_err(|e| format!("cannot end the server: {e}"))?;
        let begun = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("the server under cachegrind ended with {status}")),
                Ok(None) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(20)),
                Ok(None) => return Err(format!("the server does not end within {} s", PATIENCE.as_secs())),
                Err(e) => return Err(format!("cannot wait for the server: {e}")),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Starts a command that gets EINVAL for `prctl(PR_GET_AUXV)`, as on a kernel before 6.4.
fn spawn_without_auxv_by_prctl(mut command: Command) -> Result<Child, String> {
    /// include/uapi/linux/prctl.h.
    const PR_GET_AUXV: u64 = 0x4155_5856;
    let filter = || -> Result<BpfProgram, Box<dyn std::error::Error>> {
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        let is_it = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, PR_GET_AUXV)?;
        let prctl = i64::from(prctl_number());
        let rules = [(prctl, vec![SeccompRule::new(vec![is_it])?])].into();
        let refusal = SeccompAction::Errno(rustix::io::Errno::INVAL.raw_os_error().unsigned_abs());
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refusal, arch)?;
        Ok(filter.try_into()?)
    };
    let filter = filter().map_err(|e| format!("cannot make the seccomp filter: {e}"))?;
    // On a thread of its own: a filter binds the thread that sets it, and what that starts.
    let spawned = std::thread::spawn(move || {
        seccompiler::apply_filter(&filter).map_err(|e| format!("cannot set the seccomp filter: {e}"))?;
        command
            .spawn()
            .map_err(|e| format!("cannot start valgrind: {e}; on Debian: apt-get install valgrind"))
    });
    spawned
        .join()
        .unwrap_or_else(|_| Err("the thread that starts valgrind panicked".to_owned()))
}

/// The number of prctl (arch/x86/entry/syscalls/syscall_64.tbl; include/uapi/asm-generic/unistd.h elsewhere).
const fn prctl_number() -> i32 {
    if cfg!(target_arch = "x86_64") { 157 } else { 167 }
}

/// Asks and waits, on one connection.
struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
    /// Bytes of the last answer's head.
    head: usize,
}

impl Client {
    fn new(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            answer: Vec::new(),
            head: 0,
        })
    }

    /// Sends `request` and reads `answers` answers, each of which must say 200.
    fn ask(&mut self, request: &[u8], answers: u32) -> Result<(), String> {
        let io = |e: std::io::Error| format!("the connection to the server broke: {e}");
        self.stream.write_all(request).map_err(io)?;
        self.answer.clear();
        let mut piece = [0; 64 * 1024];
        let mut left = answers;
        while left > 0 {
            if let Some((head, bytes)) = first_answer(&self.answer)? {
                left = left.saturating_sub(1);
                self.head = head;
                if left > 0 {
                    self.answer.drain(..bytes);
                } else if bytes != self.answer.len() {
                    return Err("bytes came that nobody asked for".to_owned());
                }
                continue;
            }
            match self.stream.read(&mut piece) {
                Ok(0) => return Err("the server closed the connection".to_owned()),
                Ok(bytes) => self.answer.extend_from_slice(piece.get(..bytes).unwrap_or_default()),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(io(e)),
            }
        }
        Ok(())
    }

    fn last_head(&self) -> String {
        String::from_utf8_lossy(self.answer.get(..self.head).unwrap_or_default()).into_owned()
    }
}

/// Bytes of the head, and of the whole, of the answer at the start of `bytes`; `None` while it is not whole.
fn first_answer(bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(e) => return Err(format!("the answer is not HTTP/1.1: {e}")),
    };
    if response.code != Some(200) {
        return Err(format!(
            "the answer is {:?}: {}",
            response.code,
            String::from_utf8_lossy(bytes)
        ));
    }
    let mut lengths = response
        .headers
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = lengths
        .next()
        .and_then(|field| std::str::from_utf8(field.value).ok()?.parse::<usize>().ok())
        .ok_or("the answer has no Content-Length")?;
    let whole = head.saturating_add(length);
    Ok((bytes.len() >= whole).then_some((head, whole)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found() {
        let text = "cmd: summary: 7\nevents: Ir\nfl=???\nfn=???\n0 123456\nsummary: 123456\n";
        assert_eq!(total(text), Some(123_456));
        assert_eq!(total("events: Ir\n"), None);
    }

    #[test]
    fn answers_are_told_apart() {
        let one = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        let head = one.len() - 2;
        assert_eq!(first_answer(one), Ok(Some((head, one.len()))));
        assert_eq!(first_answer(&one[..head]), Ok(None));
        assert_eq!(first_answer(&[&one[..], b"HTTP"].concat()), Ok(Some((head, one.len()))));
        assert!(first_answer(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").is_err());
        assert!(first_answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn a_server_that_is_none_is_told() {
        let scenario = &super::super::scenario::all()[0];
        assert!(count(Path::new("/nonexistent/server"), scenario, 1, None).is_err());
    }
}
