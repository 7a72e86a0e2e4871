//! The certificate that is served, and its replacement while serving.
//!
//! Files are read on a thread of their own, so that neither a worker nor the signals wait for a disk. The new settings
//! reach the workers as a value that each takes when it is told; connections that are there keep the old ones.

use crate::telemetry::metrics::Registry;
use crate::tls::{Loaded, TlsError, TlsFiles, load};
use rustls::ServerConfig;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use tokio::sync::watch;

/// What the workers make TLS connections with; none where they make none.
pub(super) type Settings = watch::Receiver<Option<Arc<ServerConfig>>>;

/// Has the files read again.
pub(super) struct Reloader(SyncSender<()>);

impl Reloader {
    /// Asks for it. What was asked and not begun yet is done once.
    pub(super) fn ask(&self) {
        match self.0.try_send(()) {
            Ok(()) | Err(TrySendError::Full(())) => {}
            Err(TrySendError::Disconnected(())) => {
                tracing::error!("the certificate cannot be read again: its thread is gone")
            }
        }
    }
}

/// Reads the files for the first time.
pub(super) fn first(files: &TlsFiles, registry: &Registry) -> Result<Loaded, TlsError> {
    let loaded = load(files, None)?;
    tell(&loaded, registry, "TLS");
    Ok(loaded)
}

/// Keeps what is loaded, and replaces it when asked to.
pub(super) fn keep(files: TlsFiles, loaded: Loaded, registry: Arc<Registry>) -> io::Result<(Reloader, Settings)> {
    let (settings, told) = watch::channel(Some(Arc::clone(&loaded.settings)));
    let (ask, asked) = sync_channel(1);
    std::thread::Builder::new().name("certificate".into()).spawn(move || {
        let mut loaded = loaded;
        while asked.recv().is_ok() {
            match load(&files, Some(&loaded)) {
                Ok(new) => {
                    tell(
                        &new,
                        &registry,
                        "TLS: the certificate was read again; new connections get it",
                    );
                    // Fails where no worker lives.
                    let _ = settings.send(Some(Arc::clone(&new.settings)));
                    loaded = new;
                }
                Err(error) => tracing::error!(
                    subject = loaded.facts.subject,
                    not_after = %loaded.facts.not_after,
                    "the certificate could not be read again, and the one before is kept: {error}"
                ),
            }
        }
    })?;
    Ok((Reloader(ask), told))
}

fn tell(loaded: &Loaded, registry: &Registry, message: &str) {
    let facts = &loaded.facts;
    registry.certificate_expires(facts.not_after.as_second());
    tracing::info!(
        subject = facts.subject,
        not_before = %facts.not_before,
        not_after = %facts.not_after,
        sha256 = facts.fingerprint,
        "{message}"
    );
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
}
