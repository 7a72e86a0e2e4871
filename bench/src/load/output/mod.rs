//! What a run leaves behind: a report for people, JSON by `bench/schema/run.schema.json`, files for other tools, and a view
//! of it while it runs.

pub(super) mod document;
pub(super) mod files;
pub(super) mod live;
