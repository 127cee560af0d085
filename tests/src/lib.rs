//! Harness and stories.
