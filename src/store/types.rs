//! The words of the store's interface, the same for every kind of store.

use super::{Cursor, StoreError};
use crate::limits::store::{LOCATION_KEY_BYTES_MAX, STORY_BYTES_MAX};
use crate::story::types::Style;
use sha2::{Digest, Sha256};
use std::time::Duration;
use uuid::Uuid;

/// The content key of a request: equal for requests that ask for the same story. SHA-256, because a client who could
/// make two requests collide could make one of them answer with the other's story, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoryKey([u8; 32]);

impl StoryKey {
    /// The key of a request in its canonical form.
    pub fn of_canonical(request: &[u8]) -> Self {
        StoryKey(Sha256::digest(request).into())
    }

    /// A key computed before.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        StoryKey(bytes)
    }

    /// The 32 bytes of the key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A story to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The request it answers.
    pub key: StoryKey,
    /// UUIDv7 whose time is `created_ms`; unique.
    pub id: Uuid,
    /// The exact bytes to answer with, 1 to `limits::store::STORY_BYTES_MAX`. They never change.
    pub json: Vec<u8>,
    /// The place's name, folded as the list filter folds it; at most `limits::store::LOCATION_KEY_BYTES_MAX` bytes.
    pub location_key: String,
    /// The manner it is told in.
    pub style: Style,
    /// When it was told, milliseconds since the Unix epoch.
    pub created_ms: u64,
}

impl Record {
    /// Checks the rules above, so that no store has to hold what another could not.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let broken = |rule: String| Err(StoreError::Invalid(rule));
        if self.json.is_empty() || self.json.len() > STORY_BYTES_MAX {
            return broken(format!(
                "a story has 1 to {STORY_BYTES_MAX} bytes, not {}",
                self.json.len()
            ));
        }
        if self.location_key.len() > LOCATION_KEY_BYTES_MAX {
            return broken(format!("a location key has at most {LOCATION_KEY_BYTES_MAX} bytes"));
        }
        if self.id.get_version_num() != 7 {
            return broken(format!("the id {} is no UUIDv7", self.id));
        }
        // Lists are ordered by (created_ms, id); with this, the order of the ids is that order.
        if u128::from(self.created_ms) != self.id.as_u128() >> 80 {
            return broken(format!("the id {} was not made at {} ms", self.id, self.created_ms));
        }
        Ok(())
    }
}

/// A story as kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its id.
    pub id: Uuid,
    /// When it was told, milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// The exact bytes it was kept with.
    pub json: Vec<u8>,
}

/// Which stories a list shows; the default shows all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only of the place with this folded name ([`Record::location_key`]).
    pub location: Option<String>,
    /// Only told in this manner.
    pub style: Option<Style>,
}

/// One page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Newest first.
    pub items: Vec<Kept>,
    /// Where the next page begins; none on the last page.
    pub next: Option<Cursor>,
}

/// How the store serves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should.
    Serving = 0,
    /// Right, and late.
    Slow = 1,
    /// What is kept can be read; nothing new is kept.
    NoWrites = 2,
    /// Nothing of it can be had.
    #[default]
    Away = 3,
}

/// Figures of the store, for health checks and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether puts and reads are being served.
    pub available: bool,
    /// How.
    pub state: State,
    /// Why it is not as it should be, or why the last write failed.
    pub reason: Option<String>,
    /// Stories kept.
    pub stories: u64,
    /// Bytes of the store's file.
    pub file_bytes: u64,
    /// Puts answered with success since the start.
    pub puts: u64,
    /// Commits since the start; `puts / commits` is how many share a flush.
    pub commits: u64,
    /// Calls refused because a queue was full.
    pub refused: u64,
    /// Writes that failed.
    pub failures: u64,
    /// How long the last commit took.
    pub last_commit: Duration,
    /// Puts waiting.
    pub put_queue: usize,
    /// Reads waiting.
    pub read_queue: usize,
    /// Connections to the server behind the store; 0 where there is none.
    pub connections: u64,
}
