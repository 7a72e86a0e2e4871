//! `guard`: ends what a measurement started, where the measurement itself was killed and could not.
//!
//! A child that listens to a pipe. It is told of every process group and folder that has to be gone afterwards, and again
//! when it is. The pipe's other end closes however this program ends, by SIGKILL too; what is left then is ended and
//! removed. A handler of signals could do less, and would need to call what is not safe to call from one.
//!
//! What is started here leads a process group of its own: a group is ended with everything that its first process started
//! (workers of nginx or gunicorn), and Ctrl-C on a terminal comes to this program alone. Between the start of a process and the
//! guard's word of it a kill leaves that process running: some microseconds.

use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use crate::clock;

/// How long a group may take to end when asked; then SIGKILL.
const END_LIMIT: Duration = Duration::from_secs(5);

/// End what another run of this program started, when its pipe closes; started by the program itself
#[derive(clap::Args)]
#[command(hide = true)]
pub(crate) struct Args {}

/// The pipe to the guard; `None` before the first word, or where none could be started.
static GUARD: Mutex<Option<ChildStdin>> = Mutex::new(None);

fn tell(word: &str) {
    // Where tests of single functions run, this program is their harness.
    if cfg!(test) {
        return;
    }
    let mut guard = GUARD.lock().unwrap_or_else(PoisonError::into_inner);
    if guard.is_none() {
        *guard = started();
    }
    if let Some(pipe) = guard.as_mut() {
        // A guard that has gone takes no word, and nothing else depends on it.
        let _ = pipe.write_all(format!("{word}\n").as_bytes());
    }
}

fn started() -> Option<ChildStdin> {
    let own = std::env::current_exe().ok()?;
    let child = Command::new(own)
        .arg("guard")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    child.ok()?.stdin
}

/// A process group that the guard knows of, until this is dropped: after its end.
#[derive(Debug)]
pub(crate) struct Watched {
    group: u32,
}

impl Watched {
    /// Starts a command at the head of a group of its own; `goodbye` asks it for its end.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn spawn(command: &mut Command, goodbye: Signal) -> std::io::Result<(Child, Self)> {
        let child = command.process_group(0).spawn()?;
        let group = child.id();
        tell(&format!("group {group} {}", goodbye.as_raw()));
        Ok((child, Self { group }))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        tell(&format!("gone {}", self.group));
    }
}

/// A folder of this run's own, removed when dropped.
#[derive(Debug)]
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    /// Makes one for temporary files.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn new() -> Result<Self, String> {
        Self::named("bench")
    }

    /// The same, with this word in its name.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn named(what: &str) -> Result<Self, String> {
        let name = format!("roadtrip-{what}-{}-{}", std::process::id(), clock::now_ns());
        Self::at(std::env::temp_dir().join(name))
    }

    /// Makes this one, which may be a control group.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn at(path: PathBuf) -> Result<Self, String> {
        tell(&format!("folder {}", path.display()));
        std::fs::create_dir(&path).map_err(|e| format!("cannot make {}: {e}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove(&self.0);
        tell(&format!("removed {}", self.0.display()));
    }
}

/// Removes a folder with what is in it. A control group's files are the kernel's: it goes as it is, once its processes have.
fn remove(path: &Path) {
    let begun = Instant::now();
    while std::fs::remove_dir(path).is_err() && std::fs::remove_dir_all(path).is_err() && path.exists() {
        if begun.elapsed() > END_LIMIT {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What is left to be ended and removed.
#[derive(Default)]
struct Left {
    /// Group, signal, and when its first process began.
    groups: Vec<(u32, i32, Option<u64>)>,
    folders: Vec<PathBuf>,
}

impl Left {
    fn hear(&mut self, line: &str) {
        let Some((word, rest)) = line.split_once(' ') else {
            return;
        };
        match word {
            "group" => {
                let mut numbers = rest.split(' ');
                let (group, signal) = (numbers.next(), numbers.next());
                if let (Some(Ok(group)), Some(Ok(signal))) = (group.map(str::parse), signal.map(str::parse)) {
                    self.groups.push((group, signal, began(group)));
                }
            }
            "gone" => self.groups.retain(|(group, ..)| rest.parse() != Ok(*group)),
            "folder" => self.folders.push(PathBuf::from(rest)),
            "removed" => self.folders.retain(|folder| folder != Path::new(rest)),
            _ => {}
        }
    }

    /// Those that are still the same: a process of another begin has the number now that the group had.
    fn living(&self) -> impl Iterator<Item = (Pid, i32)> {
        let same = |&(group, signal, at): &(u32, i32, Option<u64>)| {
            let pid = i32::try_from(group).ok().and_then(Pid::from_raw)?;
            let now = began(group);
            let is_ours = now.is_none() || now == at;
            (is_ours && test_kill_process_group(pid).is_ok()).then_some((pid, signal))
        };
        self.groups.iter().filter_map(same)
    }

    fn end(&self) {
        for (pid, signal) in self.living() {
            if let Some(signal) = Signal::from_named_raw(signal) {
                let _ = kill_process_group(pid, signal);
            }
        }
        let begun = Instant::now();
        while self.living().next().is_some() && begun.elapsed() < END_LIMIT {
            std::thread::sleep(Duration::from_millis(10));
        }
        for (pid, _) in self.living() {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        // The last made is in the first, if any is.
        self.folders.iter().rev().for_each(|folder| remove(folder));
    }
}

/// When a process began, in ticks since boot: field 22 of its stat.
fn began(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

pub(crate) fn run(_: &Args) -> Result<ExitCode, String> {
    let mut left = Left::default();
    for line in std::io::stdin().lock().lines() {
        left.hear(&line.map_err(|e| format!("the pipe: {e}"))?);
    }
    left.end();
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_folders_that_are_left_are_ended_and_those_that_are_gone_are_let_be() {
        let folder = Folder::named("guard-test").unwrap();
        let (ended, kept) = (folder.0.join("a"), folder.0.join("b"));
        std::fs::create_dir_all(ended.join("within")).unwrap();
        std::fs::create_dir(&kept).unwrap();
        // One that starts another, which would outlive it.
        let start = || {
            let mut command = Command::new("sh");
            command.args(["-c", "sleep 60 & wait"]);
            Watched::spawn(&mut command, Signal::TERM).unwrap()
        };
        let ((mut first, _a), (mut second, _b)) = (start(), start());
        let mut left = Left::default();
        for line in [
            format!("group {} {}", first.id(), Signal::TERM.as_raw()),
            format!("group {} {}", second.id(), Signal::TERM.as_raw()),
            format!("gone {}", second.id()),
            format!("folder {}", ended.display()),
            format!("folder {}", kept.display()),
            format!("removed {}", kept.display()),
            "nonsense".to_owned(),
            "group x y".to_owned(),
        ] {
            left.hear(&line);
        }
        let reaper = std::thread::spawn(move || first.wait());
        left.end();
        assert!(!reaper.join().unwrap().unwrap().success());
        assert!(left.living().next().is_none());
        assert!(!ended.exists() && kept.exists());
        assert!(second.try_wait().unwrap().is_none());
        let group = Pid::from_raw(i32::try_from(second.id()).unwrap()).unwrap();
        kill_process_group(group, Signal::KILL).unwrap();
        second.wait().unwrap();
    }

    #[test]
    fn a_number_that_is_another_process_by_now_is_let_be() {
        let own = std::process::id();
        let mut left = Left::default();
        left.groups
            .push((own, Signal::KILL.as_raw(), began(own).map(|at| at + 1)));
        assert!(left.living().next().is_none());
    }
}
