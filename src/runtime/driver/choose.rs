//! Which driver a worker gets, and what to tell the operator when it is not io_uring.
//!
//! Called at boot. Whoever lends one listener to several workers opens the first worker's driver as configured, and
//! demands that kind for the others: see the page of [`epoll`](super::epoll) on why they must not mix.

use super::Driver;
use super::epoll::EpollDriver;
use super::uring::UringDriver;
use crate::runtime::topology::is_starved;
use rustix::io::Errno;
use std::fmt;
use std::io;
use std::str::FromStr;

/// The setting IO_DRIVER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IoDriver {
    /// io_uring where it can be had, epoll otherwise.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// epoll.
    Epoll,
}

impl FromStr for IoDriver {
    type Err = String;

    fn from_str(text: &str) -> Result<IoDriver, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "auto" => Ok(IoDriver::Auto),
            "uring" | "io_uring" => Ok(IoDriver::Uring),
            "epoll" => Ok(IoDriver::Epoll),
            _ => Err(format!("{text:?} is no driver: say auto, uring or epoll")),
        }
    }
}

impl fmt::Display for IoDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IoDriver::Auto => "auto",
            IoDriver::Uring => "uring",
            IoDriver::Epoll => "epoll",
        })
    }
}

/// Why there is no io_uring. Displays as one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fallback {
    /// What the kernel said; 0 if the error did not come from it.
    pub errno: i32,
    /// Its name, as in errno(3).
    pub name: &'static str,
    /// What most likely lies behind it.
    pub cause: &'static str,
    /// What the operator can do.
    pub remedy: &'static str,
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "io_uring is not available: {} (errno {}); likely cause: {}; remedy: {}",
            self.name, self.errno, self.cause, self.remedy
        )
    }
}

/// No driver.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// io_uring was demanded and cannot be had.
    #[error("IO_DRIVER=uring: {0}, or IO_DRIVER=auto")]
    Uring(Fallback),
    /// Not even epoll.
    #[error(
        "epoll cannot be set up: {0}; likely cause: no free descriptor (epoll and eventfd need one each); \
         remedy: raise RLIMIT_NOFILE"
    )]
    Epoll(#[source] io::Error),
}

impl DriverError {
    /// Descriptors, or memory of the kernel's, are all in use: another time there may be some.
    pub fn is_starved(&self) -> bool {
        match self {
            DriverError::Uring(fallback) => is_starved(&io::Error::from_raw_os_error(fallback.errno)),
            DriverError::Epoll(error) => is_starved(error),
        }
    }
}

/// Opens the driver for this thread, and says why if it is not io_uring though it might have been.
pub fn open(kind: IoDriver) -> Result<(Box<dyn Driver>, Option<Fallback>), DriverError> {
    let fallback = if kind == IoDriver::Epoll {
        None
    } else {
        match UringDriver::new() {
            Ok(driver) => return Ok((Box::new(driver), None)),
            Err(error) => Some(explain(&error, uring_disabled())),
        }
    };
    match (kind, fallback) {
        (IoDriver::Uring, Some(fallback)) => Err(DriverError::Uring(fallback)),
        _ => Ok((Box::new(EpollDriver::new().map_err(DriverError::Epoll)?), fallback)),
    }
}

/// `kernel.io_uring_disabled` (since 6.6): 0 everyone may, 1 only with CAP_SYS_ADMIN or in `io_uring_group`, 2
/// nobody. None where the file cannot be read.
fn uring_disabled() -> Option<u8> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
        .ok()?
        .trim()
        .parse()
        .ok()
}

const OLD_KERNEL: &str = "a kernel before 6.1, which lacks what this driver builds on";
const USE_NEWER: &str = "run on Linux 6.1 or later, or set IO_DRIVER=epoll to say that this is meant";

/// Errno, what `kernel.io_uring_disabled` says (None: anything), name, cause, remedy. The first match counts.
type Row = (Errno, Option<u8>, &'static str, &'static str, &'static str);
const TABLE: &[Row] = &[
    (
        Errno::PERM,
        Some(2),
        "EPERM",
        "kernel.io_uring_disabled=2 forbids it to everyone",
        "sysctl kernel.io_uring_disabled=0 on the node",
    ),
    (
        Errno::PERM,
        Some(1),
        "EPERM",
        "kernel.io_uring_disabled=1 forbids it without CAP_SYS_ADMIN",
        "sysctl kernel.io_uring_disabled=0 on the node, or put the user into kernel.io_uring_group",
    ),
    (
        Errno::PERM,
        None,
        "EPERM",
        "a seccomp profile: those of Docker 25 and containerd 2 and later block io_uring_setup",
        "run with a seccomp profile that allows io_uring_setup, io_uring_enter and io_uring_register",
    ),
    (
        Errno::ACCESS,
        None,
        "EACCES",
        "a security module (SELinux, AppArmor) denies it",
        "allow io_uring in the policy of the security module",
    ),
    (
        Errno::NOSYS,
        None,
        "ENOSYS",
        "a kernel built without io_uring, a sandbox without it (gVisor), or the seccomp profile of CRI-O or podman",
        "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile, or run outside the sandbox",
    ),
    (
        Errno::NOMEM,
        None,
        "ENOMEM",
        "RLIMIT_MEMLOCK is too small for the rings of this user's processes, or the memory limit is reached",
        "raise RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK=, --ulimit memlock=) to 8 MiB for each worker",
    ),
    (Errno::INVAL, None, "EINVAL", OLD_KERNEL, USE_NEWER),
    (
        Errno::OPNOTSUPP,
        None,
        "EOPNOTSUPP",
        "a platform that has io_uring in part only",
        USE_NEWER,
    ),
    (
        Errno::MFILE,
        None,
        "EMFILE",
        "this process has no free descriptor",
        "raise RLIMIT_NOFILE (ulimit -n)",
    ),
    (
        Errno::NFILE,
        None,
        "ENFILE",
        "the machine has no free file",
        "raise fs.file-max",
    ),
];

fn explain(error: &io::Error, disabled: Option<u8>) -> Fallback {
    let errno = error.raw_os_error().unwrap_or(0);
    let row = TABLE
        .iter()
        .find(|row| row.0.raw_os_error() == errno && (row.1.is_none() || row.1 == disabled));
    match row {
        Some(&(_, _, name, cause, remedy)) => Fallback {
            errno,
            name,
            cause,
            remedy,
        },
        None => Fallback {
            errno,
            name: "an error not seen before",
            cause: "unknown",
            remedy: "look the errno up in io_uring_setup(2) and io_uring_register(2)",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_errno_has_its_line() {
        let line = |errno: Errno, disabled| explain(&errno.into(), disabled).to_string();
        let cases: &[(Errno, Option<u8>, &[&str])] = &[
            (Errno::PERM, Some(2), &["EPERM", "io_uring_disabled=2", "sysctl"]),
            (
                Errno::PERM,
                Some(1),
                &["EPERM", "io_uring_disabled=1", "io_uring_group"],
            ),
            (Errno::PERM, Some(0), &["EPERM", "seccomp", "Docker 25"]),
            (Errno::PERM, None, &["EPERM", "seccomp", "containerd 2"]),
            (Errno::NOSYS, Some(0), &["ENOSYS", "CRI-O", "gVisor"]),
            (Errno::NOMEM, Some(0), &["ENOMEM", "RLIMIT_MEMLOCK"]),
            (Errno::INVAL, None, &["EINVAL", "before 6.1"]),
            (Errno::OPNOTSUPP, None, &["EOPNOTSUPP"]),
            (Errno::MFILE, None, &["EMFILE", "RLIMIT_NOFILE"]),
            (Errno::NFILE, None, &["ENFILE", "file-max"]),
            (Errno::ACCESS, None, &["EACCES", "SELinux"]),
            (Errno::IO, None, &["errno 5", "unknown"]),
        ];
        for (errno, disabled, words) in cases {
            let line = line(*errno, *disabled);
            assert!(!line.contains('\n'), "{line}");
            assert!(
                line.contains(&format!("errno {}", errno.raw_os_error())),
                "the number is missing: {line}"
            );
            for word in *words {
                assert!(line.contains(word), "{word} is missing: {line}");
            }
        }
        let own = explain(&io::Error::other("no errno"), None);
        assert_eq!((own.errno, own.cause), (0, "unknown"));
    }

    #[test]
    fn names_go_both_ways() {
        for kind in [IoDriver::Auto, IoDriver::Uring, IoDriver::Epoll] {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!(" Uring\n".parse(), Ok(IoDriver::Uring));
        assert!(
            "kqueue"
                .parse::<IoDriver>()
                .is_err_and(|e| e.contains("auto, uring or epoll"))
        );
    }

    #[test]
    fn epoll_when_asked_and_a_demand_for_io_uring_is_not_softened() {
        let (driver, fallback) = open(IoDriver::Epoll).unwrap();
        assert_eq!((driver.name(), fallback), ("epoll", None));
        // True on machines with and without io_uring; a real refusal is tested in a child process under seccomp.
        let (auto, fallback) = open(IoDriver::Auto).unwrap();
        assert_eq!(auto.name() == "epoll", fallback.is_some());
        match open(IoDriver::Uring) {
            Ok((driver, fallback)) => assert_eq!((driver.name(), fallback), ("uring", None)),
            Err(error) => {
                assert!(fallback.is_some());
                assert!(
                    error
                        .to_string()
                        .starts_with("IO_DRIVER=uring: io_uring is not available")
                );
            }
        }
    }
}
