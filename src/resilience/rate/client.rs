//! Who is limited: an address, or the holder of a key.

use sha2::{Digest, Sha256};
use std::net::IpAddr;

/// A client as it is counted. Two of a kind are equal only if they are the same client (of keys: unless somebody finds a
/// collision of 120 bits of SHA-256).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientKey(u128);

/// Kinds, in the highest byte. None is 0, which is nobody.
const V4: u128 = 4 << 120;
const V6: u128 = 6 << 120;
const KEY: u128 = 1 << 120;

impl ClientKey {
    /// Everybody of whom a proxy could not say where he comes from, together.
    pub const UNKNOWN: ClientKey = ClientKey(2 << 120);

    /// An IPv4 address, or the /64 of an IPv6 one: what one customer gets at least (RFC 6177), so that its 2^64 addresses
    /// are no 2^64 clients. IPv4 in IPv6's clothes is IPv4.
    pub fn of_addr(addr: IpAddr) -> ClientKey {
        ClientKey(match addr.to_canonical() {
            IpAddr::V4(addr) => V4 | u128::from(addr.to_bits()),
            IpAddr::V6(addr) => V6 | (addr.to_bits() >> 64),
        })
    }

    /// The holder of this key. The key itself is not kept.
    pub fn of_key(key: &[u8]) -> ClientKey {
        let mut hash = Sha256::new();
        hash.update(b"roadtrip-api rate limit key\0");
        hash.update(key);
        let digest: [u8; 32] = hash.finalize().into();
        let head = digest.first_chunk::<16>().copied().unwrap_or_default();
        ClientKey(KEY | u128::from_be_bytes(head) >> 8)
    }

    /// Its bytes: for a table that is not this process's.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    pub(super) const NOBODY: ClientKey = ClientKey(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(addr: &str) -> ClientKey {
        ClientKey::of_addr(addr.parse().unwrap())
    }

    #[test]
    fn clients_are_addresses_networks_or_keys() {
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("::1"), of("0.0.0.1"));
        assert_eq!(ClientKey::of_key(b"a"), ClientKey::of_key(b"a"));
        assert_ne!(ClientKey::of_key(b"a"), ClientKey::of_key(b"b"));
        let all = [of("0.0.0.0"), of("::"), ClientKey::of_key(b""), ClientKey::UNKNOWN];
        assert!(all.iter().all(|key| *key != ClientKey::NOBODY));
    }
}
