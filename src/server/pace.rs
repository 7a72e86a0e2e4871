//! How slowly a peer may take an answer.
//!
//! A peer has credit, which is time. Waiting uses it up; each byte that the peer takes gives some back, as much as it
//! may cost at the slowest rate allowed, up to the write timeout. So who takes nothing is cut off after the write
//! timeout, who takes less than the rate some time later, and who takes more never, whatever the answer's length.
//!
//! Bytes count when the peer has taken them: what the kernel took of the send, less what still waits in the kernel. Its
//! room alone would not do: a send that waits for room goes on when a third of the socket's buffer is free, and that
//! can be a megabyte.

use super::Settings;
use super::transport::Transport;
use crate::limits::connection::{FIRST_LOOK_MS, LINGER_MS, WRITE_LOOKS};
use crate::runtime::context;
use crate::runtime::net::Stream;
use crate::runtime::time::sleep;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

/// Time between two looks at a send under way. What is taken is noticed at the next look, so a peer that stops is cut
/// off after the write timeout, or up to one look later; never earlier.
pub(super) fn look_after(settings: &Settings) -> Duration {
    (settings.write_timeout / WRITE_LOOKS).max(Duration::from_millis(1))
}

/// Time from the begin of a send to the first look, which takes stock of what it holds.
pub(super) fn first_look_after(settings: &Settings) -> Duration {
    look_after(settings).min(Duration::from_millis(FIRST_LOOK_MS))
}

/// The credit of one send.
#[derive(Debug)]
pub(super) struct Pace {
    timeout_ns: u64,
    /// Bytes per second that keep the credit where it is; 0: any byte fills it.
    rate_min: u64,
    credit_ns: u64,
    looked_ns: u64,
    /// Bytes that the peer has taken, from any beginning.
    taken: i64,
}

impl Pace {
    /// Full credit from now on.
    pub(super) fn new(settings: &Settings, now_ns: u64, taken: i64) -> Pace {
        let timeout_ns = u64::try_from(settings.write_timeout.as_nanos()).unwrap_or(u64::MAX);
        Pace {
            timeout_ns,
            rate_min: settings.write_rate_min,
            credit_ns: timeout_ns,
            looked_ns: now_ns,
            taken,
        }
    }

    /// Books what happened since the last look; the credit that is left, or none where it is used up.
    pub(super) fn look(&mut self, now_ns: u64, taken: i64) -> Option<Duration> {
        let spent_ns = now_ns.saturating_sub(self.looked_ns);
        let bytes = taken.saturating_sub(self.taken);
        (self.looked_ns, self.taken) = (now_ns, taken);
        let earned_ns = match (bytes, self.rate_min) {
            (0, _) => 0,
            // Back by some: another send of the same answer has begun, or the kernel has taken bytes that are not
            // booked yet. Either way something moved.
            (..0, _) | (_, 0) => self.timeout_ns,
            (bytes, rate) => bytes.unsigned_abs().saturating_mul(1_000_000_000) / rate,
        };
        let credit_ns = self.credit_ns.saturating_add(earned_ns).saturating_sub(spent_ns);
        self.credit_ns = credit_ns.min(self.timeout_ns);
        (self.credit_ns > 0).then(|| Duration::from_nanos(self.credit_ns))
    }
}

/// Bytes of the send in flight that the peer has taken, from any beginning. A system call.
pub(super) fn taken<T: Transport>(stream: &T) -> i64 {
    let known = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
    known(stream.taken_bytes()).saturating_sub(known(stream.stream().queued_bytes()))
}

/// Waits for the end of the send in flight; its memory, or none if the connection is broken or the peer too slow. The
/// latter's close throws away what the kernel holds for it.
pub(super) async fn sent<T: Transport>(stream: &mut T, settings: &Settings) -> Option<Vec<u8>> {
    sent_meanwhile(stream, settings, |_, _| {}).await
}

/// The same; at each turn `meanwhile` looks at what arrives.
pub(super) async fn sent_meanwhile<T: Transport>(
    stream: &mut T,
    settings: &Settings,
    mut meanwhile: impl FnMut(&mut T, &Context<'_>),
) -> Option<Vec<u8>> {
    let look = look_after(settings);
    let mut wait = None;
    poll_fn(|cx| {
        meanwhile(stream, cx);
        if let Poll::Ready((result, memory)) = stream.poll_sent(cx) {
            return Poll::Ready(result.is_ok().then_some(memory));
        }
        // Made only where there is something to wait for.
        let (pace, next) =
            wait.get_or_insert_with(|| (Pace::new(settings, context::now_ns(), taken(stream)), sleep(look)));
        while next.poll_elapsed(cx).is_ready() {
            match pace.look(context::now_ns(), taken(stream)) {
                Some(credit) => next.reset(look.min(credit)),
                None => {
                    stream.stream().reset_on_close();
                    return Poll::Ready(None);
                }
            }
        }
        Poll::Pending
    })
    .await
}

/// Waits until the peer has taken what the kernel holds for it, at the pace of a send. A connection that is closed
/// before that costs its memory in the kernel for as long as the peer likes, and nobody counts it.
pub(super) async fn drained(stream: &Stream, settings: &Settings) {
    let left = || i64::try_from(stream.queued_bytes()).unwrap_or(i64::MAX);
    // The end of the stream is not waited for.
    if left() <= 1 {
        return;
    }
    let mut pace = Pace::new(settings, context::now_ns(), -left());
    let look = look_after(settings).min(Duration::from_millis(LINGER_MS));
    let mut next = look;
    loop {
        sleep(next).await;
        match (left(), context::now_ns()) {
            (..=1, _) => return,
            (left, now) => match pace.look(now, -left) {
                Some(credit) => next = look.min(credit),
                None => return stream.reset_on_close(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn pace(rate_min: u64) -> Pace {
        let settings = Settings {
            write_timeout: Duration::from_secs(30),
            write_rate_min: rate_min,
            ..Settings::default()
        };
        Pace::new(&settings, 0, 0)
    }

    /// Second by second, so many bytes each; the second in which it is cut off, within an hour.
    fn cut_off(rate_min: u64, bytes: impl Fn(u64) -> i64) -> Option<u64> {
        let mut pace = pace(rate_min);
        let mut taken = 0;
        (1..=3600).find(|second| {
            taken += bytes(*second);
            pace.look(second * SECOND, taken).is_none()
        })
    }

    #[test]
    fn who_takes_nothing_has_the_write_timeout() {
        assert_eq!(cut_off(500, |_| 0), Some(30));
        assert_eq!(cut_off(0, |_| 0), Some(30));
        // From the last byte on, however much came before.
        assert_eq!(cut_off(500, |second| if second <= 100 { 600 } else { 0 }), Some(130));
        assert_eq!(cut_off(500, |second| if second == 1 { 1_000_000 } else { 0 }), Some(31));
    }

    #[test]
    fn who_is_slower_than_the_rate_is_cut_off_and_who_is_not_never() {
        assert_eq!(cut_off(500, |_| 500), None);
        assert_eq!(cut_off(500, |_| 501), None);
        // In steps, as a window opens: 8 KiB each 16 s are 512 B/s.
        assert_eq!(cut_off(500, |second| if second % 16 == 0 { 8192 } else { 0 }), None);
        // Half the rate: the credit lasts twice as long. A byte a second: hardly longer than nothing.
        assert_eq!(cut_off(500, |_| 250), Some(60));
        assert_eq!(cut_off(500, |_| 1), Some(31));
        // No floor: any byte will do.
        assert_eq!(cut_off(0, |second| i64::from(second % 29 == 0)), None);
    }

    #[test]
    fn what_cannot_be_compared_counts_as_progress() {
        let mut pace = pace(500);
        assert!(pace.look(29 * SECOND, 0).is_some());
        assert!(pace.look(50 * SECOND, -70_000).is_some());
        assert_eq!(pace.look(50 * SECOND, i64::MIN), Some(Duration::from_secs(30)));
        assert_eq!(pace.look(51 * SECOND, i64::MAX), Some(Duration::from_secs(30)));
        assert_eq!(pace.look(u64::MAX, i64::MAX), None);
    }
}
