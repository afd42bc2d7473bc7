//! The grammar of Topic Names and Topic Filters, and the plain rule of which matches which.
//! It looks at strings and bytes only; who subscribed what lives elsewhere, and nothing here recurses.
//! Read `text.rs` for the characters that topics may hold.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use super::ReasonCode;

/// A Topic Filter whose grammar was found good, apart from its share name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriptionFilter<'a> {
    /// `g` of `$share/g/f`.
    pub share: Option<&'a str>,
    /// The whole filter, or `f` of `$share/g/f`.
    pub filter: &'a str,
}

/// How much of a Topic Name or Topic Filter there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicLimits {
    /// Levels, the parts between the slashes.
    pub levels_max: usize,
    /// Bytes; never more than 65,535 [MQTT-4.7.3-3].
    pub size_max: usize,
}

impl TopicLimits {
    /// As much as MQTT can express.
    pub const NONE: Self = Self { levels_max: usize::MAX, size_max: u16::MAX as usize };

    /// Whether a Topic Name, or a Topic Filter without `$share/` and its share name, keeps to them.
    #[inline]
    pub fn hold(&self, topic: &[u8]) -> bool {
        topic.len() <= self.size_max && memchr::memchr_iter(b'/', topic).count() < self.levels_max
    }
}

/// A Topic Name that somebody publishes to: not empty [MQTT-4.7.3-1], without wildcards [MQTT-4.7.0-1], and within the
/// limits. Otherwise the answer is [`ReasonCode::TopicNameInvalid`].
pub fn check_name(topic: &str, limits: TopicLimits) -> Result<(), ReasonCode> {
    let bytes = topic.as_bytes();
    let good = !bytes.is_empty()
        && bytes.len() <= usize::from(u16::MAX) // [MQTT-4.7.3-3]
        && memchr::memchr3(b'+', b'#', 0, bytes).is_none() // [MQTT-4.7.3-2]
        && limits.hold(bytes);
    if good { Ok(()) } else { Err(ReasonCode::TopicNameInvalid) }
}

/// A Topic Filter as a Client subscribes to it, `$share/` included. Otherwise the answer for this one filter is
/// [`ReasonCode::TopicFilterInvalid`].
///
/// The limits are for the filter itself, without `$share` and the share name.
pub fn check_filter(filter: &str, limits: TopicLimits) -> Result<SubscriptionFilter<'_>, ReasonCode> {
    let subscription = match filter.strip_prefix("$share/") {
        Some(rest) => split_share(rest)?,
        None if filter == "$share" => return Err(ReasonCode::TopicFilterInvalid),
        None => SubscriptionFilter { share: None, filter },
    };
    let bytes = subscription.filter.as_bytes();
    let good = !bytes.is_empty() // [MQTT-4.7.3-1]
        && filter.len() <= usize::from(u16::MAX) // [MQTT-4.7.3-3]
        && memchr::memchr(0, bytes).is_none() // [MQTT-4.7.3-2]
        && limits.hold(bytes)
        && wildcards_fill_levels(bytes);
    if good { Ok(subscription) } else { Err(ReasonCode::TopicFilterInvalid) }
}

/// Whether a message to `topic` goes to a subscription of `filter` (without its share name), byte by byte
/// [MQTT-4.7.3-4]. Linear in both; for one filter, or as the yardstick of anything faster.
pub fn filter_matches(filter: &[u8], topic: &[u8]) -> bool {
    // [MQTT-4.7.2-1] [MQTT-3.1.1: 4.7.2-1]
    if topic.first() == Some(&b'$') && matches!(filter.first(), Some(b'+' | b'#')) {
        return false;
    }
    let mut filter_levels = filter.split(|&byte| byte == b'/');
    let mut topic_levels = topic.split(|&byte| byte == b'/');
    loop {
        match (filter_levels.next(), topic_levels.next()) {
            (Some(b"#"), _) | (None, None) => return true, // also the parent: "a/#" matches "a"
            (Some(b"+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

/// `g/f` of `$share/g/f`: a share name [MQTT-4.8.2-1] that is a level without wildcards, then a filter [MQTT-4.8.2-2].
fn split_share(rest: &str) -> Result<SubscriptionFilter<'_>, ReasonCode> {
    match rest.split_once('/') {
        Some((share, filter)) if !share.is_empty() && !share.contains(['+', '#', '\0']) => {
            Ok(SubscriptionFilter { share: Some(share), filter })
        }
        _ => Err(ReasonCode::TopicFilterInvalid),
    }
}

/// `#` stands alone in the last level [MQTT-4.7.1-1], `+` alone in any [MQTT-4.7.1-2].
fn wildcards_fill_levels(filter: &[u8]) -> bool {
    let mut levels = filter.split(|&byte| byte == b'/').peekable();
    while let Some(level) = levels.next() {
        let good = match level {
            b"#" => levels.peek().is_none(),
            b"+" => true,
            _ => memchr::memchr2(b'+', b'#', level).is_none(),
        };
        if !good {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::ReasonCode::{TopicFilterInvalid, TopicNameInvalid};
    use super::{SubscriptionFilter, TopicLimits, check_filter, check_name, filter_matches};

    const fn levels(levels_max: usize) -> TopicLimits {
        TopicLimits { levels_max, ..TopicLimits::NONE }
    }

    #[test]
    fn names() {
        let longest = "a".repeat(65_535);
        for name in ["a", "/", "//", "$SYS/x", " ", "a/b/c/", "\u{feff}t", &longest] {
            assert_eq!(check_name(name, levels(4)), Ok(()), "{name}");
        }
        let too_long = "a".repeat(65_536);
        for name in ["", "+", "#", "a/+", "a#b", "a\0", "////", "a/b/c/d/e", &too_long] {
            assert_eq!(check_name(name, levels(4)), Err(TopicNameInvalid), "{name}");
        }
        let short = TopicLimits { size_max: 3, ..TopicLimits::NONE };
        assert_eq!((check_name("a/b", short), check_name("a/bc", short)), (Ok(()), Err(TopicNameInvalid)));
        assert!(check_filter("$share/group/a/b", short).is_ok() && check_filter("a/b/", short).is_err());
        assert_eq!(check_name("a", levels(0)), Err(TopicNameInvalid));
        assert_eq!(check_name(&"/".repeat(65_535), TopicLimits::NONE), Ok(()));
    }

    #[test]
    fn filters() {
        for filter in ["a", "#", "+", "+/+", "/", "a/#", "+/#", "/+/", "$share", "$shared/a", "$SYS/#"] {
            let expected = SubscriptionFilter { share: None, filter };
            let expected = if filter == "$share" { Err(TopicFilterInvalid) } else { Ok(expected) };
            assert_eq!(check_filter(filter, levels(3)), expected, "{filter}");
        }
        for filter in ["", "a/#/b", "a#", "+a", "a+/b", "##", "#/", "a\0", "a/b/c/d", "++", "#+", "a/+#"] {
            assert_eq!(check_filter(filter, levels(3)), Err(TopicFilterInvalid), "{filter}");
        }
        assert_eq!(check_filter(&"/".repeat(65_536), TopicLimits::NONE), Err(TopicFilterInvalid));
    }

    #[test]
    fn c12_shared_filters() {
        for (shared, share, filter) in [
            ("$share/g/f", "g", "f"),
            ("$share/g//", "g", "/"),
            ("$share/g/a/+/#", "g", "a/+/#"),
            ("$share/g h/#", "g h", "#"),
        ] {
            let expected = SubscriptionFilter { share: Some(share), filter };
            assert_eq!(check_filter(shared, levels(3)), Ok(expected), "{shared}");
        }
        for bad in [
            "$share",
            "$share/",
            "$share/g",
            "$share/g/",
            "$share//t",
            "$share/+/t",
            "$share/g#/t",
            "$share/g/a#",
            "$share/g/a/b/c/d",
        ] {
            assert_eq!(check_filter(bad, levels(3)), Err(TopicFilterInvalid), "{bad}");
        }
    }

    #[test]
    fn matching() {
        let matching = [
            ("a", "a"),
            ("a/b", "a/b"),
            ("+", "a"),
            ("+", ""),
            ("#", "a"),
            ("#", "a/b/c"),
            ("#", "/"),
            ("a/#", "a"),
            ("a/#", "a/"),
            ("a/#", "a/b/c"),
            ("a/+", "a/"),
            ("a/+/c", "a/b/c"),
            ("/+", "/a"),
            ("+/+", "/a"),
            ("+/+", "/"),
            ("/", "/"),
            ("//", "//"),
            ("+/b/#", "a/b"),
            ("$SYS/#", "$SYS/a"),
            ("$SYS/+", "$SYS/a"),
            ("$SYS/#", "$SYS"),
            ("a/$b", "a/$b"),
            ("a/+", "a/$b"),
            ("é/+", "é/a"),
        ];
        for (filter, topic) in matching {
            assert!(filter_matches(filter.as_bytes(), topic.as_bytes()), "{filter} {topic}");
        }
        let not_matching = [
            ("a", "A"),
            ("a", "a/"),
            ("a/", "a"),
            ("+", "a/b"),
            ("+", "/"),
            ("a/+", "a"),
            ("a/+", "a/b/c"),
            ("a/b", "a"),
            ("a", "b"),
            ("a/#", "ab"),
            ("#", "$SYS"),
            ("#", "$SYS/a"),
            ("+/a", "$SYS/a"),
            ("+", "$"),
            ("+/#", "$SYS/a"),
            ("/", "//"),
            ("t", "\u{feff}t"),
            ("é", "e\u{301}"),
        ];
        for (filter, topic) in not_matching {
            assert!(!filter_matches(filter.as_bytes(), topic.as_bytes()), "{filter} {topic}");
        }
    }
}
