//! A worker's side of the limit: where each request passes, or does not.

use super::client::ClientKey;
use super::gcra::{Account, Quota};
use super::held::{Held, Lease};
use super::limiter::Limiter;
use super::limits::{CHARGE_RETRY_MS, CHARGES_PER_COMMAND, CHARGES_WAITING_MAX, LEASE_NS};
use super::table::{Charge, Looked};
use crate::cache::redis::Redis;
use crate::runtime::context;
use crate::runtime::time::sleep;
use crate::server::TrustedProxies;
use crate::telemetry::metrics::WorkerMetrics;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// Who asks, as far as limits are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// A client.
    Client(ClientKey),
    /// Nobody who could be told from others: the pod's limit alone holds.
    Anybody,
    /// One who is not limited.
    Exempt,
}

/// The limit that refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The client's.
    Client,
    /// The pod's.
    Pod,
}

/// How a client stands towards its limit, or the pod towards its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Requests that would be let through at once.
    pub left: u32,
    /// Seconds until the whole burst is back; of a refused one, until the next request may come.
    pub reset_s: u32,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may go on; with its client's standing, where that is limited.
    Pass(Option<Standing>),
    /// It may not.
    Refused(Scope, Standing),
}

/// What of the settings a worker goes by.
pub struct Rules {
    client: Option<Quota>,
    pod: Option<Quota>,
    /// The field that names a client, in lower case.
    pub key: Option<String>,
    /// Who is not limited.
    pub exempt: TrustedProxies,
    /// The value of RateLimit-Policy.
    pub policy: String,
}

struct Inner {
    rules: Rules,
    held: Option<Held>,
    pod: Account,
    pod_since_ns: u64,
}

/// One worker's.
pub struct Turnstile {
    limiter: Arc<Limiter>,
    /// Of the settings that `inner` was made from.
    state: Cell<u64>,
    inner: RefCell<Inner>,
    post: Rc<Post>,
    shares: bool,
    metrics: Rc<WorkerMetrics>,
}

/// Charges on their way to Redis.
#[derive(Default)]
struct Post {
    waiting: RefCell<Vec<Charge>>,
    waker: RefCell<Option<Waker>>,
}

fn seconds(ns: u64) -> u32 {
    u32::try_from(ns.div_ceil(1_000_000_000)).unwrap_or(u32::MAX)
}

/// The policies as draft-ietf-httpapi-ratelimit-headers (-08 to -11) writes them: quota and window of each.
fn policy(client: Option<Quota>, pod: Option<Quota>) -> String {
    let one = |(name, quota): (&str, Quota)| format!("\"{name}\";q={};w={}", quota.burst(), seconds(quota.window_ns()));
    let client = client.map(|quota| one(("client", quota)));
    let pod = pod.map(|quota| one(("pod", quota)));
    client.into_iter().chain(pod).collect::<Vec<_>>().join(", ")
}

impl Turnstile {
    /// A worker's. With Redis, which `share` is then to be run with, what is let through is told to the other pods.
    pub fn new(limiter: Arc<Limiter>, shares: bool, metrics: Rc<WorkerMetrics>) -> Turnstile {
        Turnstile {
            limiter,
            state: Cell::new(0),
            inner: RefCell::new(Inner {
                rules: Rules {
                    client: None,
                    pod: None,
                    key: None,
                    exempt: TrustedProxies::NONE,
                    policy: String::new(),
                },
                held: None,
                pod: Account::default(),
                pod_since_ns: 0,
            }),
            post: Rc::default(),
            shares,
            metrics,
        }
    }

    /// Whether anything is limited now.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.limiter.is_on()
    }

    /// What the workers share.
    pub fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// What the clients are told of the limits.
    pub fn with_policy<R>(&self, f: impl FnOnce(&str) -> R) -> R {
        f(&self.inner.borrow().rules.policy)
    }

    /// Lets a request pass or not, at `now` on the worker's clock; `who` finds out who asks. No allocation, no system call,
    /// and no memory of another core but where a lease begins or ends.
    pub fn pass(&self, now: u64, who: impl FnOnce(&Rules) -> Who) -> Verdict {
        let mut inner = self.inner.borrow_mut();
        let state = self.limiter.state();
        if state != self.state.get() {
            self.adopt(&mut inner, state, now);
        }
        let verdict = match who(&inner.rules) {
            Who::Exempt => return Verdict::Pass(None),
            Who::Client(client) => self.judge(&mut inner, Some(client), now),
            Who::Anybody => self.judge(&mut inner, None, now),
        };
        match verdict {
            Verdict::Pass(_) => self.metrics.rate_allowed(),
            Verdict::Refused(scope, _) => self.metrics.rate_limited(scope == Scope::Pod),
        }
        verdict
    }

    /// The pod is asked before the client and charged after it, so that neither pays for what the other refuses.
    fn judge(&self, inner: &mut Inner, client: Option<ClientKey>, now: u64) -> Verdict {
        if let Some(quota) = inner.rules.pod {
            let is_young = now.saturating_sub(inner.pod_since_ns) < LEASE_NS;
            if inner.pod.taken >= quota.lease() || !is_young {
                self.limiter.settle_pod(&mut inner.pod, quota);
                inner.pod_since_ns = now;
            }
            if let Err(wait) = quota.admit(inner.pod.due, now) {
                if inner.pod.taken > 0 {
                    self.limiter.settle_pod(&mut inner.pod, quota);
                }
                let reset_s = seconds(wait);
                return Verdict::Refused(Scope::Pod, Standing { left: 0, reset_s });
            }
        }
        let mut standing = None;
        if let (Some(quota), Some(client)) = (inner.rules.client, client) {
            let hash = self.limiter.hash(client);
            let settle = |lease: &mut Lease| {
                let _ = self.settle(lease, quota, now, false);
            };
            let held = inner.held.get_or_insert_with(Held::new);
            let Some(lease) = held.of(client, hash, settle) else {
                return Verdict::Pass(None);
            };
            let admitted = if lease.holds(quota, now) {
                lease.account.take(quota, now)
            } else {
                // Who is refused by what is known here need not be looked up.
                match quota.admit(lease.account.due, now) {
                    Err(wait) => Err(wait),
                    Ok(_) => self.settle(lease, quota, now, true),
                }
            };
            if let Err(mut wait) = admitted {
                if lease.account.taken > 0 {
                    // All of it is owed now: nobody else is to let him through for want of knowing it.
                    let _ = self.settle(lease, quota, now, false);
                    wait = quota.admit(lease.account.due, now).err().unwrap_or(wait);
                }
                let reset_s = seconds(wait);
                return Verdict::Refused(Scope::Client, Standing { left: 0, reset_s });
            }
            let due = lease.account.due;
            standing = Some(Standing {
                left: quota.left(due, now),
                reset_s: seconds(due.saturating_sub(now)),
            });
        }
        if let Some(quota) = inner.rules.pod {
            // Asked above, and nothing came between.
            let _ = inner.pod.take(quota, now);
        }
        Verdict::Pass(standing)
    }

    /// Settles a lease with the process, and begins it anew.
    fn settle(&self, lease: &mut Lease, quota: Quota, now: u64, more: bool) -> Result<(), u64> {
        let Some(table) = self.limiter.table() else {
            return Ok(());
        };
        let Looked {
            verdict,
            crowded,
            charge,
        } = table.settle(
            (lease.client, lease.hash),
            &mut lease.account,
            quota,
            now,
            more,
            self.shares,
        );
        lease.since_ns = now.max(1);
        self.metrics.rate_leased(crowded);
        if let Some(charge) = charge {
            self.send(charge, quota);
        }
        verdict
    }

    fn send(&self, charge: Charge, quota: Quota) {
        let mut waiting = self.post.waiting.borrow_mut();
        if waiting.len() >= CHARGES_WAITING_MAX {
            if let Some(table) = self.limiter.table() {
                table.not_told(&charge, quota);
            }
            return;
        }
        waiting.push(charge);
        drop(waiting);
        let waker = self.post.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the settings as they are now.
    #[cold]
    fn adopt(&self, inner: &mut Inner, state: u64, now: u64) {
        self.settle_all(inner, now);
        let settings = self.limiter.adopt(now);
        let (client, pod) = (settings.client.map(Quota::from), settings.pod.map(Quota::from));
        inner.rules = Rules {
            client,
            pod,
            key: settings.key,
            exempt: settings.exempt,
            policy: policy(client, pod),
        };
        if let Some(held) = &mut inner.held {
            held.clear();
        }
        (inner.pod, inner.pod_since_ns) = (Account::default(), 0);
        self.state.set(state);
    }

    fn settle_all(&self, inner: &mut Inner, now: u64) {
        if let (Some(quota), Some(held)) = (inner.rules.client, &mut inner.held) {
            for lease in held.taken() {
                let _ = self.settle(lease, quota, now, false);
            }
        }
        if let Some(quota) = inner.rules.pod {
            self.limiter.settle_pod(&mut inner.pod, quota);
        }
    }

    /// Tells the other pods what is let through, for as long as the worker lives. Nobody waits for it: a request that comes
    /// while a lease is under way is judged by what is known. Where it fails, the same is tried again now and then; what
    /// others owe meanwhile is written down in the table.
    pub async fn share(self: Rc<Self>, redis: Rc<Redis>) {
        let mut charges: Vec<Charge> = Vec::new();
        loop {
            if charges.is_empty() {
                charges = self.post.next().await;
            } else {
                sleep(Duration::from_millis(CHARGE_RETRY_MS)).await;
                self.write_down();
            }
            let Some(quota) = self.inner.borrow().rules.client else {
                charges.clear();
                continue;
            };
            let most_us = quota.window_ns().saturating_mul(4) / 1000;
            let sent: Vec<Charge> = charges.iter().map(|charge| charge.as_of(context::now_ns())).collect();
            match redis.settle_charges(&sent, most_us).await {
                Ok(settled) => {
                    self.metrics.rate_shared(charges.len() as u64);
                    if self.limiter.set_alone(false) {
                        tracing::info!("rate limits hold across pods again");
                    }
                    let now = context::now_ns();
                    for (charge, settled) in charges.drain(..).zip(settled) {
                        if let Some(table) = self.limiter.table() {
                            table.learn(&charge, settled, quota, now);
                        }
                    }
                }
                Err(fault) => {
                    self.metrics.rate_unshared(charges.len() as u64);
                    if self.limiter.set_alone(true) {
                        tracing::warn!(
                            kind = fault.name(),
                            "rate limits hold within each pod only: the others cannot be told, {}",
                            fault.advice()
                        );
                    }
                }
            }
        }
    }

    /// Puts what waits to be told back into the table.
    fn write_down(&self) {
        let waiting = std::mem::take(&mut *self.post.waiting.borrow_mut());
        if let (Some(quota), Some(table)) = (self.inner.borrow().rules.client, self.limiter.table()) {
            for charge in &waiting {
                table.not_told(charge, quota);
            }
        }
    }
}

impl Post {
    /// As many as one command takes.
    async fn next(&self) -> Vec<Charge> {
        poll_fn(|cx| {
            let mut waiting = self.waiting.borrow_mut();
            if waiting.is_empty() {
                *self.waker.borrow_mut() = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let count = waiting.len().min(CHARGES_PER_COMMAND);
            Poll::Ready(waiting.drain(..count).collect())
        })
        .await
    }
}

impl Drop for Turnstile {
    /// What a worker has let through is not forgotten with it.
    fn drop(&mut self) {
        if let Ok(mut inner) = self.inner.try_borrow_mut() {
            let now = inner.pod_since_ns;
            self.settle_all(&mut inner, now);
        }
    }
}
