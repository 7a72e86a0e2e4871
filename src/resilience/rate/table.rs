//! The clients of a process: where its workers settle what they let through.
//!
//! A table of fixed size, in sets that each have a lock. A worker looks in when a lease begins or ends, not for each
//! request; the lock is held for a walk over eight entries.
//!
//! **Eviction gives nobody anything.** A newcomer to a full set takes the place of the client with the earliest `due`, and
//! takes that `due` over (as the space-saving algorithm of Metwally, Agrawal and El Abbadi, 2005, does with counts). So the
//! earliest `due` of a set never goes back, the one that was put out had no later one than whoever is in the set now, and
//! when it returns it finds at least what it left: being put out is never a fresh burst. The price falls on newcomers, who
//! may find what others have spent: a newcomer is refused wrongly only if all eight clients of its set have spent more
//! than a burst each, so, with sets chosen by a keyed hash that nobody can aim at, only where clients beyond
//! `TABLE_SETS x TABLE_WAYS` bursts were let through in the time that a burst takes to come back. By default that is six
//! million requests in a second: the limit of the pod comes first.

use super::client::ClientKey;
use super::gcra::{Account, Quota};
use super::limits::{CHARGE_LOST_S, TABLE_SETS, TABLE_WAYS};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Clone, Copy)]
struct Entry {
    client: ClientKey,
    due: u64,
    /// The account that pods have in common, as it was when it was last looked at; in Redis' time, microseconds.
    remote_seen_us: u64,
    last_ns: u64,
    /// When it was begun to settle there, seconds; 0: no settlement is under way.
    settling_s: u32,
    /// Let through since it was last told.
    untold: u32,
}

const EMPTY: Entry = Entry {
    client: ClientKey::NOBODY,
    due: 0,
    remote_seen_us: 0,
    last_ns: 0,
    settling_s: 0,
    untold: 0,
};

type Set = [Entry; TABLE_WAYS];

/// What the README says: 3 MiB, and the locks.
const _: () = assert!(size_of::<Mutex<Set>>() * TABLE_SETS <= (3 << 20) + 16 * TABLE_SETS);

/// The table.
pub(super) struct Table {
    sets: Box<[Mutex<Set>]>,
}

/// What is to be settled with the other pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// Whose.
    pub client: ClientKey,
    pub(super) hash: u64,
    /// Requests let through since the last settlement.
    pub requests: u32,
    /// The time they take together, microseconds.
    pub requests_us: u64,
    /// When the last of them was, so long ago; microseconds.
    pub age_us: u64,
    /// How far this pod's own account is ahead, microseconds.
    pub backlog_us: u64,
    /// When it was so.
    pub(super) at_ns: u64,
    /// The common account when this pod last looked at it, Redis' time in microseconds; 0 for never.
    pub seen_us: u64,
}

impl Charge {
    /// The same, sent at another time.
    pub(super) fn as_of(&self, now: u64) -> Charge {
        let later_us = now.saturating_sub(self.at_ns) / 1000;
        Charge {
            age_us: self.age_us.saturating_add(later_us),
            backlog_us: self.backlog_us.saturating_sub(later_us),
            at_ns: now,
            ..*self
        }
    }
}

/// What the pods have in common, once a [`Charge`] is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// How far the common account is ahead, microseconds.
    pub backlog_us: u64,
    /// The account itself, Redis' time in microseconds.
    pub due_us: u64,
    /// No other pod has charged it since the last look.
    pub alone: bool,
}

/// What came of a worker's settlement.
pub(super) struct Looked {
    /// Whether one more request may go: for how long it is too early, else.
    pub(super) verdict: Result<(), u64>,
    /// It took the place of another that still had a backlog.
    pub(super) crowded: bool,
    pub(super) charge: Option<Charge>,
}

impl Table {
    pub(super) fn new() -> Table {
        Table {
            sets: (0..TABLE_SETS).map(|_| Mutex::new([EMPTY; TABLE_WAYS])).collect(),
        }
    }

    fn set(&self, hash: u64) -> Option<MutexGuard<'_, Set>> {
        let set = self.sets.get(hash as usize & (TABLE_SETS - 1))?;
        // Entries are numbers: whole at any moment, whatever a thread did that held them.
        Some(set.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Settles a worker's account of a client, and charges one more request if `more` and the limit allow it. `share`:
    /// other pods are to be told.
    pub(super) fn settle(
        &self,
        (client, hash): (ClientKey, u64),
        account: &mut Account,
        quota: Quota,
        now: u64,
        more: bool,
        share: bool,
    ) -> Looked {
        let mut looked = Looked {
            verdict: Ok(()),
            crowded: false,
            charge: None,
        };
        let Some(mut set) = self.set(hash) else { return looked };
        let Some(entry) = place(&mut set, client) else {
            return looked;
        };
        if entry.client != client {
            looked.crowded = entry.due > now;
            *entry = Entry {
                client,
                due: entry.due,
                ..EMPTY
            };
        }
        entry.due = account.settled(entry.due, quota);
        let mut requests = account.taken;
        if requests > 0 {
            entry.last_ns = entry.last_ns.max(account.last_ns);
        }
        if more {
            match quota.admit(entry.due, now) {
                Ok(due) => {
                    entry.due = due;
                    entry.last_ns = now;
                    requests = requests.saturating_add(1);
                }
                Err(wait) => looked.verdict = Err(wait),
            }
        }
        account.is_settled_at(entry.due);
        if share {
            entry.untold = entry.untold.saturating_add(requests).min(quota.burst());
            looked.charge = charge(entry, hash, quota, now);
        }
        looked
    }

    /// The other pods know of a charge: takes over what they have let through.
    pub(super) fn learn(&self, charge: &Charge, settled: Settled, quota: Quota, now: u64) {
        let Some(mut set) = self.set(charge.hash) else { return };
        let Some(entry) = set.iter_mut().find(|entry| entry.client == charge.client) else {
            return;
        };
        entry.settling_s = 0;
        entry.remote_seen_us = settled.due_us;
        if !settled.alone {
            let ahead = settled.backlog_us.saturating_mul(1000);
            let since = quota.time_ns(entry.untold);
            // Never back, and never further than the limit can have come.
            let most = quota.window_ns().saturating_mul(2);
            let common = now.saturating_add(ahead.saturating_add(since).min(most));
            entry.due = entry.due.max(common);
        }
    }

    /// A charge did not arrive: it is made again with the next lease.
    pub(super) fn not_told(&self, charge: &Charge, quota: Quota) {
        let Some(mut set) = self.set(charge.hash) else { return };
        if let Some(entry) = set.iter_mut().find(|entry| entry.client == charge.client) {
            entry.settling_s = 0;
            entry.untold = entry.untold.saturating_add(charge.requests).min(quota.burst());
        }
    }

    /// The limit has changed: whoever has spent a part of the old one has spent that part of the new one.
    pub(super) fn rescale(&self, old: Quota, new: Quota, now: u64) {
        for set in &self.sets {
            let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
            for entry in set.iter_mut() {
                entry.due = rescaled(entry.due, old, new, now);
            }
        }
    }
}

/// See [`Table::rescale`].
pub(super) fn rescaled(due: u64, old: Quota, new: Quota, now: u64) -> u64 {
    let backlog = u128::from(due.saturating_sub(now));
    if backlog == 0 {
        return due;
    }
    let scaled = backlog * u128::from(new.window_ns()) / u128::from(old.window_ns().max(1));
    now.saturating_add(u64::try_from(scaled).unwrap_or(u64::MAX))
}

/// Its own place, or the one that it may take.
fn place(set: &mut Set, client: ClientKey) -> Option<&mut Entry> {
    let own = set.iter().position(|entry| entry.client == client);
    let earliest = || {
        let by_due = set.iter().enumerate().min_by_key(|(_, entry)| entry.due);
        by_due.map(|(at, _)| at)
    };
    let at = own.or_else(earliest)?;
    set.get_mut(at)
}

/// What the other pods are to be told, once that is a lease and nothing is under way to them.
fn charge(entry: &mut Entry, hash: u64, quota: Quota, now: u64) -> Option<Charge> {
    // Never 0, and whole seconds will do. (In 136 years of uptime they begin anew.)
    let now_s = ((now / 1_000_000_000) as u32).max(1);
    let under_way = entry.settling_s != 0 && now_s.saturating_sub(entry.settling_s) < CHARGE_LOST_S;
    if entry.untold < quota.lease() || under_way {
        return None;
    }
    let requests = std::mem::take(&mut entry.untold);
    entry.settling_s = now_s;
    Some(Charge {
        client: entry.client,
        hash,
        requests,
        requests_us: quota.time_ns(requests).div_ceil(1000),
        age_us: now.saturating_sub(entry.last_ns) / 1000,
        backlog_us: entry.due.saturating_sub(now).div_ceil(1000),
        at_ns: now,
        seen_us: entry.remote_seen_us,
    })
}
