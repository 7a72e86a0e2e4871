//! How many files this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one where it is needed.
///
/// # Errors
/// The hard limit is too low, or the kernel refuses.
pub(crate) fn allow(needed: u64) -> Result<(), String> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|soft| soft >= needed) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|hard| hard < needed) {
        return Err(format!(
            "{needed} open files are needed and the hard limit is {}: raise it (`ulimit -Hn`) or ask for fewer connections",
            limit.maximum.unwrap_or(0)
        ));
    }
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )
    .map_err(|e| format!("cannot raise the limit of open files: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_beyond_the_hard_one_is_refused_in_words() {
        if getrlimit(Resource::Nofile).maximum.is_some() {
            assert!(allow(u64::MAX).is_err_and(|e| e.contains("hard limit")));
        }
        assert!(allow(1).is_ok());
    }
}
