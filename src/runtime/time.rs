//! Sleeping and deadlines on the worker's wheel.

use super::context;
use super::wheel::TimerKey;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

/// A point on the worker's clock that may be moved.
///
/// Moving it later costs nothing: the timer stays armed for the earlier time, and the owner's next poll after it fired
/// arms it for the rest. So a keep-alive deadline that each request pushes back touches the wheel once a timeout, not
/// once a request. One millisecond fine; never early.
#[derive(Debug)]
pub struct Sleep {
    deadline_ms: u64,
    key: Option<TimerKey>,
}

fn ms_after(duration: Duration) -> u64 {
    let now_ns = context::now_ns();
    let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    now_ns.saturating_add(ns).div_ceil(1_000_000)
}

impl Sleep {
    /// Elapses `duration` from now.
    pub fn after(duration: Duration) -> Sleep {
        Sleep {
            deadline_ms: ms_after(duration),
            key: None,
        }
    }

    /// Moves the deadline to `duration` from now.
    pub fn reset(&mut self, duration: Duration) {
        self.deadline_ms = ms_after(duration);
    }

    /// Ready once the deadline has passed; registers for a wake-up otherwise.
    pub fn poll_elapsed(&mut self, cx: &Context<'_>) -> Poll<()> {
        context::with(|context| {
            if context.now_ns() / 1_000_000 >= self.deadline_ms {
                return Poll::Ready(());
            }
            let mut wheel = context.timers.borrow_mut();
            match self.key {
                None => self.key = Some(wheel.insert(self.deadline_ms, cx.waker().clone())),
                Some(key) => match wheel.armed_for(key) {
                    Some(armed) if armed <= self.deadline_ms => wheel.update_waker(key, cx.waker()),
                    _ => wheel.reset(key, self.deadline_ms, cx.waker().clone()),
                },
            }
            Poll::Pending
        })
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_elapsed(cx)
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            context::try_with(|context| context.timers.borrow_mut().remove(key));
        }
    }
}

/// Waits for `duration`.
pub fn sleep(duration: Duration) -> Sleep {
    Sleep::after(duration)
}

/// The deadline passed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the deadline passed")
    }
}

impl std::error::Error for Elapsed {}

/// Runs `future` for at most `duration`; then it is dropped, which abandons what it waited for.
///
/// # Errors
/// [`Elapsed`] when the time is over first.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut sleep = Sleep::after(duration);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(value));
        }
        sleep.poll_elapsed(cx).map(|()| Err(Elapsed))
    })
    .await
}
