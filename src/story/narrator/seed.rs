//! The narrator's own randomness: FNV-1a to make a seed of a request, splitmix64 to draw from it.
//!
//! Both are integer arithmetic written out here, so the same request draws the same story on every machine and
//! with every version of every library.

/// FNV-1a, 64 bits (Fowler, Noll, Vo; draft-eastlake-fnv, offset basis and prime for 64 bits).
#[derive(Debug, Clone, Copy)]
pub(super) struct Fnv(u64);

impl Fnv {
    pub(super) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self
    }

    /// A text and its end, so that ("ab", "c") and ("a", "bc") differ.
    pub(super) fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes()).bytes(&[0xff])
    }

    pub(super) fn number(self, number: u64) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    pub(super) const fn finish(self) -> u64 {
        self.0
    }
}

/// Scrambles a seed with a salt: splitmix64's finaliser (Steele, Lea, Flood 2014). Independent draws take
/// different salts, so adding a draw in one place never changes another.
pub(super) const fn mix(seed: u64, salt: u64) -> u64 {
    let mut z = seed.wrapping_add(salt.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A draw in `0..n`; 0 where `n` is 0.
pub(super) const fn below(seed: u64, salt: u64, n: usize) -> usize {
    if n == 0 {
        0
    } else {
        (mix(seed, salt) % n as u64) as usize
    }
}
