//! Forebay: an edge gateway that reads sensors, judges readings, keeps them safe on disk and delivers each exactly once.
//!
//! Follow a reading by opening the files in this order: [`sources`] → [`ingest`] → [`judge`] → [`block`] → [`buffer`] →
//! [`delivery`] → [`sinks`]. ARCHITECTURE.md has the map and the invariants.

pub mod access;
pub mod anomaly;
pub mod app;
pub mod backoff;
pub mod block;
pub mod buffer;
pub mod certificate;
pub mod checks;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod decode;
pub mod delivery;
#[cfg(feature = "demo")]
pub mod demo;
pub mod fault;
pub mod history;
pub mod ingest;
pub mod judge;
pub mod logs;
pub mod reading;
pub mod secret;
pub mod selftest;
#[cfg(test)]
mod simulation;
pub mod sinks;
pub mod site;
pub mod sources;
pub mod status;
pub mod system;
pub mod tryout;
pub mod units;
pub mod verify;
pub mod web;
