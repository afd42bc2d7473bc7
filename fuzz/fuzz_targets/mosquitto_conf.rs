//! Coverage-guided fuzzing of the reader of mosquitto.conf. What is checked is `tests/mosquitto_conf/body.rs`, which also runs
//! bounded on stable. `cargo fuzz run mosquitto_conf fuzz/corpus/mosquitto_conf tests/mosquitto_conf` begins with the corpus.

#![no_main]

#[path = "../../tests/mosquitto_conf/body.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::check(data));
