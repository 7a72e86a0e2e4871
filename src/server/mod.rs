//! server (see below).
