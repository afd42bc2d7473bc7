//! A network of IP addresses: for rules that hold only for Clients from there, and for proxies that are believed.
//! It compares addresses; who comes from where is known to the doors.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;
use std::str::FromStr;

/// `10.0.0.0/8`, `fd00::/8`, or one address. An IPv4 address that comes as `::ffff:10.0.0.1` is taken as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    /// 0 to 32, or to 128.
    bits: u32,
}

impl Network {
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => network == start_v4(address, self.bits),
            (IpAddr::V6(network), IpAddr::V6(address)) => network == start_v6(address, self.bits),
            _ => false,
        }
    }
}

impl Network {
    /// The network of so many bits that an address lies in; there is none with more bits than the address has.
    pub(super) fn around(address: IpAddr, bits: u32) -> Option<Self> {
        let address = match address.to_canonical() {
            IpAddr::V4(address) if bits <= 32 => IpAddr::V4(start_v4(address, bits)),
            IpAddr::V6(address) if bits <= 128 => IpAddr::V6(start_v6(address, bits)),
            _ => return None,
        };
        Some(Self { address, bits })
    }

    pub(super) fn bits(self) -> u32 {
        self.bits
    }
}

/// The first address of the network that an address lies in.
fn start_v4(address: Ipv4Addr, bits: u32) -> Ipv4Addr {
    let host = 32_u32.saturating_sub(bits);
    Ipv4Addr::from_bits(address.to_bits() & u32::MAX.checked_shl(host).unwrap_or(0))
}

fn start_v6(address: Ipv6Addr, bits: u32) -> Ipv6Addr {
    let host = 128_u32.saturating_sub(bits);
    Ipv6Addr::from_bits(address.to_bits() & u128::MAX.checked_shl(host).unwrap_or(0))
}

impl fmt::Display for Network {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.bits)
    }
}

/// The error is what to say about it.
impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str =
            "is no IP address or network; write for example \"10.0.0.0/8\", \"fd00::/8\" or \"192.0.2.1\"";
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| FORM.to_owned())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) if (1..=3).contains(&bits.len()) && bits.bytes().all(|digit| digit.is_ascii_digit()) => {
                bits.parse().map_err(|_| FORM.to_owned())?
            }
            Some(_) => return Err(FORM.to_owned()),
        };
        if bits > most {
            return Err(format!("has more bits than such an address; allowed: 0 to {most}"));
        }
        let start = match address {
            IpAddr::V4(address) => IpAddr::V4(start_v4(address, bits)),
            IpAddr::V6(address) => IpAddr::V6(start_v6(address, bits)),
        };
        if start != address {
            return Err(format!("names an address inside the network; its first address is {start}/{bits}"));
        }
        if start.to_canonical() != start {
            return Err("is IPv4 written as IPv6; write it as IPv4".to_owned());
        }
        Ok(Self { address, bits })
    }
}

#[cfg(test)]
mod tests {
    use super::Network;

    #[test]
    fn networks_contain_addresses() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("0.0.0.0/0", "255.255.255.255", "::"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("192.0.2.128/25", "::ffff:192.0.2.200", "192.0.2.127"),
            ("fd00::/8", "fdff::1", "fe80::1"),
            ("::/0", "::1", "0.0.0.0"),
            ("::1", "::1", "::2"),
        ] {
            let network: Network = network.parse().expect(network);
            assert!(network.contains(inside.parse().expect(inside)), "{network:?} {inside}");
            assert!(!network.contains(outside.parse().expect(outside)), "{network:?} {outside}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "10",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.1/8",
            "fd00::/129",
            "::ffff:10.0.0.1",
            "a/8",
            "10.0.0.0/8/8",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
