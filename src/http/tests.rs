//! Properties over whole heads and bodies.
