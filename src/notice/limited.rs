//! How many lines of one class the log gets, so that a peer that can repeat a fault at will cannot flood it.
//! It looks at no clock and writes nothing: the time comes in, a permit goes out.

use std::sync::atomic::{AtomicU64, Ordering};

/// Lines of one class that one second may bring, unless a class has a reason for another number.
pub const LINES_PER_SECOND_MAX: u32 = 100;

/// Limits the lines of one class, for a fault that a peer can repeat at will. It can be a `static` that all threads share;
/// the time is passed in.
///
/// ```
/// use waypost::notice::{Limited, Permit};
///
/// static MALFORMED: Limited = Limited::new(2);
/// assert_eq!(MALFORMED.permit(0), Permit::Log { suppressed: 0 });
/// assert_eq!(MALFORMED.permit(10), Permit::Log { suppressed: 0 });
/// assert_eq!(MALFORMED.permit(20), Permit::Suppress);
/// assert_eq!(MALFORMED.permit(1_000), Permit::Log { suppressed: 1 });
/// ```
#[derive(Debug)]
pub struct Limited {
    per_second_max: u32,
    /// The second in the upper half, the lines that it has had in the lower half.
    second_and_lines: AtomicU64,
    suppressed: AtomicU64,
}

/// Whether a line may be written now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Write it; and when `suppressed` is not 0, first a line that says "suppressed N lines" of this class.
    Log { suppressed: u64 },
    /// Do not; it has been counted.
    Suppress,
}

impl Limited {
    /// At most so many lines in each second.
    pub const fn new(per_second_max: u32) -> Self {
        Self { per_second_max, second_and_lines: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// Asks for one line. `now_ms` counts from any fixed moment; threads may differ a little in what they believe it is.
    pub fn permit(&self, now_ms: u64) -> Permit {
        let now_s = (now_ms / 1_000) & u64::from(u32::MAX);
        let counted = self.second_and_lines.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
            let (second, lines) = (state >> 32, state & u64::from(u32::MAX));
            if now_s > second {
                (self.per_second_max > 0).then_some((now_s << 32) | 1)
            } else {
                (lines < u64::from(self.per_second_max)).then_some(state + 1)
            }
        });
        match counted {
            Ok(_) => Permit::Log { suppressed: self.suppressed.swap(0, Ordering::Relaxed) },
            Err(_) => {
                self.suppressed.fetch_add(1, Ordering::Relaxed);
                Permit::Suppress
            }
        }
    }

    /// Lines suppressed since the last permit, for a tick that reports them when no further line comes.
    /// `None` as long as the second lasts in which they were suppressed, and when there are none.
    pub fn overdue(&self, now_ms: u64) -> Option<u64> {
        let second = self.second_and_lines.load(Ordering::Relaxed) >> 32;
        if now_ms / 1_000 <= second {
            return None;
        }
        Some(self.suppressed.swap(0, Ordering::Relaxed)).filter(|suppressed| *suppressed > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Limited, Permit};

    #[test]
    fn a_class_writes_so_many_lines_per_second_and_says_how_many_it_suppressed() {
        let class = Limited::new(100);
        let permits = |second: u64| (0..500).filter(|n| class.permit(second * 1_000 + n) != Permit::Suppress).count();
        assert_eq!(permits(0), 100);
        assert_eq!(class.overdue(999), None);
        assert_eq!(class.permit(1_000), Permit::Log { suppressed: 400 });
        assert_eq!(permits(1), 99);
        assert_eq!(class.overdue(2_000), Some(401));
        assert_eq!(class.overdue(2_000), None);
        assert_eq!(permits(50), 100);
    }

    #[test]
    fn a_thread_whose_clock_is_behind_does_not_open_a_new_second() {
        let class = Limited::new(1);
        assert_eq!(class.permit(5_000), Permit::Log { suppressed: 0 });
        assert_eq!(class.permit(4_999), Permit::Suppress);
        assert_eq!(class.permit(5_001), Permit::Suppress);
        assert_eq!(class.permit(6_000), Permit::Log { suppressed: 2 });
        assert_eq!(Limited::new(0).permit(0), Permit::Suppress);
        assert_eq!(Limited::new(0).permit(5_000), Permit::Suppress);
    }
}
