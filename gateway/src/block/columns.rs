//! Columns of readings.
