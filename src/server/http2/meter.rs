//! Frames as they go by, counted in both directions: what a client may not do too often (RFC 9113 section 10.5).
//!
//! Sans-IO: bytes in, a verdict out. The library bounds what it stores (streams reset before they were seen,
//! CONTINUATION frames, empty DATA frames, header lists); this bounds what merely costs.

use crate::limits::http2 as limits;
use h2::Reason;

/// Frame types of RFC 9113 section 6.
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PUSH_PROMISE: u8 = 5;
    pub(super) const CONTINUATION: u8 = 9;
}

/// Flags, as [`kind::DATA`] and [`kind::HEADERS`] have them, and SETTINGS.
mod flag {
    pub(super) const END_STREAM: u8 = 0x1;
    pub(super) const ACK: u8 = 0x1;
    pub(super) const END_HEADERS: u8 = 0x4;
}

/// A number that goes down with time.
struct Leak {
    level: u32,
    max: u32,
    every_ns: u64,
    since_ns: u64,
}

impl Leak {
    fn new(max: u32, per_s: u64, now_ns: u64) -> Leak {
        Leak {
            level: 0,
            max,
            every_ns: 1_000_000_000 / per_s.max(1),
            since_ns: now_ns,
        }
    }

    /// One more; true if that is too many.
    fn add(&mut self, now_ns: u64) -> bool {
        let gone = now_ns.saturating_sub(self.since_ns) / self.every_ns;
        self.since_ns = self.since_ns.saturating_add(gone.saturating_mul(self.every_ns));
        self.forgive(u32::try_from(gone).unwrap_or(u32::MAX));
        self.level = self.level.saturating_add(1);
        self.level > self.max
    }

    fn forgive(&mut self, number: u32) {
        self.level = self.level.saturating_sub(number);
    }
}

/// A frame that has gone by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u8,
    bytes: u32,
    /// The last four bytes of its payload: an RST_STREAM's code.
    tail: u32,
}

/// Finds frames in a direction's bytes.
#[derive(Default)]
struct Frames {
    /// Bytes that come before the first frame.
    skip: usize,
    head: [u8; 9],
    have: usize,
    left: u32,
    tail: u32,
}

impl Frames {
    /// Takes bytes up to the end of a frame; gives how many, and the frame if it ended there.
    fn next(&mut self, bytes: &[u8]) -> (usize, Option<Frame>) {
        let mut at = self.skip.min(bytes.len());
        self.skip -= at;
        while self.have < self.head.len() {
            let (Some(byte), Some(place)) = (bytes.get(at), self.head.get_mut(self.have)) else {
                return (at, None);
            };
            *place = *byte;
            self.have += 1;
            at += 1;
            if self.have == self.head.len() {
                self.left = self.bytes();
            }
        }
        let rest = bytes.get(at..).unwrap_or_default();
        let payload = rest.get(..self.left as usize).unwrap_or(rest);
        if self.kind() == kind::RST_STREAM {
            self.tail = payload
                .iter()
                .fold(self.tail, |tail, byte| tail << 8 | u32::from(*byte));
        }
        at += payload.len();
        // No more than `left`, as it was cut to that.
        self.left -= payload.len() as u32;
        if self.left > 0 {
            return (at, None);
        }
        let frame = Frame {
            kind: self.kind(),
            flags: self.flags(),
            bytes: self.bytes(),
            tail: self.tail,
        };
        self.have = 0;
        self.tail = 0;
        (at, Some(frame))
    }

    fn bytes(&self) -> u32 {
        let [a, b, c, ..] = self.head;
        u32::from_be_bytes([0, a, b, c])
    }

    fn kind(&self) -> u8 {
        let [_, _, _, kind, ..] = self.head;
        kind
    }

    fn flags(&self) -> u8 {
        let [_, _, _, _, flags, ..] = self.head;
        flags
    }

    fn is_between(&self) -> bool {
        self.have == 0
    }
}

/// What a connection waits for, and since when (nanoseconds of the worker's clock).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfinished {
    /// The first SETTINGS, the rest of a frame, or of a list of fields.
    Head(u64),
    /// The rest of a DATA frame.
    Data(u64),
}

/// The frames of a connection.
pub(super) struct Meter {
    inward: Frames,
    outward: Frames,
    /// The first frame was SETTINGS, as it must be (RFC 9113 section 3.4).
    begun: bool,
    /// The client has acknowledged our settings.
    settled: bool,
    /// A list of fields goes on in the next frame.
    in_fields: bool,
    since_ns: u64,
    resets: Leak,
    control: Leak,
    verdict: Option<Reason>,
}

impl Meter {
    /// Of a connection whose client has `preface_bytes` to send before its first frame.
    pub(super) fn new(preface_bytes: usize, now_ns: u64) -> Meter {
        Meter {
            inward: Frames {
                skip: preface_bytes,
                ..Frames::default()
            },
            outward: Frames::default(),
            begun: false,
            settled: false,
            in_fields: false,
            since_ns: now_ns,
            resets: Leak::new(limits::RESETS_MAX, limits::RESETS_PER_S, now_ns),
            control: Leak::new(limits::CONTROL_FRAMES_MAX, limits::CONTROL_FRAMES_PER_S, now_ns),
            verdict: None,
        }
    }

    /// Why the connection is to end, if it is.
    pub(super) fn verdict(&self) -> Option<Reason> {
        self.verdict
    }

    /// The client knows our settings.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// What the client has begun and not ended.
    pub(super) fn unfinished(&self) -> Option<Unfinished> {
        let between = self.inward.is_between();
        if between && self.begun && !self.in_fields {
            return None;
        }
        let of_data = !between && self.inward.have == self.inward.head.len() && self.inward.kind() == kind::DATA;
        Some(if self.begun && of_data {
            Unfinished::Data(self.since_ns)
        } else {
            Unfinished::Head(self.since_ns)
        })
    }

    /// The client cannot go on by itself: nobody reads. Its time begins anew.
    pub(super) fn excuse(&mut self, now_ns: u64) {
        self.since_ns = now_ns;
    }

    /// So many requests were answered.
    pub(super) fn answered(&mut self, number: u32) {
        self.resets.forgive(number);
        self.control
            .forgive(number.saturating_mul(limits::CONTROL_FRAMES_PER_ANSWER));
    }

    /// Bytes from the client.
    pub(super) fn received(&mut self, mut bytes: &[u8], now_ns: u64) {
        if self.begun && self.inward.is_between() && !self.in_fields {
            self.since_ns = now_ns;
        }
        while !bytes.is_empty() {
            let (used, frame) = self.inward.next(bytes);
            bytes = bytes.get(used..).unwrap_or_default();
            if let Some(frame) = frame {
                self.take(frame, now_ns);
            }
        }
    }

    fn take(&mut self, frame: Frame, now_ns: u64) {
        if !self.begun {
            if frame.kind != kind::SETTINGS || frame.flags & flag::ACK != 0 {
                self.judge(Reason::PROTOCOL_ERROR);
            }
            self.begun = true;
        }
        self.settled |= frame.kind == kind::SETTINGS && frame.flags & flag::ACK != 0;
        if matches!(frame.kind, kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION) {
            self.in_fields = frame.flags & flag::END_HEADERS == 0;
        }
        if !self.in_fields {
            // What follows in the same bytes begins now.
            self.since_ns = now_ns;
        }
        let too_many = match frame.kind {
            kind::HEADERS => false,
            kind::DATA if frame.bytes > 0 || frame.flags & flag::END_STREAM != 0 => false,
            kind::RST_STREAM => self.resets.add(now_ns),
            _ => self.control.add(now_ns),
        };
        if too_many {
            self.judge(Reason::ENHANCE_YOUR_CALM);
        }
    }

    /// Bytes to the client.
    pub(super) fn sent(&mut self, mut bytes: &[u8], now_ns: u64) {
        while !bytes.is_empty() {
            let (used, frame) = self.outward.next(bytes);
            bytes = bytes.get(used..).unwrap_or_default();
            match frame {
                // An answer before the end of its request ends in NO_ERROR (RFC 9113 section 8.1): it was answered.
                Some(frame) if frame.kind == kind::RST_STREAM && frame.tail != 0 && self.resets.add(now_ns) => {
                    self.judge(Reason::ENHANCE_YOUR_CALM);
                }
                Some(frame) if frame.kind == kind::DATA => self.control.forgive(limits::CONTROL_FRAMES_PER_DATA),
                _ => {}
            }
        }
    }

    fn judge(&mut self, reason: Reason) {
        self.verdict.get_or_insert(reason);
    }
}
