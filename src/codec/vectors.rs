//! The tables of `packets.rs` both ways: what is valid decodes and encodes to the same bytes again, what is not is
//! refused with the Reason Code beside it. They test the room through its door, whichever file keeps the promise.
//! Read `sweeps.rs` for what follows from them.

use super::packets::{REFUSED, VALID, VALID_OTHERWISE, bytes};
use super::{Characters, Header, Limits, Packet, Sender, Version, Violation};

pub(super) const LIMITS: Limits = Limits {
    packet_size_max: 1 << 20,
    user_properties_max: 64,
    property_bytes_max: 1 << 16,
    characters: Characters::Strict,
};

#[test]
fn what_is_valid_decodes_and_encodes_to_the_same_bytes() {
    for &(from, version, hex) in VALID {
        check_encoding(from, version, hex, hex);
    }
    for &(from, version, hex, encoded) in VALID_OTHERWISE {
        check_encoding(from, version, hex, encoded);
        check_encoding(from, version, encoded, encoded);
    }
}

fn check_encoding(from: Sender, version: Version, hex: &str, expected: &str) {
    let bytes = bytes(hex);
    let packet = decode(&bytes, from, version).unwrap_or_else(|why| panic!("{hex}: {why}"));
    let mut encoded = Vec::new();
    packet.encode(version, &mut encoded);
    assert_eq!(encoded, super::packets::bytes(expected), "{hex} became {encoded:02x?}, from {packet:?}");
}

#[test]
fn what_is_not_valid_is_refused_with_its_reason() {
    for &(from, version, hex, reason) in REFUSED {
        match decode(&bytes(hex), from, version) {
            Err(violation) => assert_eq!(violation.reason, reason, "{hex}: {violation}"),
            Ok(packet) => panic!("{hex} became {packet:?}"),
        }
    }
}

/// Decodes a buffer that holds one packet and nothing else.
pub(super) fn decode(bytes: &[u8], from: Sender, version: Version) -> Result<Packet<'_>, Violation> {
    decode_within(bytes, from, version, &LIMITS)
}

pub(super) fn decode_within<'a>(
    bytes: &'a [u8],
    from: Sender,
    version: Version,
    limits: &Limits,
) -> Result<Packet<'a>, Violation> {
    let header = Header::decode(bytes, from, version, limits)?.expect("a whole fixed header");
    assert_eq!(header.packet_size(), bytes.len(), "{bytes:02x?}");
    Packet::decode(&header, &bytes[header.header_size()..], version, limits)
}
