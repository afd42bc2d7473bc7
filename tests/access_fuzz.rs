//! The fuzz target of the rule files, bounded and on stable: the shipped example, files of both forms, and mutations of them.
//! It finds less than the target, but it runs every time. `SEED=… CASES=… cargo test --test access_fuzz` repeats or extends a run.

#[path = "access_fuzz/body.rs"]
mod body;
#[path = "support/random.rs"]
#[allow(unreachable_pub, reason = "other test programs share it")]
mod random;

use random::{Random, from_environment, mutate_text};
use std::panic::{AssertUnwindSafe, catch_unwind};

const MOSQUITTO: &str = "# comment\r\ntopic read $SYS/#\nuser Dr. No\ntopic  write a b/+\ntopic deny a/#\n\nuser u\ntopic x/+/#\npattern readwrite dev/%c/#\npattern deny %u-%c/+\n";
const NATIVE: &str = include_str!("../config/acl.toml");

/// What the languages are made of.
const WORDS: &[&str] = &[
    "topic ",
    "user ",
    "pattern ",
    "read ",
    "deny ",
    "readwrite ",
    "\n",
    "\r\n",
    " ",
    "\t",
    "#",
    "+",
    "/",
    "%c",
    "%u",
    "%",
    "$SYS",
    "$share/g/",
    "a",
    "\u{feff}",
    "é",
    "\0",
    "[user.u]\n",
    "[role.r]\n",
    "[everyone]\n",
    "allow = ",
    "deny = ",
    "{ all = \"a/#\" }",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "\"\"\"",
    "publish",
    "subscribe",
    " = ",
    ",",
    "qos_max = 3",
    "rate = -1",
    "retain = 1",
    "address = \"10.0.0.0/8\"",
    "::1/129",
    "roles = [\"r\"]",
    "users = [1]",
    "1e999",
    "0x",
    ".",
    "\\u0000",
    "\u{202e}",
];

#[test]
fn any_rule_file_is_read_or_refused() {
    let seed = from_environment("SEED", 1);
    let cases = from_environment("CASES", 6_000);
    let mut random = Random(seed);
    for (choice, text) in [(0, MOSQUITTO), (1, NATIVE), (0, NATIVE), (1, MOSQUITTO)] {
        check(&[&[choice], text.as_bytes()].concat(), "a whole file");
    }
    for _ in 0..cases {
        let choice = random.below(2) as u8;
        let mut data = match random.below(3) {
            0 => Vec::new(),
            _ if choice == 0 => MOSQUITTO.as_bytes().to_vec(),
            _ => {
                let begin = random.below(NATIVE.len());
                NATIVE.bytes().skip(begin).take(600).collect()
            }
        };
        for _ in 0..1 + random.below(12) {
            mutate_text(&mut data, &mut random, WORDS);
        }
        data.insert(0, choice);
        check(&data, &format!("SEED={seed}"));
    }
}

/// Says which file broke the promise.
fn check(data: &[u8], whence: &str) {
    if catch_unwind(AssertUnwindSafe(|| body::check(data))).is_err() {
        panic!("{whence} broke a promise: {:?}", String::from_utf8_lossy(data));
    }
}

/// What a file can contain more of than anybody would write by hand takes no more time or stack than its size warrants.
#[test]
fn huge_and_deep_files_are_taken_in_stride() {
    let deep = format!("1{}", "[".repeat(50_000));
    check(deep.as_bytes(), "brackets");
    let nested = format!("1x = {}", "{a=".repeat(20_000));
    check(nested.as_bytes(), "tables");
    let long = format!("0topic read {}\n", "a/".repeat(40_000));
    check(long.as_bytes(), "levels");
    let many: String = (0..20_000).map(|number| format!("pattern read {number}-%c/+/#\n")).collect();
    check(format!("0{many}").as_bytes(), "patterns");
}
