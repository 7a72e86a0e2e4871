//! What the workers of one process share on the HTTP face: read often, written rarely.

use super::compress::Helper;
use crate::config::{Face, SecretToken};
use crate::resilience::memory::Pressure;
use crate::resilience::rate::Limiter;
use crate::runtime::topology::Topology;
use crate::telemetry::metrics::Registry;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

/// Where the process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Lifecycle {
    /// Not all workers serve yet.
    Starting = 0,
    /// Serving.
    Serving = 1,
    /// Told to end: readiness is 503, what is in flight is finished.
    Draining = 2,
}

/// A worker that holds its core for too long, as the watchdog saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// The worker's index.
    pub worker: u32,
    /// The task that holds the core.
    pub task: &'static str,
    /// For how long at least, seconds.
    pub seconds: u64,
}

/// Shared by the workers of one process.
#[derive(Debug)]
pub struct Process {
    lifecycle: AtomicU8,
    host: String,
    started: Instant,
    /// How the workers were laid out, and why.
    pub topology: Topology,
    /// The metrics of all workers.
    pub registry: Arc<Registry>,
    /// Opens the admin routes to callers that are not on loopback.
    pub admin_token: Option<SecretToken>,
    /// Which kind of store serves: "embedded" or "postgresql".
    pub store_kind: &'static str,
    /// Why the workers are on epoll, if they are and had wished for io_uring.
    fallback: Mutex<Option<String>>,
    /// Any stuck worker at all; the list is looked at only then.
    any_stuck: AtomicU8,
    stuck: Mutex<Vec<Stuck>>,
    face: OnceLock<Face>,
    /// How often clients may ask. To be set by [`Limiter::apply`], before the workers start and at any time after.
    pub rate: Arc<Limiter>,
    /// How short memory is; for health routes and scrapes, as workers are told otherwise.
    pub memory: Arc<Pressure>,
    /// Compresses what would hold a worker for too long.
    pub(super) helper: Helper,
}

impl Process {
    /// A process that starts.
    pub fn new(
        host: String,
        topology: Topology,
        registry: Arc<Registry>,
        admin_token: Option<SecretToken>,
        store_kind: &'static str,
    ) -> Arc<Process> {
        registry.lives.set_workers(topology.workers);
        Arc::new(Process {
            lifecycle: AtomicU8::new(Lifecycle::Starting as u8),
            host,
            started: Instant::now(),
            topology,
            registry,
            admin_token,
            store_kind,
            fallback: Mutex::new(None),
            any_stuck: AtomicU8::new(0),
            stuck: Mutex::new(Vec::new()),
            face: OnceLock::new(),
            rate: Arc::default(),
            memory: Arc::default(),
            helper: Helper::default(),
        })
    }

    /// Decides how the HTTP face looks; once, before the workers start.
    pub fn set_face(&self, face: Face) {
        let _ = self.face.set(face);
    }

    /// How the HTTP face looks.
    pub fn face(&self) -> Face {
        self.face.get().cloned().unwrap_or_default()
    }

    /// The name of a worker beyond this process: the pod's name and the worker's number.
    pub fn worker_id(&self, index: u32) -> String {
        format!("{}-{index}", self.host)
    }

    /// Where the process stands.
    pub fn lifecycle(&self) -> Lifecycle {
        match self.lifecycle.load(Ordering::Relaxed) {
            0 => Lifecycle::Starting,
            1 => Lifecycle::Serving,
            _ => Lifecycle::Draining,
        }
    }

    /// Moves on; never back.
    pub fn advance(&self, to: Lifecycle) {
        self.lifecycle.fetch_max(to as u8, Ordering::Relaxed);
    }

    /// Seconds since the process started.
    pub fn uptime_seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Remembers why io_uring was not to be had.
    pub fn note_fallback(&self, why: String) {
        *self.fallback.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(why);
    }

    /// See [`note_fallback`](Self::note_fallback).
    pub fn fallback(&self) -> Option<String> {
        self.fallback
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone()
    }

    /// The watchdog's findings, replacing its last.
    pub fn set_stuck(&self, stuck: Vec<Stuck>) {
        self.any_stuck.store(u8::from(!stuck.is_empty()), Ordering::Relaxed);
        *self.stuck.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = stuck;
    }

    /// The stuck workers; mostly none, which costs one load.
    pub fn stuck(&self) -> Vec<Stuck> {
        if self.any_stuck.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        self.stuck
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone()
    }
}
