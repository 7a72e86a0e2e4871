//! http (see below).
