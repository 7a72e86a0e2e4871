#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| roadtrip_api::fuzz::connection(data));
