//! Which rows there are, which of them are not played over every transport, and why.

use std::fs;
use std::path::Path;

/// Sections whose rows are about what Clients say: each is played over every transport or stands in [`NOT_OVER_ALL`].
const SAID_BY_CLIENTS: [char; 10] = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'k', 'l', 'm'];

/// Tests of those sections that are played over some transports only.
const NOT_OVER_ALL: [(&str, &str); 10] = [
    ("a15_close_frame", "it is about the Close frame, which only WebSocket has, alone and inside TLS"),
    ("a_log_says_how_much_it_leaves_out", "what the log leaves out is decided above the layers, by line and second"),
    ("g01_nothing_configured", "without a configuration there is one listener, and it speaks TCP alone"),
    ("g03_telling_users_apart", "it measures the time of hashing; layers add the same for each user, and noise"),
    ("g05_damaged_password_file", "the broker does not start, so that nobody comes to it"),
    ("k05_clean_start_frees_the_disk", ON_THE_DISK),
    ("k07_slow_resume_after_a_restart", ON_THE_DISK),
    ("k11_takeover_while_the_disk_writes", ON_THE_DISK),
    ("m01_what_is_refused_takes_no_disk", ON_THE_DISK),
    ("m07_expired_takes_no_disk", ON_THE_DISK),
];

const ON_THE_DISK: &str =
    "it is about what is on the disk, which knows nothing of layers; the rest of the row is over all of them";

/// Sections of which every row is played, and how many rows each has on the page.
const WHOLE_SECTIONS: [(char, usize); 6] = [('k', 14), ('l', 7), ('m', 9), ('n', 19), ('t', 11), ('v', 14)];

/// Rows of those sections that nobody plays.
const NOT_PLAYED: [(&str, &str); 1] = [("k14", "there is no administration yet that can kick a Client")];

/// What rows say of a disk, where that is a test of its own.
const DISK_HALVES: [&str; 8] = [
    "k05_clean_start_frees_the_disk",
    "k06_expiry_over_a_restart",
    "k07_slow_resume_after_a_restart",
    "k09_session_present_after_a_loss",
    "k11_takeover_while_the_disk_writes",
    "l07_what_survives_a_shutdown",
    "m01_what_is_refused_takes_no_disk",
    "m07_expired_takes_no_disk",
];

/// The lists of the macros make the tests for every transport; a bare `#[test]` is over what it says itself.
#[test]
fn each_row_is_played_over_every_transport_or_says_why_not() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_inputs");
    let mut alone = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is part of the repository") {
        let path = entry.expect("the folder can be read").path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let is_section = name.split_once('_').is_some_and(|(letter, _)| letter.len() == 1);
        let is_said_by_clients = is_section && name.starts_with(SAID_BY_CLIENTS);
        if !is_said_by_clients && !matches!(name.as_str(), "authenticating" | "corpus") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("the file can be read");
        assert!(
            !text.contains("each_version_over_tcp!"),
            "{name}: its rows are about what Clients say: `each_version!`"
        );
        let tests = text.split("#[test]\nfn ").skip(1).filter_map(|rest| rest.split('(').next());
        alone.extend(tests.map(str::to_owned));
    }
    for row in &alone {
        let is_explained = NOT_OVER_ALL.iter().any(|(name, _)| name == row);
        assert!(
            is_explained,
            "{row} is played over TCP alone: put it into `only_v5!` or `each_transport!`, or into NOT_OVER_ALL with a reason"
        );
    }
    for (name, reason) in NOT_OVER_ALL {
        assert!(alone.iter().any(|row| row == name), "{name} is there no more, or over every transport: {reason}");
    }
}

/// A row counts when a test carries its number; those that stand elsewhere than here do as well. A function in a list that is made
/// into no test would not be used, and the build says so.
#[test]
fn each_row_is_played_by_a_test_of_its_name() {
    let text = all_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"));
    let is_there = |name: &str| ["fn ", "both!("].iter().any(|before| text.contains(&format!("{before}{name}")));
    for (section, rows) in WHOLE_SECTIONS {
        for number in 1..=rows {
            let row = format!("{section}{number:02}");
            let excused = NOT_PLAYED.iter().find(|(name, _)| *name == row);
            match excused {
                None => assert!(is_there(&format!("{row}_")), "{row} is played by no test of its name"),
                Some((_, reason)) => assert!(!is_there(&format!("{row}_")), "{row} is played after all: {reason}"),
            }
        }
    }
    for name in DISK_HALVES {
        assert!(is_there(&format!("{name}(")), "{name}, the disk's half of its row, is gone");
    }
}

/// The text of all tests.
fn all_below(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).expect("the folder is part of the repository") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            text += &all_below(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(&path).expect("the file can be read");
        }
    }
    text
}
