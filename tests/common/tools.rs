//! Programs of the machine, run with a deadline. One that is missing fails the test: see `tests/run`.

use super::PATIENCE;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// What a program left.
#[derive(Debug)]
pub struct Ran {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Ran {
    /// stdout as text.
    pub fn out(&self) -> String {
        String::from_utf8(self.stdout.clone()).expect("stdout is UTF-8")
    }

    /// stderr as text.
    pub fn err(&self) -> String {
        String::from_utf8(self.stderr.clone()).expect("stderr is UTF-8")
    }

    /// The same, checked to have ended with this code.
    pub fn expect(self, code: i32) -> Ran {
        assert_eq!(
            self.status.code(),
            Some(code),
            "stdout: {}\nstderr: {}",
            String::from_utf8_lossy(&self.stdout),
            String::from_utf8_lossy(&self.stderr)
        );
        self
    }
}

/// Runs a program by name.
pub fn run(program: &str, args: &[&str]) -> Ran {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    run_command(command, PATIENCE)
}

/// Runs a command, which is ended when its time is over.
pub fn run_command(mut command: Command, patience: Duration) -> Ran {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => panic!("{command:?}: {error}; tests/run installs what the tests need"),
    };
    let collect = |mut stream: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes);
            bytes
        })
    };
    let stdout = collect(Box::new(child.stdout.take().unwrap()));
    let stderr = collect(Box::new(child.stderr.take().unwrap()));
    let deadline = Instant::now() + patience;
    let mut late = false;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline && !late {
            late = true;
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let ran = Ran {
        status,
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    };
    assert!(!late, "{command:?} took more than {patience:?}: {ran:?}");
    ran
}

/// curl, checked to have succeeded; gives stdout.
pub fn curl(args: &[&str]) -> Vec<u8> {
    let mut all = vec!["-sS", "--max-time", "50"];
    all.extend_from_slice(args);
    run("curl", &all).expect(0).stdout
}

/// A program for python3.
pub fn python(program: &str, args: &[&str]) -> String {
    let mut all = vec!["-c", program];
    all.extend_from_slice(args);
    run("python3", &all).expect(0).out()
}

/// `roadtrip-bench`, beside the server; built where a run of this package alone has not.
pub fn bench() -> PathBuf {
    static BENCH: OnceLock<PathBuf> = OnceLock::new();
    let built = || {
        let folder = PathBuf::from(super::BINARY).parent().unwrap().to_path_buf();
        let bench = folder.join("roadtrip-bench");
        if !bench.exists() {
            let mut cargo = Command::new(env!("CARGO"));
            cargo
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .args(["build", "--quiet", "--package", "roadtrip-bench", "--target-dir"])
                .arg(folder.parent().unwrap());
            match folder.file_name().and_then(|name| name.to_str()) {
                Some("debug") | None => {}
                Some(profile) => drop(cargo.args(["--profile", profile])),
            }
            run_command(cargo, Duration::from_secs(900)).expect(0);
        }
        assert!(bench.exists(), "{} was not built", bench.display());
        bench
    };
    BENCH.get_or_init(built).clone()
}
