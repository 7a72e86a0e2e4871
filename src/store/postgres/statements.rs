//! The statements, and what comes back.

use super::fault::Fault;
use super::observe::Observer;
use crate::limits::store::PAGE_BYTES_MAX;
use crate::runtime::context;
use crate::store::{Cursor, Filter, Kept, Page, Record, StoreError};
use std::cell::RefCell;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row, SimpleQueryMessage, Statement};
use uuid::Uuid;

/// Each statement of the story path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Query {
    Get,
    Find,
    FindMany,
    Put,
    List(By),
}

/// What a list is filtered by, and so which index serves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    All,
    Location,
    Style,
    Both,
}

impl By {
    pub(super) const ALL: [By; 4] = [By::All, By::Location, By::Style, By::Both];
}

const QUERIES: usize = 4 + By::ALL.len();
const _: () = assert!(QUERIES == crate::telemetry::metrics::STATEMENTS.len());

/// A parameter of a statement.
pub(super) type Parameter<'p> = &'p (dyn ToSql + Sync);

/// Puts any number of stories: one statement whatever their number, so it is prepared once. Returns ids and keys
/// of those that were not there.
const PUT: &str = "INSERT INTO stories (id, key, json, location_key, style, created_ms) \
    SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::bytea[], $4::text[], $5::text[], $6::int8[]) \
    ON CONFLICT DO NOTHING RETURNING id, key";

/// One page behind the id $1, of one story more than asked for ($2), so that it is known whether there is another page.
/// It ends where the stories get too many bytes; their lengths are known without reading them, and `json` of the rest is
/// not read. `seen` is how many there were.
///
/// What is filtered by also leads the order, and is bounded from both sides instead of compared with `=`: equal
/// columns count for nothing in an order, and then the primary key would have it, too. The planner would walk that
/// backwards past all other stories wherever a style or a place is frequent by its statistics, which takes a third of a
/// second where that style was told long ago only. As it is, one index has the order, and each page is one short walk
/// in it, whatever the statistics say.
fn list_sql(by: By) -> String {
    let (filter, order) = match by {
        By::All => ("id < $1", "id DESC"),
        By::Location => (
            "location_key >= $3 AND (location_key, id) < ($3, $1)",
            "location_key DESC, id DESC",
        ),
        By::Style => ("style >= $3 AND (style, id) < ($3, $1)", "style DESC, id DESC"),
        By::Both => (
            "location_key = $3 AND style >= $4 AND (style, id) < ($4, $1)",
            "style DESC, id DESC",
        ),
    };
    format!(
        "SELECT id, created_ms, json, seen FROM ( \
             SELECT *, row_number() OVER upto AS n, \
                    sum(octet_length(json)) OVER upto AS bytes, count(*) OVER () AS seen \
             FROM (SELECT id, created_ms, json, location_key, style FROM stories \
                   WHERE {filter} ORDER BY {order} LIMIT $2) page \
             WINDOW upto AS (ORDER BY {order} ROWS UNBOUNDED PRECEDING)) sized \
         WHERE n = 1 OR bytes <= {PAGE_BYTES_MAX} ORDER BY {order}"
    )
}

impl Query {
    pub(super) fn sql(self) -> String {
        match self {
            Query::Get => "SELECT id, created_ms, json FROM stories WHERE id = $1".to_owned(),
            Query::Find => "SELECT id, created_ms, json, key FROM stories WHERE key = $1".to_owned(),
            Query::FindMany => "SELECT id, created_ms, json, key FROM stories WHERE key = ANY ($1)".to_owned(),
            Query::Put => PUT.to_owned(),
            Query::List(by) => list_sql(by),
        }
    }

    fn types(self) -> &'static [Type] {
        match self {
            Query::Get => &[Type::UUID],
            Query::Find => &[Type::BYTEA],
            Query::FindMany => &[Type::BYTEA_ARRAY],
            Query::Put => &[
                Type::UUID_ARRAY,
                Type::BYTEA_ARRAY,
                Type::BYTEA_ARRAY,
                Type::TEXT_ARRAY,
                Type::TEXT_ARRAY,
                Type::INT8_ARRAY,
            ],
            Query::List(By::All) => &[Type::UUID, Type::INT8],
            Query::List(By::Location | By::Style) => &[Type::UUID, Type::INT8, Type::TEXT],
            Query::List(By::Both) => &[Type::UUID, Type::INT8, Type::TEXT, Type::TEXT],
        }
    }

    /// Its number among the statements: its place on a connection, and in the metrics' list of their names.
    pub(super) fn number(self) -> usize {
        match self {
            Query::Get => 0,
            Query::Find => 1,
            Query::FindMany => 2,
            Query::Put => 3,
            Query::List(by) => 4 + by as usize,
        }
    }
}

/// The prepared statements of one connection, each prepared when it is first used; or none, for a pooler that gives each
/// transaction another connection: then text, types and values travel together each time.
pub(super) struct Statements {
    observer: Observer,
    prepared: Option<RefCell<[Option<Statement>; QUERIES]>>,
}

impl Statements {
    pub(super) fn new(prepare: bool, observer: Observer) -> Statements {
        Statements {
            observer,
            prepared: prepare.then(RefCell::default),
        }
    }

    pub(super) async fn run(
        &self,
        client: &Client,
        query: Query,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Error> {
        let begun_ns = context::precise_now_ns();
        let rows = self.ask(client, query, parameters).await?;
        self.observer.answered_since(query, begun_ns);
        Ok(rows)
    }

    async fn ask(&self, client: &Client, query: Query, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Error> {
        let Some(prepared) = &self.prepared else {
            let typed: Vec<_> = parameters.iter().copied().zip(query.types().iter().cloned()).collect();
            return client.query_typed(&query.sql(), &typed).await;
        };
        let known = prepared.borrow().get(query.number()).cloned().flatten();
        let statement = match known {
            Some(statement) => statement,
            None => {
                let statement = client.prepare_typed(&query.sql(), query.types()).await?;
                if let Some(place) = prepared.borrow_mut().get_mut(query.number()) {
                    *place = Some(statement.clone());
                }
                statement
            }
        };
        client.query(&statement, parameters).await
    }
}

/// Whether the table is there and may be used. A connection that answers says nothing about that, and a pod that can
/// serve nobody must not be called ready. No row and no lock of the table is touched.
pub(super) async fn look_at_table(client: &Client) -> Result<(), Fault> {
    const LOOK: &str = "SELECT has_any_column_privilege(at, 'SELECT') AND has_any_column_privilege(at, 'INSERT') \
        FROM to_regclass('stories') at";
    let messages = client.simple_query(LOOK).await?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let unfit = |why: &str| Err(Fault::told(StoreError::unavailable(why)));
    match row.map(|row| row.try_get(0)).transpose()? {
        None => Err(Fault::nonsense("no row")),
        Some(Some("t")) => Ok(()),
        Some(Some(_)) => unfit("the role of DATABASE_URL lacks SELECT or INSERT on the table stories; grant them"),
        Some(None) => unfit("the table stories is missing, or not in the search_path: restore it"),
    }
}

/// A story out of the first three columns.
pub(super) fn kept(row: &Row) -> Result<Kept, Error> {
    Ok(Kept {
        id: row.try_get(0)?,
        created_ms: u64::try_from(row.try_get::<_, i64>(1)?).unwrap_or(0),
        json: row.try_get(2)?,
    })
}

/// The statement of a page.
pub(super) fn list_query(filter: &Filter) -> Query {
    Query::List(match (&filter.location, filter.style) {
        (None, None) => By::All,
        (Some(_), None) => By::Location,
        (None, Some(_)) => By::Style,
        (Some(_), Some(_)) => By::Both,
    })
}

/// The id that the first page is behind: no UUIDv7 has all bits set.
pub(super) fn behind(cursor: Option<Cursor>) -> Uuid {
    cursor.map_or(Uuid::max(), Cursor::last)
}

/// The page out of its rows.
pub(super) fn page(rows: &[Row], limit: usize) -> Result<Page, Error> {
    let items = rows.iter().take(limit).map(kept).collect::<Result<Vec<_>, _>>()?;
    let seen: i64 = rows.first().map_or(Ok(0), |row| row.try_get(3))?;
    let more = usize::try_from(seen).unwrap_or(0) > items.len();
    let next = items.last().filter(|_| more).map(|last| Cursor::after(last.id));
    Ok(Page { items, next })
}

/// The columns of a batch.
pub(super) struct Columns<'r> {
    ids: Vec<Uuid>,
    keys: Vec<&'r [u8]>,
    jsons: Vec<&'r [u8]>,
    locations: Vec<&'r str>,
    styles: Vec<&'static str>,
    created: Vec<i64>,
}

impl<'r> Columns<'r> {
    pub(super) fn of(records: impl IntoIterator<Item = &'r Record>) -> Columns<'r> {
        let mut columns = Columns {
            ids: Vec::new(),
            keys: Vec::new(),
            jsons: Vec::new(),
            locations: Vec::new(),
            styles: Vec::new(),
            created: Vec::new(),
        };
        for record in records {
            columns.ids.push(record.id);
            columns.keys.push(record.key.as_bytes());
            columns.jsons.push(&record.json);
            columns.locations.push(&record.location_key);
            columns.styles.push(record.style.as_str());
            columns
                .created
                .push(i64::try_from(record.created_ms).unwrap_or(i64::MAX));
        }
        columns
    }

    pub(super) fn parameters(&self) -> [Parameter<'_>; 6] {
        [
            &self.ids,
            &self.keys,
            &self.jsons,
            &self.locations,
            &self.styles,
            &self.created,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::STATEMENTS;

    #[test]
    fn each_statement_has_its_name() {
        let lists = By::ALL.map(Query::List);
        let all = [Query::Get, Query::Find, Query::FindMany, Query::Put];
        for (at, query) in all.into_iter().chain(lists).enumerate() {
            assert_eq!(query.number(), at);
            let said: String = format!("{query:?}")
                .to_lowercase()
                .chars()
                .filter(char::is_ascii_alphabetic)
                .collect();
            assert_eq!(said, STATEMENTS[at].replace('_', "").replace("listof", "list"));
        }
    }
}
