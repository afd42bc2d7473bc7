//! The log: lines of text or JSON on standard error, and the limit on how many lines of one class are written.
//! Writing never stops the process: lines pass through a bounded queue to a thread of their own, and a closed or blocked standard error costs lines only.
//! Strings of peers go through `notice::Outside` before they come here.

#![expect(
    clippy::disallowed_methods,
    reason = "the log stamps its lines and waits for its own thread; no room below depends on it"
)]

use crate::notice::{Outside, misleads};
use std::fmt::{self, Write as _};
use std::io;
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thiserror::Error;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How much is logged; each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `2026-11-22T08:10:11.123Z INFO client connected client=pump-7 address=10.0.0.7:51234`
    Text,
    /// One object per line.
    Json,
}

impl Level {
    pub const ALL: &[Self] = &[Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// As the configuration writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

impl Format {
    pub const ALL: &[Self] = &[Self::Text, Self::Json];

    /// As the configuration writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Why there is no log.
#[derive(Debug, Error)]
pub enum InstallError {
    #[error("the log is installed already")]
    Installed,
    #[error("cannot start the thread that writes the log: {0}")]
    Thread(#[from] io::Error),
}

/// Sends all that is logged in this process to standard error, panics included. Hold on to the returned value until the
/// end of `main`: dropping it writes what is still waiting. An error leaves everything as it was.
pub fn install(level: Level, format: Format) -> Result<Flush, InstallError> {
    let lines = Lines::start(io::stderr(), format)?;
    let (filter, handle) = reload::Layer::new(level.filter());
    let layer = tracing_subscriber::fmt::layer().with_writer(lines.clone()).log_internal_errors(false);
    let layer = match format {
        Format::Text => layer.event_format(TextLine).boxed(),
        Format::Json => layer.json().flatten_event(true).with_target(false).with_timer(Clock).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(layer).try_init().map_err(|_| InstallError::Installed)?;
    FILTER.set(handle).map_err(|_| InstallError::Installed)?;
    log_panics(lines.clone());
    Ok(Flush(lines))
}

static FILTER: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

/// Changes how much is logged from now on; does nothing before `install`.
pub fn set_level(level: Level) {
    if let Some(filter) = FILTER.get() {
        // It fails only when the subscriber is gone, and then there is nothing to log to.
        let _ = filter.reload(level.filter());
    }
}

/// Writes what is still waiting when it is dropped, for at most `FLUSH_TIME_MAX`.
#[must_use = "dropping it writes the last lines, so it has to live until the end"]
#[derive(Debug)]
pub struct Flush(Lines);

impl Drop for Flush {
    fn drop(&mut self) {
        self.0.flush(FLUSH_TIME_MAX);
    }
}

fn log_panics(lines: Lines) {
    panic::set_hook(Box::new(move |panic| {
        let message = panic.payload_as_str().unwrap_or("without a message");
        let location = panic.location().map_or_else(String::new, ToString::to_string);
        tracing::error!(message = "panic", because = %Outside::of(message), location);
        lines.flush(PANIC_FLUSH_TIME_MAX);
    }));
}

// What a line looks like

/// `TIME LEVEL message key=value …`
struct TextLine;

impl<S, N> FormatEvent<S, N> for TextLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        Clock.format_time(&mut out)?;
        writeln!(out, " {}{}{}", event.metadata().level(), fields.message, fields.rest)
    }
}

/// The fields of one event as text, each with a space in front.
#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push(' ');
            push_visible(&mut self.message, value, false);
        } else {
            let _ = write!(self.rest, " {}=", field.name());
            let is_quoted = value.is_empty() || value.contains(|c: char| c.is_whitespace() || c == '"' || c == '=');
            self.rest.push_str(if is_quoted { "\"" } else { "" });
            push_visible(&mut self.rest, value, is_quoted);
            self.rest.push_str(if is_quoted { "\"" } else { "" });
        }
    }
}

/// What went through `Outside` passes unchanged; this is for whatever did not, so that an event always stays one line.
fn push_visible(out: &mut String, text: &str, is_quoted: bool) {
    for character in text.chars() {
        if misleads(character) {
            out.extend(character.escape_default());
        } else {
            if is_quoted && character == '"' {
                out.push('\\');
            }
            out.push(character);
        }
    }
}

/// The time of day of a line, in UTC and milliseconds.
struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        write!(out, "{}", Utc::now())
    }
}

/// Shows milliseconds since 1970 as `2026-11-22T08:10:11.123Z`.
struct Utc(u64);

impl Utc {
    fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Utc {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ms, second, days) = (self.0 % 1_000, self.0 / 1_000 % 86_400, self.0 / 86_400_000);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }
}

/// Year, month and day of a number of days since 1970. The years are made to begin in March, so that the day that comes and
/// goes is the last of them; 719,468 days lie between 1 March of the year 0 and 1 January 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    const ERA_DAYS: u64 = 146_097; // 400 years
    let days = days + 719_468;
    let (era, day_of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

// Where lines go

/// Lines that wait to be written. At the bound new ones are lost and counted, and a line says how many.
const LINES_WAITING_MAX: usize = 8_192;

/// Longest wait for the last lines when the process ends.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

/// Longest wait for the line of a panic.
const PANIC_FLUSH_TIME_MAX: Duration = Duration::from_millis(100);

/// The near end of the queue to the thread that writes.
#[derive(Clone, Debug)]
struct Lines {
    queue: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
}

enum Entry {
    Line(Box<[u8]>),
    /// Everything before it has been written when this is answered.
    Flush(SyncSender<()>),
}

impl Lines {
    fn start(out: impl io::Write + Send + 'static, format: Format) -> io::Result<Self> {
        let (queue, waiting) = sync_channel(LINES_WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let lost_there = Arc::clone(&lost);
        thread::Builder::new().name("log".to_owned()).spawn(move || write_lines(waiting, &lost_there, out, format))?;
        Ok(Self { queue, lost })
    }

    fn push(&self, line: &[u8]) {
        if self.queue.try_send(Entry::Line(line.into())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was pushed before is written, or the time is up.
    fn flush(&self, longest: Duration) {
        const STEP: Duration = Duration::from_millis(10);
        let (written, is_written) = sync_channel(1);
        let mut entry = Entry::Flush(written);
        let mut left = longest;
        while let Err(refused) = self.queue.try_send(entry) {
            match refused {
                TrySendError::Full(same) if left > STEP => entry = same,
                _ => return,
            }
            thread::sleep(STEP);
            left -= STEP;
        }
        // When the time is up, the lines are lost, and nobody is left who could be told.
        let _ = is_written.recv_timeout(left);
    }
}

/// Lines that were not written since the process began: they came too fast, or the output has failed.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Lines of the log that were lost since the process began, because they came faster than they could be written or because
/// standard error is full or closed.
pub fn lines_lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// The thread that writes. An error of the output costs the line and nothing else; once the output works again, a line says
/// how many are missing.
fn write_lines(waiting: Receiver<Entry>, lost: &AtomicU64, mut out: impl io::Write, format: Format) {
    let mut unsaid = 0;
    for entry in waiting {
        let mut works = true;
        match entry {
            Entry::Line(line) => {
                works = out.write_all(&line).is_ok();
                unsaid += u64::from(!works);
                LOST.fetch_add(u64::from(!works), Ordering::Relaxed);
            }
            Entry::Flush(written) => {
                let _ = out.flush();
                let _ = written.try_send(());
            }
        }
        let refused = lost.swap(0, Ordering::Relaxed);
        LOST.fetch_add(refused, Ordering::Relaxed);
        unsaid += refused;
        if works && unsaid > 0 {
            let now = Utc::now();
            let line = match format {
                Format::Text => {
                    format!("{now} WARN log lines lost, standard error is full or too slow lines={unsaid}\n")
                }
                Format::Json => format!(
                    "{{\"timestamp\":\"{now}\",\"level\":\"WARN\",\"message\":\"log lines lost, standard error is full or too slow\",\"lines\":{unsaid}}}\n"
                ),
            };
            if out.write_all(line.as_bytes()).is_ok() {
                unsaid = 0;
            }
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// Each call is one line, as the formatting layer writes them, and always succeeds.
impl io::Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, Format, LINES_WAITING_MAX, Lines, TextLine, Utc};
    use crate::notice::Outside;
    use std::io;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;
    use tracing_subscriber::fmt::MakeWriter;

    /// An output that fails.
    struct Broken;

    impl io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no test panics with it").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Memory {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    impl Memory {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("no test panics with it").clone()).expect("log lines are UTF-8")
        }
    }

    /// What follows the time in the one line that `log` logs.
    fn text_line(log: impl FnOnce()) -> String {
        let memory = Memory::default();
        let subscriber = tracing_subscriber::fmt().event_format(TextLine).with_writer(memory.clone()).finish();
        tracing::subscriber::with_default(subscriber, log);
        let text = memory.text();
        let line = text.strip_suffix('\n').expect("one whole line");
        assert!(!line.contains('\n'), "more than one line: {line}");
        let (time, rest) = line.split_once(' ').expect("a time, then the rest");
        assert_eq!((time.len(), time.as_bytes()[23]), (24, b'Z'), "{time}");
        rest.to_owned()
    }

    #[test]
    fn a_text_line_is_time_level_message_and_fields() {
        let line = text_line(
            || tracing::info!(client = %Outside::of("pump-7"), address = "10.0.0.7:51234", "client connected"),
        );
        assert_eq!(line, "INFO client connected client=pump-7 address=10.0.0.7:51234");
        assert_eq!(text_line(|| tracing::warn!(n = 3, ratio = 0.5, is = true, "x")), "WARN x n=3 ratio=0.5 is=true");
    }

    #[test]
    fn values_are_quoted_when_they_could_be_mistaken_for_fields() {
        let line = text_line(|| tracing::info!(client = %Outside::of("a address=\"evil\""), empty = "", "x"));
        assert_eq!(line, r#"INFO x client="a address=\"evil\"" empty="""#);
    }

    #[test]
    fn no_string_can_begin_a_line_of_its_own_even_without_the_wrapper() {
        let line = text_line(|| tracing::info!(client = "a\nb\u{202e}", "first\r\nsecond"));
        assert_eq!(line, r#"INFO first\r\nsecond client="a\nb\u{202e}""#);
        let line = text_line(|| tracing::info!(client = %Outside::of("a\nb\\n"), "x"));
        assert_eq!(line, r"INFO x client=a\nb\\n");
    }

    #[test]
    fn a_json_line_is_one_object() {
        let memory = Memory::default();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_target(false)
            .with_timer(Clock)
            .with_writer(memory.clone())
            .finish();
        tracing::subscriber::with_default(
            subscriber,
            || tracing::info!(client = %Outside::of("a\"\nb"), "client connected"),
        );
        let line = memory.text();
        let (start, rest) = line.split_once(r#","level""#).expect("a time, then the level");
        assert!(start.starts_with(r#"{"timestamp":"2"#) && start.ends_with(r#"Z""#), "{line}");
        assert_eq!(rest, ":\"INFO\",\"message\":\"client connected\",\"client\":\"a\\\"\\\\nb\"}\n");
    }

    #[test]
    fn the_calendar_is_right() {
        for (ms, shown) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_164_799_999, "2024-02-28T23:59:59.999Z"),
            (1_709_251_199_001, "2024-02-29T23:59:59.001Z"),
            (1_795_335_011_123, "2026-11-22T08:10:11.123Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Utc(ms).to_string(), shown);
        }
    }

    #[test]
    fn a_broken_output_costs_lines_only() {
        let lines = Lines::start(Broken, Format::Text).expect("a thread");
        for _ in 0..10 {
            lines.push(b"line\n");
            lines.flush(Duration::from_secs(10));
        }
        assert_eq!(Arc::strong_count(&lines.lost), 2, "the thread still runs");
    }

    /// An output without room for the first few lines.
    struct Full {
        refused: usize,
        memory: Memory,
    }

    impl io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.refused > 0 {
                self.refused -= 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.memory.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_an_output_had_no_room_for_are_counted() {
        let memory = Memory::default();
        let lines = Lines::start(Full { refused: 3, memory: memory.clone() }, Format::Text).expect("a thread");
        let before = super::lines_lost();
        for line in [b"1\n", b"2\n", b"3\n", b"4\n", b"5\n"] {
            lines.push(line);
        }
        lines.flush(Duration::from_secs(10));
        assert!(super::lines_lost() >= before + 3);
        let text = memory.text();
        assert!(
            text.starts_with("4\n") && text.contains("full or too slow lines=3\n") && text.ends_with("5\n"),
            "{text}"
        );
    }

    /// An output that takes nothing until it is told to, and says when it is first asked.
    struct Blocked {
        asked: Sender<()>,
        open: Receiver<()>,
        memory: Memory,
    }

    impl io::Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.asked.send(());
            let _ = self.open.recv();
            self.memory.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_blocked_output_never_blocks_who_logs_and_lost_lines_are_counted() {
        let (asked, is_asked) = channel();
        let (opener, open) = channel();
        let memory = Memory::default();
        let lines = Lines::start(Blocked { asked, open, memory: memory.clone() }, Format::Text).expect("a thread");
        lines.push(b"first\n");
        is_asked.recv().expect("the thread writes the first line");
        for _ in 0..LINES_WAITING_MAX + 7 {
            lines.push(b"line\n");
        }
        lines.flush(Duration::ZERO);
        drop(opener); // opens it for good
        lines.flush(Duration::from_secs(10));
        let text = memory.text();
        assert!(
            text.starts_with("first\n2")
                && text.contains(" WARN log lines lost, standard error is full or too slow lines=7\n")
        );
        assert_eq!(text.lines().count(), 1 + 1 + LINES_WAITING_MAX);
    }
}
