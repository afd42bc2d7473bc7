//! Coverage-guided fuzzing of the codec. What is checked is `tests/codec_fuzz/body.rs`, which also runs bounded on stable.
//! `cargo fuzz run codec fuzz/corpus/codec tests/corpus/codec` adds what it learns to the first folder.
//! An input that breaks a promise becomes a file of `tests/corpus/codec`, named after its fault.

#![no_main]

#[path = "../../tests/codec_fuzz/body.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::check(data));
