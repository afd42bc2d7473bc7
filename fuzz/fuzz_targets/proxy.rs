//! Coverage-guided fuzzing of the PROXY protocol. What is checked is `tests/doors_fuzz/body.rs`, which also runs bounded on stable.
//! `cargo fuzz run proxy` keeps what it learns in `fuzz/corpus/proxy`.

#![no_main]

#[path = "../../tests/doors_fuzz/body.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::proxy(data));
