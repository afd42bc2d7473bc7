//! Coverage-guided fuzzing of password files and SCRAM messages. What is checked is `tests/password_fuzz/body.rs`, which also runs
//! bounded on stable. `cargo fuzz run password` keeps what it learns in fuzz/corpus/password.

#![no_main]

#[path = "../../tests/password_fuzz/body.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::check(data));
