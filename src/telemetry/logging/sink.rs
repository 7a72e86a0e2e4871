//! The end of the log: one thread, one file descriptor.
//!
//! * Control characters, line separators and direction overrides inside a line are written as `\u00xx`: a JSON
//!   parser reads them back, and a person sees them. So one event is one line, whatever a client sent (CWE-117).
//! * Lines are gathered and written when the queue is empty or [`BATCH_BYTES`] are together.
//! * A descriptor that takes nothing (a stopped reader) is waited for in `poll`; meanwhile the queue fills and drops.
//!   At the end of the process it is waited for [`CLOSING_WAIT`] at most. A descriptor that fails (EPIPE, ENOSPC)
//!   costs the batch, which is counted; the next batch tries again.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Gathered before a write at the latest; 64 KiB is the size of a pipe.
const BATCH_BYTES: usize = 64 * 1024;
/// One write: a pipe that polls writable has room for PIPE_BUF bytes (pipe(7)), so a write of those cannot block.
const WRITE_BYTES_MAX: usize = 4096;
/// A wait for room between two looks at `closing`.
const WAIT_SLICE: Duration = Duration::from_millis(20);
/// All waits for room together, once the process wants to exit.
pub(super) const CLOSING_WAIT: Duration = Duration::from_millis(200);

/// What the sink and the guard of the log tell each other.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The process wants to exit.
    pub(super) closing: AtomicBool,
    /// The sink waits for room.
    pub(super) stuck: AtomicBool,
    /// Lines that the descriptor did not take.
    pub(super) unwritten: AtomicU64,
    /// What to write to from the next batch on: a file that was opened again.
    pub(super) next: Mutex<Option<OwnedFd>>,
    /// There is a `next`.
    pub(super) has_next: AtomicBool,
}

pub(super) struct Sink {
    fd: OwnedFd,
    batch: Vec<u8>,
    batch_lines: u64,
    progress: Arc<Progress>,
    /// What is left of [`CLOSING_WAIT`].
    patience: Duration,
}

impl Sink {
    pub(super) fn new(fd: OwnedFd, progress: Arc<Progress>) -> Self {
        Self {
            fd,
            batch: Vec::new(),
            batch_lines: 0,
            progress,
            patience: CLOSING_WAIT,
        }
    }

    fn write_batch(&mut self) {
        if self.progress.has_next.swap(false, Ordering::AcqRel) {
            let next = self.progress.next.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(next) = next {
                self.fd = next;
            }
        }
        let mut rest = self.batch.as_slice();
        while !rest.is_empty() {
            let room = wait_for_room(&self.fd, &self.progress, &mut self.patience);
            self.progress.stuck.store(false, Ordering::Release);
            if !room {
                break;
            }
            let piece = rest.get(..WRITE_BYTES_MAX).unwrap_or(rest);
            match rustix::io::write(&self.fd, piece) {
                Ok(0) => break,
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => break,
            }
        }
        if !rest.is_empty() {
            // Lines of this batch that were written are counted, too: at most a batch too many.
            self.progress.unwritten.fetch_add(self.batch_lines, Ordering::Relaxed);
        }
        self.batch.clear();
        self.batch_lines = 0;
    }
}

impl Write for Sink {
    /// Takes one whole line; never fails.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        push_escaped(&mut self.batch, line);
        self.batch_lines += 1;
        if self.batch.len() >= BATCH_BYTES {
            self.write_batch();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_batch();
        Ok(())
    }
}

/// Waits until `fd` takes bytes or is broken (the write then tells); false once the process wants to exit and the
/// patience for that is used up.
fn wait_for_room(fd: &OwnedFd, progress: &Progress, patience: &mut Duration) -> bool {
    loop {
        // With no patience left each batch gets one look, so that a full queue is thrown away at once.
        let slice = if patience.is_zero() { Duration::ZERO } else { WAIT_SLICE };
        let slice = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(slice.subsec_nanos()),
        };
        let mut fds = [PollFd::new(fd, PollFlags::OUT)];
        match poll(&mut fds, Some(&slice)) {
            Ok(0) => progress.stuck.store(true, Ordering::Release),
            Ok(_) => return true,
            Err(Errno::INTR) => continue,
            // Not to be polled: the write decides.
            Err(_) => return true,
        }
        if progress.closing.load(Ordering::Acquire) {
            *patience = patience.saturating_sub(WAIT_SLICE);
            if patience.is_zero() {
                return false;
            }
        }
    }
}

/// Appends `line` as one line: everything that could end it, or steer a terminal, escaped.
fn push_escaped(out: &mut Vec<u8>, line: &[u8]) {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    if line.iter().all(|byte| matches!(byte, 0x20..=0x7e)) {
        out.extend_from_slice(line);
    } else {
        for c in String::from_utf8_lossy(line).chars() {
            if is_unsafe(c) {
                // Writing to a Vec cannot fail. All of these are below U+10000: four digits.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            } else {
                let mut utf8 = [0; 4];
                out.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
            }
        }
    }
    out.push(b'\n');
}

/// Control characters (C0, DEL, C1), line and paragraph separators, and marks that turn the direction of text.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn escaped(line: &str) -> String {
        let mut out = Vec::new();
        push_escaped(&mut out, line.as_bytes());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn one_event_is_one_line() {
        assert_eq!(escaped("plain\n"), "plain\n");
        assert_eq!(escaped("a\nb\r\n"), "a\\u000ab\\u000d\n");
        assert_eq!(
            escaped("\u{1b}[31mred\u{9b}2J\u{7f}"),
            "\\u001b[31mred\\u009b2J\\u007f\n"
        );
        assert_eq!(escaped("München 東京\u{2028}\u{202e}"), "München 東京\\u2028\\u202e\n");
    }

    proptest! {
        #[test]
        fn nothing_that_steers_a_terminal_gets_through(text in any::<String>()) {
            let line = escaped(&text);
            prop_assert!(line.ends_with('\n'));
            prop_assert!(!line[..line.len() - 1].chars().any(is_unsafe), "{:?}", line);
        }
    }
}
