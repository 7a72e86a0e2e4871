//! runtime (see below).

pub mod topology;
