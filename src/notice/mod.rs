//! What may be told to the operator: strings of peers made safe to show, and how many lines of a class; and
//! counters of what happens seldom.
//! It writes nothing itself; `crate::log` does. Every room may use it, and it knows none of them.
//! Read `outside.rs` next.

mod limited;
mod outside;
mod slips;
mod tally;

pub use limited::{LINES_PER_SECOND_MAX, Limited, Permit};
pub use outside::{OUTSIDE_SIZE_MAX, Outside};
pub use tally::{Outcomes, Tally};

pub(crate) use outside::misleads;
pub(crate) use slips::{DUPLICATE, nearest, syntax};
