//! What keeps a panic of redb from ending a thread or the process.
//!
//! redb takes its pages for what it wrote: over a page that something else overwrote it panics, in reads and writes as
//! well as where a table, a transaction or the database is dropped. Two rules follow. All work on the database runs
//! in [`contained`]. What may be dropped outside it, or while another panic unwinds (a second panic that leaves a
//! destructor then aborts the process), is held in [`Contained`].
//!
//! What this cannot contain: a commit that panics in redb's own list of freed pages, whose destructor goes on with the
//! work while the panic unwinds, and panics again. The process then aborts. Nothing answered is lost, since that commit
//! was not done, but a put after the restart may meet it again. In a test that overwrote a few random bytes of a small
//! file 10 400 times, it came twice; a whole page overwritten never led to it. Only a check of every page at start
//! would find it before, and that takes longer than a start may.

use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

#[cfg(test)]
thread_local! {
    /// How many [`contained`] are under way on this thread: their panics are expected.
    static DEPTH: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// redb panicked: the file was damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Panicked;

impl Panicked {
    /// For errors.
    pub(super) const DETAIL: &'static str = "its structure makes no sense";
}

/// Runs work on the database; a panic in it is damage, not a reason to die. The database must not be used afterwards,
/// only dropped: locks in it may be poisoned.
pub(super) fn contained<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    #[cfg(test)]
    DEPTH.set(DEPTH.get() + 1);
    let outcome = catch_unwind(AssertUnwindSafe(work)).map_err(|_| Panicked);
    #[cfg(test)]
    DEPTH.set(DEPTH.get() - 1);
    outcome
}

/// Something of redb's whose drop may panic, and must not be heard of.
pub(super) struct Contained<T> {
    /// Emptied by `into_inner` and `drop` alone, after which nobody holds it.
    inner: Option<T>,
    is_abandoned: bool,
}

impl<T> Contained<T> {
    pub(super) fn new(inner: T) -> Self {
        Contained {
            inner: Some(inner),
            is_abandoned: false,
        }
    }

    /// For a database: dropped as if a panic unwound, which redb takes as the word to write nothing more. Every commit
    /// of ours is whole without that, and over damage the write of a close may panic again in redb's own destructors,
    /// where nobody can catch it. Nor is a file called damaged at its opening written to.
    pub(super) fn abandoned(inner: T) -> Self {
        Contained {
            inner: Some(inner),
            is_abandoned: true,
        }
    }

    /// Gives it up, to be consumed within [`contained`].
    #[expect(
        clippy::expect_used,
        reason = "only here and in drop is it taken, and both end the holder"
    )]
    pub(super) fn into_inner(mut self) -> T {
        self.inner.take().expect("held until now")
    }
}

impl<T> Deref for Contained<T> {
    type Target = T;

    #[expect(clippy::expect_used, reason = "taken only by what ends the holder")]
    fn deref(&self) -> &T {
        self.inner.as_ref().expect("held")
    }
}

impl<T> DerefMut for Contained<T> {
    #[expect(clippy::expect_used, reason = "taken only by what ends the holder")]
    fn deref_mut(&mut self) -> &mut T {
        self.inner.as_mut().expect("held")
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else {
            return;
        };
        if self.is_abandoned {
            let _ = contained(move || {
                let _last = Contained::new(inner);
                // Runs no panic hook: nothing is printed.
                resume_unwind(Box::new(Panicked));
            });
        } else if contained(move || drop(inner)).is_err() {
            // Nothing is lost: what was answered had been committed, and the file is read from its last commit on.
            tracing::warn!("the story store's file is damaged: letting go of it failed");
        }
    }
}

/// For tests that damage files: panics that [`contained`] meets are not printed. Those of all else still are.
#[cfg(test)]
pub(super) fn hush_contained_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // The flag is gone on a thread that is ending; then nothing of ours runs.
            if DEPTH.try_with(std::cell::Cell::get).unwrap_or(0) == 0 {
                print(panic);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("meant");
        }
    }

    #[test]
    fn what_is_abandoned_is_dropped_as_if_a_panic_unwound() {
        struct Note<'a>(&'a std::cell::Cell<Option<bool>>);
        impl Drop for Note<'_> {
            fn drop(&mut self) {
                self.0.set(Some(std::thread::panicking()));
            }
        }
        let noted = std::cell::Cell::new(None);
        drop(Contained::abandoned(Note(&noted)));
        assert_eq!(noted.take(), Some(true));
        drop(Contained::new(Note(&noted)));
        assert_eq!(noted.take(), Some(false));
    }

    #[test]
    fn a_drop_that_panics_is_not_heard_of_not_even_while_another_panic_unwinds() {
        hush_contained_panics();
        drop(Contained::new(Bomb));
        drop(Contained::abandoned(Bomb));
        let unwound = contained(|| {
            let _held = Contained::new(Bomb);
            let _and = Contained::abandoned(Bomb);
            panic!("meant");
        });
        assert_eq!(unwound, Err(Panicked));
        assert_eq!(DEPTH.get(), 0);
        assert_eq!(contained(|| *Contained::new(7)), Ok(7));
        assert_eq!(Contained::new(8).into_inner(), 8);
    }
}
