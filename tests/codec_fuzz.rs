//! The fuzz target of the codec, bounded and on stable: every file of the regression corpus, each also mutated, and
//! packets of a seeded generator. It finds less than the target, but it runs every time.
//! `SEED=… CASES=… cargo test --test codec_fuzz` repeats or extends a run.

#[path = "codec_fuzz/body.rs"]
mod body;
#[path = "support/grammar.rs"]
#[allow(unreachable_pub, reason = "other test programs share it")]
mod grammar;
#[path = "support/random.rs"]
#[allow(unreachable_pub, reason = "other test programs share it")]
mod random;

use random::{Random, from_environment};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

#[test]
fn every_file_of_the_corpus_and_its_mutations() {
    let corpus = corpus();
    assert!(corpus.len() >= 10, "the corpus is in tests/corpus/codec");
    for file in &corpus {
        check(file, "a file of the corpus");
    }
    let seed = from_environment("SEED", 1);
    let mut random = Random(seed);
    for _ in 0..from_environment("CASES", 20_000) {
        let mut data = corpus[random.below(corpus.len())].clone();
        for _ in 0..=random.below(3) {
            mutate(&mut data, &mut random);
        }
        check(&data, &format!("SEED={seed}"));
    }
}

#[test]
fn packets_of_the_generator() {
    let seed = from_environment("SEED", 1);
    let mut random = Random(seed);
    for _ in 0..from_environment("CASES", 60_000) {
        let data = generate(&mut random);
        check(&data, &format!("SEED={seed}"));
    }
}

/// Says which bytes broke the promise, ready to become a file of the corpus.
fn check(data: &[u8], whence: &str) {
    if catch_unwind(AssertUnwindSafe(|| body::check(data))).is_err() {
        panic!("{whence} broke a promise: {data:02x?}");
    }
}

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/codec");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("the corpus can be read")
        .map(|entry| entry.expect("an entry of the corpus").path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("a file of the corpus")).collect()
}

/// The first byte is an option of the check and not of the packet.
fn mutate(data: &mut Vec<u8>, random: &mut Random) {
    if let Some((&choice, packet)) = data.split_first() {
        let mut packet = packet.to_vec();
        grammar::mutate(&mut packet, random);
        *data = [&[choice ^ (u8::from(random.one_in(8)) << random.below(5))], &packet[..]].concat();
    }
}

/// A packet in which everything is likely right, and now and then something is not.
fn generate(random: &mut Random) -> Vec<u8> {
    let kind = 1 + random.below(15) as u8;
    let version = 3 + random.below(3) as u8;
    let by_server = matches!(kind, 2 | 9 | 11 | 13) || random.below(2) == 0 && !matches!(kind, 1 | 8 | 10 | 12);
    let choice = u8::from(by_server) | (version - 3) << 1 | random.byte() & 8;
    let mut packet = grammar::packet(kind, version, random);
    if random.one_in(4) {
        grammar::mutate(&mut packet, random);
    }
    packet.insert(0, choice);
    packet
}
