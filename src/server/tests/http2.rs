//! HTTP/2 over the simulated network: many streams of all manners.

use super::app::{pattern, pieces};
use super::{House, millis, secs, settings, simulate};
use crate::runtime::driver::sim::{SimConfig, run_seeds};
use crate::runtime::executor::spawn;
use crate::runtime::net::Stream;
use crate::runtime::time::{sleep, timeout};
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::{HeaderMap, Method, Request, Response};
use std::time::Duration;

/// What came back.
pub(super) struct Answer {
    pub(super) head: Response<()>,
    pub(super) body: Vec<u8>,
}

/// One request and its whole answer.
pub(super) async fn ask(
    send: &SendRequest<Bytes>,
    method: Method,
    path: &str,
    body: &[u8],
    pace: Duration,
) -> Result<Answer, h2::Error> {
    let request = Request::builder()
        .method(method)
        .uri(format!("http://test{path}"))
        .body(())
        .unwrap();
    let mut send = send.clone().ready().await?;
    let (response, mut upload) = send.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        // In pieces, the last of which may be the trailers.
        let (first, second) = body.split_at(body.len() / 2);
        upload.send_data(Bytes::copy_from_slice(first), false)?;
        if body.len().is_multiple_of(2) {
            upload.send_data(Bytes::copy_from_slice(second), true)?;
        } else {
            upload.send_data(Bytes::copy_from_slice(second), false)?;
            let mut trailers = HeaderMap::new();
            trailers.insert("x-checksum", "1".parse().unwrap());
            upload.send_trailers(trailers)?;
        }
    }
    let (head, mut incoming) = response.await?.into_parts();
    let mut body = Vec::new();
    while let Some(data) = incoming.data().await {
        let data = data?;
        body.extend_from_slice(&data);
        if !pace.is_zero() {
            sleep(pace).await;
        }
        incoming.flow_control().release_capacity(data.len())?;
    }
    Ok(Answer {
        head: Response::from_parts(head, ()),
        body,
    })
}

/// Asks for something of a random kind and checks the answer. False where there is none, which is right for some kinds.
async fn ask_any(send: SendRequest<Bytes>, n: u64, seed: u64, strict: bool) {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let bytes = if rng.u8(..8) == 0 { 60_000 } else { rng.usize(..4000) };
    let late = rng.usize(..300);
    let sent: &[u8] = pattern(n, bytes.max(1));
    let got: &[u8] = pattern(n, bytes);
    type Kind<'k> = (Method, String, &'k [u8], Option<(u16, Vec<u8>)>);
    let (method, path, body, want): Kind<'_> = match rng.u8(..12) {
        0 | 1 => (
            Method::GET,
            format!("/size/{n}/{bytes}"),
            b"",
            Some((200, got.to_vec())),
        ),
        2 => (Method::POST, format!("/echo/{n}"), sent, Some((200, sent.to_vec()))),
        3 => (
            Method::GET,
            format!("/later/{n}/{late}/{bytes}"),
            b"",
            Some((200, got.to_vec())),
        ),
        4 => (
            Method::POST,
            format!("/lateecho/{n}/{late}"),
            sent,
            Some((200, sent.to_vec())),
        ),
        5 => (
            Method::GET,
            format!("/events/{n}/5/{bytes}"),
            b"",
            Some((200, pieces(n, 5, bytes))),
        ),
        6 => (Method::GET, format!("/nothing/{n}"), b"", Some((204, vec![]))),
        7 => (Method::HEAD, format!("/size/{n}/{bytes}"), b"", Some((200, vec![]))),
        8 => (
            Method::GET,
            format!("/panic/{n}/10"),
            b"",
            Some((500, b"failed".to_vec())),
        ),
        9 => (
            Method::GET,
            format!("/latepanic/{n}/{late}"),
            b"",
            Some((500, b"failed".to_vec())),
        ),
        10 => (Method::GET, format!("/eventserror/{n}/2/{bytes}"), b"", None),
        _ => (Method::HEAD, format!("/events/{n}/5/{bytes}"), b"", Some((200, vec![]))),
    };
    let pace = if rng.u8(..5) == 0 {
        millis(rng.u64(..30))
    } else {
        Duration::ZERO
    };
    let asking = ask(&send, method.clone(), &path, body, pace);
    let answer = if rng.u8(..6) == 0 {
        // Cancelled, perhaps: dropping it resets the stream.
        match timeout(millis(rng.u64(..200)), asking).await {
            Ok(answer) => answer,
            Err(_) => return,
        }
    } else {
        asking.await
    };
    let (answer, (status, body)) = match (answer, want) {
        (Ok(answer), Some(want)) => (answer, want),
        (Ok(_), None) => panic!("{path}: whole, though it failed half way"),
        (Err(_), None) => return,
        (Err(error), Some(_)) => {
            assert!(!strict, "{method} {path}: {error}");
            return;
        }
    };
    assert_eq!(answer.head.status().as_u16(), status, "{path}");
    assert!(answer.body == body, "{path}: {} bytes", answer.body.len());
    let fields = answer.head.headers();
    for odd in ["connection", "keep-alive", "transfer-encoding"] {
        assert!(!fields.contains_key(odd), "{path}: {fields:?}");
    }
    if status == 200 && method != Method::HEAD && !path.starts_with("/events") {
        assert_eq!(fields["content-length"], body.len().to_string().as_str());
    }
}

/// A connection of a random manner, from its begin to its end.
async fn client(house: House, seed: u64, strict: bool) {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let Ok(stream) = Stream::connect(house.addr.clone()).await else {
        return;
    };
    let windows = [500, 5_000, 65_535, 1_000_000];
    let mut builder = Builder::new();
    builder
        .initial_window_size(windows[rng.usize(..4)])
        .max_frame_size(16_384);
    let (send, connection) = match builder.handshake::<_, Bytes>(stream).await {
        Ok(both) => both,
        Err(error) => return assert!(!strict, "{error}"),
    };
    let driving = spawn("h2 client", async move {
        let _ = connection.await;
    });
    let mut asks = Vec::new();
    for n in 0..rng.u64(..14) {
        asks.push(spawn("h2 ask", ask_any(send.clone(), n, rng.u64(..), strict)));
        if rng.u8(..3) == 0 {
            sleep(millis(rng.u64(..60))).await;
        }
    }
    match rng.u8(..6) {
        0 => {
            // Gone at some moment.
            sleep(millis(rng.u64(..400))).await;
            asks.iter().for_each(|ask| ask.abort());
            driving.abort();
        }
        1 => {
            // Idles until the server has enough of it.
            for ask in asks {
                ask.await.expect("an ask");
            }
            let _ = timeout(secs(60), driving).await.expect("the server keeps it for ever");
            drop(send);
        }
        _ => {
            for ask in asks {
                ask.await.expect("an ask");
            }
            drop(send);
            let _ = timeout(secs(60), driving).await.expect("the end");
        }
    }
}

fn crowd(seed: u64, config: SimConfig, strict: bool) {
    simulate(seed, config, settings(), secs(30), move |house| async move {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut clients = Vec::new();
        for _ in 0..rng.usize(1..5) {
            clients.push(spawn("client", client(house.clone(), rng.u64(..), strict)));
        }
        for client in clients {
            client.await.expect("a client");
        }
    });
}

#[test]
fn streams_on_a_calm_network() {
    run_seeds("streams_on_a_calm_network", 150, |seed| {
        crowd(seed, SimConfig::calm(), true)
    });
}

#[test]
fn streams_on_a_rough_network() {
    run_seeds("streams_on_a_rough_network", 150, |seed| {
        crowd(seed, SimConfig::rough(), true)
    });
}

#[test]
fn streams_on_a_hostile_network() {
    run_seeds("streams_on_a_hostile_network", 300, |seed| {
        crowd(seed, SimConfig::hostile(), false)
    });
}
