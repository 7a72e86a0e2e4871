//! Rows of input, answer, RFC section.
