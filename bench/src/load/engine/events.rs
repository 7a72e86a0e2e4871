//! Counts server-sent events in a body, in whatever pieces it comes (WHATWG HTML section 9.2.6: a blank line ends one).

/// Where the reader stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Events {
    /// Whole events so far.
    pub(super) count: u64,
    /// Something is in the event.
    begun: bool,
    /// Something is in the line.
    in_line: bool,
    /// The line is a comment, which makes no event.
    comment: bool,
}

impl Events {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for &b in bytes {
            match b {
                b'\r' => {}
                b'\n' if self.in_line => {
                    self.begun |= !self.comment;
                    self.in_line = false;
                }
                b'\n' => {
                    self.count = self.count.saturating_add(u64::from(self.begun));
                    self.begun = false;
                }
                _ if self.in_line => {}
                _ => {
                    self.in_line = true;
                    self.comment = b == b':';
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_end_events_and_comments_are_none() {
        let text = b"event: token\ndata: a\n\n: ping\n\ndata: b\r\n\r\n\n\ndata: cut off";
        for cut in 0..text.len() {
            let mut events = Events::default();
            events.feed(&text[..cut]);
            events.feed(&text[cut..]);
            assert_eq!(events.count, 2, "cut at {cut}");
        }
    }
}
