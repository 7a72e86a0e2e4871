//! What a worker does about it.

use super::Memory;
use crate::limits::memory as limits;
use crate::resilience::memory::{Level, Order};
use crate::routes::Api;
use crate::runtime::time::timeout;
use crate::server::Server;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use tokio::sync::watch;

impl Memory {
    /// Runs for as long as the worker, and does what is ordered.
    pub(in crate::supervisor) async fn obey(self, server: Rc<Server<Api>>) {
        let mut orders = self.orders;
        let mut step = orders.borrow_and_update().step;
        if orders.borrow().level > Level::Calm {
            // A worker that begins while memory is short begins small.
            server.app().keep_cache_small();
        }
        let heed = |order: Order| {
            server.set_short(order.level == Level::Hard);
            server.app().set_frugal(order.level > Level::Calm);
        };
        loop {
            let order = *orders.borrow_and_update();
            heed(order);
            if order.step != step {
                step = order.step;
                if !hearing(&mut orders, server.app().shrink_cache(order.keep), heed).await {
                    return;
                }
                // There may be another step by now.
                continue;
            }
            let changed = if order.may_grow && server.app().cache_is_small() {
                match timeout(limits::GROW, orders.changed()).await {
                    Ok(changed) => changed,
                    Err(_) => {
                        server.app().grow_cache();
                        continue;
                    }
                }
            } else {
                orders.changed().await
            };
            if changed.is_err() {
                // Nobody looks.
                return;
            }
        }
    }
}

/// Does `work`, which may take many turns, and has `heed` hear of what is ordered meanwhile: a level must not wait for a
/// step. Gives whether there can be more orders.
async fn hearing<W: Future>(orders: &mut watch::Receiver<Order>, work: W, heed: impl Fn(Order)) -> bool {
    let mut work = pin!(work);
    loop {
        let heard = {
            let mut changed = pin!(orders.changed());
            poll_fn(|cx| match changed.as_mut().poll(cx) {
                Poll::Ready(changed) => Poll::Ready(Some(changed.is_ok())),
                Poll::Pending => work.as_mut().poll(cx).map(|_| None),
            })
            .await
        };
        match heard {
            Some(true) => heed(*orders.borrow_and_update()),
            Some(false) => {
                work.await;
                return false;
            }
            None => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::tests::run;
    use crate::runtime::executor::yield_now;
    use std::cell::Cell;

    #[test]
    fn a_level_is_heard_of_while_a_cache_shrinks() {
        run(async {
            let (tell, mut orders) = watch::channel(Order::default());
            let (tell, heard) = (Cell::new(Some(tell)), Cell::new(Level::Calm));
            let order = |level| Order {
                level,
                ..Order::default()
            };
            let shrink = async {
                let teller = tell.take().unwrap();
                for level in [Level::Soft, Level::Hard, Level::Soft] {
                    teller.send(order(level)).unwrap();
                    let mut turns = 0;
                    while heard.get() != level {
                        turns += 1;
                        assert!(turns < 100, "{level:?} is not heard of");
                        yield_now().await;
                    }
                }
                tell.set(Some(teller));
            };
            assert!(hearing(&mut orders, shrink, |order| heard.set(order.level)).await);
            // The work is done to its end though nobody looks any more.
            let done = Cell::new(false);
            let shrink = async {
                drop(tell.take());
                yield_now().await;
                done.set(true);
            };
            assert!(!hearing(&mut orders, shrink, |_| {}).await || done.get());
            assert!(done.get());
        });
    }
}
