//! The leases that a worker holds: memory of its own core, which is all that most requests touch.
//!
//! A lease is the right to let [`Quota::lease`] requests of a client through within a tenth of a second without asking
//! the other workers. Its refusals need no asking at all: what a worker knows is never more than what was let through, so
//! whom it refuses all others would. A lease that gives way to another is settled first.

use super::client::ClientKey;
use super::gcra::{Account, Quota};
use super::limits::{HELD_SETS, HELD_WAYS, LEASE_NS};

#[derive(Debug, Clone, Copy)]
pub(super) struct Lease {
    pub(super) client: ClientKey,
    pub(super) hash: u64,
    pub(super) account: Account,
    /// When it was last settled.
    pub(super) since_ns: u64,
}

const NONE: Lease = Lease {
    client: ClientKey::NOBODY,
    hash: 0,
    account: Account {
        due: 0,
        seen: 0,
        taken: 0,
        last_ns: 0,
    },
    since_ns: 0,
};

impl Lease {
    /// Of whom nothing is known yet.
    fn new(client: ClientKey, hash: u64) -> Lease {
        Lease { client, hash, ..NONE }
    }

    /// Whether a request may be let through on it without looking further.
    pub(super) fn holds(&self, quota: Quota, now: u64) -> bool {
        self.account.taken < quota.lease() && self.is_young(now)
    }

    fn is_young(&self, now: u64) -> bool {
        self.since_ns != 0 && now.saturating_sub(self.since_ns) < LEASE_NS
    }
}

/// One line of the cache; all of them are the 256 KiB of the README.
const _: () = assert!(size_of::<Lease>() == 64 && size_of::<Lease>() * HELD_SETS * HELD_WAYS == 256 << 10);

/// A worker's leases.
pub(super) struct Held {
    sets: Box<[[Lease; HELD_WAYS]]>,
}

impl Held {
    pub(super) fn new() -> Held {
        Held {
            sets: vec![[NONE; HELD_WAYS]; HELD_SETS].into_boxed_slice(),
        }
    }

    /// The lease of a client; a new one takes the place of the one that was used least lately, which `settle` is told of
    /// where something was taken on it.
    pub(super) fn of(&mut self, client: ClientKey, hash: u64, settle: impl FnOnce(&mut Lease)) -> Option<&mut Lease> {
        // Other bits than those that choose the set of the table.
        let set = self.sets.get_mut((hash >> 32) as usize & (HELD_SETS - 1))?;
        let own = set.iter().position(|lease| lease.client == client);
        if let Some(at) = own {
            return set.get_mut(at);
        }
        let lease = set
            .iter_mut()
            .min_by_key(|lease| lease.account.last_ns.max(lease.since_ns))?;
        if lease.account.taken > 0 {
            settle(lease);
        }
        *lease = Lease::new(client, hash);
        Some(lease)
    }

    /// Every lease on which something was taken.
    pub(super) fn taken(&mut self) -> impl Iterator<Item = &mut Lease> {
        let all = self.sets.iter_mut().flat_map(|set| set.iter_mut());
        all.filter(|lease| lease.account.taken > 0)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.sets.fill([NONE; HELD_WAYS]);
    }
}
