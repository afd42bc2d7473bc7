//! Byte tables that serve both ways: what is valid decodes and encodes to the same bytes again, what is not is refused
//! with the Reason Code beside it. They test the room through its door, whichever file keeps the promise.
//! Read `sweeps.rs` for what follows from them.

use super::ReasonCode::{
    ClientIdentifierNotValid, MalformedPacket, PacketTooLarge, ProtocolError, TopicAliasInvalid,
    TopicNameInvalid, UnsupportedProtocolVersion,
};
use super::Sender::{Client, Server};
use super::Version::{V3_1, V3_1_1, V5};
use super::{Characters, Header, Limits, Packet, ReasonCode, Sender, Version, Violation};

pub(super) const LIMITS: Limits = Limits {
    packet_size_max: 1 << 20,
    user_properties_max: 64,
    property_bytes_max: 1 << 16,
    characters: Characters::Strict,
};

/// Valid packets, each in the form in which it is encoded.
#[rustfmt::skip]
pub(super) const VALID: &[(Sender, Version, &str)] = &[
    // CONNECT: the least, then with everything it can have, one part at a time.
    (Client, V5, "100e 0004 4d515454 05 02 003c 00 0001 63"),
    (Client, V5, "100d 0004 4d515454 05 02 003c 00 0000"),
    (Client, V5, "1030 0004 4d515454 05 02 003c 22 1100000009 210005 2700010000 220007 1901 1700 260001610001 31 260001610001 32 0001 63"),
    (Client, V5, "101b 0004 4d515454 05 02 003c 0d 150005 5343 52414d 16 0002 00ff 0001 63"),
    (Client, V5, "1038 0004 4d515454 05 2e 003c 00 0001 63 1f 1800000005 0101 0200000009 030001 74 080001 72 090001 00 260001 6b 0001 76 0003 772f74 0003 627965"),
    (Client, V5, "1016 0004 4d515454 05 c2 003c 00 0001 63 0001 75 0003 ff00fe"),
    (Client, V5, "1011 0004 4d515454 05 42 003c 00 0001 63 0001 70"),
    (Client, V5, "1010 0004 4d515454 05 82 003c 00 0001 63 0000"),
    (Client, V3_1_1, "100d 0004 4d515454 04 02 003c 0001 63"),
    (Client, V3_1_1, "100c 0004 4d515454 04 00 0000 0000"),
    (Client, V3_1_1, "1018 0004 4d515454 04 f6 003c 0001 63 0001 77 0000 0001 75 0001 70"),
    (Client, V3_1_1, "100d 0004 4d515454 84 02 003c 0001 63"),
    (Client, V3_1, "100f 0006 4d5149736470 03 02 003c 0001 63"),
    (Client, V3_1, "100f 0006 4d5149736470 83 00 003c 0001 63"),
    // CONNACK
    (Server, V5, "2003 00 00 00"),
    (Server, V5, "2003 01 00 00"),
    (Server, V5, "2003 00 87 00"),
    (Server, V5, "204b 00 00 48 1100000001 210002 2401 2500 2700000003 120001 61 220004 1f0001 62 2800 2901 2a00 130005 1a0001 63 1c0001 64 150001 65 160001 00 260001 66 0001 67 260001 66 0001 68 260000 0000"),
    (Server, V3_1_1, "2002 01 00"),
    (Server, V3_1_1, "2002 00 05"),
    (Server, V3_1, "2002 00 02"),
    // PUBLISH
    (Client, V5, "3006 0003 612f62 00"),
    (Client, V5, "3d0c 0003 612f62 0102 00 70617921"),
    (Client, V5, "342f 0003 612f62 0001 26 0101 0200000009 230001 080001 72 090002 6364 260001 61 0001 31 260001 61 0001 31 030002 6374 78"),
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
    (Client, V5, "e01d 04 1b 1100000000 1f0001 72 1c0003 737276 260001 61 0001 62 260000 0000"),
    (Server, V5, "e002 8e 00"),
    (Server, V5, "e013 9c 11 1f0001 72 1c0003 737276 260001 61 0001 62"),
    (Client, V3_1_1, "e000"),
    (Client, V3_1, "e000"),
    // AUTH
    (Server, V5, "f000"),
    (Server, V5, "f00a 00 08 150005 534352414d"),
    (Client, V5, "f00e 18 0c 150005 534352414d 160001 01"),
    (Client, V5, "f011 19 0f 150001 53 1f0001 72 260001 61 0001 62"),
];

/// Valid packets that are encoded in another form than this one.
#[rustfmt::skip]
const VALID_OTHERWISE: &[(Sender, Version, &str, &str)] = &[
    (Client, V5, "4003 0001 10", "4004 0001 10 00"),
    (Client, V5, "4003 0001 00", "4002 0001"),
    (Client, V5, "4004 0001 00 00", "4002 0001"),
    (Client, V5, "6203 0001 92", "6204 0001 92 00"),
    (Client, V5, "7003 0001 92", "7004 0001 92 00"),
    (Client, V5, "e000", "e002 00 00"),
    (Client, V5, "e001 04", "e002 04 00"),
    // Properties in another order, and values that are the default.
    (Client, V5, "1013 0004 4d515454 05 02 003c 05 1100000000 0001 63", "100e 0004 4d515454 05 02 003c 00 0001 63"),
    (Client, V5, "1016 0004 4d515454 05 02 003c 08 220001 1100000007 0001 63", "1016 0004 4d515454 05 02 003c 08 1100000007 220001 0001 63"),
    // MQTT 3.1: credentials that the flags announce may be missing; DUP on packets other than PUBLISH.
    (Client, V3_1, "100f 0006 4d5149736470 03 c2 003c 0001 63", "100f 0006 4d5149736470 03 02 003c 0001 63"),
    (Client, V3_1, "6a02 0001", "6202 0001"),
    (Client, V3_1, "8a06 000a 0001 61 01", "8206 000a 0001 61 01"),
    (Client, V3_1, "aa05 000a 0001 61", "a205 000a 0001 61"),
    (Server, V3_1, "2002 ff 00", "2002 00 00"),
];

/// Packets that are refused, with what an MQTT 5 peer is told.
#[rustfmt::skip]
const REFUSED: &[(Sender, Version, &str, ReasonCode)] = &[
    // Types and sides.
    (Client, V5, "0000", MalformedPacket),
    (Client, V3_1_1, "0f00", MalformedPacket),
    (Client, V3_1_1, "f000", MalformedPacket),
    (Server, V3_1, "f000", MalformedPacket),
    (Client, V5, "2003 00 00 00", ProtocolError),
    (Client, V5, "9004 0001 00 00", ProtocolError),
    (Client, V5, "b004 0001 00 00", ProtocolError),
    (Client, V5, "d000", ProtocolError),
    (Client, V5, "d001 00", ProtocolError),
    (Server, V5, "100d 0004 4d515454 05 02 003c 00 0000", ProtocolError),
    (Server, V5, "8207 0001 00 0001 61 00", ProtocolError),
    (Server, V5, "a206 0001 00 0001 61", ProtocolError),
    (Server, V5, "c000", ProtocolError),
    (Server, V3_1_1, "e000", ProtocolError),
    // Remaining Length.
    (Client, V5, "c08000", MalformedPacket),
    (Client, V5, "30808000", MalformedPacket),
    (Client, V5, "3082808000", MalformedPacket),
    (Client, V5, "30ffffffff7f", MalformedPacket),
    (Client, V5, "308080808001", MalformedPacket),
    (Client, V5, "c001 00", MalformedPacket),
    (Client, V5, "30818040", PacketTooLarge),
    (Client, V5, "30ffffff7f", PacketTooLarge),
    (Client, V3_1_1, "4003 0001 00", MalformedPacket),
    (Client, V3_1_1, "e002 00 00", MalformedPacket),
    (Server, V3_1_1, "b003 0001 00", MalformedPacket),
    (Server, V5, "2002 00 00", MalformedPacket),
    (Client, V5, "4001 00", MalformedPacket),
    (Client, V5, "f001 18", MalformedPacket),
    // CONNECT: name, level, flags.
    (Client, V5, "100e 0004 4d515458 05 02 003c 00 0001 63", UnsupportedProtocolVersion),
    (Client, V5, "100e 0004 6d717474 05 02 003c 00 0001 63", UnsupportedProtocolVersion),
    (Client, V5, "100f 0005 4d51545400 05 02 003c 00 0001 63", UnsupportedProtocolVersion),
    (Client, V5, "100e 0004 4d515454 00 02 003c 00 0001 63", UnsupportedProtocolVersion),
    (Client, V5, "100e 0004 4d515454 03 02 003c 00 0001 63", UnsupportedProtocolVersion),
    (Client, V5, "100e 0004 4d515454 06 02 003c 00 0001 63", UnsupportedProtocolVersion),
    (Client, V5, "100e 0004 4d515454 85 02 003c 00 0001 63", UnsupportedProtocolVersion),
    (Client, V5, "1010 0006 4d5149736470 05 02 003c 00 0001 63", UnsupportedProtocolVersion),
    (Client, V5, "100e 0004 4d515454 05 03 003c 00 0001 63", MalformedPacket),
    (Client, V3_1_1, "100d 0004 4d515454 04 03 003c 0001 63", MalformedPacket),
    (Client, V3_1, "100f 0006 4d5149736470 03 03 003c 0001 63", MalformedPacket),
    (Client, V5, "1015 0004 4d515454 05 1e 003c 00 0001 63 00 0001 74 0001 6d", MalformedPacket),
    (Client, V5, "100e 0004 4d515454 05 0a 003c 00 0001 63", MalformedPacket),
    (Client, V5, "100e 0004 4d515454 05 12 003c 00 0001 63", MalformedPacket),
    (Client, V5, "100e 0004 4d515454 05 1a 003c 00 0001 63", MalformedPacket),
    (Client, V5, "100e 0004 4d515454 05 22 003c 00 0001 63", MalformedPacket),
    (Client, V3_1_1, "1010 0004 4d515454 04 42 003c 0001 63 0001 70", MalformedPacket),
    (Client, V3_1, "1012 0006 4d5149736470 03 42 003c 0001 63 0001 70", MalformedPacket),
    // CONNECT: payload and flags disagree.
    (Client, V5, "1010 0004 4d515454 05 02 003c 00 0001 63 7a7a", MalformedPacket),
    (Client, V5, "100e 0004 4d515454 05 82 003c 00 0001 63", MalformedPacket),
    (Client, V5, "100e 0004 4d515454 05 42 003c 00 0001 63", MalformedPacket),
    (Client, V5, "1011 0004 4d515454 05 c2 003c 00 0001 63 0001 75", MalformedPacket),
    (Client, V5, "100e 0004 4d515454 05 06 003c 00 0001 63", MalformedPacket),
    (Client, V3_1_1, "1010 0004 4d515454 04 02 003c 0001 63 0001 75", MalformedPacket),
    (Client, V3_1_1, "100d 0004 4d515454 04 82 003c 0001 63", MalformedPacket),
    // CONNECT: properties and Will.
    (Client, V5, "1011 0004 4d515454 05 02 003c 03 210000 0001 63", ProtocolError),
    (Client, V5, "1013 0004 4d515454 05 02 003c 05 2700000000 0001 63", ProtocolError),
    (Client, V5, "1010 0004 4d515454 05 02 003c 02 1702 0001 63", ProtocolError),
    (Client, V5, "1010 0004 4d515454 05 02 003c 02 19ff 0001 63", ProtocolError),
    (Client, V5, "1012 0004 4d515454 05 02 003c 04 160001 01 0001 63", ProtocolError),
    (Client, V5, "100f 0004 4d515454 05 02 003c c801 0001 63", MalformedPacket),
    (Client, V5, "1014 0004 4d515454 05 06 003c 00 0001 63 00 0000 0001 6d", TopicNameInvalid),
    (Client, V5, "1015 0004 4d515454 05 06 003c 00 0001 63 00 0001 2b 0001 6d", TopicNameInvalid),
    (Client, V5, "1017 0004 4d515454 05 06 003c 00 0001 63 00 0003 612f23 0001 6d", TopicNameInvalid),
    (Client, V3_1_1, "1012 0004 4d515454 04 06 003c 0001 63 0000 0001 6d", TopicNameInvalid),
    (Client, V5, "100e 0004 4d515454 05 02 003c 00 0001 1b", ClientIdentifierNotValid),
    (Client, V5, "100f 0004 4d515454 05 02 003c 00 0002 c285", ClientIdentifierNotValid),
    (Client, V3_1_1, "100f 0004 4d515454 04 02 003c 0003 efbfbe", ClientIdentifierNotValid),
    // CONNACK
    (Server, V5, "2003 02 00 00", MalformedPacket),
    (Server, V5, "2003 01 87 00", ProtocolError),
    (Server, V5, "2003 00 55 00", MalformedPacket),
    (Server, V5, "2003 00 92 00", ProtocolError),
    (Server, V5, "2004 00 00 00 00", MalformedPacket),
    (Server, V5, "2005 00 00 02 2402", ProtocolError),
    (Server, V5, "2005 00 00 02 2502", ProtocolError),
    (Server, V3_1_1, "2002 01 05", ProtocolError),
    (Server, V3_1_1, "2002 00 06", MalformedPacket),
    (Server, V3_1_1, "2002 80 00", MalformedPacket),
    // PUBLISH
    (Client, V5, "3606 0001 61 0001 00", MalformedPacket),
    (Client, V3_1_1, "3e05 0001 61 0001", MalformedPacket),
    (Client, V5, "3804 0001 61 00", MalformedPacket),
    (Client, V3_1, "3803 0001 61", MalformedPacket),
    (Client, V5, "3206 0001 61 0000 00", MalformedPacket),
    (Client, V3_1_1, "3405 0001 61 0000", MalformedPacket),
    (Client, V5, "3003 0001 61", MalformedPacket),
    (Client, V5, "3002 0000", MalformedPacket),
    (Client, V5, "3003 0000 00", ProtocolError),
    (Client, V3_1_1, "3002 0000", ProtocolError),
    (Client, V5, "3205 0000 0001 00", ProtocolError),
    (Client, V5, "3006 0003 612f2b 00", TopicNameInvalid),
    (Client, V5, "3004 0001 23 00", TopicNameInvalid),
    (Client, V3_1_1, "3005 0003 2b2f61", TopicNameInvalid),
    (Client, V5, "3004 0001 61 80", MalformedPacket),
    (Client, V5, "3006 0001 61 8000 78", MalformedPacket),
    (Client, V5, "3009 0001 61 8080808001 78", MalformedPacket),
    (Client, V5, "300d 0001 61 01 01 01 7061796c6f6164", MalformedPacket),
    (Client, V5, "300e 0001 61 03 030004 7061796c6f6164", MalformedPacket),
    (Client, V5, "3007 0001 61 03 230000", TopicAliasInvalid),
    (Client, V5, "300a 0001 61 06 230001 230002", ProtocolError),
    (Client, V5, "3006 0001 61 02 0102", ProtocolError),
    (Client, V5, "3006 0001 61 02 0b01", ProtocolError),
    (Client, V5, "3006 0001 61 02 0b00", ProtocolError),
    (Server, V5, "3006 0001 61 02 0b00", ProtocolError),
    (Server, V5, "3009 0001 61 05 0b80808080", MalformedPacket),
    (Client, V5, "300a 0001 61 06 080003 612f23", ProtocolError),
    (Client, V5, "3007 0001 61 03 080000", ProtocolError),
    (Client, V5, "3008 0001 61 04 080001 1b", MalformedPacket),
    // Acknowledgements
    (Client, V5, "4002 0000", MalformedPacket),
    (Client, V3_1_1, "7002 0000", MalformedPacket),
    (Client, V5, "4003 0001 55", MalformedPacket),
    (Client, V5, "4003 0001 92", ProtocolError),
    (Client, V5, "5003 0001 01", ProtocolError),
    (Client, V5, "6203 0001 10", ProtocolError),
    (Client, V5, "7003 0001 80", ProtocolError),
    (Client, V5, "4005 0001 00 00 00", MalformedPacket),
    (Client, V5, "4004 0001 00 01", MalformedPacket),
    // SUBSCRIBE and SUBACK
    (Client, V5, "8207 0000 00 0001 61 00", MalformedPacket),
    (Client, V5, "8203 0001 00", ProtocolError),
    (Client, V3_1_1, "8202 0001", ProtocolError),
    (Client, V5, "8207 0001 00 0001 61 40", MalformedPacket),
    (Client, V5, "8207 0001 00 0001 61 80", MalformedPacket),
    (Client, V5, "8207 0001 00 0001 61 03", ProtocolError),
    (Client, V5, "8207 0001 00 0001 61 30", ProtocolError),
    (Client, V3_1_1, "8206 0001 0001 61 04", MalformedPacket),
    (Client, V3_1_1, "8206 0001 0001 61 03", ProtocolError),
    (Client, V3_1, "8206 0001 0001 61 80", MalformedPacket),
    (Client, V5, "8206 0001 00 0001 61", MalformedPacket),
    (Client, V5, "8209 0001 02 0b00 0001 61 00", ProtocolError),
    (Client, V5, "820b 0001 04 0b01 0b02 0001 61 00", ProtocolError),
    (Client, V5, "8210 0001 00 000a 2473686172652f672f61 05", ProtocolError),
    (Server, V5, "9003 0001 00", MalformedPacket),
    (Server, V5, "9004 0001 00 03", MalformedPacket),
    (Server, V5, "9004 0001 00 11", ProtocolError),
    (Server, V3_1_1, "9003 0001 87", MalformedPacket),
    (Server, V3_1_1, "9003 0000 00", MalformedPacket),
    // UNSUBSCRIBE and UNSUBACK
    (Client, V5, "a203 0001 00", ProtocolError),
    (Client, V3_1_1, "a202 0001", ProtocolError),
    (Client, V5, "a206 0000 00 0001 61", MalformedPacket),
    (Client, V5, "a206 0001 00 0002 61", MalformedPacket),
    (Server, V5, "b003 0001 00", MalformedPacket),
    (Server, V5, "b004 0001 00 01", ProtocolError),
    (Server, V3_1_1, "b002 0000", MalformedPacket),
    // DISCONNECT and AUTH
    (Client, V5, "e001 55", MalformedPacket),
    (Client, V5, "e001 8e", ProtocolError),
    (Server, V5, "e001 04", ProtocolError),
    (Client, V5, "e003 00 00 07", MalformedPacket),
    (Server, V5, "e007 00 05 1100000001", ProtocolError),
    (Client, V5, "f000", ProtocolError),
    (Client, V5, "f006 77 04 150001 53", MalformedPacket),
    (Client, V5, "f006 00 04 150001 53", ProtocolError),
    (Server, V5, "f006 19 04 150001 53", ProtocolError),
    (Client, V5, "f002 18 00", ProtocolError),
    (Client, V5, "f006 18 04 160001 01", ProtocolError),
    (Client, V5, "f007 18 04 150001 53 00", MalformedPacket),
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
pub(super) fn decode(
    bytes: &[u8],
    from: Sender,
    version: Version,
) -> Result<Packet<'_>, Violation> {
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

pub(super) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect()
}
