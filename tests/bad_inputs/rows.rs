//! Which rows are not played over every transport, and why.

use std::fs;
use std::path::Path;

/// Sections whose rows are about what Clients say: each is played over every transport or stands in [`NOT_OVER_ALL`].
const SAID_BY_CLIENTS: [char; 10] = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'k', 'l', 'm'];

/// Tests of those sections that are played over some transports only.
const NOT_OVER_ALL: [(&str, &str); 5] = [
    ("a15_close_frame", "it is about the Close frame, which only WebSocket has, alone and inside TLS"),
    ("a_log_says_how_much_it_leaves_out", "what the log leaves out is decided above the layers, by line and second"),
    ("g01_nothing_configured", "without a configuration there is one listener, and it speaks TCP alone"),
    ("g03_telling_users_apart", "it measures the time of hashing; layers add the same for each user, and noise"),
    ("g05_damaged_password_file", "the broker does not start, so that nobody comes to it"),
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
