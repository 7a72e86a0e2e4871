//! The way from a worker to a database or cache server: what the clients of PostgreSQL and of Redis have in common.
//!
//! [`dns`] turns a name into addresses off the worker; [`dial`] connects, with a deadline; [`tls`] encrypts what was
//! connected; [`backoff`] says how long to wait before the next attempt; [`secret`] keeps passwords out of logs.
//!
//! Called by `store::postgres` and `cache`, on a worker. Deliberately absent: pools (what a connection costs, and when
//! it may be shared, differs between the two), and protocols.

pub mod backoff;
pub mod dial;
pub mod dns;
pub mod secret;
pub mod tls;

#[cfg(test)]
pub(crate) mod tests {
    use crate::config::IoDriver;
    use crate::runtime::driver::choose;
    use crate::runtime::executor::Runtime;

    /// Runs a test on a worker's runtime, on whichever driver this kernel has.
    pub(crate) fn run<T: 'static>(test: impl Future<Output = T> + 'static) -> T {
        let (driver, _) = choose::open(IoDriver::Auto.into()).unwrap();
        Runtime::new(driver, 1).block_on(test).unwrap()
    }
}
