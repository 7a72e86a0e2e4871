//! What is asked, in turn: the same request each time, or a series of them.

/// Requests, and the order in which they are sent. Written ahead, so that asking costs the generator nothing.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    bytes: Vec<u8>,
    /// Where each request ends in them.
    ends: Vec<usize>,
    /// Which is sent when; over all threads.
    order: Vec<u32>,
    /// After the last one the first comes again; else the load ends there.
    again: bool,
}

impl Requests {
    /// The same each time.
    pub(crate) fn same(request: Vec<u8>) -> Self {
        Self {
            ends: vec![request.len()],
            bytes: request,
            order: vec![0],
            again: true,
        }
    }

    /// These, in this order (their places in `requests`).
    pub(crate) fn series<'r>(requests: impl IntoIterator<Item = &'r [u8]>, order: Vec<u32>, again: bool) -> Self {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for request in requests {
            bytes.extend_from_slice(request);
            ends.push(bytes.len());
        }
        Self {
            bytes,
            ends,
            order,
            again,
        }
    }

    /// The request to be sent as number `turn`, by its place; `None` after the last.
    pub(super) fn at(&self, turn: u64) -> Option<u32> {
        let length = u64::try_from(self.order.len()).unwrap_or(u64::MAX).max(1);
        let place = if self.again { turn % length } else { turn };
        self.order.get(usize::try_from(place).ok()?).copied()
    }

    /// How many there are; `None` where they begin again.
    pub(super) fn length(&self) -> Option<u64> {
        (!self.again).then_some(self.order.len() as u64)
    }

    /// The bytes of a request.
    pub(super) fn bytes(&self, place: u32) -> &[u8] {
        let place = place as usize;
        let start = place
            .checked_sub(1)
            .and_then(|before| self.ends.get(before))
            .copied()
            .unwrap_or(0);
        let end = self.ends.get(place).copied().unwrap_or(0);
        self.bytes.get(start..end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_ends_or_begins_again() {
        let parts = [&b"one"[..], b"", b"three"];
        let once = Requests::series(parts, vec![2, 0, 1], false);
        let sent: Vec<_> = (0..4)
            .map(|turn| once.at(turn).map(|place| once.bytes(place)))
            .collect();
        assert_eq!(sent, [Some(&b"three"[..]), Some(b"one"), Some(b""), None]);
        let again = Requests::series(parts, vec![2, 0, 1], true);
        assert_eq!(again.at(4).map(|place| again.bytes(place)), Some(&b"one"[..]));
        let same = Requests::same(b"x".to_vec());
        assert_eq!(same.at(u64::MAX).map(|place| same.bytes(place)), Some(&b"x"[..]));
        assert_eq!(Requests::series([], vec![], true).at(0), None);
    }
}
