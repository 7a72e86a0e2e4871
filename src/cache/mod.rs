//! Stories ready to send, near the core that sends them.
//!
//! Called by `story::service` alone. [`local`] is each worker's own: no lock, no sharing, bounded in bytes.
//! [`story`] is what it holds: a body in each coding that was asked for, with the field lines that name it. [`redis`] is
//! shared by workers and pods, and each worker has its own connection to it. Deliberately absent: compressing (codings
//! are handed in), and any say in what is true: the store is, and a cache may forget everything at any moment.

pub mod local;
pub mod redis;
pub mod story;
