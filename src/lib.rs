//! Waypost, an MQTT broker.
pub mod cli;
pub mod codec;
pub mod config;
pub mod log;
pub mod node;
pub mod topic;
