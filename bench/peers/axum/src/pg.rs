//! PostgreSQL by deadpool-postgres: the service's table, prepared statements, and (PEER_BATCHES) puts that share one.

use crate::story::{Record, Told};
use crate::{Failure, Settings};
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use roadtrip_api::limits::store::{BATCH_PUTS_MAX, PUT_QUEUE_MAX};
use roadtrip_api::limits::{postgres as limits, story};
use roadtrip_api::store::StoryKey;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_postgres::{NoTls, Row};
use uuid::Uuid;

const GET: &str = "SELECT id, created_ms, json FROM stories WHERE id = $1";
const FIND: &str = "SELECT id, created_ms, json FROM stories WHERE key = $1";
const FIND_MANY: &str = "SELECT id, created_ms, json, key FROM stories WHERE key = ANY ($1)";
const LIST: &str = "SELECT id, json FROM stories WHERE id < $1 ORDER BY id DESC LIMIT $2";
const LIST_OF_STYLE: &str = "SELECT id, json FROM stories WHERE id < $1 AND style = $3 ORDER BY id DESC LIMIT $2";
const LIST_OF_LOCATION: &str =
    "SELECT id, json FROM stories WHERE id < $1 AND location_key = $3 ORDER BY id DESC LIMIT $2";
const LIST_OF_BOTH: &str =
    "SELECT id, json FROM stories WHERE id < $1 AND location_key = $3 AND style = $4 ORDER BY id DESC LIMIT $2";
const PUT: &str = "INSERT INTO stories (id, key, json, location_key, style, created_ms) \
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
const PUT_MANY: &str = "INSERT INTO stories (id, key, json, location_key, style, created_ms) \
    SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::bytea[], $4::text[], $5::text[], $6::int8[]) \
    ON CONFLICT DO NOTHING RETURNING id";

type Outcome = Result<Told, Failure>;
type Queue = mpsc::Receiver<(Record, oneshot::Sender<Outcome>)>;

#[derive(Clone)]
pub(crate) struct Store {
    pool: Pool,
    puts: Option<mpsc::Sender<(Record, oneshot::Sender<Outcome>)>>,
}

fn told(row: &Row) -> Result<Told, tokio_postgres::Error> {
    let created_ms: i64 = row.try_get(1)?;
    let json: Vec<u8> = row.try_get(2)?;
    Ok(Told::new(row.try_get(0)?, u64::try_from(created_ms).unwrap_or(0), json))
}

/// A call to PostgreSQL, within its time.
async fn within<T>(call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(Duration::from_millis(story::STORE_MS_MAX), call).await?
}

impl Store {
    pub(crate) fn open(settings: &Settings) -> Result<Store, Failure> {
        let config = settings.database_url.parse()?;
        let manager = ManagerConfig {
            // Looks whether the connection is closed, and asks the server nothing.
            recycling_method: RecyclingMethod::Fast,
        };
        let pool = Pool::builder(Manager::from_config(config, NoTls, manager))
            .max_size(settings.pool)
            .runtime(Runtime::Tokio1)
            .build()?;
        let mut store = Store { pool, puts: None };
        if settings.batches {
            let (sender, queue) = mpsc::channel(PUT_QUEUE_MAX);
            let queue = Arc::new(Mutex::new(queue));
            for _ in 0..limits::BATCHES_MAX {
                tokio::spawn(store.clone().put_batches(Arc::clone(&queue)));
            }
            store.puts = Some(sender);
        }
        Ok(store)
    }

    pub(crate) async fn ping(&self) -> Result<(), Failure> {
        within(async {
            Ok(self
                .pool
                .get()
                .await?
                .batch_execute("SELECT FROM stories LIMIT 1")
                .await?)
        })
        .await
    }

    pub(crate) async fn get(&self, id: Uuid) -> Result<Option<Told>, Failure> {
        within(async {
            let client = self.pool.get().await?;
            let statement = client.prepare_cached(GET).await?;
            Ok(client
                .query_opt(&statement, &[&id])
                .await?
                .as_ref()
                .map(told)
                .transpose()?)
        })
        .await
    }

    pub(crate) async fn find(&self, key: &StoryKey) -> Result<Option<Told>, Failure> {
        within(async {
            let client = self.pool.get().await?;
            let statement = client.prepare_cached(FIND).await?;
            let row = client.query_opt(&statement, &[&&key.as_bytes()[..]]).await?;
            Ok(row.as_ref().map(told).transpose()?)
        })
        .await
    }

    pub(crate) async fn list(
        &self,
        location: Option<&str>,
        style: Option<&str>,
        behind: Uuid,
        limit: i64,
    ) -> Result<Vec<(Uuid, Vec<u8>)>, Failure> {
        within(async {
            let client = self.pool.get().await?;
            let rows = match (location, style) {
                (None, None) => {
                    client
                        .query(&client.prepare_cached(LIST).await?, &[&behind, &limit])
                        .await?
                }
                (None, Some(style)) => {
                    let statement = client.prepare_cached(LIST_OF_STYLE).await?;
                    client.query(&statement, &[&behind, &limit, &style]).await?
                }
                (Some(location), None) => {
                    let statement = client.prepare_cached(LIST_OF_LOCATION).await?;
                    client.query(&statement, &[&behind, &limit, &location]).await?
                }
                (Some(location), Some(style)) => {
                    let statement = client.prepare_cached(LIST_OF_BOTH).await?;
                    client.query(&statement, &[&behind, &limit, &location, &style]).await?
                }
            };
            rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
        })
        .await
    }

    /// Keeps a story, and gives what is kept under its key: it, or the one before it.
    pub(crate) async fn put(&self, record: Record) -> Outcome {
        within(async {
            match &self.puts {
                None => self.put_one(record).await,
                Some(puts) => {
                    let (answer, waiting) = oneshot::channel();
                    puts.send((record, answer))
                        .await
                        .map_err(|_| "the queue of puts has ended")?;
                    waiting.await?
                }
            }
        })
        .await
    }

    async fn put_one(&self, record: Record) -> Outcome {
        let written = {
            let client = self.pool.get().await?;
            let statement = client.prepare_cached(PUT).await?;
            let key = &record.key.as_bytes()[..];
            let created = i64::try_from(record.created_ms)?;
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 6] = [
                &record.id,
                &key,
                &record.json,
                &record.location_key,
                &record.style,
                &created,
            ];
            client.execute(&statement, &parameters).await?
        };
        if written == 1 {
            return Ok(Told::new(record.id, record.created_ms, record.json));
        }
        self.find(&record.key)
            .await?
            .ok_or_else(|| "the id is another story's".into())
    }

    async fn put_batches(self, queue: Arc<Mutex<Queue>>) {
        let mut batch = Vec::with_capacity(BATCH_PUTS_MAX);
        loop {
            if queue.lock().await.recv_many(&mut batch, BATCH_PUTS_MAX).await == 0 {
                return;
            }
            batch.sort_by(|(one, _), (other, _)| one.key.as_bytes().cmp(other.key.as_bytes()));
            let (records, answers): (Vec<Record>, Vec<_>) = batch.drain(..).unzip();
            match self.put_many(records).await {
                Ok(outcomes) => {
                    for (answer, outcome) in answers.into_iter().zip(outcomes) {
                        let _ = answer.send(outcome);
                    }
                }
                Err(error) => {
                    let text = error.to_string();
                    for answer in answers {
                        let _ = answer.send(Err(text.clone().into()));
                    }
                }
            }
        }
    }

    async fn put_many(&self, records: Vec<Record>) -> Result<Vec<Outcome>, Failure> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(PUT_MANY).await?;
        let ids: Vec<Uuid> = records.iter().map(|one| one.id).collect();
        let keys: Vec<&[u8]> = records.iter().map(|one| &one.key.as_bytes()[..]).collect();
        let jsons: Vec<&[u8]> = records.iter().map(|one| &one.json[..]).collect();
        let locations: Vec<&str> = records.iter().map(|one| one.location_key.as_str()).collect();
        let styles: Vec<&str> = records.iter().map(|one| one.style).collect();
        let created: Vec<i64> = records.iter().map(|one| one.created_ms as i64).collect();
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
            [&ids, &keys, &jsons, &locations, &styles, &created];
        let rows = client.query(&statement, &parameters).await?;
        if rows.len() == records.len() {
            // The common case: all were written, nothing was there before.
            let new = |one: Record| Ok(Told::new(one.id, one.created_ms, one.json));
            return Ok(records.into_iter().map(new).collect());
        }
        let statement = client.prepare_cached(FIND_MANY).await?;
        let mut kept: HashMap<Vec<u8>, (Uuid, i64, Vec<u8>)> = HashMap::new();
        for row in client.query(&statement, &[&keys]).await? {
            kept.insert(row.try_get(3)?, (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
        }
        let outcome = |one: &Record| match kept.get(&one.key.as_bytes()[..]) {
            Some((id, created_ms, json)) => Ok(Told::new(*id, *created_ms as u64, json.clone())),
            None => Err("the id is another story's".into()),
        };
        Ok(records.iter().map(outcome).collect())
    }
}
