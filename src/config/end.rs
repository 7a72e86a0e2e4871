//! The times of a server's end, what the pod is granted for it, and workers that do not come to it.

use super::parse::Reader;
use super::variables::{self as var, duration_text};
use super::{Timeouts, time};
use crate::limits::{drain, health};
use std::time::Duration;

/// What is done about workers that are stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// Without a turn for so long, a worker is stuck.
    pub timeout: Duration,
    /// The process ends at once; else liveness says so, and the orchestrator ends it.
    pub abort: bool,
}

pub(super) fn watch(r: &mut Reader) -> Watch {
    Watch {
        timeout: time(r, &var::WORKER_TIMEOUT),
        abort: r.word(&var::STUCK) == "abort",
    }
}

/// In production a pod is behind a Service, whose endpoints follow readiness with a delay. Elsewhere nobody waits for a
/// developer's Ctrl-C to come through.
pub(super) fn drain_delay(r: &mut Reader, production: bool) -> Duration {
    let given = r.number_given(&var::DRAIN_DELAY);
    let preset = if production { drain::DELAY_PRODUCTION_MS } else { 0 };
    Duration::from_millis(given.unwrap_or(preset))
}

/// Compares what the end may take with what the pod is granted.
pub(super) fn check_grace(r: &mut Reader, timeouts: &Timeouts) {
    let Some(granted) = r.number_given(&var::TERMINATION_GRACE) else {
        return;
    };
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (delay, graceful) = (ms(timeouts.drain_delay), ms(timeouts.graceful));
    let wind_up = health::DRAIN_MARGIN_MS + ms(drain::STORE_CLOSE);
    let sum = delay.saturating_add(graceful).saturating_add(wind_up);
    if delay >= granted {
        let problem = format!(
            "is {}, and DRAIN_DELAY alone is {}: the process would be killed before it begins to drain, with all its \
             requests. Set terminationGracePeriodSeconds and TERMINATION_GRACE to {} or more, or lower DRAIN_DELAY",
            duration_text(granted),
            duration_text(delay),
            duration_text(sum)
        );
        r.fault(&var::TERMINATION_GRACE, problem);
    } else if sum > granted {
        r.warnings.push(format!(
            "TERMINATION_GRACE is {}, but the end may take {}: DRAIN_DELAY {} + GRACEFUL_TIMEOUT {} + {} to wind up. \
             Whatever is left by then is killed with its requests: raise terminationGracePeriodSeconds (and \
             TERMINATION_GRACE with it), or lower the others. A preStop hook's time counts as well",
            duration_text(granted),
            duration_text(sum),
            duration_text(delay),
            duration_text(graceful),
            duration_text(wind_up)
        ));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use std::time::Duration;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, String> {
        let env = [("DATA_DIR", "d")].iter().chain(pairs);
        Config::read(env.map(|(name, value)| (name.into(), value.into()))).map_err(|errors| errors.to_string())
    }

    const PRODUCTION: [(&str, &str); 3] = [
        ("ENVIRONMENT", "production"),
        ("DATABASE_URL", "postgresql://db/stories"),
        ("REDIS_URL", "redis://cache"),
    ];

    #[test]
    fn endpoints_have_time_to_follow_in_production_only() {
        assert_eq!(read(&[]).unwrap().timeouts.drain_delay, Duration::ZERO);
        assert_eq!(read(&PRODUCTION).unwrap().timeouts.drain_delay, Duration::from_secs(5));
        let set = [&PRODUCTION[..], &[("DRAIN_DELAY", "0")]].concat();
        assert_eq!(read(&set).unwrap().timeouts.drain_delay, Duration::ZERO);
    }

    #[test]
    fn the_sum_of_all_delays_is_compared_with_the_pods_grace() {
        let about = |pairs: &[(&str, &str)]| {
            let warnings = read(pairs).unwrap().warnings;
            warnings.into_iter().find(|line| line.contains("TERMINATION_GRACE"))
        };
        assert_eq!(about(&[]), None);
        // 30 and what winding up takes.
        assert_eq!(about(&[("TERMINATION_GRACE", "38")]), None);
        let warning = about(&[("TERMINATION_GRACE", "37")]).unwrap();
        for part in ["is 37s", "may take 38s", "GRACEFUL_TIMEOUT 30s", "8s to wind up"] {
            assert!(warning.contains(part), "{part}: {warning}");
        }
        let production = [&PRODUCTION[..], &[("TERMINATION_GRACE", "30")]].concat();
        assert!(about(&production).unwrap().contains("may take 43s: DRAIN_DELAY 5s"));
        // Killed before it begins: no matter of taste.
        let error = read(&[("TERMINATION_GRACE", "10"), ("DRAIN_DELAY", "10")]).unwrap_err();
        assert!(error.contains("TERMINATION_GRACE is 10s"), "{error}");
    }

    #[test]
    fn a_stuck_worker_is_left_to_the_orchestrator_unless_told() {
        let watch = read(&[]).unwrap().watch;
        assert_eq!((watch.timeout, watch.abort), (Duration::from_secs(10), false));
        let watch = read(&[("WORKER_TIMEOUT", "2s"), ("STUCK", "abort")]).unwrap().watch;
        assert_eq!((watch.timeout, watch.abort), (Duration::from_secs(2), true));
        assert!(read(&[("WORKER_TIMEOUT", "10ms")]).is_err());
        assert!(read(&[("STUCK", "ignore")]).is_err());
    }
}
