//! Which workers are to be replaced, one at a time.
//!
//! SIGHUP asks for a round of all; while one runs, however many ask, there is one more round after it and no third. A
//! worker that has had its requests, or is chosen for the process's memory, stands in the same queue.

use super::fleet::{Fleet, Progress};
use crate::limits::life::ROUND_STEP_MAX;
use crate::telemetry::metrics::Reason;
use std::collections::VecDeque;
use std::time::Instant;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    queue: VecDeque<(u32, Reason)>,
    current: Option<Step>,
    /// A round of all is on its way, and has not replaced a worker yet or has.
    reloading: bool,
    again: bool,
    replaced: usize,
}

#[derive(Debug)]
struct Step {
    worker: u32,
    why: Reason,
    /// Since when the new life serves.
    since: Option<Instant>,
}

/// What asking for a round came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// It begins.
    Begins,
    /// It follows the one that runs.
    Follows,
    /// One is to follow already, and does for this one, too.
    Joins,
}

impl Rounds {
    /// True while nothing is under way or to come.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.current.is_none() && !self.again
    }

    /// True while no worker is being replaced, and no round is under way or to come. One or the other may stand in the queue.
    pub(super) fn is_between(&self) -> bool {
        self.current.is_none() && !self.reloading
    }

    /// Asks for every worker to be replaced.
    pub(super) fn reload(&mut self, workers: usize) -> Asked {
        if self.reloading {
            return if std::mem::replace(&mut self.again, true) {
                Asked::Joins
            } else {
                Asked::Follows
            };
        }
        self.reloading = true;
        self.replaced = 0;
        // They are to be replaced anyway.
        self.queue.clear();
        self.queue
            .extend((0..workers as u32).map(|worker| (worker, Reason::Reload)));
        Asked::Begins
    }

    /// Asks for one worker to be replaced, if it does not stand in the queue.
    pub(super) fn ask(&mut self, worker: u32, why: Reason) {
        if !self.queue.iter().any(|(known, _)| *known == worker) {
            self.queue.push_back((worker, why));
        }
    }

    /// Forgets everything: the process ends.
    pub(super) fn clear(&mut self) {
        *self = Rounds::default();
    }

    /// Goes on as far as it can now; gives when to come again, if no word of a worker tells. With `hold` nothing begins but
    /// what belongs to a round: somebody waits for the end.
    pub(super) fn tick(&mut self, fleet: &mut Fleet, now: Instant, hold: bool) -> Option<Instant> {
        loop {
            if let Some(step) = &mut self.current {
                match fleet.progress(step.worker) {
                    Progress::Coming => return None,
                    Progress::Leaving => {
                        let until = *step.since.get_or_insert(now) + ROUND_STEP_MAX;
                        // For memory's sake two at once would be a step in the wrong direction.
                        if step.why == Reason::Memory {
                            return None;
                        }
                        if until > now {
                            return Some(until);
                        }
                    }
                    Progress::Settled => {}
                    Progress::Failed => self.give_up(),
                }
                self.current = None;
            }
            if hold && !self.reloading {
                return None;
            }
            let Some((worker, why)) = self.queue.front().copied() else {
                if !self.reloading {
                    return None;
                }
                tracing::info!(
                    workers = self.replaced,
                    "reload: the round is over, every worker was replaced"
                );
                self.reloading = false;
                if !std::mem::take(&mut self.again) {
                    return None;
                }
                self.reload(fleet.len());
                continue;
            };
            if fleet.progress(worker) == Progress::Leaving {
                // Its last replacement is not over yet.
                return None;
            }
            self.queue.pop_front();
            if fleet.replace(worker, why) {
                self.replaced += 1;
                self.current = Some(Step {
                    worker,
                    why,
                    since: None,
                });
            }
        }
    }

    fn give_up(&mut self) {
        if self.reloading {
            tracing::error!(
                "reload: the round ends here, as a worker could not be replaced; the others go on as they are"
            );
            self.queue.clear();
            self.reloading = false;
            self.again = false;
        }
    }
}
