//! What a token says about its bearer, and which topics it grants.
//! A token is small, so its filters are simply gone through. Whether it is genuine is known elsewhere.

use super::Coverage;
use super::rules::{PUBLISH, Question};
use crate::codec::{Moment, filter_matches};

/// What a token says about its bearer besides the name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Token {
    /// From then on the bearer is nobody: the Network Connection ends.
    pub expires_at: Option<Moment>,
    /// The only rights that the bearer has, less what the rules deny; `None`: those of its user name.
    pub grants: Option<Grants>,
    /// Groups of the rule files that the bearer belongs to, besides those that name it.
    pub groups: Box<[Box<str>]>,
}

/// Topic Filters that a token allows. One that is no valid filter matches nothing that is not spelt like it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    pub publish: Box<[Box<str>]>,
    /// To subscribe to, and to receive.
    pub subscribe: Box<[Box<str>]>,
}

impl Grants {
    fn filters(&self, question: &Question<'_>) -> &[Box<str>] {
        if question.rights == PUBLISH { &self.publish } else { &self.subscribe }
    }

    /// The first filter that grants a topic.
    pub(super) fn find(&self, question: &Question<'_>) -> Option<&str> {
        let mut filters = self.filters(question).iter().map(|filter| &**filter);
        filters.find(|filter| filter_matches(filter.as_bytes(), question.text))
    }

    /// How much of a filter is granted, and by which one.
    pub(super) fn share(&self, question: &Question<'_>) -> (Coverage, Option<&str>) {
        let filters = || self.filters(question).iter().map(|filter| &**filter);
        if let covering @ Some(_) = filters().find(|filter| covers(filter.as_bytes(), question.text)) {
            return (Coverage::Everything, covering);
        }
        match filters().find(|filter| overlaps(filter.as_bytes(), question.text)) {
            None => (Coverage::Nothing, None),
            overlapping => (Coverage::Part, overlapping),
        }
    }
}

/// Whether each topic that `filter` matches is matched by `wide`, too.
fn covers(wide: &[u8], filter: &[u8]) -> bool {
    if differ_by_dollar(wide, filter) {
        return false;
    }
    // Every topic has a first level.
    if wide == b"+/#" && filter == b"#" {
        return true;
    }
    let mut wide = wide.split(|&byte| byte == b'/');
    let mut levels = filter.split(|&byte| byte == b'/');
    loop {
        match (wide.next(), levels.next()) {
            (Some(b"#"), _) | (None, None) => return true,
            (Some(b"+"), Some(level)) if level != b"#" => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

/// Whether some topic is matched by both.
fn overlaps(one: &[u8], other: &[u8]) -> bool {
    if differ_by_dollar(one, other) {
        return false;
    }
    let mut one = one.split(|&byte| byte == b'/');
    let mut other = other.split(|&byte| byte == b'/');
    loop {
        match (one.next(), other.next()) {
            (Some(b"#"), _) | (_, Some(b"#")) | (None, None) => return true,
            (Some(b"+"), Some(_)) | (Some(_), Some(b"+")) => {}
            (Some(level), Some(same)) if level == same => {}
            _ => return false,
        }
    }
}

/// Wildcards in front do not match what begins with `$` [MQTT-4.7.2-1].
fn differ_by_dollar(one: &[u8], other: &[u8]) -> bool {
    let is_wild = |filter: &[u8]| matches!(filter.first(), Some(b'+' | b'#'));
    let has_dollar = |filter: &[u8]| filter.first() == Some(&b'$');
    is_wild(one) && has_dollar(other) || has_dollar(one) && is_wild(other)
}

#[cfg(test)]
mod tests {
    use super::{covers, overlaps};

    #[test]
    fn a_filter_lies_within_another() {
        for (wide, filter, within, overlapping) in [
            ("#", "#", true, true),
            ("#", "a/b", true, true),
            ("#", "$SYS/#", false, false),
            ("$SYS/#", "#", false, false),
            ("+/#", "#", true, true),
            ("a/#", "a", true, true),
            ("a/#", "a/+/c", true, true),
            ("a/+", "a/#", false, true),
            ("a/+/#", "a/#", false, true),
            ("a/+", "a/+", true, true),
            ("a/b", "a/+", false, true),
            ("a/b", "+/c", false, false),
            ("a", "a/+", false, false),
        ] {
            assert_eq!(covers(wide.as_bytes(), filter.as_bytes()), within, "{wide} covers {filter}");
            assert_eq!(overlaps(wide.as_bytes(), filter.as_bytes()), overlapping, "{wide} overlaps {filter}");
        }
    }
}
