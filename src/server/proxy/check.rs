//! What must hold of any bytes where a PROXY header may stand; see `http/check.rs`. Not in a server.
#![allow(clippy::unwrap_used)] // Reason: a property that fails is a panic.

use super::parse;
use crate::limits::proxy::HEADER_BYTES_MAX;

/// However the bytes are split, they say the same, within the bound; what is no header stays none, whatever follows.
pub(crate) fn header(bytes: &[u8]) {
    let whole = parse(bytes);
    match whole {
        Ok(None) => assert!(bytes.len() < HEADER_BYTES_MAX),
        Ok(Some(header)) => {
            assert!(header.bytes > 0 && header.bytes <= bytes.len().min(HEADER_BYTES_MAX));
            let own = bytes.get(..header.bytes).unwrap();
            assert_eq!(parse(own), whole);
            for cut in 0..header.bytes {
                assert_eq!(parse(own.get(..cut).unwrap()), Ok(None), "at {cut}");
            }
        }
        Err(_) => assert!(parse(&[bytes, b"\r\n and more".as_slice()].concat()).is_err()),
    }
}
