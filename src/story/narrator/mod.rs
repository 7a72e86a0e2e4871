//! The offline storyteller.
