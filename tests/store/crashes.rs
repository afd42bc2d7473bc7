//! Crashes at every write boundary, with every kind of tear.

use crate::life::{History, crash_everywhere};
use crate::model::{Image, Lot};

/// States that a crash leaves, each of which is opened and compared, in each of the parts below.
const STATES: u64 = 25_000;

/// Lives and crashes. How many states were checked, or what is wrong.
pub(crate) fn crash_in_seed(seed: u64) -> Result<u64, String> {
    crash_everywhere(Image::default(), History::default(), None, &mut Lot::new(seed), 2)
        .map_err(|wrong| format!("seed {seed}: {wrong}"))
}

fn crash_in_part(part: u64) {
    let mut checked = 0;
    let mut seed = part << 32;
    while checked < STATES {
        seed += 1;
        checked += crash_in_seed(seed).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}

#[test]
fn whatever_a_crash_leaves_is_all_that_was_promised_part_1() {
    crash_in_part(1);
}

#[test]
fn whatever_a_crash_leaves_is_all_that_was_promised_part_2() {
    crash_in_part(2);
}

#[test]
fn whatever_a_crash_leaves_is_all_that_was_promised_part_3() {
    crash_in_part(3);
}

#[test]
fn whatever_a_crash_leaves_is_all_that_was_promised_part_4() {
    crash_in_part(4);
}
