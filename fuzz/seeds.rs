//! Writes the first corpus of each target below the folder given: the rows of the conformance table, and some by hand.
//! What fuzzing found since is kept in `corpus/`; see README.md. `run` compiles this file by itself.

#[path = "../src/http/conformance/table.rs"]
mod table;

use std::path::Path;

const STORIES: &[&str] = &[
    r#"{"location":"San Francisco","style":"adventure"}"#,
    r#"{"location":"Rome","style":"mystery","length":"short","language":"en","interests":["food","trains"],"variation":7}"#,
    r#"{"location":{"lat":37.77493,"lng":-122.41942,"name":"home"},"length":"long"}"#,
    r#"{"location":{"latitude":-90,"longitude":180},"variation":2.0}"#,
    r#"{"location":"S\u00e3o Paulo","style":null,"interests":null,"x":[[{"y":[]}]]}"#,
    r#"{"location":"\ud83d\ude00 nowhere at all"}"#,
    r#"{"location":5}"#,
    r#"{"location":"x","style":"opera","length":"epic","interests":[1]}"#,
    "[]",
    "",
];
const QUERIES: &[&str] = &[
    "location=S%C3%A3o+Paulo&limit=5&flag&x=a=b&=v",
    "style=mystery&limit=100&cursor=c10192d1a5f0b57c3e8f6a0123456789ab",
    "limit=0&style=opera&cursor=c2",
    "a%26b=%3D%2B",
    "%E0%A4%A",
    "a+b%2Fc%20d",
];
const PROXIES: &[&[u8]] = &[
    b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\nGET / HTTP/1.1\r\n",
    b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n",
    b"PROXY UNKNOWN anything at all\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x01\xdc\x04\x01\xbb",
    b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x13\xc0\x00\x02\x01\xc6\x33\x64\x01\xdc\x04\x01\xbb\x03\x00\x04\0\0\0\0",
];
const FORWARDEDS: &[&str] = &[
    "0203.0.113.7, 10.0.0.2",
    "010.0.0.2\n198.51.100.9:80\n10.0.0.3",
    "1for=203.0.113.7;proto=https, for=10.0.0.2",
    "1for=\"[2001:db8::1]:47\";by=_x\nfor=unknown",
];
const ACCEPTS: &[&str] = &[
    "gzip, br;q=0.5, zstd;q=0, *;q=0.1",
    "identity;q=0, *;q=0",
    "text/html, application/json;q=0.9, */*;q=0.1\ntext/event-stream",
    "application/json; charset=\"utf-8\"",
];
const CONFIGS: &[&str] = &[
    "PORT=8080\nHOST=127.0.0.1\nWORKERS=2\nLOG_LEVEL=WARNING\nDATA_DIR=x",
    "ENVIRONMENT=production\nDATABASE_URL=postgresql+asyncpg://u:p@h:5432/n\nREDIS_URL=rediss://:p@h/0",
    "KEEP_ALIVE=75s\nHEAD_TIMEOUT=500ms\nCACHE_BYTES=64M\nADMIN_TOKEN=0123456789abcdef",
    "PORT=x\nWROKERS=2\nIO_DRIVER=kqueue\nHOST=[::1",
];

fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).expect("the folder of the corpora");
    let write = |target: &str, name: String, bytes: &[u8]| {
        let folder = Path::new(&folder).join(target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(name), bytes)
    };
    for (at, row) in table::rows().into_iter().enumerate() {
        // Long ones are one byte repeated, and slow.
        if row.input.len() > 1000 {
            continue;
        }
        assert!(!row.text.is_empty() && !row.answers.is_empty());
        write("head", format!("row-{at:03}"), &row.input)?;
        if let Some(body) = row
            .input
            .strip_prefix(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n")
        {
            write("chunked", format!("row-{at:03}"), body)?;
        }
        // Each network and each end in turn, with three pieces and pauses.
        let at_byte = at as u8;
        let schedule = [at_byte % 8, at_byte, at_byte / 8, 0, 0, 3, 5, 20, 1, 0, 17, 100];
        write(
            "connection",
            format!("row-{at:03}"),
            &[&schedule[..], &row.input].concat(),
        )?;
    }
    for (target, texts) in [("story", STORIES), ("query", QUERIES), ("config", CONFIGS)] {
        for (at, text) in texts.iter().enumerate() {
            write(target, format!("seed-{at}"), text.as_bytes())?;
        }
    }
    for (target, texts) in [("forwarded", FORWARDEDS), ("accept", ACCEPTS)] {
        for (at, text) in texts.iter().enumerate() {
            write(target, format!("seed-{at}"), text.as_bytes())?;
        }
    }
    for (at, bytes) in PROXIES.iter().enumerate() {
        write("proxy", format!("seed-{at}"), bytes)?;
    }
    for flags in 0..16u8 {
        let data = [&[flags, flags, 6, 5][..], b"id\r\nX: and a body of some length"].concat();
        write("response", format!("seed-{flags}"), &data)?;
    }
    Ok(())
}
