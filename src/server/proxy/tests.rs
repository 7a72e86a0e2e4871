use super::*;
use crate::limits::proxy::{HEADER_BYTES_MAX, LINE_BYTES_MAX};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

const LONGEST: &str =
    "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";

/// A header of version 2.
fn v2(version_command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let mut bytes = v2::SIGNATURE.to_vec();
    bytes.extend([version_command, family]);
    bytes.extend(u16::try_from(block.len()).unwrap().to_be_bytes());
    bytes.extend(block);
    bytes
}

fn inet_block() -> Vec<u8> {
    let mut block = vec![192, 0, 2, 7, 198, 51, 100, 1];
    block.extend(4321u16.to_be_bytes());
    block.extend(443u16.to_be_bytes());
    block
}

fn inet6_block() -> Vec<u8> {
    let mut block = "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets().to_vec();
    block.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
    block.extend(4321u16.to_be_bytes());
    block.extend(443u16.to_be_bytes());
    block
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
    bytes.extend(value);
    bytes
}

/// The header with its checksum, which must be its last TLV, put right.
fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
    let at = bytes.len() - 4;
    bytes[at..].fill(0);
    let sum = v2::crc32c(bytes.iter().copied());
    bytes[at..].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn addr(text: &str) -> Source {
    Source::Addr(text.parse().unwrap())
}

/// The verdict on the whole, checked to be the verdict however the bytes come, and to take the header and no more.
fn judge(bytes: &[u8]) -> Result<Option<Header>, Fault> {
    let whole = parse(bytes);
    let mut first = Ok(None);
    for end in 0..=bytes.len() {
        first = parse(&bytes[..end]);
        if first != Ok(None) {
            break;
        }
    }
    assert_eq!(first, whole, "{:?}", String::from_utf8_lossy(bytes));
    if let Ok(Some(header)) = whole {
        assert_eq!(parse(&bytes[..header.bytes]), whole);
        assert_eq!(parse(&bytes[..header.bytes - 1]), Ok(None));
        let mut longer = bytes.to_vec();
        longer.extend(b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(parse(&longer), whole);
    }
    whole
}

#[test]
fn lines_of_version_1() {
    for (line, source) in [
        ("PROXY TCP4 192.0.2.7 198.51.100.1 4321 443", addr("192.0.2.7:4321")),
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535",
            addr("255.255.255.255:65535"),
        ),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 0 0", addr("1.2.3.4:0")),
        (
            "PROXY TCP6 2001:db8::7 2001:db8::1 4321 443",
            addr("[2001:db8::7]:4321"),
        ),
        ("PROXY TCP6 2001:DB8:0:0:0:0:0:7 :: 1 2", addr("[2001:db8::7]:1")),
        ("PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2", addr("[::ffff:192.0.2.7]:1")),
        ("PROXY UNKNOWN", Source::Peer),
        ("PROXY UNKNOWN what ever\tstands \r here", Source::Peer),
    ] {
        let bytes = format!("{line}\r\n");
        let header = Header {
            source,
            bytes: bytes.len(),
        };
        assert_eq!(judge(bytes.as_bytes()), Ok(Some(header)), "{line}");
    }
    assert_eq!(LONGEST.len(), LINE_BYTES_MAX, "section 2.1 counts so");
    assert_eq!(judge(LONGEST.as_bytes()).unwrap().unwrap().bytes, LINE_BYTES_MAX);
}

#[test]
fn lines_that_are_none() {
    for line in [
        "PROXY ",
        "PROXY TCP4",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4321",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4321 443 ",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4321 443 1",
        "PROXY TCP4  192.0.2.7 198.51.100.1 4321 443",
        "PROXY  TCP4 192.0.2.7 198.51.100.1 4321 443",
        "PROXY TCP4\t192.0.2.7 198.51.100.1 4321 443",
        "PROXY TCP4 192.0.02.7 198.51.100.1 4321 443",
        "PROXY TCP4 192.0.2 198.51.100.1 4321 443",
        "PROXY TCP4 192.0.2.256 198.51.100.1 4321 443",
        "PROXY TCP4 192.0.2.7 198.51.100.1 04321 443",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4321 00",
        "PROXY TCP4 192.0.2.7 198.51.100.1 +4321 443",
        "PROXY TCP4 192.0.2.7 198.51.100.1 65536 443",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4321 -1",
        "PROXY TCP4 192.0.2.7 198.51.100.1  443",
        "PROXY TCP4 2001:db8::7 2001:db8::1 4321 443",
        "PROXY TCP6 192.0.2.7 198.51.100.1 4321 443",
        "PROXY TCP6 2001:db8::7%eth0 2001:db8::1 4321 443",
        "PROXY TCP6 [2001:db8::7] 2001:db8::1 4321 443",
        "PROXY TCP6 2001::db8::7 2001:db8::1 4321 443",
        "PROXY TCP6 2001:db8:00000::7 2001:db8::1 4321 443",
        "PROXY tcp4 192.0.2.7 198.51.100.1 4321 443",
        "PROXY TCP 192.0.2.7 198.51.100.1 4321 443",
        "PROXY UDP4 192.0.2.7 198.51.100.1 4321 443",
        "PROXY UNKNOWNS",
        "PROXY UNKNOWN\0",
    ] {
        assert_eq!(judge(format!("{line}\r\n").as_bytes()), Err(Fault::Line), "{line}");
    }
    assert_eq!(judge(b"PROXY UNKNOWN\n"), Ok(None), "a bare LF ends nothing");
    assert_eq!(judge(b"PROXY TCP4 \xff\r\n"), Err(Fault::Line));
    for other in [
        "GET / HTTP/1.1\r\n\r\n",
        "proxy UNKNOWN\r\n",
        "PRI * HTTP/2.0\r\n",
        "PROXY\r\n",
        "\r\n\r\nGET",
        " PROXY",
    ] {
        assert_eq!(judge(other.as_bytes()), Err(Fault::NotProxy), "{other:?}");
    }
    let endless = LONGEST.replace("65535\r\n", "655355\r\n");
    assert_eq!(judge(endless.as_bytes()), Err(Fault::LineTooLong));
}

#[test]
fn headers_of_version_2() {
    let unix = [vec![b'/'; 216], tlv(0x04, b"pad")].concat();
    let with_tlvs = [inet_block(), tlv(0x20, &[0; 300]), tlv(0x04, b""), tlv(0xea, b"vpce-1")].concat();
    let with_sum = summed(v2(
        0x21,
        0x11,
        &[inet_block(), tlv(0xe0, b"x"), tlv(0x03, &[0; 4])].concat(),
    ));
    for (bytes, source) in [
        (v2(0x21, 0x11, &inet_block()), addr("192.0.2.7:4321")),
        (v2(0x21, 0x21, &inet6_block()), addr("[2001:db8::7]:4321")),
        (v2(0x21, 0x31, &unix), Source::Unix),
        (v2(0x21, 0x11, &with_tlvs), addr("192.0.2.7:4321")),
        (with_sum, addr("192.0.2.7:4321")),
        (v2(0x21, 0x00, b""), Source::Peer),
        (v2(0x21, 0x00, b"whatever this is"), Source::Peer),
        (v2(0x20, 0x00, b""), Source::Peer),
        (v2(0x20, 0x11, &inet_block()), Source::Peer),
        (v2(0x20, 0x12, b"ignored"), Source::Peer),
        (v2(0x20, 0xff, b""), Source::Peer),
    ] {
        let header = Header {
            source,
            bytes: bytes.len(),
        };
        assert_eq!(judge(&bytes), Ok(Some(header)), "{bytes:02x?}");
    }
    // 9 bytes of the checksum's own test: RFC 3720 names it, catalogues give its check value.
    assert_eq!(v2::crc32c(b"123456789".iter().copied()), 0xe306_9283);
}

#[test]
fn headers_that_are_none() {
    let sum = |value: &[u8]| v2(0x21, 0x11, &[inet_block(), tlv(0x03, value)].concat());
    let twice = summed(v2(
        0x21,
        0x11,
        &[inet_block(), tlv(0x03, &[0; 4]), tlv(0x03, &[0; 4])].concat(),
    ));
    let mut wrong = summed(sum(&[0; 4]));
    wrong[16] ^= 1;
    for (bytes, fault) in [
        (v2(0x11, 0x11, &inet_block()), Fault::Command),
        (v2(0x31, 0x11, &inet_block()), Fault::Command),
        (v2(0x22, 0x11, &inet_block()), Fault::Command),
        (v2(0x2f, 0x00, b""), Fault::Command),
        (v2(0x21, 0x12, &inet_block()), Fault::Family),
        (v2(0x21, 0x22, &inet6_block()), Fault::Family),
        (v2(0x21, 0x32, &[0; 216]), Fault::Family),
        (v2(0x21, 0x10, &inet_block()), Fault::Family),
        (v2(0x21, 0x01, b""), Fault::Family),
        (v2(0x21, 0x41, b""), Fault::Family),
        (v2(0x21, 0x11, &inet_block()[..11]), Fault::TooShort),
        (v2(0x21, 0x21, &inet_block()), Fault::TooShort),
        (v2(0x21, 0x31, &[0; 215]), Fault::TooShort),
        (v2(0x21, 0x11, &[inet_block(), vec![4, 0]].concat()), Fault::Tlv),
        (v2(0x21, 0x11, &[inet_block(), vec![4, 0, 1]].concat()), Fault::Tlv),
        (
            v2(0x21, 0x11, &[inet_block(), vec![4, 0xff, 0xff, 0]].concat()),
            Fault::Tlv,
        ),
        (v2(0x21, 0x31, &[vec![0; 216], vec![4]].concat()), Fault::Tlv),
        (sum(b"123"), Fault::Tlv),
        (sum(b"12345"), Fault::Tlv),
        (twice, Fault::Tlv),
        (sum(b"1234"), Fault::Checksum),
        (wrong, Fault::Checksum),
        (v2(0x20, 0x00, &vec![0; HEADER_BYTES_MAX - 15]), Fault::TooLong),
    ] {
        assert_eq!(judge(&bytes), Err(fault), "{bytes:02x?}");
    }
    let greatest = v2(0x20, 0x00, &vec![0; HEADER_BYTES_MAX - 16]);
    assert_eq!(judge(&greatest).unwrap().unwrap().bytes, HEADER_BYTES_MAX);
    let mut other = v2(0x21, 0x11, &inet_block());
    other[11] = b'\r';
    assert_eq!(judge(&other), Err(Fault::NotProxy));
}

proptest! {
    #[test]
    fn any_bytes_get_one_verdict_however_they_come(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = judge(&bytes);
    }

    #[test]
    fn any_line_gets_one_verdict(words in "PROXY (TCP4|TCP6|UNKNOWN|x)?[ 0-9a-f.:\r]{0,110}(\r\n)?") {
        let verdict = judge(words.as_bytes());
        if words.len() >= LINE_BYTES_MAX {
            prop_assert_ne!(verdict, Ok(None), "it would be waited for without end");
        }
    }

    #[test]
    fn any_header_gets_one_verdict(
        command in prop::sample::select(vec![0x20u8, 0x21, 0x22]),
        family in prop::sample::select(vec![0u8, 0x11, 0x21, 0x31, 0x12]),
        block in prop::collection::vec(any::<u8>(), 0..400),
        cut in 0usize..500,
    ) {
        let bytes = v2(command, family, &block);
        let verdict = judge(&bytes);
        prop_assert_ne!(verdict, Ok(None), "it is whole");
        let _ = judge(&bytes[..cut.min(bytes.len())]);
    }

    #[test]
    fn what_is_written_is_read(from: u32, to: u32, ports: (u16, u16), from6: u128, to6: u128, sum: bool) {
        let (from, to) = (Ipv4Addr::from(from), Ipv4Addr::from(to));
        let source = Source::Addr(SocketAddr::new(from.into(), ports.0));
        let line = format!("PROXY TCP4 {from} {to} {} {}\r\n", ports.0, ports.1);
        prop_assert_eq!(judge(line.as_bytes()).unwrap().unwrap().source, source);
        let mut block = [from.octets(), to.octets()].concat();
        block.extend(ports.0.to_be_bytes());
        block.extend(ports.1.to_be_bytes());
        let mut bytes = v2(0x21, 0x11, &block);
        if sum {
            block.extend(tlv(0x03, &[0; 4]));
            bytes = summed(v2(0x21, 0x11, &block));
        }
        prop_assert_eq!(judge(&bytes).unwrap().unwrap().source, source);

        let (from, to) = (Ipv6Addr::from(from6), Ipv6Addr::from(to6));
        let source = Source::Addr(SocketAddr::new(from.into(), ports.0));
        let line = format!("PROXY TCP6 {from} {to} {} {}\r\n", ports.0, ports.1);
        prop_assert_eq!(judge(line.as_bytes()).unwrap().unwrap().source, source);
        let mut block = [from.octets(), to.octets()].concat();
        block.extend(ports.0.to_be_bytes());
        block.extend(ports.1.to_be_bytes());
        prop_assert_eq!(judge(&v2(0x21, 0x21, &block)).unwrap().unwrap().source, source);
    }
}

proptest! {
    #[test]
    fn any_bytes_keep_the_promises(bytes in proptest::collection::vec(any::<u8>(), 0..120), v2 in any::<bool>()) {
        super::check::header(&bytes);
        let start: &[u8] = if v2 { b"\r\n\r\n\0\r\nQUIT\n" } else { b"PROXY TCP4 1.2.3.4 " };
        super::check::header(&[start, &bytes].concat());
    }
}
