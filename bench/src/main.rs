//! roadtrip-bench.
fn main() {}
