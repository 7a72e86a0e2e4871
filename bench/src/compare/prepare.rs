//! From a peer to a command that starts it: built, found, or a sentence that says why not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use super::answers::Answers;
use super::config;
use super::peers::{Kind, Peer};
use super::side::Side;
use crate::group::Group;
use crate::server::Server;
use crate::told::quoted;

/// Lines of a failed build that are quoted.
const LINES_QUOTED: usize = 12;

/// Where things are, and how they are built.
pub(crate) struct Workshop {
    /// The repository.
    pub(crate) root: PathBuf,
    /// Files of this run.
    pub(crate) folder: PathBuf,
    /// Without link-time optimisation.
    pub(crate) quick: bool,
    /// Takes what has been built before.
    pub(crate) no_build: bool,
    /// CPU for what a peer needs besides itself.
    pub(crate) load_cpu: Option<usize>,
    /// Where servers are put.
    pub(crate) group: Option<Rc<Group>>,
}

/// A peer that can be started.
pub(super) struct Contender {
    pub(super) side: Side,
    pub(super) version: Option<String>,
    /// What it needs besides itself (Redis); ended with it.
    pub(super) _companion: Option<Server>,
}

/// Why a peer cannot take part.
#[derive(Debug)]
pub(super) enum Absent {
    /// It is not installed, or could not be built.
    Missing(String),
    /// It is there, and does not do what it should.
    Failed(String),
}

impl Workshop {
    /// With the repository at its real place: `root`, or the one that this program was built from.
    ///
    /// # Errors
    /// There is no such folder.
    pub(crate) fn at_its_place(self, root: Option<&Path>) -> Result<Self, String> {
        let root = root.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), Path::to_owned);
        let found = root.canonicalize();
        Ok(Self {
            root: found.map_err(|e| format!("{}: {e}; name the repository by --repo", root.display()))?,
            ..self
        })
    }

    /// The service's own command and version, built where it has to be.
    ///
    /// # Errors
    /// The build's last words.
    pub(crate) fn ours(&self) -> Result<(String, String), String> {
        let profile = if self.quick { "release" } else { "max" };
        let target = self.root.join("target");
        if !self.no_build {
            eprintln!("building roadtrip-api (profile {profile})");
            self.cargo(&self.root, &target, profile, "roadtrip-api")?;
        }
        let program = target.join(profile).join("roadtrip-api");
        let version = first_line(Command::new(&program).arg("--version"))
            .ok_or_else(|| format!("{} cannot be run; build it, or leave --no-build out", program.display()))?;
        Ok((
            format!("{} serve", quoted(&program)),
            format!("{version}, profile {profile}"),
        ))
    }

    /// Text for a report that is kept: paths within the repository as seen from there, and the run's folder by a word.
    pub(crate) fn told(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.root.display()), "")
            .replace(&self.folder.display().to_string(), "RUN")
    }

    fn cargo(&self, workspace: &Path, target: &Path, profile: &str, package: &str) -> Result<(), String> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            .args([
                "build",
                "--quiet",
                "--locked",
                "--profile",
                profile,
                "--package",
                package,
                "--bins",
            ])
            .arg("--target-dir")
            .arg(target)
            .current_dir(workspace);
        heard(&mut command).map(|_| ())
    }

    /// Makes a peer ready to start.
    ///
    /// # Errors
    /// It is missing, in words that say what to install.
    pub(super) fn contender(&self, peer: &Peer, ours: &str, answers: &Answers) -> Result<Contender, Absent> {
        let side =
            |command: String| Side::new(&peer.name, command, &self.folder, self.group.clone()).map_err(Absent::Failed);
        let alone = |command: String, version: Option<String>| {
            Ok(Contender {
                side: side(command)?,
                version,
                _companion: None,
            })
        };
        match &peer.kind {
            Kind::Itself => alone(ours.to_owned(), None),
            Kind::Command(command) => alone(command.clone(), None),
            Kind::Floor => {
                let own = std::env::current_exe().map_err(|e| Absent::Failed(format!("where is this program? {e}")))?;
                let answer = self.folder.join("{scenario}.answer");
                alone(
                    format!(
                        "{} floor --port {{port}} --answer-file {}",
                        quoted(&own),
                        quoted(&answer)
                    ),
                    Some(format!("roadtrip-bench {}", env!("CARGO_PKG_VERSION"))),
                )
            }
            Kind::Handlers { package, crate_name } => {
                let (workspace, target) = (self.handlers(), self.root.join("target/handlers"));
                let profile = if self.quick { "quick" } else { "release" };
                if !self.no_build {
                    eprintln!("building {package}");
                    self.cargo(&workspace, &target, profile, package)
                        .map_err(Absent::Missing)?;
                }
                let program = target.join(profile).join(package);
                if !program.exists() {
                    return Err(Absent::Missing(format!("{} is not there", program.display())));
                }
                // A profile of the peer on axum showed a fifth of the CPU time in zeroing huge pages.
                alone(
                    format!("env MIMALLOC_ALLOW_THP=0 {}", quoted(&program)),
                    locked_version(&workspace, crate_name),
                )
            }
            Kind::Nginx => {
                let version = said_on_stderr("nginx", "-v").ok_or_else(|| missing("nginx", "nginx-light"))?;
                let mut contender = alone(String::new(), Some(version))?;
                let file = self.folder.join("nginx.conf");
                let text = config::nginx(contender.side.address, &self.folder, answers);
                write(&file, &text).map_err(Absent::Failed)?;
                contender.side.command = format!("nginx -c {} -e /dev/null", quoted(&file));
                Ok(contender)
            }
            Kind::H2o => {
                let version = first_line(Command::new("h2o").arg("-v")).ok_or_else(|| missing("h2o", "h2o"))?;
                let mut contender = alone(String::new(), Some(version))?;
                let file = self.folder.join("h2o.conf");
                let text = config::h2o(contender.side.address, &self.folder, answers);
                write(&file, &text).map_err(Absent::Failed)?;
                contender.side.command = format!("h2o -m worker -c {}", quoted(&file));
                Ok(contender)
            }
            Kind::FastApi => self.fastapi(peer),
        }
    }

    fn handlers(&self) -> PathBuf {
        self.root.join("bench/peers/handlers")
    }

    /// gunicorn in an environment of its own, and a Redis on the load's CPU.
    fn fastapi(&self, peer: &Peer) -> Result<Contender, Absent> {
        let (sources, venv) = (
            self.root.join("bench/peers/fastapi"),
            self.root.join("target/handlers/venv"),
        );
        let wishes = sources.join("requirements.txt");
        let stamp = venv.join("requirements.txt");
        let wished = fs::read(&wishes).map_err(|e| Absent::Failed(format!("{}: {e}", wishes.display())))?;
        if fs::read(&stamp).ok().as_ref() != Some(&wished) {
            if self.no_build {
                return Err(Absent::Missing(format!(
                    "{} is not there or of other versions",
                    venv.display()
                )));
            }
            eprintln!("installing FastAPI and what it needs into {}", venv.display());
            let made = heard(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
            made.map_err(|e| Absent::Missing(format!("{e}; on Debian: apt-get install python3-venv")))?;
            let mut pip = Command::new(venv.join("bin/pip"));
            pip.args(["install", "--quiet", "--disable-pip-version-check", "-r"])
                .arg(&wishes);
            heard(&mut pip).map_err(Absent::Missing)?;
            fs::write(&stamp, &wished).map_err(|e| Absent::Failed(format!("{}: {e}", stamp.display())))?;
        }
        let redis_address = super::side::free_address().map_err(Absent::Failed)?;
        let redis = format!(
            "redis-server --port {} --bind 127.0.0.1 --save '' --appendonly no --dir {}",
            redis_address.port(),
            quoted(&self.folder)
        );
        let companion = Server::start(&redis, redis_address, self.load_cpu).map_err(|e| match e.contains("ended") {
            true => missing("redis-server", "redis-server"),
            false => Absent::Failed(e),
        })?;
        let command = format!(
            "env REDIS_URL=redis://{redis_address}/0 PYTHONDONTWRITEBYTECODE=1 {} --chdir {} -c {} main:app",
            quoted(&venv.join("bin/gunicorn")),
            quoted(&sources),
            quoted(&sources.join("gunicorn_config.py")),
        );
        let text = String::from_utf8_lossy(&wished);
        let named = |line: &&str| {
            ["fastapi", "uvicorn", "gunicorn"]
                .iter()
                .any(|p| line.starts_with(&format!("{p}==")))
        };
        let versions: Vec<&str> = text.lines().filter(named).collect();
        Ok(Contender {
            side: Side::new(&peer.name, command, &self.folder, self.group.clone()).map_err(Absent::Failed)?,
            version: Some(versions.join(", ").replace("==", " ")),
            _companion: Some(companion),
        })
    }
}

fn missing(program: &str, package: &str) -> Absent {
    Absent::Missing(format!(
        "{program} is not installed; on Debian: apt-get install {package}"
    ))
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|e| format!("cannot write {}: {e}", file.display()))
}

/// Runs a command to its end and gives what it printed; where it fails, its last lines.
fn heard(command: &mut Command) -> Result<String, String> {
    let said = format!("{command:?}");
    let output = command.output().map_err(|e| format!("cannot run {said}: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(LINES_QUOTED);
    let last = lines.get(from..).unwrap_or_default().join("\n");
    Err(format!("{said} failed ({}): {last}", output.status))
}

fn first_line(command: &mut Command) -> Option<String> {
    let line = heard(command).ok()?.lines().next()?.trim().to_owned();
    (!line.is_empty()).then_some(line)
}

/// nginx tells its version where errors go.
fn said_on_stderr(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Some(text.lines().next()?.replace("nginx version: ", "").trim().to_owned())
}

/// Name and version of a crate as the lock file has it: the highest, where there are two.
fn locked_version(workspace: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(workspace.join("Cargo.lock")).ok()?;
    let mut lines = text.lines();
    let mut found = None;
    while let Some(line) = lines.next() {
        if line == format!("name = \"{name}\"") {
            found = lines.next().and_then(|line| line.strip_prefix("version = "));
        }
    }
    Some(format!("{name} {}", found?.trim_matches('"')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_is_quoted_by_its_last_lines() {
        let why = heard(Command::new("sh").args(["-c", "seq 100; echo last words >&2; exit 3"])).unwrap_err();
        assert!(
            why.contains("last words") && why.contains("100") && !why.contains("\n50\n"),
            "{why}"
        );
        assert!(
            heard(&mut Command::new("no-such-program-at-all"))
                .unwrap_err()
                .contains("cannot run")
        );
        assert_eq!(first_line(Command::new("echo").arg("one")), Some("one".to_owned()));
    }

    #[test]
    fn a_report_has_no_paths_of_the_machine() {
        let workshop = Workshop {
            root: PathBuf::from("/home/a/repo"),
            folder: PathBuf::from("/tmp/run-7"),
            quick: false,
            no_build: false,
            load_cpu: None,
            group: None,
        };
        let told = workshop.told("env '/home/a/repo/target/x' -c '/tmp/run-7/nginx.conf'");
        assert_eq!(told, "env 'target/x' -c 'RUN/nginx.conf'");
    }

    #[test]
    fn versions_come_from_the_lock_file() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/handlers");
        let version = locked_version(&workspace, "axum").unwrap();
        assert!(version.starts_with("axum 0.8."), "{version}");
        assert_eq!(locked_version(&workspace, "no-such-crate"), None);
    }

    #[test]
    fn a_path_with_a_quote_stays_one_word() {
        let out = heard(Command::new("sh").args(["-c", &format!("printf %s {}", quoted(Path::new("/a b/it's")))]));
        assert_eq!(out.unwrap(), "/a b/it's");
    }
}
