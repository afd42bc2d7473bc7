//! The one way in which a guard benchmark gets its limit.

use gungraun::prelude::*;
use gungraun::{Callgrind, EventKind};

/// The most instructions that a case may take for one time, and how many times it does its work. One instruction more
/// than the product fails the run.
pub(crate) fn at_most(instructions: u64, times: u64) -> LibraryBenchmarkConfig {
    let mut config = LibraryBenchmarkConfig::default();
    let mut callgrind = Callgrind::with_args(["--cache-sim=no"]);
    callgrind.hard_limits([(EventKind::Ir, instructions * times)]);
    config.tool(callgrind);
    config
}
