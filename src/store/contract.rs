//! What every store promises, as tests that each store's own tests run against a real one.
