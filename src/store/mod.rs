//! store (see below).
