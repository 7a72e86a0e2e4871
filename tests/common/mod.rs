//! What the integration tests share: the real server as a child process, real clients, and a deadline on everything.
//!
//! Each test starts its own server on a free port with its own folder, and the server dies with the value that holds
//! it. Nothing here waits longer than [`PATIENCE`]: a test that hangs is a test that fails.

// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, clippy::expect_used)]

pub mod crowd;
pub mod exposition;
pub mod frames;
pub mod house;
pub mod http;
pub mod load;
pub mod ports;
pub mod postgres;
pub mod proxy;
pub mod redis;
pub mod siege;
pub mod tls;
pub mod tools;

use http::{Connection, Response};
use sonic_rs::{JsonValueTrait, Value};
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The server under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_roadtrip-api");

/// How long anything may take. Far more than it should: the machine may be slow and busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How a server is to be started.
#[derive(Clone)]
pub struct Setup {
    env: Vec<(String, String)>,
    wrapper: Vec<OsString>,
    binary: PathBuf,
    data: Option<PathBuf>,
}

impl Setup {
    /// A server on a free port that logs as JSON and has time, with nothing else set.
    pub fn new() -> Setup {
        let setup = Setup {
            env: Vec::new(),
            wrapper: Vec::new(),
            binary: BINARY.into(),
            data: None,
        };
        // These are debug builds on a machine that does other things: what is shed is looked at where it is asked for.
        setup
            .env("PORT", "0")
            .env("LOG_FORMAT", "json")
            .env("LATENCY_TARGET", "3s")
    }

    /// With this driver.
    pub fn driver(self, driver: &str) -> Setup {
        self.env("IO_DRIVER", driver)
    }

    /// With this variable, in the place of an earlier one of that name.
    pub fn env(mut self, name: &str, value: &str) -> Setup {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.into(), value.into()));
        self
    }

    /// With this folder, which is not removed at the end.
    pub fn data(mut self, dir: &Path) -> Setup {
        self.data = Some(dir.into());
        self
    }

    /// Run by these words, which end in whatever separates them from the command.
    pub fn wrapped<S: Into<OsString>>(mut self, words: impl IntoIterator<Item = S>) -> Setup {
        self.wrapper = words.into_iter().map(Into::into).collect();
        self
    }

    /// This copy of the server.
    pub fn binary(mut self, path: &Path) -> Setup {
        self.binary = path.into();
        self
    }

    /// The command with these arguments, its environment emptied of all but what was asked for.
    pub fn command(&self, args: &[&str], data: Option<&Path>) -> Command {
        let mut words = self.wrapper.clone();
        words.push(self.binary.clone().into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(args).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        if let Some(dir) = data {
            command.env("DATA_DIR", dir);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }

    /// Runs the command to its end.
    pub fn run(&self, args: &[&str]) -> tools::Ran {
        let own = TempDir::new().unwrap();
        let dir = self.data.as_deref().unwrap_or(own.path());
        tools::run_command(self.command(args, Some(dir)), PATIENCE)
    }

    /// Starts a server and waits until it is ready.
    pub fn start(self) -> Server {
        match self.try_start() {
            Ok(server) => server,
            Err(said) => panic!("the server did not get ready; it said:\n{said}"),
        }
    }

    /// Starts a server and waits until it is ready, or gives what it said at its end.
    pub fn try_start(self) -> Result<Server, String> {
        let own = self.data.is_none().then(|| TempDir::new().unwrap());
        let dir = match (&self.data, &own) {
            (Some(dir), _) => dir.clone(),
            (None, Some(own)) => own.path().to_owned(),
            (None, None) => unreachable!(),
        };
        let mut command = self.command(&[], Some(&dir));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let deadline = Instant::now() + PATIENCE;
        let mut child = loop {
            match command.spawn() {
                Ok(child) => break child,
                // A fresh copy of the binary: a child that another thread is about to start has it open for writing still.
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => panic!("{command:?}: {error}"),
            }
        };
        let log = Log::default();
        let readers = vec![
            log.follow(child.stdout.take().unwrap()),
            log.follow(child.stderr.take().unwrap()),
        ];
        let mut server = Server {
            child,
            port: 0,
            data: dir,
            log,
            readers,
            ended: None,
            _own: own,
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = server.log.find(|line| line["message"].as_str() == Some("ready")) {
                // None on Unix sockets alone.
                server.port = u16::try_from(line["port"].as_u64().unwrap_or(0)).unwrap();
                return Ok(server);
            }
            if server.try_wait().is_some() {
                return Err(server.all_said());
            }
            assert!(
                Instant::now() < deadline,
                "neither ready nor ended: {}",
                server.all_said()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Lines as they came from the server, stdout and stderr together.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn follow(&self, stream: impl std::io::Read + Send + 'static) -> JoinHandle<()> {
        let lines = Arc::clone(&self.0);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while let Ok(1..) = reader.read_until(b'\n', &mut line) {
                let text = String::from_utf8(std::mem::take(&mut line)).expect("the log is UTF-8");
                lines.lock().unwrap().push(text);
            }
        })
    }

    /// All lines so far, with their line ends.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// The first JSON line that fits.
    pub fn find(&self, fits: impl Fn(&Value) -> bool) -> Option<Value> {
        let parsed = |line: &String| sonic_rs::from_str::<Value>(line).ok();
        self.0.lock().unwrap().iter().filter_map(parsed).find(|line| fits(line))
    }
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    pub port: u16,
    pub data: PathBuf,
    pub log: Log,
    readers: Vec<JoinHandle<()>>,
    ended: Option<ExitStatus>,
    _own: Option<TempDir>,
}

impl Server {
    /// A server as it comes.
    pub fn start() -> Server {
        Setup::new().start()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its address on loopback.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// A URL on it.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// A new connection.
    pub fn connect(&self) -> Connection {
        Connection::open(self.addr())
    }

    /// One GET on a connection of its own.
    pub fn get(&self, path: &str) -> Response {
        self.connect().get(path)
    }

    /// One story request on a connection of its own.
    pub fn tell(&self, body: &str) -> Response {
        self.connect().tell(body)
    }

    /// A GET, parsed.
    pub fn json(&self, path: &str) -> Value {
        self.get(path).json()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        assert!(self.ended.is_none(), "the server has ended: {}", self.all_said());
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Asks for the end as Kubernetes does.
    pub fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// How it ended, if it has.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
            if self.ended.is_some() {
                // What it wrote last is read before anyone asks.
                self.readers.drain(..).for_each(|reader| reader.join().unwrap());
            }
        }
        self.ended
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.try_wait() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the server does not end: {}",
                self.all_said()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it in good order and checks that it was in good order.
    pub fn stop(&mut self) {
        self.terminate();
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{status}: {}", self.all_said());
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.wait();
    }

    /// Everything that it said.
    pub fn all_said(&self) -> String {
        self.log.lines().concat()
    }

    /// True while connections to its port are taken.
    pub fn is_listening(&self) -> bool {
        // A connection to a free port may meet itself, where the kernel gives it that very port as its own.
        let other = |stream: &TcpStream| stream.local_addr().ok() != stream.peer_addr().ok();
        TcpStream::connect_timeout(&self.addr(), PATIENCE).is_ok_and(|stream| other(&stream))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = self.all_said();
            let tail: Vec<&str> = said.lines().rev().take(30).collect();
            eprintln!("the server's last lines, newest first:\n{}", tail.join("\n"));
        }
    }
}

/// Lets this test hold more connections than the usual soft limit of open files allows.
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

/// Tries until it is so.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "in vain waited for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether the kernel is of that version or later.
pub fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|number| number.trim().parse::<u32>().ok());
    (numbers.next().unwrap(), numbers.next().unwrap_or(0)) >= (major, minor)
}

/// Whether this kernel gives this process a ring; where it does, the server must use it. Says so where it does not.
pub fn uring_is_here() -> bool {
    match <io_uring::IoUring>::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(8)
    {
        Ok(_) => true,
        Err(error) => {
            // Past the capture of the test harness: a skip must be seen.
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("skipped: io_uring is not available here ({error})\n").as_bytes(),
            );
            false
        }
    }
}

/// Runs a test on each driver.
pub fn on_each_driver(test: impl Fn(&str)) {
    if uring_is_here() {
        test("uring");
    }
    test("epoll");
}
