//! cache (see below).
