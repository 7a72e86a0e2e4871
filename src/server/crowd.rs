//! How many connections each address holds, so that one cannot take the places of all others.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU64;

/// An address as it is counted: an IPv4 address, or the /64 of an IPv6 one, which is what one customer gets at least
/// (RFC 6177), so that its 2^64 addresses are no 2^64 clients.
pub(super) type Origin = NonZeroU64;

/// The origin of an address.
pub(super) fn origin(addr: IpAddr) -> Origin {
    let number = match addr.to_canonical() {
        // Below 0000:ffff::/32, which is reserved (RFC 4291 section 2.4): no IPv6 peer is counted there.
        IpAddr::V4(addr) => 0xffff_0000_0000 | u64::from(addr.to_bits()),
        IpAddr::V6(addr) => (addr.to_bits() >> 64) as u64,
    };
    // ::1 is the only address of ::/64.
    Origin::new(number).unwrap_or(Origin::MIN)
}

/// Connections by origin. Holds no entry for who has none.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    held: RefCell<HashMap<Origin, u32>>,
    refused: Cell<u64>,
}

impl Crowd {
    /// One more from `origin`, if it holds fewer than `max`.
    pub(super) fn enter(&self, origin: Origin, max: usize) -> bool {
        let mut held = self.held.borrow_mut();
        let count = held.entry(origin).or_insert(0);
        // A `max` of 0 means no limit and does not come here, so an entry is never left at 0.
        if *count as usize >= max.max(1) {
            return false;
        }
        *count += 1;
        true
    }

    /// One less from `origin`.
    pub(super) fn leave(&self, origin: Origin) {
        let mut held = self.held.borrow_mut();
        if let Some(count) = held.get_mut(&origin) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                held.remove(&origin);
                // After a crowd its memory goes back: half of the room is kept, so that this is done rarely.
                if held.capacity() > 64 && held.len() < held.capacity() / 8 {
                    let room = held.capacity() / 4;
                    held.shrink_to(room);
                }
            }
        }
    }

    /// Counts one that was turned away; how many it were by now.
    pub(super) fn refuse(&self) -> u64 {
        self.refused.set(self.refused.get().saturating_add(1));
        self.refused.get()
    }

    /// Origins that hold a connection.
    #[cfg(test)]
    pub(super) fn origins(&self) -> usize {
        self.held.borrow().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Origin {
        origin(text.parse().unwrap())
    }

    #[test]
    fn an_ipv6_network_is_one_origin_and_an_ipv4_address_another() {
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        let all = [
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "fe80::1",
            "2001:db8::",
        ];
        let distinct: std::collections::HashSet<_> = all.iter().map(|text| of(text)).collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn nothing_is_left_of_a_crowd() {
        let crowd = Crowd::default();
        let many = 10_000u32;
        for number in 0..many {
            let from = origin(IpAddr::V4(number.into()));
            assert!(crowd.enter(from, 2) && crowd.enter(from, 2) && !crowd.enter(from, 2));
        }
        assert_eq!(crowd.origins(), many as usize);
        for number in 0..many {
            let from = origin(IpAddr::V4(number.into()));
            crowd.leave(from);
            assert!(crowd.enter(from, 2), "the place is free again");
            crowd.leave(from);
            crowd.leave(from);
            crowd.leave(from);
        }
        assert_eq!(crowd.origins(), 0);
        assert!(
            crowd.held.borrow().capacity() <= 128,
            "{}",
            crowd.held.borrow().capacity()
        );
        assert_eq!((crowd.refuse(), crowd.refuse()), (1, 2));
    }
}
