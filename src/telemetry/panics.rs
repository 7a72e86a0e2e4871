//! Panics in the log: where, and with which words, so that what is logged of the request or the worker can be understood.

use std::panic::{self, PanicHookInfo};

/// Has every panic of this process logged from now on, before anybody catches it. What was said of panics before is still
/// said, on stderr, for those that come while there is no log.
pub fn log_them() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        say(info);
        before(info);
    }));
}

fn say(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)");
    let place = info.location().map(ToString::to_string);
    tracing::error!(message_of_panic = message, place, "panicked");
}
