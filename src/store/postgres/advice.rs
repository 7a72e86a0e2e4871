//! What an operator should hear about the server, once a process: settings that lose stories, and a bound on
//! connections that the pods could pass together.

use super::Shared;
use tokio_postgres::{Client, SimpleQueryMessage};

const SETTINGS: &str = "SELECT current_setting('max_connections'), \
    current_setting('superuser_reserved_connections'), current_setting('synchronous_commit'), \
    current_setting('fsync'), current_setting('full_page_writes'), current_setting('server_version_num'), \
    current_setting('server_encoding')";

/// Asks the server, and warns. `is_pooled`: a pooler answers in its place, or the operator says so.
pub(super) async fn give(shared: &Shared, client: &Client, is_pooled: bool) {
    let Ok(messages) = client.simple_query(SETTINGS).await else {
        return;
    };
    for message in &messages {
        if let SimpleQueryMessage::Row(row) = message {
            let text = |at: usize| row.try_get(at).ok().flatten().unwrap_or_default();
            let number = |at: usize| text(at).parse::<u64>().unwrap_or(0);
            tracing::info!(version = number(5), max_connections = number(0), "PostgreSQL answers");
            if is_pooled {
                let prepares = shared.settings.prepares(false);
                tracing::info!(
                    prepares,
                    "a pooler stands before PostgreSQL (or statement_cache=off says so)"
                );
            }
            for warning in warnings(
                shared,
                is_pooled,
                number(0),
                number(1),
                [text(2), text(3), text(4)],
                number(5),
                text(6),
            ) {
                tracing::warn!("{warning}");
            }
        }
    }
}

fn warnings(
    shared: &Shared,
    is_pooled: bool,
    max_connections: u64,
    reserved: u64,
    [synchronous_commit, fsync, full_page_writes]: [&str; 3],
    version: u64,
    encoding: &str,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let per_worker = (shared.pool.size + shared.pool.overflow) as u64;
    let (pods, workers) = (shared.pods_max, shared.workers as u64);
    let wanted = pods.saturating_mul(workers).saturating_mul(per_worker);
    let allowed = max_connections.saturating_sub(reserved);
    // A pooler has bounds of its own, which are what holds.
    if wanted > allowed && !is_pooled {
        warnings.push(format!(
            "{pods} pods (PODS_MAX) x {workers} workers x {per_worker} connections (DB_POOL_SIZE + DB_MAX_OVERFLOW) may be {wanted}, and PostgreSQL takes {allowed} (max_connections {max_connections} less {reserved} reserved). A worker under load needs one or two, {} for all; lower the bounds, or put PgBouncer in between",
            pods.saturating_mul(workers).saturating_mul(2)
        ));
    }
    if synchronous_commit == "off" {
        warnings.push(
            "PostgreSQL has synchronous_commit=off: a crash of the server may lose stories that were answered with 200"
                .to_owned(),
        );
    }
    for (name, value) in [("fsync", fsync), ("full_page_writes", full_page_writes)] {
        if value == "off" {
            warnings.push(format!(
                "PostgreSQL has {name}=off: a power cut may lose or damage every story"
            ));
        }
    }
    if version < 130_000 {
        warnings.push(format!(
            "PostgreSQL {version} is older than 13, which is the oldest that is supported"
        ));
    }
    if encoding != "UTF8" {
        warnings.push(format!(
            "the database's encoding is {encoding}: names of places that it cannot hold will be refused; create it with ENCODING 'UTF8'"
        ));
    }
    warnings
}
