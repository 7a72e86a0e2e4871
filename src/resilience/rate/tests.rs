//! On a clock that the tests move: never more than is promised over any time, never less for who is alone, and nothing for
//! being forgotten.

use super::gcra::Account;
use super::limits::{LEASE_NS, TABLE_WAYS};
use super::table::Table;
use super::*;
use crate::server::TrustedProxies;
use crate::telemetry::metrics::{Labels, Registry};
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

const SECOND: u64 = 1_000_000_000;
/// Where the clock begins: a machine that has been up for a while.
const START: u64 = 1000 * SECOND;

fn limit(rate: &str, burst: u32) -> Limit {
    Limit::new(Rate::parse(rate).unwrap(), burst).unwrap()
}

fn client(n: u32) -> ClientKey {
    ClientKey::of_addr(IpAddr::from(Ipv4Addr::from(n)))
}

fn settings(client: Option<Limit>, pod: Option<Limit>) -> Settings {
    Settings {
        enabled: true,
        client,
        pod,
        ..Settings::default()
    }
}

/// The workers of a process that goes by these settings.
fn workers(count: usize, settings: Settings) -> (Arc<Limiter>, Vec<Turnstile>) {
    let limiter = Arc::new(Limiter::default());
    limiter.apply(settings);
    let registry = Registry::new(Labels {
        routes: &["r"],
        styles: &["s"],
    });
    let worker = |at| Turnstile::new(Arc::clone(&limiter), false, Rc::new(registry.worker(at as u32)));
    let workers = (0..count).map(worker).collect();
    (limiter, workers)
}

fn passes(worker: &Turnstile, n: u32, now: u64) -> bool {
    matches!(worker.pass(now, |_| Who::Client(client(n))), Verdict::Pass(_))
}

/// Panics where more than `extra` beyond the limit came in any stretch of time.
fn check_every_window(admitted: &[u64], quota: Quota, extra: u32) {
    let interval = quota.window_ns() / u64::from(quota.burst());
    // With u_k = t_k - k x interval, the requests from i to j are (u_i - u_j) / interval + 1 more than the rate alone gives
    // in their time: so the largest u so far is all that must be known of what came before.
    let mut highest = i128::MIN;
    for (k, at) in admitted.iter().enumerate() {
        let u = i128::from(*at) - k as i128 * i128::from(interval);
        highest = highest.max(u);
        let spent = (highest - u) / i128::from(interval) + 1;
        assert!(
            spent <= i128::from(quota.burst() + extra),
            "request {k}: {spent} more than the time allows, of {} + {extra}",
            quota.burst()
        );
    }
}

#[test]
fn rates_are_read_as_people_write_them() {
    for (text, shown) in [
        ("50/s", "50/s"),
        ("50", "50/s"),
        ("600/m", "600/m"),
        ("1000000/h", "1000000/h"),
    ] {
        assert_eq!(Rate::parse(text).map(|rate| rate.to_string()).as_deref(), Some(shown));
    }
    for bad in [
        "",
        "/s",
        "0/s",
        "-1/s",
        "+1/s",
        "1.5/s",
        "50/d",
        "50/S",
        "1000001/s",
        " 5/s",
        "5/s ",
        "99999999999999999999",
    ] {
        assert_eq!(Rate::parse(bad), None, "{bad:?}");
    }
    let rate = |text| Rate::parse(text).unwrap();
    assert!(Limit::new(rate("1/s"), 0).is_none());
    assert!(Limit::new(rate("1/h"), 25).is_none() && Limit::new(rate("1/h"), 24).is_some());
    assert!(Limit::new(rate("1000000/s"), 1_000_001).is_none());
}

#[test]
fn a_lease_is_a_small_part_of_the_burst() {
    for (burst, lease) in [(1, 1), (16, 1), (100, 6), (1024, 64), (100_000, 64)] {
        assert_eq!(Quota::from(limit("100000/s", burst)).lease(), lease);
    }
}

#[test]
fn one_connection_gets_its_whole_limit_and_not_one_more() {
    for (rate, burst) in [("100/s", 100), ("7/s", 3), ("10/m", 10), ("1/s", 1)] {
        let limit = limit(rate, burst);
        let quota = Quota::from(limit);
        let (_, workers) = workers(4, settings(Some(limit), None));
        // A neighbour on another worker changes nothing.
        let at_once = (0..burst * 3).filter(|_| passes(&workers[0], 1, START)).count();
        assert_eq!(at_once, burst as usize, "{rate}");
        assert!(passes(&workers[1], 2, START));
        // Afterwards one for each interval, to the nanosecond.
        let interval = quota.window_ns() / u64::from(burst);
        for n in 1..50 {
            let due = START + n * interval;
            assert!(!passes(&workers[0], 1, due - 1), "{rate} {n}");
            assert!(passes(&workers[0], 1, due), "{rate} {n}");
            assert!(!passes(&workers[0], 1, due), "{rate} {n}");
        }
    }
}

#[test]
fn a_client_that_goes_from_worker_to_worker_spends_one_limit() {
    let (_, workers) = workers(8, settings(Some(limit("100/s", 100)), None));
    // Slower than leases last, so nothing is had on credit: exact, but for what comes back meanwhile (11 s, 1100).
    let passed = (0..2000u64)
        .filter(|n| passes(&workers[*n as usize % 8], 1, START + n * 5_500_000))
        .count();
    assert!((1150..=1200 + 8 * 6).contains(&passed), "{passed}");
}

#[test]
fn a_refusal_says_when_to_come_back_and_a_pass_what_is_left() {
    let (_, workers) = workers(1, settings(Some(limit("1/m", 2)), None));
    let pass = |now| workers[0].pass(now, |_| Who::Client(client(1)));
    let standing = |left, reset_s| Standing { left, reset_s };
    assert_eq!(pass(START), Verdict::Pass(Some(standing(1, 60))));
    assert_eq!(pass(START), Verdict::Pass(Some(standing(0, 120))));
    assert_eq!(pass(START), Verdict::Refused(Scope::Client, standing(0, 60)));
    let later = START + 59 * SECOND + 1;
    assert_eq!(pass(later), Verdict::Refused(Scope::Client, standing(0, 1)));
    assert_eq!(pass(START + 60 * SECOND), Verdict::Pass(Some(standing(0, 120))));
    assert_eq!(workers[0].with_policy(str::to_owned), "\"client\";q=2;w=120");
}

#[test]
fn the_pod_has_a_limit_of_its_own_and_its_refusals_cost_the_client_nothing() {
    let (_, workers) = workers(1, settings(Some(limit("1/s", 10)), Some(limit("1/s", 4))));
    let pass = |now, n| workers[0].pass(now, |_| Who::Client(client(n)));
    for n in 0..4 {
        assert!(matches!(pass(START, n), Verdict::Pass(_)));
    }
    for _ in 0..100 {
        assert!(matches!(pass(START, 9), Verdict::Refused(Scope::Pod, _)));
    }
    // Exempt: passes, and spends nothing.
    assert_eq!(workers[0].pass(START, |_| Who::Exempt), Verdict::Pass(None));
    let later = START + SECOND;
    assert_eq!(pass(later, 9), Verdict::Pass(Some(Standing { left: 9, reset_s: 1 })));
    assert!(matches!(
        workers[0].pass(later, |_| Who::Anybody),
        Verdict::Refused(Scope::Pod, _)
    ));
}

#[test]
fn switched_at_any_time_and_never_a_fresh_burst() {
    let first = settings(Some(limit("10/s", 100)), Some(limit("1000/s", 1000)));
    let (limiter, workers) = workers(2, first.clone());
    assert_eq!((0..300).filter(|_| passes(&workers[0], 1, START)).count(), 100);
    limiter.apply(Settings {
        enabled: false,
        ..first.clone()
    });
    assert!(!workers[0].is_on());
    limiter.apply(first.clone());
    assert!(workers[0].is_on() && !passes(&workers[0], 1, START) && !passes(&workers[1], 1, START));
    // Twice the limit, and all of the old one spent: all of the new one is.
    limiter.apply(settings(Some(limit("20/s", 200)), first.pod));
    assert!(!passes(&workers[0], 1, START) && !passes(&workers[1], 1, START));
    let later = START + SECOND;
    let passed = (0..100).filter(|n| passes(&workers[n % 2], 1, later)).count();
    assert!((20..=20 + 2 * 12).contains(&passed), "{passed}");
    // The same settings again are no change.
    let state = limiter.state();
    limiter.apply(limiter.settings());
    assert_eq!(limiter.state(), state);
}

#[test]
fn who_is_put_out_of_a_full_table_comes_back_to_no_less_than_he_left() {
    // One set, and more clients than it has places, each of which spends what it is let.
    let quota = Quota::from(limit("1/s", 5));
    let table = Table::new();
    let clients = TABLE_WAYS as u32 * 5;
    let mut admitted: HashMap<u32, Vec<u64>> = HashMap::new();
    let mut rng = fastrand::Rng::with_seed(7);
    let mut now = START;
    for _ in 0..20_000 {
        now += rng.u64(0..SECOND / 80);
        let n = rng.u32(0..clients);
        let mut fresh = Account::default();
        if table
            .settle((client(n), 0), &mut fresh, quota, now, true, false)
            .verdict
            .is_ok()
        {
            admitted.entry(n).or_default().push(now);
        }
    }
    for times in admitted.values() {
        check_every_window(times, quota, 0);
    }
    // And the attack: one that is refused cannot wash itself clean by sending others through its set, a moment later, so
    // that its own place is the one to be taken.
    let spend = |n, now| {
        let mut fresh = Account::default();
        table
            .settle((client(n), 1), &mut fresh, quota, now, true, false)
            .verdict
            .is_ok()
    };
    assert_eq!((0..10).filter(|_| spend(0, now)).count(), 5);
    for other in 1..100 {
        for _ in 0..10 {
            spend(other, now + 1);
        }
    }
    assert_eq!((0..10).filter(|_| spend(0, now + 2)).count(), 0);
}

#[test]
fn newcomers_are_not_held_up_below_the_stated_bound() {
    // Half as many clients as there are places, all of whom spend all they may: nobody is charged for another.
    let (_, workers) = workers(1, settings(Some(limit("1/s", 4)), None));
    let mut wrong = 0;
    for n in 0..(limits::TABLE_SETS * limits::TABLE_WAYS / 2) as u32 {
        let passed = (0..6).filter(|_| passes(&workers[0], n, START)).count();
        wrong += usize::from(passed != 4);
    }
    // Sets are chosen by chance: of 8192 with a mean of 4, some fifty have more than 10, and so some clients too many.
    assert!(wrong < 1200, "{wrong}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn one_account_never_admits_more_than_the_limit(
        gaps in prop::collection::vec(0u64..3 * SECOND / 10, 1..400),
        count in 1u32..200, burst in 1u32..50,
    ) {
        let limit = limit(&format!("{count}/s"), burst);
        let quota = Quota::from(limit);
        let (mut due, mut now, mut admitted) = (0, START, Vec::new());
        for gap in gaps {
            now += gap;
            match quota.admit(due, now) {
                Ok(next) => {
                    due = next;
                    admitted.push(now);
                }
                // It says to the nanosecond when it would be let through.
                Err(wait) => {
                    prop_assert!(quota.admit(due, now + wait).is_ok());
                    prop_assert!(quota.admit(due, now + wait - 1).is_err());
                    prop_assert_eq!(quota.left(due, now), 0);
                }
            }
        }
        check_every_window(&admitted, quota, 0);
    }

    #[test]
    fn on_one_worker_leases_change_nothing(
        gaps in prop::collection::vec(prop_oneof![Just(0u64), 0..2 * LEASE_NS, 0..3 * SECOND], 1..600),
        count in 1u32..300, burst in 1u32..400,
    ) {
        let limit = limit(&format!("{count}/s"), burst);
        let quota = Quota::from(limit);
        let (_, workers) = workers(2, settings(Some(limit), None));
        let (mut due, mut now) = (0, START);
        for gap in gaps {
            now += gap;
            let ideal = quota.admit(due, now).map(|next| due = next).is_ok();
            prop_assert_eq!(passes(&workers[1], 1, now), ideal);
        }
    }

    #[test]
    fn over_many_workers_no_more_than_a_lease_for_each_comes_on_top(
        steps in prop::collection::vec((0usize..8, prop_oneof![4 => Just(0u64), 4 => 0..SECOND / 200, 1 => 0..SECOND]), 1..2000),
        count in 1u32..300, burst in 1u32..400, width in 1usize..=8, with_pod: bool,
    ) {
        let limit = limit(&format!("{count}/s"), burst);
        let quota = Quota::from(limit);
        let (of_client, of_pod) = if with_pod { (None, Some(limit)) } else { (Some(limit), None) };
        let (_, workers) = workers(width, settings(of_client, of_pod));
        let (mut now, mut admitted) = (START, Vec::new());
        for (at, gap) in steps {
            now += gap;
            // A connection sends several at once, as a client that wants the most would.
            for _ in 0..4 {
                if passes(&workers[at % width], 1, now) {
                    admitted.push(now);
                }
            }
        }
        check_every_window(&admitted, quota, width as u32 * quota.lease());
    }

    #[test]
    fn what_is_settled_late_is_never_charged_too_little(
        mine in prop::collection::vec(0u64..SECOND, 0..20),
        theirs in prop::collection::vec(0u64..SECOND, 1..20),
    ) {
        // One account that saw every request, whoever let it through, against one that learns of mine at the end.
        let quota = Quota::from(limit("20/s", 1000));
        let run = |times: &[u64]| {
            let mut times = times.to_vec();
            times.sort_unstable();
            times.iter().fold(0, |due, at| quota.admit(due, START + at).unwrap())
        };
        let common = run(&theirs);
        let mut account = Account::default();
        let mut sorted = mine.clone();
        sorted.sort_unstable();
        for at in &sorted {
            account.take(quota, START + at).unwrap();
        }
        let all = run(&[&mine[..], &theirs[..]].concat());
        prop_assert!(account.settled(common, quota) >= all);
        prop_assert_eq!(account.settled(0, quota), account.due);
    }
}

#[test]
fn the_exempt_and_the_key_come_from_the_settings() {
    let (limiter, workers) = workers(1, settings(Some(limit("1/s", 1)), None));
    limiter.apply(Settings {
        key: Some("x-api-key".into()),
        exempt: TrustedProxies::parse("192.0.2.0/24").unwrap(),
        ..limiter.settings()
    });
    workers[0].pass(START, |rules| {
        assert_eq!(rules.key.as_deref(), Some("x-api-key"));
        assert!(rules.exempt.contains("192.0.2.9".parse().unwrap()));
        Who::Exempt
    });
}
