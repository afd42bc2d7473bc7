//! A bounded number of logins that wait for the same thing: a turn to be hashed, an answer of a server.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A place among those who wait, given back when it is dropped.
pub(super) struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    /// `None`: too many wait already.
    pub(super) fn among(count: &'a AtomicUsize, max: usize) -> Option<Self> {
        let waiting = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < max).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
