//! PostgreSQL under test.
