#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| { let _ = roadtrip_api::http::parse_head(data); });
