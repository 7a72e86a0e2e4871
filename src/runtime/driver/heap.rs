//! The allocator's own: memory that it keeps for later, given back to the system.
#![allow(unsafe_code)] // Reason: mimalloc has no safe name for it; see the SAFETY line.

/// Gives back what the calling thread's heap holds and nobody uses. Takes milliseconds where much has been freed.
pub fn give_back() {
    // SAFETY: mi_collect takes no memory of ours and may be called by any thread at any time; where mimalloc is not the
    // allocator of the process it finds nothing.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
