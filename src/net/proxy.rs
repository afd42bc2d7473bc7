//! The header with which a proxy says whom it speaks for: PROXY protocol, versions 1 and 2.
//!
//! Only `listener.rs` knows which proxies are believed. What lies behind the header belongs to the Client.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use ppp::v2::{ParseError, Type};
use ppp::{v1, v2};
use std::net::SocketAddr;

/// What a proxy says about its Client.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Proxied {
    /// Where it is; `None`: the proxy speaks for itself, or does not know.
    pub address: Option<SocketAddr>,
    /// The Common Name of the certificate with which it has proved to the proxy who it is.
    pub common_name: Option<Box<str>>,
}

/// Longest header of version 1, with its line end.
const TEXT_BYTES_MAX: usize = 107;
/// Longest header of version 2 that is taken; addresses take 36 bytes, what is said about TLS a few hundred.
const BINARY_BYTES_MAX: usize = 2048;
const BINARY_START: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const TEXT_START: &[u8; 6] = b"PROXY ";
const FIXED_BYTES: usize = 16;
const VERSION_AND_COMMAND: usize = 12;
/// Whatever addresses follow mean nothing.
const LOCAL: u8 = 0x20;
/// In what version 2 says about TLS: a certificate was shown in this connection, or in the session that it resumes.
const CERTIFICATE_SHOWN: u8 = 0x02 | 0x04;

/// Looks at what has come. `Some`: what it says, and how many bytes it has.
///
/// # Errors
/// It is none, or not one that is taken.
pub fn read(received: &[u8]) -> Result<Option<(Proxied, usize)>, &'static str> {
    if starts_alike(received, BINARY_START) {
        let Some([.., high, low]) = received.first_chunk::<FIXED_BYTES>() else { return Ok(None) };
        let size = FIXED_BYTES + usize::from(u16::from_be_bytes([*high, *low]));
        if size > BINARY_BYTES_MAX {
            return Err("a PROXY header that is too long");
        }
        let Some(header) = received.get(..size) else { return Ok(None) };
        if header.get(VERSION_AND_COMMAND) == Some(&LOCAL) {
            return Ok(Some((Proxied::default(), size))); // the proxy itself, looking whether we are well
        }
        let proxied = v2::Header::try_from(header)
            .map_err(|_| "a malformed PROXY header")
            .and_then(|header| of_binary(&header).map_err(|_| "a malformed field in a PROXY header"))?;
        return Ok(Some((proxied, size)));
    }
    if !starts_alike(received, TEXT_START) {
        return Err("not a PROXY header");
    }
    let start = received.get(..TEXT_BYTES_MAX).unwrap_or(received);
    let Some((line, _)) = split_after(start, b'\n') else {
        return if start.len() < TEXT_BYTES_MAX { Ok(None) } else { Err("a PROXY header that is too long") };
    };
    let header = v1::Header::try_from(line).map_err(|_| "a malformed PROXY header")?;
    let address = match header.addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(ip) => Some((ip.source_address, ip.source_port).into()),
        v1::Addresses::Tcp6(ip) => Some((ip.source_address, ip.source_port).into()),
    };
    Ok(Some((Proxied { address, common_name: None }, line.len())))
}

/// What goes up to this byte and ends with it, and what follows.
fn split_after(bytes: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    bytes.split_at_checked(memchr::memchr(byte, bytes)?.checked_add(1)?)
}

/// As far as both go.
fn starts_alike(received: &[u8], start: &[u8]) -> bool {
    received.iter().zip(start).all(|(one, other)| one == other)
}

fn of_binary(header: &v2::Header<'_>) -> Result<Proxied, ParseError> {
    let address = match header.addresses {
        v2::Addresses::IPv4(ip) => Some((ip.source_address, ip.source_port).into()),
        v2::Addresses::IPv6(ip) => Some((ip.source_address, ip.source_port).into()),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    };
    let mut proxied = Proxied { address, common_name: None };
    for field in header.tlvs() {
        let field = field?;
        if field.kind == Type::SSL as u8 {
            proxied.common_name = common_name(&field.value);
        }
    }
    Ok(proxied)
}

/// Of what is said about TLS: a flag byte, four bytes that are 0 when the certificate was good, and fields.
fn common_name(tls: &[u8]) -> Option<Box<str>> {
    let ([flags, 0, 0, 0, 0], mut rest) = tls.split_first_chunk()? else { return None };
    if flags & CERTIFICATE_SHOWN == 0 {
        return None;
    }
    while let Some(([kind, high, low], after)) = rest.split_first_chunk() {
        let (value, next) = after.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
        if *kind == Type::SSLCommonName as u8 {
            return std::str::from_utf8(value).ok().map(Into::into);
        }
        rest = next;
    }
    None
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::{BINARY_START, Proxied, read};

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let size = u16::try_from(body.len()).expect("short").to_be_bytes();
        [&BINARY_START[..], &[0x20 | command, family], &size, body].concat()
    }

    const ADDRESSES: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0x30, 0x39, 0x07, 0x5B];

    #[test]
    fn both_versions_say_where_the_client_is() {
        let address = Some("192.0.2.1:12345".parse().expect("an address"));
        let text = b"PROXY TCP4 192.0.2.1 192.0.2.2 12345 1883\r\n";
        let proxied = Proxied { address, common_name: None };
        for header in [text.to_vec(), binary(1, 0x11, &ADDRESSES)] {
            for size in 0..header.len() {
                assert_eq!(read(&header[..size]), Ok(None), "{size} bytes");
            }
            let with_more = [&header[..], b"\x10\x00"].concat();
            let (read, size) = read(&with_more).expect("good").expect("complete");
            assert_eq!((&read, size), (&proxied, header.len()));
        }
        let text = b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n";
        let (proxied, _) = read(text).expect("good").expect("complete");
        assert_eq!(proxied.address, Some("[2001:db8::1]:1".parse().expect("an address")));
    }

    #[test]
    fn a_proxy_that_speaks_for_itself_keeps_its_own_address() {
        for header in [
            b"PROXY UNKNOWN\r\n".to_vec(),
            binary(0, 0, &[]),
            binary(0, 0x11, &[]),
            binary(0, 0x11, &ADDRESSES),
            binary(1, 0, &[]),
        ] {
            let (proxied, size) = read(&header).expect("good").expect("complete");
            assert_eq!((proxied, size), (Proxied::default(), header.len()));
        }
    }

    #[test]
    fn the_name_in_a_certificate_counts_when_the_proxy_has_checked_it() {
        for (flags, verified, name) in [(7, 0, Some("device")), (3, 0, Some("device")), (1, 0, None), (7, 1, None)] {
            let tls = [&[flags, 0, 0, 0, verified][..], &[0x21, 0, 3], b"1.3", &[0x22, 0, 6], b"device"].concat();
            let body = [&ADDRESSES[..], &[0x04, 0, 2, 9, 9], &[0x20, 0, tls.len() as u8], &tls].concat();
            let (proxied, _) = read(&binary(1, 0x11, &body)).expect("good").expect("complete");
            assert_eq!(proxied.common_name.as_deref(), name, "{flags} {verified}");
        }
    }

    #[test]
    fn q12_what_is_no_header_is_refused_as_soon_as_it_shows() {
        let too_long = [&BINARY_START[..], &[0x21, 0x11, 0xFF, 0xFF, 1]].concat();
        let field_beyond = binary(1, 0x11, &[&ADDRESSES[..], &[4, 0, 200, 1]].concat());
        for header in [
            b"G".to_vec(),
            b"\x10\x10".to_vec(),
            b"PROXX".to_vec(),
            b"\r\n\r\n\0\r\nQUIT\r".to_vec(),
            b"PROXY TCP4 nonsense\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 99999 1\r\n".to_vec(),
            [&b"PROXY TCP4 "[..], &[b'1'; 120]].concat(),
            binary(2, 0x11, &ADDRESSES),
            binary(1, 0x11, &ADDRESSES[..11]),
            too_long,
            field_beyond,
        ] {
            assert!(read(&header).is_err(), "{header:?}");
        }
    }
}
