//! `refuse-uring`: runs a command where the kernel refuses io_uring, as container runtimes' default profiles do.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::io::Errno;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// io_uring_setup, io_uring_enter, io_uring_register: the same numbers on every architecture (Linux
/// include/uapi/asm-generic/unistd.h, and the x86-64 table).
const URING_CALLS: [i64; 3] = [425, 426, 427];

/// Run a command under a seccomp filter that refuses io_uring with the errno given
///
/// Docker 25 and containerd 2 answer EPERM, CRI-O and podman ENOSYS. The command takes this process' place (same pid)
/// and keeps the filter for good, as do its children; no_new_privs is set, which an unprivileged filter needs.
#[derive(clap::Args)]
#[command(after_help = "Example: roadtrip-bench refuse-uring --errno ENOSYS -- target/release/roadtrip-api serve")]
pub(crate) struct Args {
    /// What the three calls answer
    #[arg(long, value_enum, default_value = "eperm", ignore_case = true)]
    errno: Refusal,
    /// The command and its arguments, after `--`
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Refusal {
    /// Operation not permitted.
    Eperm,
    /// Function not implemented.
    Enosys,
}

impl Refusal {
    fn errno(self) -> u32 {
        let errno = match self {
            Self::Eperm => Errno::PERM,
            Self::Enosys => Errno::NOSYS,
        };
        errno.raw_os_error().unsigned_abs()
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    let (program, rest) = args.command.split_first().ok_or("no command given")?;
    let filter = filter(args.errno).map_err(|e| format!("cannot make the seccomp filter: {e}"))?;
    seccompiler::apply_filter(&filter).map_err(|e| format!("cannot set the seccomp filter: {e}"))?;
    let error = Command::new(program).args(rest).exec();
    Err(format!("cannot run {program:?}: {error}"))
}

fn filter(refusal: Refusal) -> Result<BpfProgram, Box<dyn std::error::Error>> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let rules: BTreeMap<_, _> = URING_CALLS.iter().map(|&call| (call, vec![])).collect();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(refusal.errno()), arch)?;
    Ok(filter.try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Applied in a thread of its own: a filter binds the calling thread and cannot be taken off.
    fn setup_under(refusal: Refusal) -> Option<i32> {
        std::thread::spawn(move || {
            seccompiler::apply_filter(&filter(refusal).unwrap()).unwrap();
            io_uring::IoUring::new(2).err().and_then(|e| e.raw_os_error())
        })
        .join()
        .unwrap()
    }

    #[test]
    fn io_uring_setup_meets_the_errno_asked_for() {
        assert_eq!(setup_under(Refusal::Eperm), Some(Errno::PERM.raw_os_error()));
        assert_eq!(setup_under(Refusal::Enosys), Some(Errno::NOSYS.raw_os_error()));
    }
}
