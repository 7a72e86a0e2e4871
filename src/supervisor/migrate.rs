//! `roadtrip-api migrate`: one connection, on a runtime of its own.

use crate::backend::backoff::Backoff;
use crate::limits::postgres as limits;
use crate::runtime::driver::choose::{self, IoDriver};
use crate::runtime::executor::Runtime;
use crate::runtime::time::sleep;
use crate::store::postgres::schema::{self, MigrateError, State};
use crate::store::postgres::{Config, OpenError, Postgres, Session};
use std::io;
use std::time::{Duration, Instant};

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Apply what is pending.
    Up,
    /// Say what is applied and what is pending.
    Status,
    /// Print what `Up` would run.
    DryRun,
}

/// Why the database is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The connection string or its files.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The server is away, or refuses.
    #[error("{0}")]
    Away(String),
    /// This binary must not touch that database.
    #[error(transparent)]
    Mismatch(#[from] schema::Mismatch),
    /// A runtime could not be made, or a task failed.
    #[error("the system refuses what the command needs: {0}")]
    System(#[from] io::Error),
}

impl Failed {
    /// As in sysexits.h.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failed::Open(_) => 78,
            Failed::Mismatch(_) => 65,
            Failed::Away(_) => 69,
            Failed::System(_) => 71,
        }
    }
}

impl From<MigrateError> for Failed {
    fn from(error: MigrateError) -> Failed {
        match error {
            MigrateError::Mismatch(mismatch) => Failed::Mismatch(mismatch),
            server => Failed::Away(server.to_string()),
        }
    }
}

/// Does it, saying so line by line through `say`. True where nothing is pending in the end. A database that is not there
/// is waited for as long as `wait`.
///
/// # Errors
/// [`Failed`].
pub fn run(config: &Config, what: What, wait: Duration, say: impl Fn(&str) + 'static) -> Result<bool, Failed> {
    let postgres = Postgres::new(config, 1)?;
    // epoll: one connection gains nothing from a ring, and a job's container is likely to forbid it.
    let (driver, _) = choose::open(IoDriver::Epoll).map_err(io::Error::other)?;
    let runtime = Runtime::new(driver, fastrand::u64(..));
    runtime.block_on(async move {
        let session = connect(&postgres, wait).await?;
        let client = session.client().map_err(Failed::Away)?;
        let state = State::read(client).await.map_err(MigrateError::from)?;
        say(&format!("database on {}", session.server()));
        for one in &state.applied {
            say(&format!("applied  {}  {}", one.name, one.at));
        }
        state.check()?;
        for newer in state.newer() {
            say(&format!(
                "newer    {} (this binary does not know it, and may serve)",
                newer.name
            ));
        }
        for migration in &state.pending {
            say(&format!("pending  {}", migration.name));
            if what == What::DryRun {
                say(migration.sql);
            }
        }
        if what != What::Up || state.pending.is_empty() {
            let words = if state.pending.is_empty() {
                "up to date"
            } else {
                "not up to date"
            };
            say(words);
            return Ok(state.pending.is_empty());
        }
        let done = schema::migrate(client, |migration| say(&format!("migrated {}", migration.name))).await?;
        say(&match done {
            0 => "up to date: another process migrated meanwhile".to_owned(),
            done => format!("up to date: {done} applied"),
        });
        Ok(true)
    })?
}

async fn connect(postgres: &Postgres, wait: Duration) -> Result<Session, Failed> {
    let ms = Duration::from_millis;
    let mut backoff = Backoff::new(ms(limits::BACKOFF_FIRST_MS), ms(limits::BACKOFF_MAX_MS));
    let begun = Instant::now();
    loop {
        match postgres.session().await {
            Ok(session) => return Ok(session),
            Err(reason) if begun.elapsed() >= wait => return Err(Failed::Away(reason)),
            Err(_) => sleep(backoff.next_pause()).await,
        }
    }
}
