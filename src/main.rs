//! roadtrip-api.
fn main() {}
