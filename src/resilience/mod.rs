//! resilience (see below).
