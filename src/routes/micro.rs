//! What `bench/benches/micro.rs` times and could not reach otherwise. Only with the feature `micro`, never in a server.

use super::input;
use crate::cache::local::CachedStory;
use crate::story::key::request_bytes;
use std::hint::black_box;
use std::rc::Rc;
use uuid::Uuid;

/// Reads the body of a story request; whether it is one.
pub fn parse(body: &[u8]) -> bool {
    black_box(input::read(black_box(body))).is_ok()
}

/// Reads the body and writes the key by which the worker's cache is asked; whether it is a story request.
pub fn parse_to_key(body: &[u8], key: &mut Vec<u8>) -> bool {
    let wish = input::read(black_box(body));
    if let Ok(wish) = &wish {
        request_bytes(key, &wish.asked());
    }
    wish.is_ok()
}

/// A story as the worker's cache keeps it.
pub fn cached_story(id: u128, body: Vec<u8>) -> Rc<CachedStory> {
    Rc::new(CachedStory::new(Uuid::from_u128(id), body, u64::MAX))
}
