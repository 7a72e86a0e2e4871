//! The two handlers over the service's own `http/` on monoio: the engine alone differs.

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{ListenerOpts, TcpListener, TcpStream};
use peer_wire::Wire;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of a connection's read buffer: a request fits.
const READ_BYTES: usize = 4096;

async fn converse(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut wire = Wire::default();
    let (mut input, mut out) = (Vec::with_capacity(READ_BYTES), Vec::new());
    loop {
        let (read, buffer) = stream.read(input).await;
        input = buffer;
        if !matches!(read, Ok(n) if n > 0) {
            return;
        }
        let open = wire.answer(&input, &mut out);
        if !out.is_empty() {
            let (written, buffer) = stream.write_all(out).await;
            out = buffer;
            out.clear();
            if written.is_err() {
                return;
            }
        }
        if !open {
            return;
        }
        input.clear();
    }
}

async fn serve() -> std::io::Result<()> {
    let listener = TcpListener::bind_with_config(peer_common::address(), &ListenerOpts::new().backlog(1024))?;
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            monoio::spawn(converse(stream));
        }
    }
}

fn main() -> std::io::Result<()> {
    peer_wire::prepare();
    let mut ring = io_uring::IoUring::builder();
    // As shipped it takes half as much CPU time again.
    ring.setup_single_issuer().setup_defer_taskrun();
    monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .with_entries(4096)
        .uring_builder(ring)
        .build()?
        .block_on(serve())
}
