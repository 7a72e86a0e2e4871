//! kill(1), for an image without a shell: the guide's `kubectl exec <pod> -- kill -HUP 1` runs this binary under that
//! name (a link in the image). Signals that the server knows, and nothing else.

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::ffi::OsStr;
use std::path::Path;

const USAGE: &str = "usage: kill [-s] [-]HUP|INT|QUIT|TERM|USR1|USR2|TTIN|TTOU|WINCH|KILL|0 pid...";

/// Whether this program was started as `kill`.
pub(super) fn is_asked(program: Option<&OsStr>) -> bool {
    program.and_then(|program| Path::new(program).file_name()) == Some(OsStr::new("kill"))
}

/// What to send to whom; a signal of None only asks whether the process is there.
#[derive(Debug, PartialEq, Eq)]
struct Order {
    signal: Option<Signal>,
    pids: Vec<Pid>,
}

/// Sends what `arguments` (without the program's name) say.
///
/// # Errors
/// What is wrong with them, or what the kernel said of a process; the other processes have got theirs.
pub(super) fn run(arguments: &[String]) -> Result<(), String> {
    let order = parse(arguments)?;
    let mut failed = Vec::new();
    for pid in order.pids {
        let sent = match order.signal {
            Some(signal) => kill_process(pid, signal),
            None => test_kill_process(pid),
        };
        if let Err(error) = sent {
            failed.push(format!("({}): {error}", pid.as_raw_nonzero()));
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join(", "))
    }
}

fn parse(arguments: &[String]) -> Result<Order, String> {
    let (signal, pids) = match arguments {
        [flag, name, pids @ ..] if flag == "-s" || flag == "-n" => (named(name)?, pids),
        [flag, pids @ ..] if flag.len() > 1 && flag.starts_with('-') && flag != "--" => (named(&flag[1..])?, pids),
        pids => (Some(Signal::TERM), pids),
    };
    let pids = match pids {
        [dashes, pids @ ..] if dashes == "--" => pids,
        pids => pids,
    };
    if pids.is_empty() {
        return Err(USAGE.to_owned());
    }
    let pids = pids
        .iter()
        // Groups and "everybody" (0, -1, -pid) are left to a real kill.
        .map(|text| {
            text.parse::<i32>()
                .ok()
                .filter(|pid| *pid > 0)
                .and_then(Pid::from_raw)
                .ok_or_else(|| format!("{text:?} is not a process id; {USAGE}"))
        })
        .collect::<Result<Vec<Pid>, String>>()?;
    Ok(Order { signal, pids })
}

fn named(name: &str) -> Result<Option<Signal>, String> {
    let bare = name.strip_prefix("SIG").unwrap_or(name);
    Ok(Some(match bare {
        "0" => return Ok(None),
        "HUP" | "1" => Signal::HUP,
        "INT" | "2" => Signal::INT,
        "QUIT" | "3" => Signal::QUIT,
        "KILL" | "9" => Signal::KILL,
        "USR1" | "10" => Signal::USR1,
        "USR2" | "12" => Signal::USR2,
        "TERM" | "15" => Signal::TERM,
        "TTIN" | "21" => Signal::TTIN,
        "TTOU" | "22" => Signal::TTOU,
        "WINCH" | "28" => Signal::WINCH,
        _ => return Err(format!("unknown signal {name:?}; {USAGE}")),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(line: &str) -> Result<Order, String> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn sends(signal: Option<Signal>, pids: &[i32]) -> Result<Order, String> {
        Ok(Order {
            signal,
            pids: pids.iter().filter_map(|pid| Pid::from_raw(*pid)).collect(),
        })
    }

    #[test]
    fn reads_what_kill_is_called_with() {
        assert_eq!(order("-HUP 1"), sends(Some(Signal::HUP), &[1]));
        assert_eq!(order("-SIGUSR2 1 7"), sends(Some(Signal::USR2), &[1, 7]));
        assert_eq!(order("-s TERM 1"), sends(Some(Signal::TERM), &[1]));
        assert_eq!(order("-1 1"), sends(Some(Signal::HUP), &[1]));
        assert_eq!(order("-0 1"), sends(None, &[1]));
        assert_eq!(order("12"), sends(Some(Signal::TERM), &[12]));
        assert_eq!(order("-- 12"), sends(Some(Signal::TERM), &[12]));
        for wrong in [
            "",
            "-HUP",
            "-NOPE 1",
            "-HUP 0",
            "-HUP -1",
            "-HUP x",
            "-s",
            "- 1",
            "-HUP 99999999999",
        ] {
            assert!(order(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn is_told_by_the_name_it_is_called_by() {
        assert!(is_asked(Some(OsStr::new("/bin/kill"))));
        assert!(is_asked(Some(OsStr::new("kill"))));
        assert!(!is_asked(Some(OsStr::new("/roadtrip-api"))));
        assert!(!is_asked(None));
    }

    #[test]
    fn asks_after_a_process() {
        let me = std::process::id().to_string();
        assert_eq!(run(&["-0".to_owned(), me]), Ok(()));
        // Above the kernel's PID_MAX_LIMIT.
        let error = run(&["-0".to_owned(), "2000000000".to_owned()]).unwrap_err();
        assert!(
            error.contains("2000000000") && error.contains("No such process"),
            "{error}"
        );
    }
}
