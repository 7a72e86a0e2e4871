//! The schema: numbered migrations in the repository, embedded in the binary, and what of them a database has.
//!
//! The table `roadtrip_migrations` records each with the SHA-256 of its text. A text that was changed after it was
//! applied is refused: the database is not what the file says. A database that is newer than the binary is accepted
//! where its migrations say so (`needs`: the least version that a binary must know), which is what a rolling update
//! needs: the new pods migrate while the old ones still serve.

use crate::runtime::time::timeout;
use sha2::{Digest, Sha256};
use std::fmt;
use std::time::Duration;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

/// A step from one version of the schema to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// Its number, from 1 without a gap.
    pub version: i32,
    /// The name of its file, without the ending.
    pub name: &'static str,
    /// Statements, run in one transaction.
    pub sql: &'static str,
    /// The least version that a binary must know to serve from a database with this migration.
    pub needs: i32,
}

impl Migration {
    /// SHA-256 of the text, hexadecimal.
    pub fn checksum(&self) -> String {
        Sha256::digest(self.sql)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// All of them, in order. A file that was released is never changed; another is added.
pub const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "0001_stories",
    sql: include_str!("migrations/0001_stories.sql"),
    needs: 1,
}];

/// The version that this binary knows.
pub fn latest() -> i32 {
    MIGRATIONS.last().map_or(0, |migration| migration.version)
}

/// A migration as recorded in a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its number.
    pub version: i32,
    /// Its name.
    pub name: String,
    /// SHA-256 of its text when it was applied.
    pub checksum: String,
    /// See [`Migration::needs`].
    pub needs: i32,
    /// When, RFC 3339.
    pub at: String,
}

/// Why a database cannot be served from, or be migrated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// A migration's text is not the one that was applied.
    #[error("migration {0} was changed after it was applied to this database: deploy the binary that it came from")]
    Changed(String),
    /// The database has gone on without this binary.
    #[error(
        "the database has migration {name}, which needs a binary that knows version {needs}; this one knows {known}: deploy a newer one"
    )]
    Newer {
        /// The migration that asks the most.
        name: String,
        /// What it asks.
        needs: i32,
        /// What is known here.
        known: i32,
    },
    /// A number is missing in between.
    #[error("the database has later migrations, but not {0}: its record of migrations was tampered with")]
    Gap(&'static str),
}

/// What a database has, compared with this binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// As recorded, by version.
    pub applied: Vec<Applied>,
    /// Of this binary's, in order.
    pub pending: Vec<&'static Migration>,
}

impl State {
    /// Reads the record. A database without one has nothing applied.
    ///
    /// # Errors
    /// Those of the connection or the server.
    pub async fn read(client: &Client) -> Result<State, Error> {
        const RECORD: &str = "SELECT version::text, name, checksum, needs::text, \
             to_char(applied_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
             FROM roadtrip_migrations ORDER BY roadtrip_migrations.version";
        let messages = match client.simple_query(RECORD).await {
            Ok(messages) => messages,
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut applied = Vec::new();
        for message in &messages {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                let text = |at: usize| row.try_get(at).map(|text| text.unwrap_or_default().to_owned());
                let number = |at: usize| text(at).map(|text| text.parse::<i32>().unwrap_or(i32::MAX));
                applied.push(Applied {
                    version: number(0)?,
                    name: text(1)?,
                    checksum: text(2)?,
                    needs: number(3)?,
                    at: text(4)?,
                });
            }
        }
        let has = |migration: &&Migration| !applied.iter().any(|one| one.version == migration.version);
        let pending = MIGRATIONS.iter().filter(has).collect();
        Ok(State { applied, pending })
    }

    /// Whether this binary and that record fit together, pending ones aside.
    ///
    /// # Errors
    /// [`Mismatch`] where not.
    pub fn check(&self) -> Result<(), Mismatch> {
        for one in &self.applied {
            let ours = MIGRATIONS.iter().find(|migration| migration.version == one.version);
            if ours.is_some_and(|migration| migration.checksum() != one.checksum) {
                return Err(Mismatch::Changed(one.name.clone()));
            }
        }
        let known = latest();
        let newest = self.applied.iter().max_by_key(|one| one.needs);
        if let Some(one) = newest.filter(|one| one.needs > known) {
            return Err(Mismatch::Newer {
                name: one.name.clone(),
                needs: one.needs,
                known,
            });
        }
        let last = self.applied.iter().map(|one| one.version).max().unwrap_or(0);
        match self.pending.iter().find(|migration| migration.version < last) {
            Some(missing) => Err(Mismatch::Gap(missing.name)),
            None => Ok(()),
        }
    }

    /// Applied by a newer binary, and fit for this one.
    pub fn newer(&self) -> impl Iterator<Item = &Applied> {
        let known = latest();
        self.applied.iter().filter(move |one| one.version > known)
    }
}

/// The names of migrations, in one line.
pub fn names(migrations: &[&Migration]) -> String {
    let names: Vec<&str> = migrations.iter().map(|migration| migration.name).collect();
    names.join(", ")
}

/// Applies what is pending, each in a transaction of its own.
///
/// Any number of processes may do so at once: each transaction begins with an advisory lock (held by the transaction,
/// so a pooler does no harm and a process that dies leaves none), and looks again at what is pending once it has it.
/// Gives what this process applied; `note` hears of each.
///
/// # Errors
/// [`MigrateError`]; what was applied before stays.
pub async fn migrate(client: &Client, mut note: impl FnMut(&Migration)) -> Result<usize, MigrateError> {
    let mut done = 0;
    loop {
        let state = State::read(client).await?;
        state.check()?;
        if state.pending.is_empty() {
            return Ok(done);
        }
        let outcome = apply_next(client).await;
        if outcome
            .as_ref()
            .is_err_and(|error| !matches!(error, MigrateError::Silent))
        {
            // The session goes on to be used only if this works; otherwise its connection is of no use anyway.
            let _ = client.batch_execute("ROLLBACK").await;
        }
        if let Some(migration) = outcome? {
            note(migration);
            done += 1;
        }
    }
}

/// Any number that no other program is likely to lock: the first 63 bits but the sign of SHA-256("roadtrip_migrations").
const LOCK: i64 = 0x4509_0472_dc84_47cd;

async fn apply_next(client: &Client) -> Result<Option<&'static Migration>, MigrateError> {
    let seconds = crate::limits::postgres::MIGRATION_LOCK_S;
    let begin = format!(
        "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '{seconds}s'; \
         SELECT pg_advisory_xact_lock({LOCK}); \
         CREATE TABLE IF NOT EXISTS roadtrip_migrations ( \
             version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, needs integer NOT NULL, \
             applied_at timestamptz NOT NULL DEFAULT now())"
    );
    // The server ends the wait itself, unless it stands still.
    let most = Duration::from_secs(2 * seconds);
    timeout(most, client.batch_execute(&begin))
        .await
        .map_err(|_| MigrateError::Silent)??;
    // A transaction of the default isolation sees here what was committed while it waited.
    let state = State::read(client).await?;
    state.check()?;
    let Some(migration) = state.pending.first().copied() else {
        client.batch_execute("COMMIT").await?;
        return Ok(None);
    };
    client.batch_execute(migration.sql).await?;
    // Names and checksums are this program's own and need no quoting beyond the quotes.
    client
        .batch_execute(&format!(
            "INSERT INTO roadtrip_migrations (version, name, checksum, needs) VALUES ({}, '{}', '{}', {}); COMMIT",
            migration.version,
            migration.name,
            migration.checksum(),
            migration.needs
        ))
        .await?;
    Ok(Some(migration))
}

/// Why a database was not migrated.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The server or the connection refused.
    #[error("{}", Said(.0))]
    Server(#[from] Error),
    /// The server stands still.
    #[error("the server did not answer in time")]
    Silent,
    /// This binary must not touch that database.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
}

/// A server's error in one line.
struct Said<'e>(&'e Error);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::fault::describe(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(version: i32, needs: i32, checksum: &str) -> Applied {
        Applied {
            version,
            name: format!("{version:04}_x"),
            checksum: checksum.to_owned(),
            needs,
            at: String::new(),
        }
    }

    #[test]
    fn the_files_are_numbered_without_a_gap() {
        for (at, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.version, i32::try_from(at).unwrap() + 1);
            assert!(migration.name.starts_with(&format!("{:04}_", migration.version)));
            assert!((1..=migration.version).contains(&migration.needs));
            assert!(!migration.sql.contains("CONCURRENTLY"), "each runs in a transaction");
        }
        // Every file of the folder is in the list.
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/postgres/migrations");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), MIGRATIONS.len());
    }

    #[test]
    fn a_released_migration_is_not_changed() {
        // Each new one gets its line here when it is released.
        let released = [(1, "ad76d0397d24b23cb2f7857c4a9826c4945ba8824af524a81f62b1f80024dd59")];
        for (version, checksum) in released {
            let migration = MIGRATIONS
                .iter()
                .find(|migration| migration.version == version)
                .unwrap();
            assert_eq!(migration.checksum(), checksum);
        }
    }

    #[test]
    fn a_newer_database_is_accepted_where_it_says_so() {
        let known = latest();
        let ours: Vec<Applied> = MIGRATIONS
            .iter()
            .map(|migration| applied(migration.version, migration.needs, &migration.checksum()))
            .collect();
        let state = |extra: Option<Applied>| State {
            applied: ours.iter().cloned().chain(extra).collect(),
            pending: Vec::new(),
        };
        assert_eq!(state(None).check(), Ok(()));
        let fit = state(Some(applied(known + 1, known, "?")));
        assert_eq!((fit.check(), fit.newer().count()), (Ok(()), 1));
        let unfit = state(Some(applied(known + 1, known + 1, "?"))).check();
        assert!(matches!(unfit, Err(Mismatch::Newer { .. })), "{unfit:?}");
        let changed = State {
            applied: vec![applied(1, 1, "other")],
            pending: Vec::new(),
        };
        assert_eq!(changed.check(), Err(Mismatch::Changed("0001_x".into())));
        let gap = State {
            applied: vec![applied(known + 1, 1, "?")],
            pending: MIGRATIONS.iter().collect(),
        };
        assert!(matches!(gap.check(), Err(Mismatch::Gap(_))));
    }
}
