//! routes (see below).
