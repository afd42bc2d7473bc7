//! Coverage-guided fuzzing of the rule files. What is checked is `tests/access_fuzz/body.rs`, which also runs bounded on stable.
//! `cargo fuzz run acl fuzz/corpus/acl config` adds what it learns to the first folder.

#![no_main]

#[path = "../../tests/access_fuzz/body.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::check(data));
