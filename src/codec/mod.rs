//! Bytes to packets and back.
mod outside;

pub use outside::{OUTSIDE_SIZE_MAX, Outside};
pub(crate) use outside::misleads;
