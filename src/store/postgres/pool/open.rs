//! From a server to a connection that serves stories: reached, and with the schema that this binary needs.

use crate::limits::postgres as limits;
use crate::runtime::time::timeout;
use crate::store::postgres::connect::{self, Link};
use crate::store::postgres::{Shared, advice, fault, schema};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A connection to a database that this binary can serve from.
pub(super) async fn open(shared: &Shared) -> Result<Link, String> {
    let link = connect::open(shared).await?;
    let Some(client) = link.client() else {
        return Err("the connection was closed".to_owned());
    };
    let within = shared.settings.connect_timeout;
    let state = match timeout(within, schema::State::read(client)).await {
        Ok(Ok(state)) => state,
        Ok(Err(error)) => return Err(fault::describe(&error)),
        Err(_) => return Err(format!("{} did not answer in time", link.target)),
    };
    shared.unfit.store(true, Ordering::Relaxed);
    state.check().map_err(|mismatch| mismatch.to_string())?;
    if !state.pending.is_empty() {
        if !shared.auto_migrate {
            return Err(format!(
                "migrations are pending: {}; run `roadtrip-api migrate`, readiness follows by itself",
                schema::names(&state.pending)
            ));
        }
        let most = Duration::from_secs(2 * limits::MIGRATION_LOCK_S);
        let migrated = timeout(
            most,
            schema::migrate(client, |done| {
                tracing::info!(migration = done.name, "migrated");
            }),
        );
        match migrated.await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(format!("the migrations failed: {error}")),
            Err(_) => return Err("the migrations took too long".to_owned()),
        }
    }
    shared.unfit.store(false, Ordering::Relaxed);
    for newer in state.newer() {
        tracing::debug!(
            migration = newer.name,
            "the database is newer than this binary, and fit for it"
        );
    }
    if !shared.advised.swap(true, Ordering::Relaxed) {
        let _ = timeout(within, advice::give(shared, client, link.backend.is_none())).await;
    }
    Ok(link)
}
