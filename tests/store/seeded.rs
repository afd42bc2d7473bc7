//! What the tests of the store are worth: each of its checks is left out in turn, and one of them must notice.

use crate::crashes::crash_in_seed;
use crate::damage::a_record_in_another_place;
use crate::faults::fail_and_crash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use waypost::faults::{Fault, leave_out};

/// Says who notices.
fn notices(fault: Fault) -> Option<String> {
    leave_out(Some(fault));
    let found = catch_unwind(AssertUnwindSafe(|| {
        a_record_in_another_place()
            .err()
            .or_else(|| (1..400).find_map(|seed| crash_in_seed(seed).err().or_else(|| fail_and_crash(seed).err())))
    }));
    leave_out(None);
    found.unwrap_or_else(|_| Some("a panic".into()))
}

#[test]
fn every_check_that_is_left_out_is_missed() {
    let unnoticed: Vec<&Fault> = Fault::STORE.iter().filter(|fault| notices(**fault).is_none()).collect();
    assert!(unnoticed.is_empty(), "nobody notices without {unnoticed:?}");
}
