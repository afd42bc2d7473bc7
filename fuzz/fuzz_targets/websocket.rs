//! Coverage-guided fuzzing of WebSocket: upgrade requests and frames. What is checked is `tests/doors_fuzz/body.rs`, which also runs bounded on stable.
//! `cargo fuzz run websocket` keeps what it learns in `fuzz/corpus/websocket`.

#![no_main]

#[path = "../../tests/doors_fuzz/body.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::websocket(data));
