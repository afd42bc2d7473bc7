//! The fuzz target of password files and SCRAM messages, bounded and on stable: sound ones, and mutations of them.
//! It finds less than the target, but it runs every time. `SEED=… CASES=… cargo test --test password_fuzz` repeats or extends a run.

#[path = "password_fuzz/body.rs"]
mod body;
#[path = "support/random.rs"]
#[allow(unreachable_pub, reason = "other test programs share it")]
mod random;

use random::{Random, from_environment, mutate_text};
use std::panic::{AssertUnwindSafe, catch_unwind};

const FILE: &str = "# users\n\
bob:$6$fQbfBvWDH8gQy/Ud$je3t8J0KkO12j+wvYqmGgKG10zVddQ3L35MkkiTGtZ0XnAelZ+IOqzOiK+AwaRCqpjUnhHpsbceAvu+bRuoO0g==\n\
alice:$7$101$/ZpjS0CLoqfMOfR9$RPM2QCFjzUPa/JJzPE8v+1dIWerCpTAI7vkGvG2q9jEemQKdwGWZUZ56f7I4yysddjt8nbpYPVJg0J31gWgmtA==\n\
carol:$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4\n\
user:$scram-sha-256$4096$W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=$wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n";
const MESSAGES: &str =
    "n,a=user,n=user,r=theirs,x=y\0c=biw9PXVzZXIs,r=theirsours,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

/// What files and messages are made of.
const WORDS: &[&str] = &[
    "\n",
    "\r\n",
    ":",
    "$",
    "$6$",
    "$7$",
    "$argon2id$",
    "$scram-sha-256$",
    "v=19",
    "v=16",
    "m=",
    "t=",
    "p=",
    ",",
    "=",
    "==",
    "0",
    "-1",
    "+1",
    "4294967296",
    "99999999999999999999",
    "AAAA",
    " ",
    "\t",
    "#",
    "é",
    "\0",
    "\u{202e}",
    "n,,",
    "y,,",
    "p=tls-unique,,",
    "a=",
    "n=",
    "r=",
    "c=",
    "c=biws",
    "=2C",
    "=3D",
    "=2c",
    "m=x",
    "ours",
];

#[test]
fn any_password_file_and_any_message_is_read_or_refused() {
    let seed = from_environment("SEED", 1);
    let cases = from_environment("CASES", 6_000);
    let mut random = Random(seed);
    for (choice, text) in [(0, FILE), (1, MESSAGES), (0, MESSAGES), (1, FILE)] {
        check(&[&[choice], text.as_bytes()].concat(), "a whole one");
    }
    for _ in 0..cases {
        let choice = random.below(2) as u8;
        let mut data = match (random.below(4), choice) {
            (0, _) => Vec::new(),
            (1, 0) => FILE.as_bytes().to_vec(),
            // One line of it.
            (_, 0) => FILE.lines().nth(1 + random.below(4)).expect("it has five").as_bytes().to_vec(),
            _ => MESSAGES.as_bytes().to_vec(),
        };
        for _ in 0..random.below(8) {
            mutate_text(&mut data, &mut random, WORDS);
        }
        data.insert(0, choice);
        check(&data, &format!("SEED={seed}"));
    }
}

/// Says which one broke the promise.
fn check(data: &[u8], whence: &str) {
    if catch_unwind(AssertUnwindSafe(|| body::check(data))).is_err() {
        panic!("{whence} broke a promise: {:?}", String::from_utf8_lossy(data));
    }
}

/// More of anything than anybody would write by hand takes no more time than its size warrants.
#[test]
fn huge_files_are_taken_in_stride() {
    let bob = FILE.lines().nth(1).expect("it has five").trim_start_matches("bob");
    let many: String = (0..20_000).map(|number| format!("user-{number}{bob}\n")).collect();
    check(format!("\0{many}").as_bytes(), "users");
    check(format!("\0{}", "\n".repeat(1 << 20)).as_bytes(), "blank lines");
    check(format!("\0alice:$6${}", "A".repeat(1 << 20)).as_bytes(), "salt");
    check(format!("\0{}:x", "a".repeat(1 << 20)).as_bytes(), "name");
    check(format!("\x01n,,n={},r=x", "=2C".repeat(1 << 18)).as_bytes(), "name of SCRAM");
}
