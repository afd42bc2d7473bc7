//! Sweeps over everything that can be enumerated: every cut, every surplus byte, every flag, every property in every
//! place once and twice, every bad string in every field. They test the room through its door.
//! Read `packets.rs` for the packets they start from.

use super::ReasonCode::{ClientIdentifierNotValid, MalformedPacket, PacketTooLarge, ProtocolError, QuotaExceeded};
use super::Sender::{Client, Server};
use super::Version::{V3_1, V3_1_1, V5};
use super::packets::{VALID, bytes};
use super::vectors::{LIMITS, decode, decode_within};
use super::{Characters, Header, Limits, Packet, PacketType, Place, PropertyId, ReasonCode, Sender, Version};

#[test]
fn a_fixed_header_waits_for_what_it_needs_and_no_longer() {
    for &(from, version, hex) in VALID {
        let bytes = bytes(hex);
        for end in 0..bytes.len() {
            let header = Header::decode(&bytes[..end], from, version, &LIMITS).expect(hex);
            assert_eq!(header.is_some(), end >= 2, "{hex} up to {end}");
        }
    }
    // Refused by the first byte, and by the fourth byte of the length.
    for bytes in [&[0x00][..], &[0xc1], &[0x36], &[0x38], &[0x20], &[0x30, 0x80, 0x80, 0x80, 0x80]] {
        assert!(Header::decode(bytes, Client, V5, &LIMITS).is_err(), "{bytes:02x?}");
    }
    assert_eq!(Header::decode(&[0x30, 0x80, 0x80, 0x80], Client, V5, &LIMITS), Ok(None));
}

#[test]
fn a06_a_packet_cut_anywhere_is_refused_or_is_another_valid_one() {
    for &(from, version, hex) in VALID {
        let whole = bytes(hex);
        for end in 2..whole.len() {
            let mut cut = whole[..end].to_vec();
            cut[1] = (end - 2) as u8;
            match decode(&cut, from, version) {
                Err(violation) => assert!(
                    matches!(violation.reason, MalformedPacket | ProtocolError),
                    "{hex} up to {end}: {violation}"
                ),
                Ok(packet) => {
                    let mut encoded = Vec::new();
                    packet.encode(version, &mut encoded);
                    let again = decode(&encoded, from, version);
                    assert_eq!(again, Ok(packet), "{hex} up to {end}");
                    assert!(
                        !matches!(packet, Packet::Connect(_) | Packet::ConnAck(_) | Packet::PingReq) || version == V3_1,
                        "{hex} up to {end}"
                    );
                }
            }
        }
    }
}

#[test]
fn a07_surplus_bytes_are_refused() {
    for &(from, version, hex) in VALID {
        let mut packet = bytes(hex);
        if packet[0] >> 4 == PacketType::Publish.value() {
            continue; // its payload has no end of its own
        }
        for _ in 0..8 {
            packet.push(0xff);
            packet[1] += 1;
            let reason = decode(&packet, from, version).map_err(|violation| violation.reason);
            assert_eq!(reason, Err(MalformedPacket), "{packet:02x?}");
        }
    }
}

#[test]
fn a08_every_other_flag_is_refused() {
    for kind in PacketType::ALL {
        for flags in 0..16 {
            for from in [Client, Server] {
                for version in [V3_1, V3_1_1, V5] {
                    let first = kind.value() << 4 | flags;
                    let refused =
                        Header::decode(&[first], from, version, &LIMITS).err().map(|violation| violation.reason);
                    let defined = match kind {
                        PacketType::Publish => flags & 0b0110 != 0b0110 && flags & 0b1110 != 0b1000,
                        PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => {
                            flags == 0b0010 || version == V3_1 && flags == 0b1010
                        }
                        _ => flags == 0,
                    };
                    if !defined {
                        assert_eq!(refused, Some(MalformedPacket), "{first:02x}");
                    } else if kind == PacketType::Auth && version != V5 {
                        assert_eq!(refused, Some(MalformedPacket));
                    } else {
                        assert!(matches!(refused, None | Some(ProtocolError)), "{first:02x}");
                    }
                }
            }
        }
    }
}

/// A packet of MQTT 5 with this property section, otherwise as small as can be.
fn packet_with(place: Place, section: &[u8]) -> (Sender, Vec<u8>) {
    #[rustfmt::skip]
    let (from, first, before, after) = match place {
        Place::Connect => (Client, 0x10, "0004 4d515454 05 02 0000", "0000"),
        Place::Will => (Client, 0x10, "0004 4d515454 05 06 0000 00 0000", "0001 77 0000"),
        Place::ConnAck => (Server, 0x20, "00 00", ""),
        Place::PublishByClient => (Client, 0x30, "0001 74", "70"),
        Place::PublishByServer => (Server, 0x30, "0001 74", "70"),
        Place::PubAck => (Client, 0x40, "0001 00", ""),
        Place::PubRec => (Client, 0x50, "0001 00", ""),
        Place::PubRel => (Client, 0x62, "0001 00", ""),
        Place::PubComp => (Client, 0x70, "0001 00", ""),
        Place::Subscribe => (Client, 0x82, "0001", "0001 66 00"),
        Place::SubAck => (Server, 0x90, "0001", "00"),
        Place::Unsubscribe => (Client, 0xa2, "0001", "0001 66"),
        Place::UnsubAck => (Server, 0xb0, "0001", "00"),
        Place::DisconnectByClient => (Client, 0xe0, "00", ""),
        Place::DisconnectByServer => (Server, 0xe0, "00", ""),
        Place::Auth => (Client, 0xf0, "18", ""),
    };
    let mut body = bytes(before);
    body.push(u8::try_from(section.len()).expect("a section of one byte of length"));
    body.extend_from_slice(section);
    body.extend(bytes(after));
    let mut packet = vec![first, u8::try_from(body.len()).expect("a body of one byte of length")];
    packet.extend(body);
    (from, packet)
}

fn refusal(place: Place, section: &[u8]) -> Option<ReasonCode> {
    let (from, packet) = packet_with(place, section);
    decode(&packet, from, V5).err().map(|violation| violation.reason)
}

/// A property with a value that is valid wherever it may stand.
fn property(id: PropertyId) -> Vec<u8> {
    let value = match id.value() {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2a => "01",
        0x0b => "ffffff7f",
        0x13 | 0x21..=0x23 => "0001",
        0x02 | 0x11 | 0x18 | 0x27 => "00000001",
        0x26 => "0001 6b 0001 76",
        _ => "0001 61",
    };
    let mut property = vec![id.value()];
    property.extend(bytes(value));
    property
}

/// What has to stand before a property so that nothing else is wrong.
fn company(id: PropertyId, place: Place) -> Vec<u8> {
    match (id, place) {
        (PropertyId::AuthenticationMethod, _) => Vec::new(),
        (_, Place::Auth) | (PropertyId::AuthenticationData, Place::Connect) => {
            property(PropertyId::AuthenticationMethod)
        }
        _ => Vec::new(),
    }
}

/// Where the standard allows what: the last table of its section 2.2.2, by the numbers of the packets, with 0 for the
/// Will. Written down a second time on purpose.
const ALLOWED: &[(u8, &[u8])] = &[
    (0x01, &[3, 0]),
    (0x02, &[3, 0]),
    (0x03, &[3, 0]),
    (0x08, &[3, 0]),
    (0x09, &[3, 0]),
    (0x0b, &[3, 8]),
    (0x11, &[1, 2, 14]),
    (0x12, &[2]),
    (0x13, &[2]),
    (0x15, &[1, 2, 15]),
    (0x16, &[1, 2, 15]),
    (0x17, &[1]),
    (0x18, &[0]),
    (0x19, &[1]),
    (0x1a, &[2]),
    (0x1c, &[2, 14]),
    (0x1f, &[2, 4, 5, 6, 7, 9, 11, 14, 15]),
    (0x21, &[1, 2]),
    (0x22, &[1, 2]),
    (0x23, &[3]),
    (0x24, &[2]),
    (0x25, &[2]),
    (0x26, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15]),
    (0x27, &[1, 2]),
    (0x28, &[2]),
    (0x29, &[2]),
    (0x2a, &[2]),
];

fn number(place: Place) -> u8 {
    match place {
        Place::Will => 0,
        Place::Connect => 1,
        Place::ConnAck => 2,
        Place::PublishByClient | Place::PublishByServer => 3,
        Place::PubAck => 4,
        Place::PubRec => 5,
        Place::PubRel => 6,
        Place::PubComp => 7,
        Place::Subscribe => 8,
        Place::SubAck => 9,
        Place::Unsubscribe => 10,
        Place::UnsubAck => 11,
        Place::DisconnectByClient | Place::DisconnectByServer => 14,
        Place::Auth => 15,
    }
}

#[test]
fn d02_d03_every_property_in_every_place_once_and_twice() {
    assert_eq!(PropertyId::ALL.len(), 27);
    for &id in PropertyId::ALL {
        let (_, packets) = ALLOWED.iter().find(|(value, _)| *value == id.value()).expect("a row");
        for place in Place::ALL {
            let mut section = company(id, place);
            section.extend(property(id));
            let expected = match (id, place) {
                // Allowed in the packet, but never by this side.
                (PropertyId::SubscriptionIdentifier, Place::PublishByClient)
                | (PropertyId::SessionExpiryInterval, Place::DisconnectByServer) => Some(ProtocolError),
                _ if packets.contains(&number(place)) => None,
                _ => Some(MalformedPacket),
            };
            assert_eq!(refusal(place, &section), expected, "{id:?} in {place:?}");
            if expected.is_none() {
                section.extend(property(id));
                let repeatable = id == PropertyId::UserProperty
                    || id == PropertyId::SubscriptionIdentifier && place == Place::PublishByServer;
                let expected = if repeatable { None } else { Some(ProtocolError) };
                assert_eq!(refusal(place, &section), expected, "{id:?} twice in {place:?}");
            }
        }
    }
}

#[test]
fn d01_identifiers_that_do_not_exist_are_refused_in_every_place() {
    for place in Place::ALL {
        for id in (0..0x80).filter(|&id| PropertyId::from_value(id).is_none()) {
            assert_eq!(refusal(place, &[id, 0, 0]), Some(MalformedPacket), "{id:02x}");
        }
        for id in [[0x80, 0x01], [0x81, 0x00], [0xff, 0x7f], [0xa6, 0x00]] {
            assert_eq!(refusal(place, &id), Some(MalformedPacket), "{id:02x?}");
        }
    }
}

#[test]
fn d04_a_property_cut_anywhere_is_refused() {
    for &id in PropertyId::ALL {
        for place in Place::ALL.into_iter().filter(|&place| id.is_allowed(place)) {
            let before = company(id, place);
            let property = property(id);
            for end in 1..property.len() {
                let section = [&before[..], &property[..end]].concat();
                assert_eq!(refusal(place, &section), Some(MalformedPacket), "{id:?} up to {end}");
            }
        }
    }
}

#[test]
fn c01_c02_bad_strings_are_refused_in_every_property_of_every_place() {
    let texts = [0x03, 0x08, 0x12, 0x15, 0x1a, 0x1c, 0x1f];
    for bad in BAD_STRINGS {
        let string = [&[0, bad.len() as u8], *bad].concat();
        for place in Place::ALL {
            for id in texts.into_iter().filter_map(PropertyId::from_value) {
                if id.is_allowed(place) {
                    let section = [&[id.value()], &string[..]].concat();
                    assert_eq!(refusal(place, &section), Some(MalformedPacket), "{id:?} {bad:02x?}");
                }
            }
            let name = [&[0x26], &string[..], &[0, 0]].concat();
            assert_eq!(refusal(place, &name), Some(MalformedPacket), "{bad:02x?}");
            let value = [&[0x26, 0, 0], &string[..]].concat();
            assert_eq!(refusal(place, &value), Some(MalformedPacket), "{bad:02x?}");
        }
    }
}

/// Not UTF-8, or with U+0000: overlong forms, surrogates, beyond U+10FFFF, cut sequences, stray bytes.
const BAD_STRINGS: &[&[u8]] = &[
    b"\0",
    b"a\0b",
    b"abcdefghijklmnopqrst\0",
    b"\xc0\x80",
    b"\xe0\x80\x80",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xff",
    b"\x80",
    b"a\xc3",
    b"a\xe2\x82",
    b"abcdefghijklmnop\xf0\x9f\x98",
];

/// Good strings of characters that the standard discourages.
const DISCOURAGED: &[&[u8]] = &[
    b"\x01",
    b"abcdefghijklmnop\x1f",
    b"\x7f",
    b"\xc2\x80",
    b"\xc2\x9f",
    b"\xef\xb7\x90",
    b"\xef\xbf\xbe",
    b"\xef\xbf\xbf",
    b"\xf0\x9f\xbf\xbe",
    b"\xf4\x8f\xbf\xbf",
];

/// Good strings, also for topics.
const GOOD_STRINGS: &[&[u8]] = &[
    b"a",
    b" ~",
    b"abcdefghijklmnopqrstuvwxyz0123456789",
    b"\xc2\xa0",
    b"\xef\xbb\xbft",
    b"\xef\xbf\xbd",
    b"\xf4\x8f\xbf\xbd",
];

/// Every field that is a string and no property: before it, after it, and whether it is a topic or a Client Identifier.
#[rustfmt::skip]
const STRING_FIELDS: &[(&str, &str, Version, bool)] = &[
    ("10 0004 4d515454 05 02 0000 00", "", V5, true),
    ("10 0004 4d515454 04 02 0000", "", V3_1_1, true),
    ("10 0006 4d5149736470 03 02 0000", "", V3_1, true),
    ("10 0004 4d515454 05 06 0000 00 0000 00", "0000", V5, true),
    ("10 0004 4d515454 04 06 0000 0000", "0000", V3_1_1, true),
    ("10 0004 4d515454 05 82 0000 00 0000", "", V5, false),
    ("10 0004 4d515454 04 82 0000 0000", "", V3_1_1, false),
    ("30", "00 70", V5, true),
    ("32", "0001 00 70", V5, true),
    ("30", "70", V3_1_1, true),
    ("34", "0001 70", V3_1, true),
    ("82 0001 00", "00", V5, true),
    ("82 0001 00 0001 61 00", "00", V5, true),
    ("82 0001", "00", V3_1_1, true),
    ("a2 0001 00", "", V5, true),
    ("a2 0001 00 0001 61", "", V5, true),
    ("a2 0001", "", V3_1, true),
];

fn packet_around(before: &str, string: &[u8], after: &str) -> Vec<u8> {
    let mut packet = bytes(before);
    packet.insert(1, 0);
    packet.extend((string.len() as u16).to_be_bytes());
    packet.extend(string);
    packet.extend(bytes(after));
    packet[1] = u8::try_from(packet.len() - 2).expect("a body of one byte of length");
    packet
}

#[test]
fn c01_c02_c04_strings_of_every_field() {
    let lenient = Limits { characters: Characters::Lenient, ..LIMITS };
    for &(before, after, version, is_strict) in STRING_FIELDS {
        let outcome = |string: &[u8], limits: &Limits| {
            let packet = packet_around(before, string, after);
            decode_within(&packet, Client, version, limits).err().map(|violation| violation.reason)
        };
        for string in GOOD_STRINGS {
            assert_eq!(outcome(string, &LIMITS), None, "{before} {string:02x?}");
        }
        for string in BAD_STRINGS {
            assert_eq!(outcome(string, &LIMITS), Some(MalformedPacket), "{before} {string:02x?}");
            assert_eq!(outcome(string, &lenient), Some(MalformedPacket), "{before} {string:02x?}");
        }
        for string in DISCOURAGED {
            assert_eq!(outcome(string, &lenient), None, "{before} {string:02x?}");
            let refused = matches!(outcome(string, &LIMITS), Some(MalformedPacket | ClientIdentifierNotValid));
            assert_eq!(refused, is_strict, "{before} {string:02x?}");
        }
    }
}

#[test]
fn d05_user_properties_and_property_bytes_are_bounded() {
    let limits = Limits { user_properties_max: 3, property_bytes_max: 20, ..LIMITS };
    let pair = [0x26, 0, 0, 0, 0];
    for place in Place::ALL {
        let (from, packet) = packet_with(place, &[company(PropertyId::UserProperty, place), pair.repeat(3)].concat());
        assert!(decode_within(&packet, from, V5, &limits).is_ok(), "{place:?}");
        for count in [4, 5] {
            let section = [company(PropertyId::UserProperty, place), pair.repeat(count)].concat();
            let (from, packet) = packet_with(place, &section);
            let refused = decode_within(&packet, from, V5, &limits).map_err(|why| why.reason);
            assert_eq!(refused, Err(QuotaExceeded), "{count} in {place:?}");
        }
    }
}

#[test]
fn a12_a13_the_largest_packet_is_let_through_and_one_byte_more_is_not() {
    let limits = Limits { packet_size_max: 1000, ..LIMITS };
    let size = |body: u16| [0x30, body as u8 & 0x7f | 0x80, (body >> 7) as u8];
    let header = Header::decode(&size(997), Client, V5, &limits).expect("good").expect("whole");
    assert_eq!((header.header_size(), header.body_size(), header.packet_size()), (3, 997, 1000));
    let refused = Header::decode(&size(998), Client, V5, &limits).map_err(|why| why.reason);
    assert_eq!(refused, Err(PacketTooLarge));
}

#[test]
fn a_body_of_another_size_than_its_header_says_is_refused() {
    let header = Header::decode(&[0xc0, 0], Client, V5, &LIMITS).expect("good").expect("whole");
    assert!(Packet::decode(&header, &[0], V5, &LIMITS).is_err());
}
