//! telemetry (see below).
