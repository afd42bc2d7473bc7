//! Who is banned: users, Client Identifiers and networks, each for ever or until a moment.
//!
//! A ban is about somebody and not about a topic, so nothing allows what it takes. Whoever it is about stays outside, and its
//! Session ends; that is the hall's work. A search takes as long as there are lengths of networks, however many bans there are.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use super::Identity;
use super::network::Network;
use super::rules::{Line, Named};
use core::net::IpAddr;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::collections::BTreeSet;

/// Whom a ban is about.
#[derive(Clone, Debug)]
pub(super) enum Banned {
    /// By the user name, whether it was proved or not.
    User(Box<str>),
    Client(Box<str>),
    Network(Network),
}

/// A ban as it stands in a file.
#[derive(Clone, Debug)]
pub(super) struct Ban {
    pub(super) file: u32,
    pub(super) line: Line,
    /// `None`: for ever.
    pub(super) until: Option<Until>,
    pub(super) reason: Option<Box<str>>,
}

/// When a ban ends.
#[derive(Clone, Debug)]
pub(super) struct Until {
    /// Since 1970.
    pub(super) unix_ms: u64,
    /// As the file has it.
    pub(super) written: Box<str>,
}

impl Ban {
    fn ends_ms(&self) -> u64 {
        self.until.as_ref().map_or(u64::MAX, |until| until.unix_ms)
    }
}

/// All bans of a set of files.
#[derive(Default)]
pub(super) struct Bans {
    /// In the order of the files.
    list: Vec<Ban>,
    /// For each name or network the ban that ends last.
    users: Named<usize>,
    clients: Named<usize>,
    networks: HashMap<Network, usize, RandomState>,
    /// The lengths of all networks, in bits.
    lengths: BTreeSet<u32>,
}

impl Bans {
    pub(super) fn add(&mut self, whom: Banned, ban: Ban) {
        let number = self.list.len();
        let ends_ms = ban.ends_ms();
        self.list.push(ban);
        let place = match whom {
            Banned::User(name) => self.users.entry(name).or_insert(number),
            Banned::Client(name) => self.clients.entry(name).or_insert(number),
            Banned::Network(network) => {
                self.lengths.insert(network.bits());
                self.networks.entry(network).or_insert(number)
            }
        };
        if self.list.get(*place).is_none_or(|other| other.ends_ms() < ends_ms) {
            *place = number;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// The ban that somebody is under at this time, in milliseconds since 1970.
    pub(super) fn find(&self, who: &Identity, unix_ms: u64) -> Option<&Ban> {
        let user = who.user_name.as_deref().and_then(|name| self.users.get(name));
        let client = self.clients.get(&*who.client_id);
        let holds = |number: &usize| self.list.get(*number).filter(|ban| ban.ends_ms() > unix_ms);
        let by_name = [user, client].into_iter().flatten().find_map(holds);
        by_name.or_else(|| self.find_network(who.address?, holds))
    }

    fn find_network<'a>(&'a self, address: IpAddr, holds: impl Fn(&usize) -> Option<&'a Ban>) -> Option<&'a Ban> {
        let networks = self.lengths.iter().filter_map(|bits| Network::around(address, *bits));
        networks.filter_map(|network| self.networks.get(&network)).find_map(holds)
    }
}

/// The moment that a date with its time and its distance from UTC is (RFC 3339), in milliseconds since 1970. What was before
/// counts as then; parts of a second are cut off. `None`: it is no such moment.
pub(super) fn unix_ms(written: &str) -> Option<u64> {
    let (date, rest) = written.split_once(['T', 't', ' '])?;
    let (time, offset_min) = match rest.strip_suffix(['Z', 'z']) {
        Some(time) => (time, 0),
        None => {
            let (time, offset) = rest.split_at_checked(rest.rfind(['+', '-'])?)?;
            let (hour, minute) = offset.get(1..)?.split_once(':')?;
            let minutes = number(hour, 2, 0, 23)?.saturating_mul(60).saturating_add(number(minute, 2, 0, 59)?);
            (time, if offset.starts_with('-') { minutes.saturating_neg() } else { minutes })
        }
    };
    let (year, date) = date.split_once('-')?;
    let (month, day) = date.split_once('-')?;
    let (year, month) = (number(year, 4, 0, 9999)?, number(month, 2, 1, 12)?);
    let day = number(day, 2, 1, days_of(year, month))?;
    let (time, part) = time.split_once('.').unwrap_or((time, "0"));
    if part.is_empty() || !part.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let (hour, time) = time.split_once(':')?;
    let (minute, second) = time.split_once(':')?;
    let (hour, minute) = (number(hour, 2, 0, 23)?, number(minute, 2, 0, 59)?);
    let second = number(second, 2, 0, 60)?; // 60: a leap second
    let hours = days_since_1970(year, month, day).saturating_mul(24).saturating_add(hour);
    let minutes = hours.saturating_mul(60).saturating_add(minute).saturating_sub(offset_min);
    let seconds = minutes.saturating_mul(60).saturating_add(second);
    Some(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000))
}

fn number(digits: &str, length: usize, least: i64, most: i64) -> Option<i64> {
    let is_number = digits.len() == length && digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|number| is_number && (least..=most).contains(number))
}

fn days_of(year: i64, month: i64) -> i64 {
    let next = match month {
        12 => days_since_1970(year.saturating_add(1), 1, 1),
        _ => days_since_1970(year, month.saturating_add(1), 1),
    };
    next.saturating_sub(days_since_1970(year, month, 1))
}

/// The years are made to begin in March, so that the day that comes and goes is the last of them; 719,468 days lie between
/// 1 March of the year 0 and 1 January 1970.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) =
        if month > 2 { (year, month.saturating_sub(3)) } else { (year.saturating_sub(1), month.saturating_add(9)) };
    let leap_days = year.div_euclid(4).saturating_sub(year.div_euclid(100)).saturating_add(year.div_euclid(400));
    let day_of_year = month.saturating_mul(153).saturating_add(2).div_euclid(5).saturating_add(day).saturating_sub(1);
    year.saturating_mul(365).saturating_add(leap_days).saturating_add(day_of_year).saturating_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::unix_ms;

    #[test]
    fn moments_are_counted_from_1970() {
        for (written, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59Z", 0),
            ("1970-03-01T00:00:00Z", 59 * 86_400),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2026-12-31T00:00:00z", 1_798_675_200),
            ("2000-03-01T00:00:00Z", 951_868_800),
            ("2026-11-22T15:30:00Z", 1_795_361_400),
            ("2026-11-22T16:30:00.75+01:00", 1_795_361_400),
            ("2026-11-22T10:00:00-05:30", 1_795_361_400),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
        ] {
            assert_eq!(unix_ms(written), Some(seconds * 1_000), "{written}");
        }
        for other in [
            "2026-11-22",
            "2026-11-22T15:30:00",
            "15:30:00Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-31T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T15:30Z",
            "2026-11-22T15:30:00.Z",
            "2026-11-22T15:30:00+1:00",
            "2026-11-22T+5:30:00Z",
            "",
            "never",
        ] {
            assert_eq!(unix_ms(other), None, "{other}");
        }
    }
}
