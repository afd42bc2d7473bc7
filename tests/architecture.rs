//! The house rules of `src/lib.rs`, held by reading the source: imports run downwards, rooms on one floor do not know one
//! another, and below the doors nothing waits, reads a clock, opens a socket or starts a task.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Floor of each top-level module. Within the roof the order is the order of imports, lowest first.
const FLOORS: &[(&str, u32)] = &[
    ("codec", 0),
    ("notice", 0),
    ("faults", 0),
    ("files", 0),
    ("session", 1),
    ("topic", 1),
    ("access", 1),
    ("store", 1),
    ("broker", 2),
    ("net", 3),
    ("login", 3),
    ("admin", 4),
    ("log", 5),
    ("config", 5),
    ("acl", 5),
    ("node", 5),
    ("cli", 5),
    ("main", 5),
];

/// The roof sees everything; within it, too, imports run downwards.
const ROOF_ORDER: &[&str] = &["log", "config", "acl", "node", "cli", "main"];

/// What floors 0 to 2 must not contain, and what to do instead.
const FORBIDDEN_BELOW_THE_DOORS: &[(&str, &str)] = &[
    (".await", "return a value (an Action, a Step) and let the door await"),
    ("async fn", "return a value and let the door await"),
    ("Instant::now", "take the time as a parameter"),
    ("SystemTime", "take the time as a parameter"),
    ("tokio::", "the runtime belongs to the doors"),
    ("std::net::", "sockets belong to the doors"),
    ("TcpStream", "sockets belong to the doors"),
    ("thread::spawn", "threads belong to the doors"),
    ("spawn_local", "tasks belong to the doors"),
];

#[test]
fn imports_run_downwards() {
    let mut faults = Vec::new();
    for (path, module) in sources() {
        let text = code(&path);
        for imported in crate_paths(&text) {
            let (Some(here), Some(there)) = (floor(&module), floor(&imported)) else {
                faults.push(format!("{}: `crate::{imported}` is on no floor; add it to FLOORS in this test and to the map in src/lib.rs", path.display()));
                continue;
            };
            if imported == module {
                continue;
            }
            let fine = if here == 5 && there == 5 { roof(&imported) < roof(&module) } else { there < here };
            if !fine {
                let what =
                    if there == here { "rooms on one floor do not know one another" } else { "imports run downwards" };
                faults.push(format!(
                    "{}: `{module}` (floor {here}) imports `crate::{imported}` (floor {there}): {what}. Let the floor above introduce them, move the shared type to codec/, or return a value instead of calling up",
                    path.display()
                ));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn below_the_doors_nothing_waits_and_nothing_looks_at_a_clock() {
    let mut faults = Vec::new();
    for (path, module) in sources() {
        if floor(&module).is_none_or(|floor| floor > 2) {
            continue;
        }
        for (number, line) in code(&path).lines().enumerate() {
            for (word, instead) in FORBIDDEN_BELOW_THE_DOORS {
                if line.contains(word) {
                    faults.push(format!("{}:{}: `{word}` below the doors: {instead}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn no_room_has_a_cycle_of_files() {
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, module) in sources() {
        let own = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        for imported in crate_paths(&code(&path)) {
            if imported != module {
                imports.entry(module.clone()).or_default().insert(imported);
            }
        }
        assert!(!own.is_empty());
    }
    for start in imports.keys() {
        let mut seen = BTreeSet::new();
        let mut open: Vec<&String> = imports[start].iter().collect();
        while let Some(next) = open.pop() {
            assert_ne!(next, start, "`{start}` imports itself by way of others: cut the circle at its highest point");
            if seen.insert(next) {
                open.extend(imports.get(next).into_iter().flatten());
            }
        }
    }
}

#[test]
fn the_map_names_every_file_of_every_room() {
    let map = fs::read_to_string("src/lib.rs").expect("src/lib.rs is there");
    for (_, module) in sources() {
        assert!(map.contains(&module), "src/lib.rs, the map, does not mention `{module}`");
    }
}

/// Whatever reads what somebody outside has written.
const PARSERS: &[&str] = &[
    "src/access/filter.rs",
    "src/access/mosquitto.rs",
    "src/access/native.rs",
    "src/access/password.rs",
    "src/access/scram.rs",
    "src/access/trie.rs",
    "src/codec/auth.rs",
    "src/codec/connect.rs",
    "src/codec/disconnect.rs",
    "src/codec/header.rs",
    "src/codec/ping.rs",
    "src/codec/primitive.rs",
    "src/codec/properties.rs",
    "src/codec/publish.rs",
    "src/codec/reason_code.rs",
    "src/codec/subscribe.rs",
    "src/codec/text.rs",
    "src/codec/topic.rs",
    "src/codec/unsubscribe.rs",
    "src/config/mosquitto/lines.rs",
    "src/config/mosquitto/listener.rs",
    "src/config/mosquitto/translate.rs",
    "src/net/certificate.rs",
    "src/net/proxy.rs",
    "src/net/websocket.rs",
];

#[test]
fn no_parser_indexes_unwraps_or_overflows() {
    let rule = "#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]";
    for parser in PARSERS {
        let text = fs::read_to_string(parser).expect("the list names files that are there");
        assert!(text.contains(rule), "{parser} reads what comes from outside: give it the line\n{rule}");
    }
}

fn floor(module: &str) -> Option<u32> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

fn roof(module: &str) -> usize {
    ROOF_ORDER.iter().position(|name| *name == module).unwrap_or(usize::MAX)
}

/// Every source file with its top-level module.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the source is there").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && path != Path::new("src/lib.rs") {
                let module = path
                    .components()
                    .nth(1)
                    .map(|first| first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned())
                    .unwrap_or_default();
                found.push((path, module));
            }
        }
    }
    assert!(found.len() > 30, "the source is read from the root of the repository");
    found
}

/// The file without comments, and without its tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file can be read");
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The first name of each `crate::` (or, in main.rs, `waypost::`) path.
fn crate_paths(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for root in ["crate::", "waypost::"] {
        for (at, _) in text.match_indices(root) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|before| before.is_alphanumeric() || before == '_' || before == '"' || before == '$')
            {
                continue;
            }
            let name: String = text[at + root.len()..]
                .chars()
                .take_while(|letter| letter.is_ascii_lowercase() || *letter == '_')
                .collect();
            if !name.is_empty() {
                found.insert(name);
            } else if text[at + root.len()..].starts_with('{') {
                let inside = text[at + root.len() + 1..].split('}').next().unwrap_or_default();
                found.extend(
                    inside
                        .split(',')
                        .map(|part| part.trim().split("::").next().unwrap_or_default().to_owned())
                        .filter(|part| !part.is_empty()),
                );
            }
        }
    }
    found
}
