//! The gate on a clock that the tests move: the order of the queue, and, before simulated servers of known capacity, what is
//! served and how late.

mod simulation;

use super::gate::{Arrival, Gate, Permit, Verdict};
use super::limit::End;
use super::{Reason, Settings, Urgency};
use crate::limits::overload as limits;

const MS: u64 = 1_000_000;
const TARGET: u64 = limits::TARGET_MS * MS;

fn request(gate: &mut Gate<u32>, now: u64, who: u32) -> Arrival {
    gate.arrive(now, now, 0, Urgency::Request, who)
}

/// A gate with as many in flight as it lets in.
fn full() -> (Gate<u32>, Vec<Permit>) {
    let mut gate = Gate::new(Settings::default(), 0);
    let mut permits = Vec::new();
    while gate.in_flight() < gate.limit() {
        match request(&mut gate, 0, 0) {
            Arrival::In(permit) => permits.push(permit),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(permits.len(), limits::LIMIT_FIRST);
    (gate, permits)
}

/// Who is let in, and who is shed, in this order.
fn outcome(gate: &mut Gate<u32>, now: u64) -> (Vec<u32>, Vec<u32>) {
    let (mut entered, mut shed) = (Vec::new(), Vec::new());
    while let Some((who, verdict)) = gate.next(now) {
        match verdict {
            Verdict::In(..) => entered.push(who),
            Verdict::Shed(Reason::Waited) => shed.push(who),
            other => panic!("{other:?}"),
        }
    }
    (entered, shed)
}

#[test]
fn in_calm_the_oldest_goes_first_and_may_wait_for_as_long_as_the_target() {
    let (mut gate, mut permits) = full();
    for who in 1..=3 {
        assert!(matches!(
            request(&mut gate, u64::from(who) * MS, who),
            Arrival::Waits(_)
        ));
    }
    assert_eq!(outcome(&mut gate, 100 * MS), (vec![], vec![]));
    gate.leave(100 * MS, permits.pop().unwrap(), End::Done);
    assert_eq!(outcome(&mut gate, 100 * MS), (vec![1], vec![]));
    gate.leave(150 * MS, permits.pop().unwrap(), End::Done);
    gate.leave(150 * MS, permits.pop().unwrap(), End::Done);
    assert_eq!(outcome(&mut gate, 150 * MS), (vec![2, 3], vec![]));
    assert!(!gate.is_overloaded(1000 * MS), "nobody waits");
}

#[test]
fn a_queue_that_does_not_become_empty_sheds_its_oldest_and_serves_the_others_by_age() {
    let (mut gate, mut permits) = full();
    for who in 1..=200 {
        request(&mut gate, u64::from(who) * MS, who);
    }
    assert_eq!(outcome(&mut gate, 200 * MS), (vec![], vec![]), "a burst is not shed");
    assert_eq!(
        request(&mut gate, 201 * MS, 201),
        Arrival::Refused(Reason::QueueFull),
        "as many wait as can be let in soon"
    );
    assert!(gate.is_overloaded(201 * MS));
    gate.leave(201 * MS, permits.pop().unwrap(), End::Done);
    gate.leave(201 * MS, permits.pop().unwrap(), End::Done);
    let (entered, shed) = outcome(&mut gate, 201 * MS);
    assert_eq!(entered, [182, 183]);
    assert_eq!(shed, (1..=181).collect::<Vec<u32>>(), "20 ms are a tenth of the target");
    // Nobody leaves, and nobody has to come for the others to hear of it.
    assert_eq!(outcome(&mut gate, 220 * MS).1, (184..=200).collect::<Vec<u32>>());
    assert_eq!(gate.queued(), 0);
    assert!(gate.is_overloaded(221 * MS), "who was sent away was not served");
    // Nor does it end because somebody can be let in: what one takes is not known here, so nobody could have been served.
    gate.leave(222 * MS, permits.pop().unwrap(), End::Done);
    assert!(gate.is_overloaded(419 * MS));
    assert!(
        !gate.is_overloaded(420 * MS),
        "nobody was sent away for as long as the target"
    );
}

#[test]
fn who_comes_alone_to_a_gate_that_stays_full_does_not_wait_anew_for_as_long_as_the_target() {
    let (mut gate, mut permits) = full();
    request(&mut gate, 0, 1);
    assert_eq!(outcome(&mut gate, TARGET), (vec![], vec![1]));
    // At this rate nobody else waits when the last one is sent away.
    for who in 2..=5 {
        let came = TARGET * u64::from(who);
        assert!(gate.is_overloaded(came));
        assert!(matches!(request(&mut gate, came, who), Arrival::Waits(_)));
        assert_eq!(outcome(&mut gate, came + TARGET / 10), (vec![], vec![who]));
    }
    gate.leave(7 * TARGET, permits.pop().unwrap(), End::Untold);
    assert!(matches!(request(&mut gate, 7 * TARGET, 6), Arrival::In(_)));
    assert!(matches!(request(&mut gate, 7 * TARGET, 7), Arrival::Waits(_)));
    assert_eq!(
        outcome(&mut gate, 8 * TARGET - MS),
        (vec![], vec![]),
        "then it begins anew"
    );
}

#[test]
fn in_a_rush_every_way_in_is_refused_on_arrival_and_not_just_the_one_that_asks_before() {
    let (mut gate, _permits) = full();
    for who in 0..limits::LIMIT_FIRST as u32 {
        assert!(matches!(
            request(&mut gate, u64::from(who) * MS, who),
            Arrival::Waits(_)
        ));
    }
    assert!(matches!(request(&mut gate, TARGET - MS, 64), Arrival::Waits(_)));
    // What is refused before anything is done for it, and what comes straight to the gate, as a lookup by its id does.
    assert_eq!(gate.refuses(TARGET, 0), Some(Reason::QueueFull));
    assert_eq!(request(&mut gate, TARGET, 65), Arrival::Refused(Reason::QueueFull));
    assert_eq!(
        gate.arrive(TARGET, TARGET, 0, Urgency::Background, 66),
        Arrival::Refused(Reason::Background)
    );
}

#[test]
fn in_a_rush_no_more_wait_than_are_let_in_within_a_twentieth_of_the_target() {
    let (mut gate, permits) = full();
    for permit in permits {
        gate.leave(100 * MS, permit, End::Done);
    }
    while let Arrival::In(_) = request(&mut gate, 100 * MS, 0) {}
    // Now one waits.
    let limit = gate.limit();
    let now = 100 * MS + TARGET;
    let arrivals = (0..limit as u32).map(|who| request(&mut gate, now, who));
    let waiting = 1 + arrivals.filter(|arrival| matches!(arrival, Arrival::Waits(_))).count();
    // A tenth of those in flight leave in 10 ms where each takes 100.
    assert!(limit > 20 && waiting == limit / 10, "{waiting} of {limit}");
    assert_eq!(gate.refuses(now, 0), Some(Reason::QueueFull));
}

#[test]
fn a_rush_lasts_until_the_places_left_free_could_have_served_who_was_sent_away() {
    let (mut gate, permits) = full();
    for permit in permits {
        gate.leave(100 * MS, permit, End::Done);
    }
    let mut permits = Vec::new();
    while let Arrival::In(permit) = request(&mut gate, 100 * MS, 0) {
        permits.push(permit);
    }
    // One waits, for as long as the target, and others come; what one takes is known: 100 ms.
    let now = 100 * MS + TARGET;
    while request(&mut gate, now, 1) != Arrival::Refused(Reason::QueueFull) {}
    for who in 2..=10 {
        assert_eq!(request(&mut gate, now, who), Arrival::Refused(Reason::QueueFull));
    }
    // Ten were sent away, and 10 ms later the one who waited from the begin is, too; the others are let in, and places stay free.
    let now = now + 10 * MS;
    let mut free = 0;
    while free < 10 {
        gate.leave(now, permits.pop().unwrap(), End::Untold);
        while gate.next(now).is_some() {}
        free = gate.limit() as u64 - gate.in_flight() as u64;
    }
    assert!(gate.queued() == 0 && free < 20, "{free}");
    // Eleven are missing, and each of the places serves one in the time that one is held: 100 ms at first, 210 of late.
    let lasts =
        |gate: &Gate<u32>, from: u64| (from..).step_by(100_000).find(|now| !gate.is_overloaded(*now)).unwrap() - from;
    let all = lasts(&gate, now);
    assert!(
        (11 * 100 * MS / free..11 * 210 * MS / free).contains(&all),
        "{all} ns with {free}"
    );
    // Half of the time with these, and the rest with three times as many: in a third, but for what is held longer by then.
    let half = now + all / 2;
    for _ in 0..2 * free {
        gate.leave(half, permits.pop().unwrap(), End::Untold);
    }
    let rest = lasts(&gate, half);
    assert!((all / 2 / 3..all / 2 / 3 * 2).contains(&rest), "{rest} ns of {all}");
    let ends = half + rest;
    // What has ended does not begin again because somebody takes the places.
    while let Arrival::In(_) = request(&mut gate, ends + MS, 0) {}
    assert!(!gate.is_overloaded(ends + 2 * MS));
}

#[test]
fn the_queue_is_bounded_and_the_oldest_makes_room() {
    let (mut gate, _permits) = full();
    for who in 0..limits::QUEUE_MAX as u32 {
        request(&mut gate, MS, who);
        assert_eq!(gate.next(MS), None);
    }
    request(&mut gate, MS, u32::MAX);
    assert_eq!(gate.next(MS), Some((0, Verdict::Shed(Reason::QueueFull))));
    assert_eq!(gate.next(MS), None);
    assert_eq!(gate.queued(), limits::QUEUE_MAX);
}

#[test]
fn who_leaves_the_queue_is_not_let_in() {
    let (mut gate, mut permits) = full();
    let Arrival::Waits(first) = request(&mut gate, 0, 1) else {
        panic!()
    };
    request(&mut gate, 0, 2);
    assert!(gate.withdraw(first) && !gate.withdraw(first));
    gate.leave(MS, permits.pop().unwrap(), End::Done);
    assert_eq!(outcome(&mut gate, MS), (vec![2], vec![]));
    // The last one who waits ends the wait, also by leaving.
    let Arrival::Waits(last) = request(&mut gate, 2 * MS, 3) else {
        panic!()
    };
    gate.withdraw(last);
    assert!(!gate.is_overloaded(2 * MS + TARGET));
}

#[test]
fn what_nobody_waits_for_is_done_where_there_is_room_to_spare() {
    let mut gate = Gate::new(Settings::default(), 0);
    let background = |gate: &mut Gate<u32>| gate.arrive(0, 0, 0, Urgency::Background, 0);
    for _ in 0..limits::LIMIT_FIRST / 2 {
        assert!(matches!(background(&mut gate), Arrival::In(_)));
    }
    assert_eq!(background(&mut gate), Arrival::Refused(Reason::Background));
    assert!(
        matches!(request(&mut gate, 0, 1), Arrival::In(_)),
        "requests have the rest"
    );
}

#[test]
fn a_loop_that_lags_for_a_while_takes_nothing_on() {
    let mut gate = Gate::new(Settings::default(), 0);
    let mut come = |now: u64, turn_ms: u64| gate.arrive(now * MS, now * MS, turn_ms * MS, Urgency::Request, 0);
    assert!(matches!(come(0, 60), Arrival::In(_)), "one long turn is no lag");
    assert!(matches!(come(60, 60), Arrival::In(_)));
    assert_eq!(come(120, 60), Arrival::Refused(Reason::Lag));
    assert!(matches!(come(180, 2), Arrival::In(_)), "and one short turn ends it");
    assert!(matches!(come(240, 60), Arrival::In(_)));
    assert!(
        matches!(come(900, 60), Arrival::In(_)),
        "what was before a pause is over"
    );
}

#[test]
fn switched_off_it_is_a_number_and_nobody_waits() {
    let settings = Settings {
        enabled: false,
        in_flight_max: 2,
        ..Settings::default()
    };
    let mut gate = Gate::new(settings, 0);
    let Arrival::In(permit) = request(&mut gate, 0, 0) else {
        panic!()
    };
    assert!(matches!(request(&mut gate, 0, 0), Arrival::In(_)));
    assert_eq!(request(&mut gate, 0, 0), Arrival::Refused(Reason::Limit));
    gate.leave(9000 * MS, permit, End::Done);
    assert!(matches!(request(&mut gate, 9000 * MS, 0), Arrival::In(_)));
    assert_eq!((gate.limit(), gate.queued()), (2, 0));
}
