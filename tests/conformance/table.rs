//! The tables of statements: none is forgotten, and none is cited that does not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A row of `statements5.csv` or `statements311.csv`.
struct Statement {
    /// As the standard prints it, without `MQTT-`: `3.8.4-1`.
    number: String,
    paraphrase: String,
    /// Why there is no test; empty where there is one.
    excuse: String,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Standard {
    V5,
    V311,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance")
}

fn statements(standard: Standard) -> Vec<Statement> {
    let name = match standard {
        Standard::V5 => "statements5.csv",
        Standard::V311 => "statements311.csv",
    };
    let text = fs::read_to_string(folder().join(name)).expect("the tables lie beside this file");
    let mut rows = text.lines().map(fields);
    let header = rows.next().expect("a table has a header");
    assert_eq!(header, ["id", "section", "who", "paraphrase", "testable_on_server", "excuse"]);
    rows.map(|row| {
        let [id, _, _, paraphrase, _, excuse] = <[String; 6]>::try_from(row).expect("each row has six fields");
        let number = as_numbered(id.strip_prefix("MQTT-").expect("each id begins so"));
        Statement { number, paraphrase, excuse }
    })
    .collect()
}

/// One statement of 3.1.1 is printed as MQTT-3-8.3-4. Here it is 3.8.3-4.
fn as_numbered(printed: &str) -> String {
    printed.strip_prefix("3-8").map_or_else(|| printed.to_owned(), |rest| format!("3.8{rest}"))
}

/// The fields of a row, of which those with a comma stand in quotes.
fn fields(row: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut is_quoted = false;
    for character in row.chars() {
        match character {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(String::new()),
            other => fields.last_mut().expect("there is always one").push(other),
        }
    }
    fields
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("the folder can be listed").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The statements that have tests: of each name like `mqtt_3_8_4_1_…` its number.
fn tested() -> BTreeMap<(Standard, String), Vec<String>> {
    let mut tested: BTreeMap<_, Vec<String>> = BTreeMap::new();
    // Those about WebSocket need a socket.
    let transports = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transports");
    for path in rust_files(&folder()).into_iter().chain(rust_files(&transports)) {
        let source = fs::read_to_string(path).expect("a source file can be read");
        let code = source.lines().map(|line| line.split("//").next().unwrap_or_default());
        let words =
            code.flat_map(|line| line.split(|character: char| !character.is_alphanumeric() && character != '_'));
        for name in words {
            let (standard, rest) = match (name.strip_prefix("mqtt_"), name.strip_prefix("mqtt311_")) {
                (Some(rest), _) => (Standard::V5, rest),
                (_, Some(rest)) => (Standard::V311, rest),
                _ => continue,
            };
            let parts: Vec<&str> = rest.splitn(5, '_').collect();
            if let [chapter, section, part, number, _story] = parts[..]
                && [chapter, section, part, number].iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
            {
                let number = format!("{chapter}.{section}.{part}-{number}");
                tested.entry((standard, number)).or_default().push(name.to_owned());
            }
        }
    }
    tested
}

#[test]
fn each_statement_has_a_test_or_an_excuse() {
    let tested = tested();
    let mut faults = Vec::new();
    let mut known = BTreeSet::new();
    for standard in [Standard::V5, Standard::V311] {
        for Statement { number, paraphrase, excuse } in statements(standard) {
            let has_test = tested.contains_key(&(standard, number.clone()));
            match (has_test, excuse.is_empty()) {
                (false, true) => {
                    faults.push(format!("{standard:?} {number} has neither a test nor an excuse: {paraphrase}"))
                }
                (true, false) => faults.push(format!("{standard:?} {number} has a test and needs no excuse: {excuse}")),
                _ => {}
            }
            known.insert((standard, number));
        }
    }
    for ((standard, number), names) in &tested {
        if !known.contains(&(*standard, number.clone())) {
            faults.push(format!("{standard:?} {number} does not exist: {}", names.join(", ")));
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// The statements that a line cites: `[MQTT-3.8.4-1]`, or of 3.1.1 `[MQTT-3.1.1: 3.8.4-1]`.
fn citations(line: &str) -> Vec<(Standard, String)> {
    let after_bracket = line.split("[MQTT-").skip(1);
    let inner = after_bracket.filter_map(|rest| rest.split_once(']').map(|(inner, _)| inner));
    let numbered = inner.map(|inner| match inner.strip_prefix("3.1.1:") {
        Some(number) => (Standard::V311, as_numbered(number.trim())),
        None => (Standard::V5, inner.to_owned()),
    });
    numbered.collect()
}

#[test]
fn each_statement_cited_in_the_source_exists() {
    let known: BTreeSet<(Standard, String)> = [Standard::V5, Standard::V311]
        .into_iter()
        .flat_map(|standard| statements(standard).into_iter().map(move |statement| (standard, statement.number)))
        .collect();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut cited = BTreeSet::new();
    let mut faults = Vec::new();
    for path in rust_files(&source) {
        let text = fs::read_to_string(&path).expect("a source file can be read");
        for (place, line) in text.lines().enumerate() {
            for citation in citations(line) {
                if !known.contains(&citation) {
                    faults.push(format!(
                        "{}:{}: no statement {:?} {}",
                        path.display(),
                        place + 1,
                        citation.0,
                        citation.1
                    ));
                }
                cited.insert(citation);
            }
        }
    }
    let uncited: Vec<String> =
        known.difference(&cited).map(|(standard, number)| format!("{standard:?} {number}")).collect();
    // For whoever reads the output; nothing is wrong with a statement that nobody cites.
    #[expect(clippy::print_stderr, reason = "a list to look at, not a fault")]
    {
        eprintln!("{} statements cited, {} not: {}", cited.len(), uncited.len(), uncited.join(", "));
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn quotes_keep_the_commas_of_a_field_together() {
    assert_eq!(fields("a,\"b, c\",,d"), ["a", "b, c", "", "d"]);
}

#[test]
fn citations_of_both_standards_are_found() {
    let line = "// kept [MQTT-3.8.4-1], and before that [MQTT-3.1.1: 3.8.4-2]. Not this: [MQTT].";
    assert_eq!(citations(line), [(Standard::V5, "3.8.4-1".to_owned()), (Standard::V311, "3.8.4-2".to_owned())]);
}
