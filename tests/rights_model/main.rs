//! Users, rules, Sessions, retained Messages, Wills and time, driven by a seed: a model of them says for each step which
//! answers and deliveries must come, and fails on any other, and on one that is owed and does not come.
//!
//! A failure prints its seed; `SEED=123 cargo test --test rights_model` plays it again, `SEEDS=1000` runs that many and
//! `TALK=1` prints what happens. With the feature `seeded-faults` each of the broker's checks is left out in turn, and the
//! model has to notice.

#![expect(clippy::print_stdout, reason = "a seed has to be seen")]
#![expect(clippy::disallowed_methods, reason = "what is said over sockets has a deadline")]

#[path = "../support/mod.rs"]
mod support;

#[path = "../bad_inputs/broker.rs"]
#[allow(dead_code, reason = "made for another test crate, too")]
mod broker;
#[allow(unreachable_pub, reason = "the modules of one test crate")]
mod model;
#[path = "../support/port.rs"]
#[allow(unreachable_pub, reason = "other test programs share it")]
mod port;
#[path = "../support/random.rs"]
#[allow(unreachable_pub, reason = "the modules of one test crate")]
mod random;
#[allow(unreachable_pub, reason = "the modules of one test crate")]
mod rules;
#[allow(unreachable_pub, reason = "the modules of one test crate")]
mod stage;
#[path = "../bad_inputs/transport.rs"]
#[allow(dead_code, reason = "made for another test crate, too")]
mod transport;

use model::Model;

/// Runs in CI; each takes some milliseconds.
const SEEDS_DEFAULT: u64 = 150;
const STEPS: usize = 400;
/// Each takes about a second.
const SEEDS_OVER_SOCKETS: u64 = 8;
const STEPS_OVER_SOCKETS: usize = 250;

#[test]
fn nobody_gets_what_it_may_not_and_everybody_gets_what_it_may() {
    let mut done = model::Done::default();
    for seed in seeds(SEEDS_DEFAULT) {
        let shown = SeedOnPanic(seed);
        done.add(Model::new(seed).run(STEPS));
        drop(shown);
    }
    println!("{done:?}");
    assert!(done.delivered > 0 && done.denied > 0 && done.kept_back > 0, "the model did nothing at all: {done:?}");
}

/// The same against the built binary: real sockets, files that are written anew, SIGHUP. Time is not the test's to command, so
/// there are no delays, tokens and expiries here.
#[test]
fn the_built_broker_does_the_same_over_sockets() {
    let mut done = model::Done::default();
    for seed in seeds(SEEDS_OVER_SOCKETS) {
        let shown = SeedOnPanic(seed);
        done.add(Model::over_sockets(seed).run(STEPS_OVER_SOCKETS));
        drop(shown);
    }
    println!("over sockets: {done:?}");
    assert!(done.delivered > 0 && done.denied > 0, "the model did nothing at all: {done:?}");
}

fn seeds(default: u64) -> Vec<u64> {
    let number =
        |name| std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")));
    match number("SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("SEEDS").unwrap_or(default)).collect(),
    }
}

/// For `broker.rs`.
fn report(what: &str) {
    println!("{what}");
}

/// With `TALK` set, what happens is printed; for a look at a single seed.
fn talk(what: std::fmt::Arguments<'_>) {
    if std::env::var_os("TALK").is_some() {
        println!("{what}");
    }
}

struct SeedOnPanic(u64);

impl Drop for SeedOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("replay with: SEED={} cargo test --test rights_model", self.0);
        }
    }
}

/// Finds out what the tests are worth: with each check of the broker left out in turn, the model must fail.
#[cfg(feature = "seeded-faults")]
mod faults {
    use super::{Model, STEPS};
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use waypost::faults::{Fault, leave_out};

    thread_local! {
        /// Expected panics have nothing to say.
        static QUIET: Cell<bool> = const { Cell::new(false) };
    }

    /// Each fault must be found in one of so many.
    const SEEDS: u64 = 150;

    #[test]
    fn whichever_check_is_left_out_the_model_notices() {
        QUIET.set(true);
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                loud(panic)
            }
        }));
        let mut missed = Vec::new();
        for fault in Fault::ALL {
            leave_out(Some(*fault));
            let finds = |seed: &u64| catch_unwind(AssertUnwindSafe(|| Model::new(*seed).run(STEPS)));
            let found = (1..=SEEDS).find_map(|seed| finds(&seed).err().map(|why| (seed, why)));
            match found {
                Some((seed, why)) => {
                    let why = why.downcast_ref::<String>().cloned().unwrap_or_default();
                    println!("{fault:?}: found with seed {seed}: {}", why.lines().next().unwrap_or_default());
                }
                None => missed.push(*fault),
            }
        }
        leave_out(None);
        QUIET.set(false);
        assert!(missed.is_empty(), "not noticed in {SEEDS} seeds: {missed:?}");
    }
}
