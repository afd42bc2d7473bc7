//! Guard benchmarks of rights and of the hall: instructions, counted by valgrind, with limits that fail the run. A figure in a
//! comment is for one of the many times that a case does its work. One program, since each is linked with everything in one
//! piece, which takes long.
//!
//! `integration/guards`, with `gungraun-runner` in `GUNGRAUN_RUNNER` or on the path. Some of them: `integration/guards '*fanout*'`;
//! two at a time: `GUNGRAUN_PARALLEL=2`. Profiles for `callgrind_annotate` are left in `target/gungraun`.

#![allow(unused_qualifications, reason = "gungraun's macros write them")]

mod access;
mod clients;
mod hall;
mod limits;
mod rules;

use access::decisions;
use gungraun::prelude::*;
use hall::{fanout_core, matches, qos1_cycle, subscribe_unsubscribe};

main!(library_benchmark_groups = [decisions, matches, subscribe_unsubscribe, fanout_core, qos1_cycle]);
