//! Byte tables that serve both ways: what is valid decodes and encodes to the same bytes again, what is not is refused
//! with the Reason Code beside it. Then what follows from the valid ones: every cut, every surplus byte, every flag.
//! It tests the room through its door only; what one file promises beyond that is tested there.

use super::Sender::{Client, Server};
use super::Version::{V3_1, V3_1_1, V5};
use super::{Characters, Header, Limits, Packet, Sender, Version, Violation};

const LIMITS: Limits = Limits {
    packet_size_max: 1 << 20,
    user_properties_max: 64,
    property_bytes_max: 1 << 16,
    characters: Characters::Strict,
};

/// Valid packets, each in the form in which it is encoded.
const VALID: &[(Sender, Version, &str)] = &[
    // CONNECT: the least, then with everything it can have, one part at a time.
    (Client, V5, "100e 0004 4d515454 05 02 003c 00 0001 63"),
    (Client, V5, "100d 0004 4d515454 05 02 003c 00 0000"),
    (
        Client,
        V5,
        "1030 0004 4d515454 05 02 003c 22 1100000009 210005 2700010000 220007 1901 1700 260001610001 31 260001610001 32 0001 63",
    ),
    (
        Client,
        V5,
        "101b 0004 4d515454 05 02 003c 0d 150005 5343 52414d 16 0002 00ff 0001 63",
    ),
    (
        Client,
        V5,
        "1038 0004 4d515454 05 2e 003c 00 0001 63 1f 1800000005 0101 0200000009 030001 74 080001 72 090001 00 260001 6b 0001 76 0003 772f74 0003 627965",
    ),
    (
        Client,
        V5,
        "1016 0004 4d515454 05 c2 003c 00 0001 63 0001 75 0003 ff00fe",
    ),
    (
        Client,
        V5,
        "1011 0004 4d515454 05 42 003c 00 0001 63 0001 70",
    ),
    (Client, V5, "1010 0004 4d515454 05 82 003c 00 0001 63 0000"),
    (Client, V3_1_1, "100d 0004 4d515454 04 02 003c 0001 63"),
    (Client, V3_1_1, "100c 0004 4d515454 04 00 0000 0000"),
    (
        Client,
        V3_1_1,
        "1018 0004 4d515454 04 f6 003c 0001 63 0001 77 0000 0001 75 0001 70",
    ),
    (Client, V3_1_1, "100d 0004 4d515454 84 02 003c 0001 63"),
    (Client, V3_1, "100f 0006 4d5149736470 03 02 003c 0001 63"),
    (Client, V3_1, "100f 0006 4d5149736470 83 00 003c 0001 63"),
    // CONNACK
    (Server, V5, "2003 00 00 00"),
    (Server, V5, "2003 01 00 00"),
    (Server, V5, "2003 00 87 00"),
    (
        Server,
        V5,
        "204b 00 00 48 1100000001 210002 2401 2500 2700000003 120001 61 220004 1f0001 62 2800 2901 2a00 130005 1a0001 63 1c0001 64 150001 65 160001 00 260001 66 0001 67 260001 66 0001 68 260000 0000",
    ),
    (Server, V3_1_1, "2002 01 00"),
    (Server, V3_1_1, "2002 00 05"),
    (Server, V3_1, "2002 00 02"),
    // PUBLISH
    (Client, V5, "3006 0003 612f62 00"),
    (Client, V5, "3d0c 0003 612f62 0102 00 70617921"),
    (
        Client,
        V5,
        "342f 0003 612f62 0001 26 0101 0200000009 230001 080001 72 090002 6364 260001 61 0001 31 260001 61 0001 31 030002 6374 78",
    ),
    (Server, V5, "300b 0001 61 07 0b01 0b8001 0b02"),
    (Client, V5, "3007 0000 03 230001 78"),
    (Client, V5, "300a 0001 61 05 0200000000 78"),
    (Client, V5, "3007 0001 61 02 0100 78"),
    (Client, V5, "3007 0004 efbbbf61 00"),
    (Client, V5, "3007 0004 f09f9880 00"),
    (Client, V3_1_1, "3003 0001 61"),
    (Client, V3_1_1, "3306 0001 61 0007 78"),
    (Server, V3_1, "3d06 0001 61 ffff 78"),
    // PUBACK, PUBREC, PUBREL, PUBCOMP
    (Client, V5, "4002 0001"),
    (Client, V5, "4004 0001 10 00"),
    (Client, V5, "400f 0001 87 0b 1f0001 72 260001 6b 0001 76"),
    (Server, V5, "5002 0001"),
    (Server, V5, "5004 ffff 97 00"),
    (Server, V5, "500f 0001 00 0b 1f0001 72 260001 6b 0001 76"),
    (Client, V5, "6202 0001"),
    (Client, V5, "6204 0001 92 00"),
    (Client, V5, "620f 0001 92 0b 1f0001 72 260001 6b 0001 76"),
    (Client, V5, "7002 0001"),
    (Client, V5, "7004 0001 92 00"),
    (Client, V5, "700f 0001 00 0b 1f0001 72 260001 6b 0001 76"),
    (Server, V3_1_1, "4002 0001"),
    (Client, V3_1_1, "5002 0001"),
    (Client, V3_1_1, "6202 0001"),
    (Server, V3_1, "7002 0001"),
    // SUBSCRIBE and SUBACK
    (Client, V5, "820e 000a 03 0b8002 0005 612f2b2f23 2d"),
    (Client, V5, "8212 000a 00 000c 2473686172652f672f612f23 01"),
    (Client, V5, "820a 0001 00 0000 00 0001 23 18"),
    (Client, V5, "820e 0001 07 260001 6b 0001 76 0001 61 02"),
    (Client, V3_1_1, "820a 000a 0001 61 00 0001 62 02"),
    (Client, V3_1, "8206 000a 0001 61 01"),
    (Server, V5, "9007 0001 00 00010287"),
    (Server, V5, "900f 0001 0b 1f0001 72 260001 6b 0001 76 a2"),
    (Server, V3_1_1, "9006 0001 00010280"),
    // UNSUBSCRIBE and UNSUBACK
    (Client, V5, "a208 0001 00 0003 612f62"),
    (Client, V5, "a210 0001 07 260001 6b 0001 76 0001 61 0001 62"),
    (Client, V3_1_1, "a207 0001 0003 612f62"),
    (Server, V5, "b005 0001 00 0011"),
    (Server, V5, "b00f 0001 0b 1f0001 72 260001 6b 0001 76 8f"),
    (Server, V3_1_1, "b002 0001"),
    // PINGREQ and PINGRESP
    (Client, V5, "c000"),
    (Server, V5, "d000"),
    (Client, V3_1, "c000"),
    (Server, V3_1_1, "d000"),
    // DISCONNECT
    (Client, V5, "e002 00 00"),
    (Client, V5, "e002 04 00"),
    (
        Client,
        V5,
        "e01d 04 1b 1100000000 1f0001 72 1c0003 737276 260001 61 0001 62 260000 0000",
    ),
    (Server, V5, "e002 8e 00"),
    (
        Server,
        V5,
        "e013 9c 11 1f0001 72 1c0003 737276 260001 61 0001 62",
    ),
    (Client, V3_1_1, "e000"),
    (Client, V3_1, "e000"),
    // AUTH
    (Server, V5, "f000"),
    (Server, V5, "f00a 00 08 150005 534352414d"),
    (Client, V5, "f00e 18 0c 150005 534352414d 160001 01"),
    (
        Client,
        V5,
        "f011 19 0f 150001 53 1f0001 72 260001 61 0001 62",
    ),
];

/// Valid packets that are encoded in another form than this one.
const VALID_OTHERWISE: &[(Sender, Version, &str, &str)] = &[
    (Client, V5, "4003 0001 10", "4004 0001 10 00"),
    (Client, V5, "4003 0001 00", "4002 0001"),
    (Client, V5, "4004 0001 00 00", "4002 0001"),
    (Client, V5, "6203 0001 92", "6204 0001 92 00"),
    (Client, V5, "7003 0001 92", "7004 0001 92 00"),
    (Client, V5, "e000", "e002 00 00"),
    (Client, V5, "e001 04", "e002 04 00"),
    // Properties in another order, and values that are the default.
    (
        Client,
        V5,
        "1013 0004 4d515454 05 02 003c 05 1100000000 0001 63",
        "100e 0004 4d515454 05 02 003c 00 0001 63",
    ),
    (
        Client,
        V5,
        "1016 0004 4d515454 05 02 003c 08 220001 1100000007 0001 63",
        "1016 0004 4d515454 05 02 003c 08 1100000007 220001 0001 63",
    ),
    // MQTT 3.1: credentials that the flags announce may be missing; DUP on packets other than PUBLISH.
    (
        Client,
        V3_1,
        "100f 0006 4d5149736470 03 c2 003c 0001 63",
        "100f 0006 4d5149736470 03 02 003c 0001 63",
    ),
    (Client, V3_1, "6a02 0001", "6202 0001"),
    (Client, V3_1, "8a06 000a 0001 61 01", "8206 000a 0001 61 01"),
    (Client, V3_1, "aa05 000a 0001 61", "a205 000a 0001 61"),
    (Server, V3_1, "2002 ff 00", "2002 00 00"),
];

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
    assert_eq!(
        encoded,
        self::bytes(expected),
        "{hex} became {encoded:02x?}, from {packet:?}"
    );
}

/// Decodes a buffer that holds one packet and nothing else.
fn decode(bytes: &[u8], from: Sender, version: Version) -> Result<Packet<'_>, Violation> {
    let header = Header::decode(bytes, from, version, &LIMITS)?.expect("a whole fixed header");
    assert_eq!(header.packet_size(), bytes.len(), "{bytes:02x?}");
    Packet::decode(&header, &bytes[header.header_size()..], version, &LIMITS)
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect()
}
