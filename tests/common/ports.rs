//! Requests to ports of any kind, and what the access log says of them.

use super::{PATIENCE, Server, until};
use rustix::net::{AddressFamily, SocketType};
use sonic_rs::JsonValueTrait;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// What `/health` answers.
pub const HEALTHY: &str = r#"{"status":"healthy"}"#;

/// A request after which the server closes, named `id` in the access log.
pub fn request(id: &str, fields: &str) -> String {
    format!("GET /health HTTP/1.1\r\nHost: t\r\nX-Request-ID: {id}\r\nConnection: close\r\n{fields}\r\n")
}

/// Sends `bytes` and reads to the end; a connection that the peer resets has ended, too.
pub fn exchange(mut stream: impl Read + Write, bytes: &[u8]) -> String {
    let mut got = Vec::new();
    // The server may close before it has all.
    let _ = stream.write_all(bytes);
    match stream.read_to_end(&mut got) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&got)),
    }
    String::from_utf8(got).unwrap()
}

/// A connection that comes from this address of the machine.
pub fn from(addr: &str, to: SocketAddr) -> TcpStream {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::new(addr.parse().unwrap(), 0)).unwrap();
    rustix::net::connect(&socket, &to).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A connection to this socket.
pub fn unix(path: &Path) -> std::io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Ok(stream)
}

/// The client that the access log names for a request; `-` for none.
pub fn logged(server: &Server, id: &str) -> String {
    let mut client = None;
    until("the request's line", || {
        let line = server.log.find(|line| line["request_id"].as_str() == Some(id));
        client = line.map(|line| line["client"].as_str().unwrap_or("-").to_owned());
        client.is_some()
    });
    client.unwrap()
}
