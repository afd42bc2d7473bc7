//! The address of a listener: an IP address or a host name, and a port; or the path of a Unix socket.
//! Parsing never asks the network; a host name is looked up when the listener is opened.
//! Read `rules.rs` next, which compares the addresses of all listeners.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use thiserror::Error;

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `127.0.0.1:1883` or `[::1]:1883`.
    Ip(SocketAddr),
    /// `broker.local:1883`, looked up when the listener is opened; `*:1883` is all that this machine has, IPv4 and IPv6.
    Name { host: String, port: u16 },
    /// `unix:/run/waypost.sock`: a file that only this machine reaches.
    Unix(PathBuf),
}

/// Where something listens that can be turned off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressOrOff {
    Off,
    At(Address),
}

/// In place of an address: nowhere.
const OFF: &str = "off";

impl FromStr for AddressOrOff {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        if text == OFF { Ok(Self::Off) } else { text.parse().map(Self::At) }
    }
}

const UNIX: &str = "unix:";
/// Longest path of a Unix socket on Linux, without the NUL behind it.
const UNIX_PATH_MAX: usize = 107;

/// Why a text is not an address: the rest of a sentence that begins with the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotAnAddress {
    #[error("which has no port; write for example \"127.0.0.1:1883\"")]
    PortMissing,
    #[error("whose port is not a number from 0 to 65535; write for example \"127.0.0.1:1883\"")]
    Port,
    #[error("which has no host; write \"*:PORT\" for all addresses, or \"127.0.0.1:PORT\" for this machine only")]
    HostMissing,
    #[error("whose IPv6 address needs brackets; write for example \"[::1]:1883\"")]
    Brackets,
    #[error(
        "whose host is neither an IP address nor a host name; write for example \"127.0.0.1:1883\", \"[::1]:1883\" or \"localhost:1883\""
    )]
    Host,
    #[error(
        "whose path is not 1 to 107 bytes without control characters; write for example \"unix:/run/waypost.sock\""
    )]
    UnixPath,
}

impl Address {
    /// Port 0 means any free port, which the operating system chooses; a Unix socket has none.
    pub fn port(&self) -> u16 {
        match self {
            Self::Ip(address) => address.port(),
            Self::Name { port, .. } => *port,
            Self::Unix(_) => 0,
        }
    }

    /// Whether only this machine can reach it. Of host names only `localhost` is known to be so.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Ip(address) => address.ip().to_canonical().is_loopback(),
            Self::Name { host, .. } => is_localhost(host),
            Self::Unix(_) => true,
        }
    }

    /// Whether two listeners cannot have both: the same address, or one of all addresses and one of them, at one port.
    pub(super) fn collides(&self, other: &Self) -> bool {
        if let (Self::Unix(one), Self::Unix(two)) = (self, other) {
            return one == two;
        }
        if self.port() == 0 || self.port() != other.port() {
            return false;
        }
        match (self, other) {
            (Self::Ip(one), Self::Ip(two)) => ips_collide(one.ip(), two.ip()),
            (Self::Name { host, .. }, _) | (_, Self::Name { host, .. }) if host == ANY => true,
            (Self::Name { host: one, .. }, Self::Name { host: two, .. }) => one.eq_ignore_ascii_case(two),
            (Self::Ip(ip), Self::Name { host, .. }) | (Self::Name { host, .. }, Self::Ip(ip)) => {
                let localhost = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
                is_localhost(host) && localhost.iter().any(|localhost| ips_collide(*localhost, ip.ip()))
            }
            (Self::Unix(_), _) | (_, Self::Unix(_)) => false,
        }
    }
}

/// In place of a host: all addresses.
pub const ANY: &str = "*";

fn is_localhost(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
}

fn ips_collide(one: IpAddr, two: IpAddr) -> bool {
    let (one, two) = (one.to_canonical(), two.to_canonical());
    one == two || (one.is_ipv4() == two.is_ipv4() && (one.is_unspecified() || two.is_unspecified()))
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        if let Some(path) = text.strip_prefix(UNIX) {
            let allowed = (1..=UNIX_PATH_MAX).contains(&path.len()) && !path.contains(char::is_control);
            return if allowed { Ok(Self::Unix(path.into())) } else { Err(NotAnAddress::UnixPath) };
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        let (host, port) = text.rsplit_once(':').ok_or(NotAnAddress::PortMissing)?;
        if text.parse::<IpAddr>().is_ok() {
            return Err(NotAnAddress::Brackets);
        }
        if host.starts_with('[') && !host.ends_with(']') {
            return Err(NotAnAddress::PortMissing);
        }
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotAnAddress::Port);
        }
        let port = port.parse().map_err(|_| NotAnAddress::Port)?;
        match host {
            "" => Err(NotAnAddress::HostMissing),
            ANY => Ok(Self::Name { host: host.to_owned(), port }),
            _ if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) => Err(NotAnAddress::Brackets),
            _ if is_host_name(host) => Ok(Self::Name { host: host.to_owned(), port }),
            _ => Err(NotAnAddress::Host),
        }
    }
}

/// Labels of letters, digits, `-` and `_`; the last one is not a number, for then an IPv4 address was meant.
fn is_host_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_number = host.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    host.len() <= 253 && host.split('.').all(is_label) && !last_is_number
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => write!(out, "{address}"),
            Self::Name { host, port } => write!(out, "{host}:{port}"),
            Self::Unix(path) => write!(out, "{UNIX}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, NotAnAddress};

    fn address(text: &str) -> Address {
        text.parse().expect("an address")
    }

    #[test]
    fn the_four_forms_there_and_back() {
        for text in [
            "unix:/run/waypost.sock",
            "127.0.0.1:1883",
            "[::1]:1883",
            "[fe80::1%3]:1883",
            "localhost:0",
            "broker.example.org:8883",
            "my_host-1:1",
            "*:1883",
        ] {
            assert_eq!(address(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_says_why() {
        for (text, why) in [
            ("", NotAnAddress::PortMissing),
            ("127.0.0.1", NotAnAddress::PortMissing),
            ("localhost", NotAnAddress::PortMissing),
            ("[::1]", NotAnAddress::PortMissing),
            ("1883", NotAnAddress::PortMissing),
            (":1883", NotAnAddress::HostMissing),
            ("::1", NotAnAddress::Brackets),
            ("2001:db8::1:1883", NotAnAddress::Brackets),
            ("127.0.0.1:65536", NotAnAddress::Port),
            ("127.0.0.1:", NotAnAddress::Port),
            ("127.0.0.1:+5", NotAnAddress::Port),
            ("127.0.0.1:-1", NotAnAddress::Port),
            ("127.0.0.256:1883", NotAnAddress::Host),
            ("a b:1883", NotAnAddress::Host),
            ("mqtt://host:1883", NotAnAddress::Host),
            ("[nonsense]:1883", NotAnAddress::Host),
            ("-a:1883", NotAnAddress::Host),
            (".:1883", NotAnAddress::Host),
            ("unix:", NotAnAddress::UnixPath),
            ("unix:/a\0b", NotAnAddress::UnixPath),
        ] {
            assert_eq!(text.parse::<Address>(), Err(why), "{text:?}");
        }
    }

    #[test]
    fn loopback_is_what_only_this_machine_reaches() {
        for text in
            ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "localhost:1", "LOCALHOST:1", "unix:x"]
        {
            assert!(address(text).is_loopback(), "{text}");
        }
        for text in ["*:1", "0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.org:1", "localhost.example.org:1"] {
            assert!(!address(text).is_loopback(), "{text}");
        }
    }

    #[test]
    fn addresses_collide_when_both_cannot_be_had() {
        for (one, two, collide) in [
            ("127.0.0.1:1883", "127.0.0.1:1883", true),
            ("127.0.0.1:1883", "127.0.0.1:1884", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("0.0.0.0:1883", "127.0.0.1:1883", true),
            ("0.0.0.0:1883", "[::]:1883", false),
            ("[::]:1883", "[::1]:1883", true),
            ("localhost:1883", "LocalHost:1883", true),
            ("localhost:1883", "127.0.0.1:1883", true),
            ("localhost:1883", "[::]:1883", true),
            ("localhost:1883", "127.9.9.9:1883", false),
            ("localhost:1883", "10.0.0.1:1883", false),
            ("a.example:1883", "b.example:1883", false),
            ("*:1883", "10.0.0.1:1883", true),
            ("*:1883", "a.example:1883", true),
            ("*:1883", "*:1884", false),
            ("unix:/a", "unix:/a", true),
            ("unix:/a", "unix:/b", false),
            ("unix:/a", "127.0.0.1:0", false),
        ] {
            assert_eq!(address(one).collides(&address(two)), collide, "{one} {two}");
            assert_eq!(address(two).collides(&address(one)), collide, "{two} {one}");
        }
    }
}
