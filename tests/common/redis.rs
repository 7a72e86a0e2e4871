//! A real Redis as a child process, on a port and a Unix socket of its own, in a folder of its own.

use super::exposition::Exposition;
use super::{PATIENCE, Server, Setup, tools, until};
use rustix::process::{Pid, Signal, kill_process};
use sonic_rs::JsonValueTrait;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use tempfile::TempDir;

/// A running Redis; killed when dropped.
pub struct Redis {
    child: Option<Child>,
    pub port: u16,
    pub dir: TempDir,
    args: Vec<String>,
    /// Of the default user, for redis-cli.
    password: Option<String>,
}

impl Redis {
    /// Keeps nothing on disk, takes DEBUG.
    pub fn start() -> Redis {
        Redis::with(&[])
    }

    /// With these options beyond. One that needs a password says so by `--requirepass`.
    pub fn with(options: &[&str]) -> Redis {
        let at = options.iter().position(|option| *option == "--requirepass");
        let mut redis = Redis {
            child: None,
            port: super::postgres::free_port(),
            dir: TempDir::new().unwrap(),
            args: options.iter().map(|option| (*option).to_owned()).collect(),
            password: at.map(|at| options[at + 1].to_owned()),
        };
        redis.restart();
        redis
    }

    /// Starts it (again) and waits until it listens.
    pub fn restart(&mut self) {
        self.restart_with(&[]);
        until("redis-server listens", || {
            std::net::TcpStream::connect_timeout(&self.addr(), PATIENCE).is_ok()
        });
    }

    /// The same with more options, without waiting.
    pub fn restart_with(&mut self, options: &[&str]) {
        self.kill();
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"]);
        command.arg("--dir").arg(self.dir.path());
        command.arg("--unixsocket").arg(self.socket());
        command.args([
            "--save",
            "",
            "--appendonly",
            "no",
            "--enable-debug-command",
            "yes",
            "--daemonize",
            "no",
        ]);
        command.args(&self.args).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("redis-server, which tests/run installs"));
    }

    /// Its address.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Its URL, without a password.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops or continues it.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.as_ref().unwrap().id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Runs redis-cli with these words; gives what it says.
    pub fn cli(&self, words: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string()]);
        if let Some(password) = &self.password {
            command.env("REDISCLI_AUTH", password);
        }
        command.args(words).stdin(Stdio::null());
        let ran = tools::run_command(command, PATIENCE);
        String::from_utf8_lossy(&ran.stdout).trim().to_owned()
    }

    /// Waits until it answers commands.
    pub fn wait_until_loaded(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.cli(&["PING"]) != "PONG" {
            assert!(Instant::now() < deadline, "redis-server does not answer");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A server with this Redis and two workers.
pub fn setup(url: &str) -> Setup {
    Setup::new().env("WORKERS", "2").env("REDIS_URL", url)
}

/// A story request.
pub fn asked(place: &str, variation: u64) -> String {
    format!(r#"{{"location":"{place}","style":"mystery","length":"short","variation":{variation}}}"#)
}

/// Every figure.
pub fn metrics(server: &Server) -> Exposition {
    Exposition::parse(&server.get("/metrics").expect(200).text())
}

/// A figure, all workers together.
pub fn sum(server: &Server, name: &str) -> f64 {
    metrics(server).sum(name, &[])
}

/// The word of a field of the status page's part on Redis.
pub fn status(server: &Server, field: &str) -> String {
    let page = server.json("/health/v2/status");
    let part = &page["components"]["redis"];
    let value = part[field].as_str().or_else(|| part["figures"][field].as_str());
    value.unwrap_or_default().to_owned()
}

/// Waits until every worker uses Redis (or does not): the workers connect each for itself.
pub fn breaker(server: &Server, state: f64) {
    until(&format!("breakers in state {state}"), || {
        let now = metrics(server);
        now.matching("redis_breaker_state", &[])
            .all(|(_, value)| value == state)
    });
}

/// The id in a story.
pub fn id_of(story: &[u8]) -> String {
    let story: sonic_rs::Value = sonic_rs::from_slice(story).unwrap();
    story["id"].as_str().unwrap().to_owned()
}
