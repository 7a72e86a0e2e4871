//! supervisor (see below).
