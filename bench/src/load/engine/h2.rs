//! One HTTP/2 connection and the streams on it, by the `h2` crate over the runtime's own sockets.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use roadtrip_api::runtime::context::precise_now_ns;
use roadtrip_api::runtime::executor::spawn_detached;
use roadtrip_api::runtime::time::{sleep, timeout};

use super::desk::{Desk, Flight};
use super::events::Events;
use super::h1::RETRY;
use super::reader::Heard;
use super::wire::{Wire, connect};
use crate::answer::Told;

/// Bytes that the server may send unasked, on a stream and on the connection: a load generator reads what comes.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 24;

/// A connection that its streams share; opened again by the stream that finds it gone.
pub(super) struct Trunk {
    sender: Option<SendRequest<Bytes>>,
    /// Counts the connections, so that one fault of a connection is met once.
    generation: u64,
    opening: bool,
}

impl Trunk {
    pub(super) fn new(sender: Option<SendRequest<Bytes>>) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            sender,
            generation: 0,
            opening: false,
        }))
    }
}

/// Opens a connection, and lets it run by itself.
///
/// # Errors
/// In words: no connection, or no HTTP/2 on it.
pub(super) async fn open(desk: &Desk) -> Result<SendRequest<Bytes>, String> {
    let job = &*desk.job;
    let wire: Wire = connect(job.address, job.tls.as_ref(), job.connect_limit).await?;
    let handshake = Builder::new()
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .enable_push(false)
        .handshake::<_, Bytes>(wire);
    let (sender, connection) = timeout(job.connect_limit, handshake)
        .await
        .map_err(|_| "connect: no HTTP/2 handshake in time".to_owned())?
        .map_err(|e| format!("HTTP/2: {e}"))?;
    spawn_detached("h2 connection", async move {
        // Its end shows in the streams on it, which book it.
        let _ = connection.await;
    });
    Ok(sender)
}

/// Serves one stream after the other until the load is over. `fresh` takes a connection for each.
pub(super) async fn serve(desk: Rc<Desk>, trunk: Rc<RefCell<Trunk>>, fresh: bool) {
    let slot = desk.slot();
    while let Some(due) = std::future::poll_fn(|cx| desk.poll_next(slot, cx)).await {
        let Some((mut flight, request, body)) = desk.draw_h2(due) else {
            desk.failed(None, |e| e.frame("a request that cannot be written"));
            continue;
        };
        let limit = desk.job.answer_limit.saturating_add(desk.job.connect_limit);
        let asked = async {
            let (sender, generation) = ready(&desk, &trunk).await?;
            flight.sent_ns = precise_now_ns();
            let answer = ask(sender, request, body, &mut flight);
            match timeout(desk.job.answer_limit, answer).await {
                Err(_) => Err::<Heard, Failure>((false, 0, String::new())),
                Ok(Err(e)) => Err((false, generation, format!("HTTP/2: {e}"))),
                Ok(Ok(heard)) => Ok(heard),
            }
        };
        let outcome = timeout(limit, asked)
            .await
            .unwrap_or_else(|_| Err((false, 0, String::new())));
        match outcome {
            Ok(heard) => {
                if fresh {
                    trunk.borrow_mut().sender = None;
                }
                if let Some(pause) = desk.answered(&flight, &heard) {
                    sleep(pause).await;
                }
            }
            Err((true, _, why)) => {
                desk.failed(Some(&flight), |e| e.connect(&why));
                sleep(RETRY).await;
            }
            Err((false, _, why)) if why.is_empty() => desk.failed(Some(&flight), |e| e.timeout()),
            Err((false, generation, why)) => {
                desk.failed(Some(&flight), |e| e.io(&why));
                // A stream's own end may leave the connection whole; a fresh one is sure to be.
                lose(&trunk, generation);
            }
        }
    }
}

/// Lets go of a connection, if nobody has opened another meanwhile.
fn lose(trunk: &RefCell<Trunk>, generation: u64) {
    let mut trunk = trunk.borrow_mut();
    if trunk.generation == generation {
        trunk.sender = None;
    }
}

/// Why a request came to nothing: whether for want of a connection, on which one, and in words; none for a time limit.
type Failure = (bool, u64, String);

/// A connection that takes another stream. One that the server has closed while it owed nothing is replaced without a word, as
/// on HTTP/1.1.
async fn ready(desk: &Desk, trunk: &RefCell<Trunk>) -> Result<(SendRequest<Bytes>, u64), Failure> {
    let mut tried = false;
    loop {
        let (sender, generation) = connected(desk, trunk).await.map_err(|why| (true, 0, why))?;
        match sender.ready().await {
            Ok(sender) => return Ok((sender, generation)),
            Err(e) if tried => return Err((false, generation, format!("HTTP/2: {e}"))),
            Err(_) => lose(trunk, generation),
        }
        tried = true;
    }
}

/// The connection, opened where it is gone.
async fn connected(desk: &Desk, trunk: &RefCell<Trunk>) -> Result<(SendRequest<Bytes>, u64), String> {
    loop {
        {
            let mut trunk = trunk.borrow_mut();
            if let Some(sender) = &trunk.sender {
                return Ok((sender.clone(), trunk.generation));
            }
            if !trunk.opening {
                trunk.opening = true;
                trunk.generation = trunk.generation.wrapping_add(1);
                let first = trunk.generation == 1 && desk.job.spawn_rate.is_some();
                if !first && !desk.job.short_lived {
                    let mut tally = desk.tally.borrow_mut();
                    tally.reconnects = tally.reconnects.saturating_add(1);
                }
                break;
            }
        }
        // Another stream is at it.
        sleep(std::time::Duration::from_millis(1)).await;
    }
    let _opening = Opening(trunk);
    let sender = open(desk).await?;
    let mut trunk = trunk.borrow_mut();
    trunk.sender = Some(sender.clone());
    Ok((sender, trunk.generation))
}

/// Says that nobody is opening any more, where the one who was is dropped by its time limit, too.
struct Opening<'t>(&'t RefCell<Trunk>);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if let Ok(mut trunk) = self.0.try_borrow_mut() {
            trunk.opening = false;
        }
    }
}

async fn ask(
    mut sender: SendRequest<Bytes>,
    request: http::Request<()>,
    body: Bytes,
    flight: &mut Flight,
) -> Result<Heard, h2::Error> {
    let (response, mut upload) = sender.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        upload.send_data(body, true)?;
    }
    let (head, mut incoming) = response.await?.into_parts();
    let told = head
        .headers
        .get("cache-status")
        .map_or(Told::Unsaid, |value| Told::read(value.as_bytes()));
    let (mut events, mut bytes) = (Events::default(), 0_u64);
    while let Some(data) = incoming.data().await {
        let data = data?;
        bytes = bytes.saturating_add(data.len() as u64);
        if flight.drawn.sse {
            events.feed(&data);
            if flight.first_event_ns.is_none() && events.count > 0 {
                flight.first_event_ns = Some(precise_now_ns());
            }
        }
        incoming.flow_control().release_capacity(data.len())?;
    }
    // Trailers, where there are some, end the answer.
    incoming.trailers().await?;
    Ok(Heard {
        status: head.status.as_u16(),
        close: false,
        told,
        bytes,
        events: events.count,
    })
}
