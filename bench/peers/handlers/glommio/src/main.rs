//! The two handlers over the service's own `http/` on glommio: the engine alone differs.

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};
use peer_wire::Wire;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of a connection's read buffer: a request fits.
const READ_BYTES: usize = 4096;

async fn converse(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut wire = Wire::default();
    let (mut input, mut out) = (vec![0; READ_BYTES], Vec::new());
    while let Ok(n @ 1..) = stream.read(&mut input).await {
        let open = wire.answer(&input[..n], &mut out);
        if !out.is_empty() && stream.write_all(&out).await.is_err() {
            return;
        }
        out.clear();
        if !open {
            return;
        }
    }
}

async fn serve() -> Result<(), glommio::GlommioError<()>> {
    let listener = TcpListener::bind(peer_common::address())?;
    loop {
        if let Ok(stream) = listener.accept().await {
            glommio::spawn_local(converse(stream)).detach();
        }
    }
}

fn main() -> Result<(), glommio::GlommioError<()>> {
    peer_wire::prepare();
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .ring_depth(4096)
        .spawn(serve)?;
    executor.join()?
}
