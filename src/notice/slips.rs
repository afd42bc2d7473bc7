//! Sentences about names and TOML that somebody got wrong: the nearest name, and the parser's faults in our words.
//! What is shown of a file is cut and escaped, and comparing names takes bounded time.

use super::Outside;

/// The name that was probably meant.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A name that is longer than any of ours is no slip of the pen, and comparing costs time.
    if name.len() > 80 {
        return None;
    }
    let near = |distance: usize, known: &str| distance * 5 <= name.len().max(known.len()) * 2;
    let size = name.chars().count();
    known
        .filter(|known| near(size.abs_diff(known.len()), known)) // at least so many letters are missing
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, nearest)| near(*distance, nearest))
        .map(|(_, nearest)| nearest)
}

/// How the parser calls a key that is there twice.
pub(crate) const DUPLICATE: &str = "duplicate key";

/// A fault of the parser in our words, with what stands there.
pub(crate) fn syntax(message: &str, found: &str) -> String {
    let found = found.lines().next().unwrap_or_default();
    let shown = Outside::of(found);
    match message {
        DUPLICATE => format!("duplicate key \"{shown}\"; each key may be set once"),
        _ if NO_VALUE.iter().any(|begin| message.starts_with(begin)) => match found {
            "" => "not TOML: the value is missing".to_owned(),
            _ => format!("not TOML: \"{shown}\" is no value; text needs quotation marks"),
        },
        _ if found.is_empty() => format!("not TOML: {}", Outside::of(message)),
        _ => format!("not TOML: {}, found \"{shown}\"", Outside::of(message)),
    }
}

/// How the parser begins when it finds something that is no value: often text without quotation marks.
const NO_VALUE: &[&str] =
    &["string values must be quoted", "missing value", "invalid value", "invalid float", "invalid boolean"];

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_nearest_name_is_near() {
        let known = ["receive_maximum", "in_flight_max", "level"];
        let nearest = |name| nearest(name, known.into_iter());
        assert_eq!(nearest("recieve_maximum"), Some("receive_maximum"));
        assert_eq!(nearest("in_flight"), Some("in_flight_max"));
        assert_eq!(nearest("lvl"), Some("level"));
        assert_eq!(nearest(""), None);
        assert_eq!(nearest("colour"), None);
        assert_eq!(nearest(&"level".repeat(1000)), None);
    }
}
