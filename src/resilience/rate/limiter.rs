//! What the workers of a process share of the limit: the settings, the clients' table, the pod's own account.

use super::gcra::{Account, Limit, Quota};
use super::table::{Table, rescaled};
use crate::server::TrustedProxies;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// What an operator sets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Whether anything is limited.
    pub enabled: bool,
    /// For each client; none: clients are not limited.
    pub client: Option<Limit>,
    /// For all of them together, in this process; none: not limited.
    pub pod: Option<Limit>,
    /// The request field whose value names a client, in lower case; none, or where it is not sent: by address.
    pub key: Option<String>,
    /// Who is not limited.
    pub exempt: TrustedProxies,
}

/// Two lines of 64 bytes: what stands beside it is not dragged from core to core with it.
#[repr(align(128))]
#[derive(Default)]
struct Alone(AtomicU64);

/// Shared by the workers of one process.
pub struct Limiter {
    /// Whether it is on (lowest bit), and a number that grows with each change of the settings.
    state: Alone,
    settings: Mutex<Kept>,
    table: OnceLock<Table>,
    /// When the pod would be back at its full burst.
    pod_due: Alone,
    hasher: RandomState,
    /// Pods cannot tell each other now.
    alone: AtomicBool,
}

#[derive(Default)]
struct Kept {
    settings: Settings,
    /// The last limits that there were: what is in the accounts is in their terms.
    client: Option<Quota>,
    pod: Option<Quota>,
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter")
            .field("settings", &self.settings())
            .finish_non_exhaustive()
    }
}

impl Default for Limiter {
    fn default() -> Limiter {
        Limiter {
            state: Alone::default(),
            settings: Mutex::default(),
            table: OnceLock::new(),
            pod_due: Alone::default(),
            hasher: RandomState::new(),
            alone: AtomicBool::new(false),
        }
    }
}

impl Limiter {
    /// Puts these settings in the place of those before: from any thread, at any time, and as often as one likes. Workers take
    /// them with their next request.
    pub fn apply(&self, settings: Settings) {
        let mut kept = self.kept();
        if settings == kept.settings {
            return;
        }
        if settings.enabled {
            // Here, and not by a worker: it takes memory.
            self.table.get_or_init(Table::new);
        }
        let on = u64::from(settings.enabled);
        kept.settings = settings;
        let next = (self.state.0.load(Ordering::Relaxed) | 1).wrapping_add(1);
        self.state.0.store(next | on, Ordering::Release);
    }

    /// The settings, for a worker that goes by them from now on. The first that does so after a change sees to it that
    /// nobody gets a fresh burst by it: who has spent a part of the old limit has spent that part of the new one. That is a
    /// walk over the table: a millisecond.
    pub(super) fn adopt(&self, now: u64) -> Settings {
        let mut kept = self.kept();
        let settings = kept.settings.clone();
        if let (Some(new), Some(table)) = (settings.client.map(Quota::from), self.table()) {
            let old = kept.client.replace(new);
            if let Some(old) = old.filter(|old| *old != new) {
                table.rescale(old, new, now);
            }
        }
        if let Some(new) = settings.pod.map(Quota::from) {
            let old = kept.pod.replace(new);
            if let Some(old) = old.filter(|old| *old != new) {
                let rescale = |due| Some(rescaled(due, old, new, now));
                let _ = self
                    .pod_due
                    .0
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, rescale);
            }
        }
        settings
    }

    /// The settings now.
    pub fn settings(&self) -> Settings {
        self.kept().settings.clone()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Plain values, replaced whole.
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything is limited now: one load of what is hardly ever written.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.state.0.load(Ordering::Relaxed) & 1 == 1
    }

    #[inline]
    pub(super) fn state(&self) -> u64 {
        self.state.0.load(Ordering::Acquire)
    }

    pub(super) fn table(&self) -> Option<&Table> {
        self.table.get()
    }

    pub(super) fn hash(&self, client: super::ClientKey) -> u64 {
        self.hasher.hash_one(client)
    }

    /// Settles a worker's account of the pod.
    pub(super) fn settle_pod(&self, account: &mut Account, quota: Quota) {
        let settle = |common| Some(account.settled(common, quota));
        let before = self
            .pod_due
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, settle)
            .unwrap_or_else(|common| common);
        let due = account.settled(before, quota);
        account.is_settled_at(due);
    }

    /// Whether pods cannot tell each other of their clients now: each limits on its own.
    pub fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Relaxed)
    }

    /// Says so; true where that is new.
    pub(super) fn set_alone(&self, alone: bool) -> bool {
        // Read first: it hardly ever changes, and a write would take the line from the other cores.
        self.alone.load(Ordering::Relaxed) != alone && self.alone.swap(alone, Ordering::Relaxed) != alone
    }
}
