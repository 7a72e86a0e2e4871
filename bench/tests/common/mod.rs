//! What the tests of `load` share: the service itself, toy servers, and the program run as a user runs it.
// Each test program uses its part of it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sonic_rs::Value;

pub(crate) const BIN: &str = env!("CARGO_BIN_EXE_roadtrip-bench");

/// `load` with these arguments, quiet, as JSON. Machines that run tests are busy: what the generator says of itself is
/// tested where it matters.
pub(crate) fn load(args: &[&str]) -> Output {
    Command::new(BIN)
        .args(["load", "--json", "--quiet", "--accept-generator-limits"])
        .args(args)
        .output()
        .unwrap()
}

pub(crate) fn json(output: &Output) -> Value {
    sonic_rs::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!(
            "{e}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

/// A schema of `bench/schema` holds for this.
pub(crate) fn assert_fits(schema: &str, report: &Value) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/");
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    let mut wanted = String::new();
    // Schemas name each other by their ids.
    for name in ["run.schema.json", "suite.schema.json"] {
        let text = std::fs::read_to_string(format!("{folder}{name}")).unwrap();
        let text: serde_json::Value = serde_json::from_str(&text).unwrap();
        let id = text["$id"].as_str().unwrap().to_owned();
        compiler.add_resource(&id, text).unwrap();
        if name == schema {
            wanted = id;
        }
    }
    let schema = compiler.compile(&wanted, &mut schemas).unwrap();
    let text = sonic_rs::to_string(report).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    if let Err(e) = schemas.validate(&value, schema) {
        panic!("{e:#}\n{text}");
    }
}

/// The service's binary; built where it is not there yet.
pub(crate) fn binary() -> PathBuf {
    let path = PathBuf::from(BIN).with_file_name("roadtrip-api");
    if !path.exists() {
        let built = Command::new(env!("CARGO"))
            .args(["build", "-p", "roadtrip-api", "--bin", "roadtrip-api"])
            .status();
        assert!(built.unwrap().success());
    }
    path
}

/// The service, on a port of its own; ended when dropped.
pub(crate) struct Service {
    child: Child,
    pub(crate) address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Service {
    /// With this environment besides; ready when this returns.
    pub(crate) fn start(env: &[(&str, &str)]) -> Self {
        // An address of its own: no other test's server may take the port in between.
        Self::start_at(free_address(), env)
    }

    /// The same, at this address.
    pub(crate) fn start_at(address: SocketAddr, env: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(binary())
            .arg("serve")
            .current_dir(folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOST", address.ip().to_string())
            .env("PORT", address.port().to_string())
            .env("DATA_DIR", folder.path())
            .env("WORKERS", "2")
            .env("PIN", "never")
            .env("LOG_LEVEL", "warning")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut service = Self {
            child,
            address,
            _folder: folder,
        };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "the service does not come up"
            );
            assert!(service.child.try_wait().unwrap().is_none(), "the service has ended");
            std::thread::sleep(Duration::from_millis(20));
        }
        service
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A loopback address that no other test has: the process id is in it, and the port was free.
pub(crate) fn free_address() -> SocketAddr {
    let id = std::process::id();
    let ip = format!("127.{}.{}.{}", 90 + id % 100, id / 100 % 250 + 1, id / 25_000 % 250 + 1);
    TcpListener::bind(format!("{ip}:0")).unwrap().local_addr().unwrap()
}

/// A server that answers each request head with what `answer` gives for its number and text; `None` closes the
/// connection. Reads until the empty line only: for requests without a body.
pub(crate) fn server(
    answer: impl Fn(u64, &str) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let served = Arc::new(AtomicU64::new(0));
    let (count, answer) = (served.clone(), Arc::new(answer));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, count, answer) = (stream.unwrap(), count.clone(), answer.clone());
            std::thread::spawn(move || {
                let mut seen = Vec::new();
                let mut chunk = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut chunk) {
                    seen.extend_from_slice(&chunk[..n]);
                    // Several may have come at once.
                    while let Some(end) = seen.windows(4).position(|w| w == b"\r\n\r\n") {
                        let head: Vec<u8> = seen.drain(..end + 4).collect();
                        let head = String::from_utf8_lossy(&head).into_owned();
                        match answer(count.fetch_add(1, Ordering::SeqCst), &head) {
                            Some(bytes) if stream.write_all(&bytes).is_ok() => {}
                            _ => return,
                        }
                    }
                }
            });
        }
    });
    (url, served)
}

pub(crate) fn ok() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec()
}
