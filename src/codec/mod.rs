//! Bytes to packets and back.
mod outside;

pub(crate) use outside::misleads;
pub use outside::{OUTSIDE_SIZE_MAX, Outside};
