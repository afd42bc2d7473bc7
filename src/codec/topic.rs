//! The grammar of Topic Names and Topic Filters, and the plain rule of which matches which.
//! It looks at strings and bytes only; who subscribed what lives elsewhere, and nothing here recurses.
//! Read `text.rs` for the characters that topics may hold.

use super::ReasonCode;

/// A Topic Filter whose grammar was found good, apart from its share name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriptionFilter<'a> {
    /// `g` of `$share/g/f`.
    pub share: Option<&'a str>,
    /// The whole filter, or `f` of `$share/g/f`.
    pub filter: &'a str,
}

/// A Topic Name that somebody publishes to: not empty [MQTT-4.7.3-1], without wildcards [MQTT-4.7.0-1], and of at most
/// `levels_max` levels. Otherwise the answer is [`ReasonCode::TopicNameInvalid`].
pub fn check_name(topic: &str, levels_max: usize) -> Result<(), ReasonCode> {
    let bytes = topic.as_bytes();
    let good = !bytes.is_empty()
        && bytes.len() <= usize::from(u16::MAX) // [MQTT-4.7.3-3]
        && memchr::memchr3(b'+', b'#', 0, bytes).is_none() // [MQTT-4.7.3-2]
        && has_levels_up_to(bytes, levels_max);
    if good {
        Ok(())
    } else {
        Err(ReasonCode::TopicNameInvalid)
    }
}

/// A Topic Filter as a Client subscribes to it, `$share/` included. Otherwise the answer for this one filter is
/// [`ReasonCode::TopicFilterInvalid`].
///
/// `levels_max` counts the levels of the filter itself, without `$share` and the share name.
pub fn check_filter(filter: &str, levels_max: usize) -> Result<SubscriptionFilter<'_>, ReasonCode> {
    let subscription = match filter.strip_prefix("$share/") {
        Some(rest) => split_share(rest)?,
        None if filter == "$share" => return Err(ReasonCode::TopicFilterInvalid),
        None => SubscriptionFilter {
            share: None,
            filter,
        },
    };
    let bytes = subscription.filter.as_bytes();
    let good = !bytes.is_empty() // [MQTT-4.7.3-1]
        && filter.len() <= usize::from(u16::MAX) // [MQTT-4.7.3-3]
        && memchr::memchr(0, bytes).is_none() // [MQTT-4.7.3-2]
        && has_levels_up_to(bytes, levels_max)
        && wildcards_fill_levels(bytes);
    if good {
        Ok(subscription)
    } else {
        Err(ReasonCode::TopicFilterInvalid)
    }
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
            Ok(SubscriptionFilter {
                share: Some(share),
                filter,
            })
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

fn has_levels_up_to(topic: &[u8], levels_max: usize) -> bool {
    memchr::memchr_iter(b'/', topic).take(levels_max).count() < levels_max
}
