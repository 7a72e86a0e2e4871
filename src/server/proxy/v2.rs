//! Version 2: binary (section 2.2 of the specification).

use super::{Fault, Header, Source};
use crate::limits::proxy::HEADER_BYTES_MAX;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// Neither HTTP/1 nor HTTP/2 nor TLS begins so.
pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and transport, length of the rest.
const FIXED_BYTES: usize = 16;
/// Bytes of the addresses of each family: two addresses, and two ports where there are ports.
const INET_BYTES: usize = 12;
const INET6_BYTES: usize = 36;
const UNIX_BYTES: usize = 216;
/// Section 2.2.3: the TLV of the checksum.
const TLV_CRC32C: u8 = 0x03;

/// As [`super::parse`], of bytes that begin as version 2 does.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header>, Fault> {
    let Some(&version_command) = bytes.get(SIGNATURE.len()) else {
        return Ok(None);
    };
    let is_local = match version_command {
        0x20 => true,
        0x21 => false,
        // "Receivers must drop connections presenting unexpected values here."
        _ => return Err(Fault::Command),
    };
    let Some(&family) = bytes.get(SIGNATURE.len() + 1) else {
        return Ok(None);
    };
    let address_bytes = match family {
        // "the receiver must ... discard the protocol block including the family which is ignored"
        _ if is_local => 0,
        0x00 => 0,
        0x11 => INET_BYTES,
        0x21 => INET6_BYTES,
        0x31 => UNIX_BYTES,
        _ => return Err(Fault::Family),
    };
    let Some(length) = bytes.get(14..).and_then(<[u8]>::first_chunk::<2>) else {
        return Ok(None);
    };
    let total = FIXED_BYTES + usize::from(u16::from_be_bytes(*length));
    if total > HEADER_BYTES_MAX {
        return Err(Fault::TooLong);
    }
    if total < FIXED_BYTES + address_bytes {
        return Err(Fault::TooShort);
    }
    let Some(header) = bytes.get(..total) else {
        return Ok(None);
    };
    let block = header.get(FIXED_BYTES..).unwrap_or_default();
    let source = match family {
        _ if is_local => Source::Peer,
        0x11 => inet(block).ok_or(Fault::TooShort)?,
        0x21 => inet6(block).ok_or(Fault::TooShort)?,
        0x31 => Source::Unix,
        _ => Source::Peer,
    };
    // Of a block from which nothing is taken nothing is asked.
    if source != Source::Peer {
        check_tlvs(header, FIXED_BYTES + address_bytes)?;
    }
    Ok(Some(Header { source, bytes: total }))
}

/// Source address, destination address, source port, destination port.
fn inet(block: &[u8]) -> Option<Source> {
    let from = Ipv4Addr::from(*block.first_chunk::<4>()?);
    let port = u16::from_be_bytes(*block.get(8..)?.first_chunk()?);
    Some(Source::Addr(SocketAddr::new(from.into(), port)))
}

fn inet6(block: &[u8]) -> Option<Source> {
    let from = Ipv6Addr::from(*block.first_chunk::<16>()?);
    let port = u16::from_be_bytes(*block.get(32..)?.first_chunk()?);
    Some(Source::Addr(SocketAddr::new(from.into(), port)))
}

/// Walks the TLVs that begin at `at`, and verifies the checksum if there is one (a receiver that can must).
fn check_tlvs(header: &[u8], mut at: usize) -> Result<(), Fault> {
    let mut checksum = None;
    while let Some(rest) = header.get(at..).filter(|rest| !rest.is_empty()) {
        let (&[kind, high, low], rest) = rest.split_first_chunk().ok_or(Fault::Tlv)?;
        let bytes = usize::from(u16::from_be_bytes([high, low]));
        let value = rest.get(..bytes).ok_or(Fault::Tlv)?;
        let begin = at + 3;
        at = begin + bytes;
        if kind == TLV_CRC32C {
            let sent: &[u8; 4] = value.try_into().map_err(|_| Fault::Tlv)?;
            if checksum.replace((begin, u32::from_be_bytes(*sent))).is_some() {
                return Err(Fault::Tlv);
            }
        }
    }
    let Some((begin, sent)) = checksum else { return Ok(()) };
    // The sum is of the whole header with the sum itself as zero.
    let own = begin..begin + 4;
    let zeroed = header
        .iter()
        .enumerate()
        .map(|(at, &byte)| if own.contains(&at) { 0 } else { byte });
    if crc32c(zeroed) == sent {
        Ok(())
    } else {
        Err(Fault::Checksum)
    }
}

/// CRC-32C (RFC 3720 appendix B.4). Bit by bit: it is computed once a connection, for those that send it.
pub(super) fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    let step = |crc: u32, byte: u8| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    };
    !bytes.fold(u32::MAX, step)
}
