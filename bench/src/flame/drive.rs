//! The server of a scenario, its backends, and who asks it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::scenario::{Load, Scenario};
use crate::answer::Reader;
use crate::server::Server;
use crate::tiers::backends::{Backends, free_address};

/// Clients of all loads but h2load's.
const CLIENTS: u64 = 32;
/// Stories that [`Load::Kept`] asks for in turn.
const KEPT: u64 = 2000;
/// Load before the recording begins, and longer than it: seconds.
const SLACK_S: u32 = 3;

/// A server under load.
pub(super) struct Running {
    server: Server,
    asking: Asking,
    // Gone after the server.
    _backends: Option<Backends>,
}

enum Asking {
    Program(Child),
    Threads {
        stop: Arc<AtomicBool>,
        threads: Vec<JoinHandle<Result<u64, String>>>,
    },
}

impl Running {
    pub(super) fn pid(&self) -> u32 {
        self.server.pid
    }

    /// Ends the load, then the server.
    ///
    /// # Errors
    /// The load met an answer that is none.
    pub(super) fn end(self) -> Result<(), String> {
        match self.asking {
            Asking::Program(mut child) => {
                let ended = child.wait().map_err(|e| format!("cannot wait for h2load: {e}"))?;
                if ended.success() {
                    Ok(())
                } else {
                    Err(format!("h2load ended with {ended}"))
                }
            }
            Asking::Threads { stop, threads } => {
                stop.store(true, Ordering::Relaxed);
                for thread in threads {
                    thread.join().unwrap_or_else(|_| Err("a client panicked".to_owned()))?;
                }
                Ok(())
            }
        }
    }
}

/// Starts all of it. The load goes on for a little longer than `seconds`.
///
/// # Errors
/// A program is missing or does not start, or the server does not answer as it should.
pub(super) fn start(server: &Path, scenario: &Scenario, scratch: &Path, seconds: u32) -> Result<Running, String> {
    let address = free_address()?;
    let backends = scenario.postgres.then(|| Backends::start(None)).transpose()?;
    let mut settings = vec![
        format!("PORT={}", address.port()),
        format!("DATA_DIR={}", scratch.join("data").display()),
        "WORKERS=1".to_owned(),
        "PIN=never".to_owned(),
        "LOG_LEVEL=error".to_owned(),
    ];
    if let Some(backends) = &backends {
        settings.push(format!("DATABASE_URL={}", backends.database_url()));
        settings.push("CACHE_BYTES=0".to_owned());
    }
    if scenario.tls {
        let (certificate, key) = certificate(scratch)?;
        settings.push(format!("TLS_CERT={certificate}"));
        settings.push(format!("TLS_KEY={key}"));
    }
    let command = format!("env {} {} serve", settings.join(" "), server.display());
    let server = Server::start(&command, address, None)?;
    let asking = match scenario.load {
        Load::H2load(arguments) => Asking::Program(h2load(scenario, address, arguments, scratch, seconds)?),
        Load::Anew => clients(address, |client, number| client.ask(number)),
        Load::Pipelined(depth) => {
            // Asked once, the story is in the cache.
            Client::connect(address)?.ask(0)?;
            clients(address, move |client, _| client.ask_at_once(depth))
        }
        Load::Kept => {
            let mut client = Client::connect(address)?;
            for number in 0..KEPT {
                client.ask(number)?;
            }
            clients(address, |client, number| client.ask(number % KEPT))
        }
    };
    std::thread::sleep(Duration::from_secs(2));
    Ok(Running {
        server,
        asking,
        _backends: backends,
    })
}

fn h2load(
    scenario: &Scenario,
    address: SocketAddr,
    arguments: &[&str],
    scratch: &Path,
    seconds: u32,
) -> Result<Child, String> {
    let scheme = if scenario.tls { "https" } else { "http" };
    let mut command = Command::new("h2load");
    // perf starts after two seconds, and takes a moment itself.
    let seconds = seconds.saturating_add(2 * SLACK_S);
    command.args(arguments).args(["-t1", "-D", &seconds.to_string()]);
    if let Some(body) = scenario.body {
        let path = scratch.join("body");
        std::fs::write(&path, body).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        command
            .arg("-d")
            .arg(path)
            .args(["-H", "content-type: application/json"]);
    }
    command
        .arg(format!("{scheme}://{address}{}", scenario.path))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|e| format!("cannot run h2load: {e}; on Debian: apt-get install nghttp2-client"))
}

/// A certificate of its own making, and its key.
fn certificate(scratch: &Path) -> Result<(String, String), String> {
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| scratch.join(name).display().to_string());
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "1",
        ])
        .args(["-subj", "/CN=localhost", "-keyout", &key, "-out", &certificate])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot run openssl: {e}"))?;
    if made.status.success() {
        Ok((certificate, key))
    } else {
        Err(format!("openssl: {}", String::from_utf8_lossy(&made.stderr)))
    }
}

/// Clients that ask again and again; each time has a number of its own.
fn clients(
    address: SocketAddr,
    ask: impl Fn(&mut Client, u64) -> Result<(), String> + Clone + Send + 'static,
) -> Asking {
    let stop = Arc::new(AtomicBool::new(false));
    let next = Arc::new(AtomicU64::new(0));
    let threads = (0..CLIENTS)
        .map(|_| {
            let (stop, next, ask) = (Arc::clone(&stop), Arc::clone(&next), ask.clone());
            std::thread::spawn(move || {
                let mut client = Client::connect(address)?;
                let mut asked = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    ask(&mut client, next.fetch_add(1, Ordering::Relaxed))?;
                    asked = asked.saturating_add(1);
                }
                Ok(asked)
            })
        })
        .collect();
    Asking::Threads { stop, threads }
}

/// The bytes that ask for the story of that number.
fn request(number: u64) -> Vec<u8> {
    let body = format!(
        r#"{{"location":"Lisbon","variation":{}}}"#,
        number % u64::from(u32::MAX)
    );
    let head = format!(
        "POST /api/v1/stories/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
}

struct Client {
    stream: TcpStream,
    reader: Reader,
    /// Length of the last answer, head and body.
    answer_bytes: usize,
}

impl Client {
    fn connect(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(address).map_err(|e| format!("cannot connect: {e}"))?;
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .and_then(|()| stream.set_nodelay(true))
            .map_err(|e| format!("cannot set up the connection: {e}"))?;
        Ok(Self {
            stream,
            reader: Reader::new(false),
            answer_bytes: 0,
        })
    }

    /// Asks for the same story `depth` times in one write, and reads the answers, which are of one length.
    fn ask_at_once(&mut self, depth: usize) -> Result<(), String> {
        if self.answer_bytes == 0 {
            self.ask(0)?;
        }
        let io = |e: std::io::Error| format!("the connection to the server broke: {e}");
        self.stream.write_all(&request(0).repeat(depth)).map_err(io)?;
        let mut answers = vec![0; self.answer_bytes.saturating_mul(depth)];
        self.stream.read_exact(&mut answers).map_err(io)?;
        if answers.starts_with(b"HTTP/1.1 200 ") {
            Ok(())
        } else {
            Err("an answer is not 200".to_owned())
        }
    }

    /// Asks for the story of that number, and reads the answer.
    fn ask(&mut self, number: u64) -> Result<(), String> {
        let io = |e: std::io::Error| format!("the connection to the server broke: {e}");
        self.stream.write_all(&request(number)).map_err(io)?;
        self.answer_bytes = 0;
        let mut piece = [0; 16 * 1024];
        loop {
            let bytes = match self.stream.read(&mut piece) {
                Ok(0) => return Err("the server closed the connection".to_owned()),
                Ok(bytes) => piece.get(..bytes).unwrap_or_default(),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(io(e)),
            };
            self.answer_bytes = self.answer_bytes.saturating_add(bytes.len());
            match self.reader.feed(bytes) {
                Ok(Some(answer)) if answer.status == 200 => return Ok(()),
                Ok(Some(answer)) => return Err(format!("the answer is {}", answer.status)),
                Ok(None) => {}
                Err(e) => return Err(e.to_string()),
            }
        }
    }
}
