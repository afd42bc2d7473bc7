//! Durations and byte sizes as text, there and back: `"1m30s"`, `"64KiB"`.
//! Nothing here knows a key or a bound, and no input makes it panic or overflow.
//! Read `kind.rs` next, which says what a key accepts.

use std::fmt;
use std::time::Duration;

/// Why a text is not a duration or a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotUnits {
    /// It is not of the form that is asked for.
    Form,
    /// A number without a unit.
    UnitMissing,
    /// More than 64 bits can hold.
    TooLarge,
}

/// Largest unit first, which is also the order in which they may follow one another.
const DURATION_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Powers of 1024 before powers of 1000, so that a size that is both is written in the former.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Reads `5s`, `1m30s`, `7d` or `250ms`: whole numbers with their units, larger units first, each once.
pub(super) fn read_duration(text: &str) -> Result<Duration, NotUnits> {
    let mut units = DURATION_UNITS.iter();
    let mut rest = text;
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let (number, unit, after) = number_and_unit(rest)?;
        if unit.is_empty() {
            return Err(if rest.len() == text.len() { NotUnits::UnitMissing } else { NotUnits::Form });
        }
        let (_, unit_ms) = units.by_ref().find(|(name, _)| *name == unit).ok_or(NotUnits::Form)?;
        let part = number?.checked_mul(*unit_ms).ok_or(NotUnits::TooLarge)?;
        total_ms = total_ms.checked_add(part).ok_or(NotUnits::TooLarge)?;
        rest = after;
    }
    if text.is_empty() { Err(NotUnits::Form) } else { Ok(Duration::from_millis(total_ms)) }
}

/// Reads `64KiB`, `8MB`, `12B` or `65536`.
pub(super) fn read_size(text: &str) -> Result<u64, NotUnits> {
    let (number, unit, after) = number_and_unit(text)?;
    if !after.is_empty() {
        return Err(NotUnits::Form);
    }
    let unit_size = match unit {
        "" => 1,
        _ => SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or(NotUnits::Form)?.1,
    };
    number?.checked_mul(unit_size).ok_or(NotUnits::TooLarge)
}

/// Splits `30s5ms` into 30, `s` and `5ms`.
fn number_and_unit(text: &str) -> Result<(Result<u64, NotUnits>, &str, &str), NotUnits> {
    let (digits, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    if digits.is_empty() {
        return Err(NotUnits::Form);
    }
    let (unit, after) = rest.split_at(rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len()));
    Ok((digits.parse().map_err(|_| NotUnits::TooLarge), unit, after))
}

/// A duration in whole milliseconds as `read_duration` reads it: `1m30s`.
pub(super) struct ShownDuration(pub Duration);

impl fmt::Display for ShownDuration {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest_ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest_ms == 0 {
            return out.write_str("0s");
        }
        for (unit, unit_ms) in DURATION_UNITS {
            if rest_ms >= unit_ms {
                write!(out, "{}{unit}", rest_ms / unit_ms)?;
                rest_ms %= unit_ms;
            }
        }
        Ok(())
    }
}

/// A size as `read_size` reads it, in the largest unit that shows it exactly: `64KiB`.
pub(super) struct ShownSize(pub u64);

impl fmt::Display for ShownSize {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |(_, unit_size): &&(&str, u64)| self.0 >= *unit_size && self.0.is_multiple_of(*unit_size);
        match SIZE_UNITS.iter().find(exact) {
            Some((unit, unit_size)) => write!(out, "{}{unit}", self.0 / unit_size),
            None => write!(out, "{}B", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{NotUnits, ShownDuration, ShownSize, read_duration, read_size};
    use std::time::Duration;

    #[test]
    fn durations_there_and_back() {
        for (text, ms) in [
            ("250ms", 250),
            ("5s", 5_000),
            ("1m30s", 90_000),
            ("7d", 604_800_000),
            ("1h", 3_600_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("0s", 0),
        ] {
            assert_eq!(read_duration(text), Ok(Duration::from_millis(ms)), "{text}");
            assert_eq!(ShownDuration(Duration::from_millis(ms)).to_string(), text);
        }
        assert_eq!(read_duration("90s"), Ok(Duration::from_secs(90)));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in
            ["", "s", "5x", "5 s", " 5s", "-5s", "+5s", "1.5s", "30s1m", "5s5s", "5S", "5m3", "5min", "５s", "5s "]
        {
            assert_eq!(read_duration(text), Err(NotUnits::Form), "{text:?}");
        }
        assert_eq!(read_duration("10"), Err(NotUnits::UnitMissing));
        for text in ["18446744073709551616ms", "18446744073709551615s", "213503982334d14h25m51s616ms"] {
            assert_eq!(read_duration(text), Err(NotUnits::TooLarge), "{text}");
        }
        assert!(read_duration("18446744073709551615ms").is_ok());
    }

    #[test]
    fn sizes_there_and_back() {
        for (text, size) in
            [("64KiB", 65_536), ("1MiB", 1 << 20), ("8MB", 8_000_000), ("1TiB", 1 << 40), ("12B", 12), ("0B", 0)]
        {
            assert_eq!(read_size(text), Ok(size), "{text}");
            assert_eq!(ShownSize(size).to_string(), text);
        }
        assert_eq!(read_size("65536"), Ok(65_536));
        assert_eq!(ShownSize(268_435_460).to_string(), "268435460B");
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "KiB", "64K", "64kib", "1.5GiB", "64 KiB", "-1", "0x10", "1KiB2", "1_000"] {
            assert_eq!(read_size(text), Err(NotUnits::Form), "{text:?}");
        }
        for text in ["18446744073709551616", "16777216TiB", "99999999999999999999999999GB"] {
            assert_eq!(read_size(text), Err(NotUnits::TooLarge), "{text}");
        }
    }
}
