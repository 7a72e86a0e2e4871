//! runtime (see below).
