//! The text format of Prometheus, version 0.0.4: families of values, each with its HELP and TYPE.
//! https://prometheus.io/docs/instrumenting/exposition_formats/

use std::fmt::{Display, Write};

/// What all names begin with.
const PREFIX: &str = "waypost_";
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page that is being written.
#[derive(Default)]
pub(super) struct Page {
    text: String,
}

/// The values of one name.
pub(super) struct Family<'a> {
    page: &'a mut Page,
    name: &'static str,
}

impl Page {
    /// What only grows while the process lives. By custom its name ends in `_total`.
    pub(super) fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        debug_assert!(name.ends_with("_total"), "{name}");
        self.family(name, "counter", help)
    }

    /// What grows and shrinks.
    pub(super) fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        debug_assert!(!name.ends_with("_total"), "{name}");
        self.family(name, "gauge", help)
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        debug_assert!(!help.contains(['\n', '\\']), "{help}");
        self.write(format_args!("# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}\n"));
        Family { page: self, name }
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    fn write(&mut self, what: std::fmt::Arguments<'_>) {
        self.text.write_fmt(what).expect("writing to a String does not fail");
    }
}

impl Family<'_> {
    /// The one value of a name without labels.
    pub(super) fn is(self, value: impl Display) {
        self.page.write(format_args!("{PREFIX}{} {value}\n", self.name));
    }

    /// One of several, told apart by what this label says.
    pub(super) fn of(&mut self, label: &str, says: &str, value: impl Display) -> &mut Self {
        self.page.write(format_args!("{PREFIX}{}{{{label}=\"", self.name));
        for letter in says.chars() {
            match letter {
                '\\' => self.page.text.push_str("\\\\"),
                '"' => self.page.text.push_str("\\\""),
                '\n' => self.page.text.push_str("\\n"),
                _ => self.page.text.push(letter),
            }
        }
        self.page.write(format_args!("\"}} {value}\n"));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::Page;

    #[test]
    fn a_page_is_families_with_their_values() {
        let mut page = Page::default();
        page.gauge("clients", "Clients that are connected.").is(5);
        page.counter("drops_total", "Drops.").of("reason", "a\"\\\n", 1_u64).of("reason", "b", 2.5);
        let expected = "\
# HELP waypost_clients Clients that are connected.
# TYPE waypost_clients gauge
waypost_clients 5
# HELP waypost_drops_total Drops.
# TYPE waypost_drops_total counter
waypost_drops_total{reason=\"a\\\"\\\\\\n\"} 1
waypost_drops_total{reason=\"b\"} 2.5
";
        assert_eq!(page.finish(), expected);
    }
}
