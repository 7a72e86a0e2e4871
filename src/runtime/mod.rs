//! runtime
pub mod driver;
