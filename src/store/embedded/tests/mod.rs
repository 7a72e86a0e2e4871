//! The embedded store under test: what it promises, how it fails, and how it comes back.

mod crash;
mod damage;
mod failures;
mod figures;
mod paging;
mod promises;

use super::*;
use crate::story::types::Style;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};

/// Any executor will do; this is the smallest.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Polls once, so that the message is on its way.
fn start<T>(future: &mut std::pin::Pin<Box<impl Future<Output = T> + ?Sized>>) -> Poll<T> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn id_at(created_ms: u64, random: u64) -> Uuid {
    Uuid::from_u128(u128::from(created_ms) << 80 | 7 << 76 | 0b10 << 62 | u128::from(random) & ((1 << 62) - 1))
}

fn record(created_ms: u64, random: u64, place: &str, style: Style) -> Record {
    let id = id_at(created_ms, random);
    Record {
        key: StoryKey::of_canonical(format!("{place}/{style}/{id}").as_bytes()),
        json: format!("{{\"id\":\"{id}\",\"location\":\"{place}\",\"style\":\"{style}\"}}").into_bytes(),
        id,
        location_key: place.to_owned(),
        style,
        created_ms,
    }
}

fn open(dir: &std::path::Path) -> Embedded {
    Embedded::open(Config::new(dir)).unwrap()
}

fn file_of(dir: &std::path::Path) -> PathBuf {
    dir.join(open::FILE_NAME)
}

fn close(store: Embedded) {
    store.close(Duration::from_secs(10)).unwrap();
}

/// A store whose file obeys the switches.
fn open_with_faults(config: Config) -> (Embedded, Arc<file::Faults>) {
    let faults = Arc::new(file::Faults::default());
    let engine = Engine::open_with(config, Arc::clone(&faults)).unwrap();
    (Embedded::open_engine(engine).unwrap(), faults)
}
