//! The two macros that turn the table of `keys.rs` into Rust: a struct for each section, an enum for each set of words.
//! They decide nothing; what a key means stands in the table alone.
//! Read `keys.rs` next.

/// Structs with their `SECTION` descriptions. A section is `[name] Struct { … }` or `[[name; most]] Struct { … }`; a key is
/// `/// text` and `name: Type = kind, default VALUE;`, or `absent EXAMPLE`, or `required EXAMPLE` in place of the default.
macro_rules! settings {
    ($(
        $(#[doc = $section_doc:literal])+
        [$header:tt] $struct:ident {
            $(
                $(#[doc = $doc:literal])+
                $key:ident: $type:ty = $kind:expr, $fallback:ident $value:tt;
            )+
        }
    )+) => { $(
        $(#[doc = $section_doc])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $struct {
            $(
                $(#[doc = $doc])+
                #[doc = ""]
                #[doc = concat!("`", stringify!($kind), ", ", stringify!($fallback), " ", stringify!($value), "`")]
                pub $key: $type,
            )+
        }

        impl $struct {
            /// The section as a table: what the reference and the errors are made from.
            pub const SECTION: Section = Section {
                name: settings!(@name $header),
                list_max: settings!(@list_max $header),
                docs: &[$($section_doc),+],
                keys: &[$(Key {
                    name: stringify!($key),
                    docs: &[$($doc),+],
                    kind: $kind,
                    fallback: settings!(@fallback $fallback $value),
                }),+],
            };

            /// Takes its keys out of a merged table, in which all values are checked.
            pub(super) fn of(table: &config::Map<String, config::Value>) -> Self {
                Self { $($key: super::keep::Keep::keep(table.get(stringify!($key)))),+ }
            }
        }
    )+ };
    (@name [$name:ident; $most:literal]) => { stringify!($name) };
    (@name $name:ident) => { stringify!($name) };
    (@list_max [$name:ident; $most:literal]) => { Some($most) };
    (@list_max $name:ident) => { None };
    (@fallback default $value:tt) => { Fallback::Value(stringify!($value)) };
    (@fallback absent $value:tt) => { Fallback::Absent { example: stringify!($value) } };
    (@fallback required $value:tt) => { Fallback::Required { example: stringify!($value) } };
}

/// An enum whose variants are words of the configuration.
macro_rules! words {
    ($(#[$attribute:meta])+ pub enum $enum:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$attribute])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $enum { $($variant),+ }

        impl $enum {
            pub const ALL: &[Self] = &[$(Self::$variant),+];
            pub(super) const WORDS: &[&str] = &[$($word),+];

            /// As the configuration writes it.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

pub(super) use {settings, words};
