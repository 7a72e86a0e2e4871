//! Levels of pressure with hysteresis, and steps by which caches shrink.

use crate::limits::memory as limits;
use serde::Serialize;
use std::time::Duration;

/// How short memory is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Level {
    /// It is not.
    #[default]
    Calm = 0,
    /// Caches shrink, and nothing is done in the background that can wait.
    Soft = 1,
    /// New connections get health and metrics only.
    Hard = 2,
}

impl Level {
    /// For logs and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Level::Calm => "calm",
            Level::Soft => "soft",
            Level::Hard => "hard",
        }
    }

    /// By its number; past the last is the last.
    pub fn of(number: u8) -> Level {
        match number {
            0 => Level::Calm,
            1 => Level::Soft,
            _ => Level::Hard,
        }
    }
}

/// What the workers are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// The level.
    pub level: Level,
    /// Counts the steps: a new number is a new step.
    pub step: u64,
    /// What a cache keeps of what it holds, thousandths, in this step.
    pub keep: u32,
    /// Caches may grow again, up to their own size.
    pub may_grow: bool,
}

impl Default for Order {
    fn default() -> Order {
        Order {
            level: Level::Calm,
            step: 0,
            keep: limits::WHOLE,
            may_grow: true,
        }
    }
}

/// Where memory stands. Sees shares of the limit, [`share`](super::share), and a clock that does not go back.
#[derive(Debug, Default)]
pub struct Levels {
    order: Order,
    /// The last share, and when it was seen.
    last: Option<(u32, Duration)>,
    /// Since when use is below the end of the level.
    below: Option<Duration>,
    /// When the last step was.
    stepped: Option<Duration>,
    /// Steps since the level was calm.
    steps: u32,
}

impl Levels {
    /// Takes a look: so much is in use at `now`, by a clock of the caller's. Gives what is to be done from now on, and how
    /// long to wait before the next look.
    pub fn look(&mut self, share: u32, now: Duration) -> (Order, Duration) {
        let before = self.last.replace((share, now));
        self.move_to(share, now);
        self.order.may_grow = match share {
            _ if self.order.level != Level::Calm => false,
            share if share < limits::ROOMY => true,
            share if share >= limits::SOFT_END => false,
            _ => self.order.may_grow,
        };
        if self.order.level == Level::Calm {
            self.steps = 0;
        } else if share >= limits::SOFT
            && self
                .stepped
                .is_none_or(|last| now.saturating_sub(last) >= self.between_steps())
        {
            self.stepped = Some(now);
            self.steps = self.steps.saturating_add(1);
            self.order.step = self.order.step.wrapping_add(1);
            self.order.keep = keep(share);
        }
        (self.order, self.pause(share, now, before))
    }

    /// Nothing is known any more of where memory stands: what is to be done is what is done where it is not short, but
    /// that no cache grows. Steps are counted on.
    pub fn forget(&mut self) -> Order {
        let order = Order {
            step: self.order.step,
            may_grow: false,
            ..Order::default()
        };
        *self = Levels {
            order,
            ..Levels::default()
        };
        order
    }

    /// How much is in use could not be seen: the level stays, and no cache grows. Of use below the level's end nothing is known
    /// any more.
    pub fn blind(&mut self) -> Order {
        self.below = None;
        self.last = None;
        self.order.may_grow = false;
        self.order
    }

    /// So many steps have been taken and the level has not become calm since, or a multiple of it.
    pub fn is_in_vain(&self) -> bool {
        self.steps > 0
            && self.steps.is_multiple_of(limits::STEPS_IN_VAIN)
            && self.stepped == self.last.map(|(_, at)| at)
    }

    fn between_steps(&self) -> Duration {
        if self.steps < limits::STEPS_IN_VAIN {
            limits::STEP
        } else {
            limits::STEP_IN_VAIN
        }
    }

    fn move_to(&mut self, share: u32, now: Duration) {
        let level = self.order.level;
        let up = match share {
            share if share >= limits::HARD => Level::Hard,
            share if share >= limits::SOFT => Level::Soft,
            _ => Level::Calm,
        };
        if up > level {
            (self.order.level, self.below) = (up, None);
            return;
        }
        let down = match level {
            Level::Calm => return,
            Level::Soft if share < limits::SOFT_END => Level::Calm,
            Level::Hard if share < limits::HARD_END => Level::Soft,
            Level::Soft | Level::Hard => {
                self.below = None;
                return;
            }
        };
        let since = *self.below.get_or_insert(now);
        if now.saturating_sub(since) >= limits::SETTLE {
            (self.order.level, self.below) = (down, None);
        }
    }

    /// Shorter the nearer use is to the next level, and the faster it grows.
    fn pause(&self, share: u32, now: Duration, before: Option<(u32, Duration)>) -> Duration {
        let (next, longest) = match self.order.level {
            Level::Calm => (limits::SOFT, limits::LOOK_MAX),
            Level::Soft => (limits::HARD, limits::LOOK_SOFT),
            Level::Hard => return limits::LOOK_MIN,
        };
        let room = u64::from(next.saturating_sub(share));
        let mut pause = Duration::from_millis(room.saturating_mul(limits::LOOK_MS_PER_SHARE));
        if let Some((was, at)) = before
            && share > was
        {
            // Twice before it gets there, if it goes on like this.
            let grown = u128::from(share - was);
            let ms = now.saturating_sub(at).as_millis().saturating_mul(u128::from(room)) / grown / 2;
            pause = pause.min(Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX)));
        }
        pause.clamp(limits::LOOK_MIN, longest)
    }
}

/// What a cache keeps: the less, the more use is above the soft level's end.
fn keep(share: u32) -> u32 {
    let excess = u64::from(share.saturating_sub(limits::SOFT_END)) * u64::from(limits::STEP_FACTOR);
    let freed = excess * u64::from(limits::WHOLE) / u64::from(share.max(1));
    let kept = u64::from(limits::WHOLE).saturating_sub(freed);
    u32::try_from(kept)
        .unwrap_or(0)
        .clamp(limits::KEEP_MIN, limits::KEEP_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Looks at each share in turn, as often as it asks for; gives the levels.
    fn levels(shares: &[(u64, u32)]) -> Vec<&'static str> {
        let mut machine = Levels::default();
        let at = |(at, share): &(u64, u32)| machine.look(*share, ms(*at)).0.level.name();
        shares.iter().map(at).collect()
    }

    #[test]
    fn the_guides_levels_are_those_of_a_pod_of_four_gibibytes() {
        let pod: u64 = 4 << 30;
        assert_eq!(super::super::part(pod, limits::SOFT), 3 << 30);
        assert_eq!(super::super::part(pod, limits::HARD), 7 << 29);
        assert_eq!(super::super::share(3 << 30, pod), limits::SOFT);
        assert_eq!(super::super::share((3 << 30) - (1 << 22), pod), limits::SOFT - 1);
        // Nonsense is as bad as it gets, and does not panic.
        assert_eq!(super::super::share(u64::MAX, 0), u32::MAX);
        assert_eq!(super::super::share(0, 0), 0);
    }

    #[test]
    fn up_at_once_and_down_when_it_has_settled() {
        let seen = levels(&[
            (0, 100),
            (100, 749),
            (200, 750),
            (300, 874),
            (400, 875),
            // Between the end and the begin of a level nothing changes, for however long.
            (60_000, 812),
            (60_100, 811),
            (60_599, 811),
            (60_600, 811),
            (70_000, 700),
            (70_100, 699),
            // Once more above: the time begins anew.
            (70_500, 701),
            (70_600, 699),
            (71_099, 699),
            (71_100, 699),
        ]);
        let expected = [
            "calm", "calm", "soft", "soft", "hard", "hard", "hard", "hard", "soft", "soft", "soft", "soft", "soft",
            "soft", "calm",
        ];
        assert_eq!(seen, expected);
        // A jump up misses no level; down, each has its time.
        let jump = [(0, 100), (1, 990), (2, 50), (502, 50), (503, 50), (1003, 50)];
        assert_eq!(levels(&jump), ["calm", "hard", "hard", "soft", "soft", "calm"]);
    }

    #[test]
    fn caches_shrink_step_by_step_and_grow_again_only_with_room() {
        let mut machine = Levels::default();
        let (order, _) = machine.look(500, ms(0));
        assert_eq!((order.step, order.may_grow), (0, true));
        let (first, _) = machine.look(760, ms(100));
        assert_eq!((first.step, first.may_grow), (1, false));
        // The last one has not shown yet.
        assert_eq!(machine.look(760, ms(200)).0, first);
        let (second, _) = machine.look(900, ms(350));
        assert_eq!(second.step, 2);
        assert!(
            second.keep < first.keep,
            "the more is used, the less is kept: {first:?} {second:?}"
        );
        // Below the soft level nothing more is freed, though it has not ended.
        assert_eq!(machine.look(720, ms(1000)).0.step, 2);
        assert_eq!(machine.look(690, ms(2000)).0.level, Level::Soft);
        assert_eq!(machine.look(690, ms(2001)).0.level, Level::Soft);
        let (calm, _) = machine.look(690, ms(2501));
        assert_eq!((calm.level, calm.step, calm.may_grow), (Level::Calm, 2, false));
        assert!(!machine.look(600, ms(3000)).0.may_grow);
        assert!(machine.look(599, ms(3500)).0.may_grow);
        assert!(
            machine.look(690, ms(4000)).0.may_grow,
            "and goes on until the level is near"
        );
        assert!(!machine.look(700, ms(4500)).0.may_grow);
    }

    #[test]
    fn what_does_not_help_is_said_now_and_then() {
        let mut machine = Levels::default();
        let mut said = Vec::new();
        for look in 0..3000 {
            machine.look(800, ms(look * 50));
            if machine.is_in_vain() {
                said.push(look * 50);
            }
        }
        assert_eq!(said, [4750, 104_750]);
    }

    proptest! {
        /// Whatever is seen: a level holds what its share demands, pauses are bounded, steps are bounded in number and size,
        /// and after enough quiet it is calm.
        #[test]
        fn any_course_keeps_the_promises(course in prop::collection::vec((0u32..1300, 1u64..400), 1..200)) {
            let mut machine = Levels::default();
            let (mut now, mut before) = (0, Order::default());
            for (share, wait) in course {
                now += wait;
                let (order, pause) = machine.look(share, ms(now));
                prop_assert!(share < limits::HARD || order.level == Level::Hard);
                prop_assert!(share < limits::SOFT || order.level >= Level::Soft);
                prop_assert!((limits::LOOK_MIN..=limits::LOOK_MAX).contains(&pause));
                prop_assert!(order.step - before.step <= 1 && order.step <= now / 250 + 1);
                prop_assert!(order.step == before.step || share >= limits::SOFT);
                prop_assert!((limits::KEEP_MIN..=limits::WHOLE).contains(&order.keep));
                prop_assert!(!order.may_grow || (order.level == Level::Calm && share < limits::SOFT_END));
                prop_assert!(order.level >= before.level || share < limits::HARD_END);
                before = order;
            }
            for after in [1, 501, 502] {
                machine.look(0, ms(now + after));
            }
            let (order, _) = machine.look(0, ms(now + 1002));
            prop_assert_eq!((order.level, order.may_grow), (Level::Calm, true));
        }

        /// Steady growth is seen on the level's doorstep: a course that climbs by up to a quarter of the limit in a second is
        /// looked at before it is more than a twentieth past the soft level.
        #[test]
        fn growth_is_seen_in_time(per_second in 1u64..250, from in 0u64..740) {
            let mut machine = Levels::default();
            let mut now = Duration::ZERO;
            loop {
                let share = from + per_second * now.as_millis() as u64 / 1000;
                let (order, pause) = machine.look(share as u32, now);
                if order.level != Level::Calm {
                    prop_assert!(share < u64::from(limits::SOFT) + 50, "seen at {share}");
                    break;
                }
                now += pause;
            }
        }
    }
}
