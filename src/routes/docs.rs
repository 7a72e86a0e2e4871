//! /openapi.json and /docs.

/// The API described (OpenAPI 3.1).
pub const OPENAPI: &str = include_str!("openapi.json");
/// A page to read and try it; self-contained.
pub(super) const PAGE: &str = include_str!("docs.html");
