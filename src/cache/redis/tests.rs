//! One worker's Redis against scripted servers: what a real one hardly does on demand. `tests/redis.rs` has the real one.

use super::*;
use crate::backend::tests::run;
use crate::routes::LABELS;
use crate::runtime::time::{sleep, timeout};
use crate::telemetry::metrics::Registry;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server that answers each command as `answer` says: a connection's number, the command's words. `None`: silence.
fn serve(answer: impl Fn(usize, &[String]) -> Option<Vec<u8>> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for (number, taken) in listener.incoming().enumerate() {
            let (taken, answer) = (taken.unwrap(), Arc::clone(&answer));
            std::thread::spawn(move || talk(number, taken, &*answer));
        }
    });
    addr
}

type Script = dyn Fn(usize, &[String]) -> Option<Vec<u8>>;

fn talk(number: usize, mut stream: TcpStream, answer: &Script) {
    let mut received = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(bytes @ 1..) = stream.read(&mut piece) {
        received.extend_from_slice(&piece[..bytes]);
        // A command looks like a list of values, which our own reader knows.
        while let Ok(Some((Reply::Many(words), used))) = resp::read(&received) {
            received.drain(..used);
            let word = |reply: Reply| match reply {
                Reply::Bulk(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                other => panic!("{other:?}"),
            };
            let words: Vec<String> = words.into_iter().map(word).collect();
            match answer(number, &words) {
                Some(bytes) if bytes.is_empty() => return,
                Some(bytes) => drop(stream.write_all(&bytes)),
                None => {}
            }
        }
    }
}

/// What a plain server says to a greeting.
fn greeting(words: &[String]) -> Option<Vec<u8>> {
    Some(match words[0].as_str() {
        "HELLO" => b"%2\r\n+mode\r\n+standalone\r\n+role\r\n+master\r\n".to_vec(),
        "PING" => b"+PONG\r\n".to_vec(),
        "GET" => b"_\r\n".to_vec(),
        _ => b"+OK\r\n".to_vec(),
    })
}

fn plan(url: &str) -> Arc<Plan> {
    Plan::new(Settings {
        target: Target::parse(url).unwrap(),
        prefix: "t:".into(),
        ttl: Duration::from_secs(60),
        // Longer than in service: the machine may be busy, and a verdict must not hang on it.
        timeout: Duration::from_millis(500),
        connections_max: 1,
    })
    .unwrap()
}

fn start(url: &str) -> Rc<Redis> {
    let metrics = Rc::new(Registry::new(LABELS).worker(0));
    Redis::start(plan(url), "test".into(), metrics)
}

fn key() -> StoryKey {
    StoryKey::of_canonical(b"rome")
}

async fn until(what: &str, so: impl Fn() -> bool) {
    let wait = async {
        while !so() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("in vain waited for: {what}"));
}

#[test]
fn a_plain_server_is_greeted_once_and_asked() {
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let hears = Arc::clone(&heard);
    let addr = serve(move |_, words| {
        hears.lock().unwrap().push(words.join(" "));
        greeting(words)
    });
    run(async move {
        let redis = start(&format!("redis://app:pw@{addr}/3"));
        redis.ping().await.unwrap();
        assert_eq!(redis.find(&key()).await, Looked::Missing);
        assert!(matches!(redis.claim(&key()).await, Claim::Mine(_)));
        let figures = redis.figures();
        assert_eq!((figures.trouble, figures.connects, figures.misses), (None, 1, 1));
        assert_eq!(figures.role, "master");
    });
    let heard = heard.lock().unwrap();
    assert_eq!(
        heard[..4],
        ["HELLO 3 AUTH app pw SETNAME test", "SELECT 3", "PING", "PING"]
    );
    assert!(heard[4].starts_with("GET t:s:"), "{heard:?}");
    assert!(
        heard[5].starts_with("SET t:l:") && heard[5].ends_with("NX PX 10000"),
        "{heard:?}"
    );
}

#[test]
fn an_old_server_gets_the_older_commands() {
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let hears = Arc::clone(&heard);
    let addr = serve(move |_, words| {
        hears.lock().unwrap().push(words.join(" "));
        match words[0].as_str() {
            "HELLO" => Some(
                format!(
                    "-ERR unknown command `HELLO`, with args beginning with: `{}`\r\n",
                    words.join("` `")
                )
                .into(),
            ),
            _ => greeting(words),
        }
    });
    run(async move {
        start(&format!("redis://:pw@{addr}")).ping().await.unwrap();
    });
    let heard = heard.lock().unwrap();
    assert_eq!(heard[1..3], ["AUTH pw", "CLIENT SETNAME test"]);
}

#[test]
fn what_cannot_be_used_is_away_and_named_and_comes_back() {
    for (bad, fault) in [
        (
            "HELLO -WRONGPASS invalid username-password pair or user is disabled.\r\n",
            Fault::Auth,
        ),
        (
            "HELLO -NOAUTH HELLO must be called with the client already authenticated\r\n",
            Fault::Auth,
        ),
        ("HELLO %1\r\n+mode\r\n+cluster\r\n", Fault::Cluster),
        ("HELLO %1\r\n+mode\r\n+sentinel\r\n", Fault::Cluster),
        ("HELLO HTTP/1.1 400 Bad Request\r\n", Fault::Garbage),
        (
            "PING -LOADING Redis is loading the dataset in memory\r\n",
            Fault::Loading,
        ),
        ("PING -MASTERDOWN Link with MASTER is down\r\n", Fault::Busy),
        ("SELECT -ERR DB index is out of range\r\n", Fault::Other),
    ] {
        let (command, bytes) = bad.split_once(' ').unwrap();
        // The first three connections find the trouble, later ones do not.
        let addr = serve(move |number, words| {
            if number < 3 && words[0] == command {
                Some(bytes.into())
            } else {
                greeting(words)
            }
        });
        run(async move {
            let redis = start(&format!("redis://:pw@{addr}/1"));
            until(bad, || redis.figures().trouble == Some(fault)).await;
            assert_eq!(redis.find(&key()).await, Looked::Away);
            assert_eq!(redis.claim(&key()).await, Claim::Away);
            assert_eq!(redis.ping().await, Err(fault));
            until("the way back", || redis.figures().trouble.is_none()).await;
            assert_eq!(redis.find(&key()).await, Looked::Missing);
        });
    }
}

#[test]
fn errors_in_service_open_the_breaker_or_stop_writes() {
    for (code, outage) in [
        ("MOVED 1 h:1", true),
        ("LOADING x", true),
        ("NOAUTH x", true),
        ("NOPERM x", true),
        ("ERR x", false),
    ] {
        let addr = serve(move |number, words| match words[0].as_str() {
            "GET" if number == 0 => Some(format!("-{code}\r\n").into()),
            _ => greeting(words),
        });
        run(async move {
            let redis = start(&format!("redis://{addr}"));
            redis.ping().await.unwrap();
            assert_eq!(redis.find(&key()).await, Looked::Away, "{code}");
            if outage {
                until(code, || redis.figures().connects == 2).await;
                assert_eq!(redis.find(&key()).await, Looked::Missing, "{code}");
            } else {
                assert_eq!(redis.figures().trouble, None, "{code}");
            }
        });
    }
    for (code, fault) in [
        ("OOM command not allowed", Fault::Memory),
        ("MISCONF disk", Fault::Stopped),
        ("NOPERM x", Fault::Permission),
        ("READONLY x", Fault::ReadOnly),
    ] {
        let addr = serve(move |_, words| match words[0].as_str() {
            "SET" => Some(format!("-{code}\r\n").into()),
            _ => greeting(words),
        });
        run(async move {
            let redis = start(&format!("redis://{addr}"));
            redis.ping().await.unwrap();
            assert_eq!(redis.claim(&key()).await, Claim::Away, "{code}");
            // A read-only server is asked anew by its name, since another may have taken that over.
            let connects = 1 + u64::from(fault == Fault::ReadOnly);
            until(code, || {
                redis.figures().connects == connects && redis.figures().trouble.is_none()
            })
            .await;
            if fault != Fault::ReadOnly {
                assert_eq!(redis.figures().writes_off, Some(fault), "{code}");
            }
            assert_eq!(redis.find(&key()).await, Looked::Missing, "reads go on after {code}");
        });
    }
}

#[test]
fn a_silent_server_costs_each_lookup_its_time_until_the_breaker_opens() {
    let addr = serve(|number, words| match words[0].as_str() {
        "GET" if number == 0 => None,
        _ => greeting(words),
    });
    run(async move {
        let redis = start(&format!("redis://{addr}?socket_timeout=0.05"));
        redis.ping().await.unwrap();
        for _ in 0..limits::TIMEOUTS_IN_ROW {
            assert_eq!(redis.find(&key()).await, Looked::Away);
        }
        until("a new connection", || redis.figures().connects > 1).await;
    });
}

#[test]
fn a_lookup_whose_connection_is_lost_is_asked_again_on_the_next() {
    let addr = serve(|number, words| match words[0].as_str() {
        // Half an answer, and the end.
        "GET" if number == 0 => Some(Vec::new()),
        _ => greeting(words),
    });
    run(async move {
        let redis = start(&format!("redis://{addr}"));
        redis.ping().await.unwrap();
        // Long enough for the loss to count as an accident.
        sleep(Duration::from_millis(limits::STABLE_MS + 50)).await;
        assert_eq!(redis.find(&key()).await, Looked::Missing);
        assert_eq!(redis.figures().connects, 2);
    });
}

#[test]
fn values_that_are_no_stories_are_misses() {
    let id = uuid::Builder::from_unix_timestamp_millis(5, &[7; 10]).into_uuid();
    let bulk = |value: &[u8]| {
        let mut out = format!("${}\r\n", value.len()).into_bytes();
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
        out
    };
    let good = envelope::seal(&key(), id, 5, b"{}");
    let other = envelope::seal(&StoryKey::of_canonical(b"paris"), id, 5, b"{}");
    for (value, found) in [
        (bulk(&good), true),
        (bulk(&good[..good.len() - 1]), false),
        (bulk(&other), false),
        (bulk(b"pickled"), false),
        (bulk(b""), false),
        (bulk(&vec![0; limits::VALUE_BYTES_MAX + 1]), false),
        (
            b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n".to_vec(),
            false,
        ),
    ] {
        let addr = serve(move |_, words| match words[0].as_str() {
            "GET" => Some(value.clone()),
            _ => greeting(words),
        });
        run(async move {
            let redis = start(&format!("redis://{addr}"));
            redis.ping().await.unwrap();
            for _ in 0..2 {
                match redis.find(&key()).await {
                    Looked::Found(entry) => assert!(found && entry.id == id && entry.json == b"{}"),
                    looked => assert!(!found && looked == Looked::Missing, "{looked:?}"),
                }
            }
            assert_eq!(redis.figures().connects, 1);
        });
    }
}

#[test]
fn workers_beyond_the_connections_do_without() {
    let plan = plan("redis://cache");
    assert!(plan.has_room_for(0) && !plan.has_room_for(1));
}
