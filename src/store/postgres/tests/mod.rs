//! The store under test, on a real PostgreSQL that each test starts.

mod connections;
mod figures;
mod promises;

#[path = "../../../../tests/common/postgres.rs"]
pub(in crate::store) mod server;

use super::*;
use crate::backend::tests::run;
use crate::store::{Lent, Opened, Store};
pub(super) use server::Postgres as Server;

pub(super) fn config(url: &str) -> Config {
    Config {
        url: SecretUrl::for_test(url),
        pool: PoolSettings {
            size: 20,
            overflow: 40,
            wait: Duration::from_millis(limits::POOL_WAIT_MS),
            recycle: Duration::from_millis(limits::RECYCLE_MS),
            pre_ping: true,
        },
        auto_migrate: true,
        pods_max: 1,
    }
}

/// What to attach stores of.
fn lent(url: &str) -> Lent {
    Opened::Postgres(Postgres::new(&config(url), 1).unwrap()).lend()
}

/// A worker's store, once it answers.
pub(super) async fn attached(lent: &Lent) -> Store {
    let store = lent.attach();
    until("it answers", async || store.ping().await.is_ok()).await;
    store
}

pub(super) async fn until(what: &str, so: impl AsyncFn() -> bool) {
    for _ in 0..2000 {
        if so().await {
            return;
        }
        crate::runtime::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("in vain waited for: {what}");
}
