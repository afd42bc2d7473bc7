//! The hand that writes packets for these tests, held against the standard's own examples.

use crate::support::wire::{
    Packet, Parsed, Version, connect_v3, connect_v4, connect_v5, field, parse, property, puback, publish, pubrel,
    subscribe, variable, will,
};

#[test]
fn variable_byte_integers_are_as_in_the_table_of_the_standard() {
    for (value, bytes) in [
        (0, &[0x00][..]),
        (127, &[0x7f]),
        (128, &[0x80, 0x01]),
        (16_383, &[0xff, 0x7f]),
        (16_384, &[0x80, 0x80, 0x01]),
        (2_097_151, &[0xff, 0xff, 0x7f]),
        (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
        (268_435_455, &[0xff, 0xff, 0xff, 0x7f]),
    ] {
        assert_eq!(variable(value), bytes);
    }
}

#[test]
fn a_string_is_as_in_the_example_of_the_standard() {
    assert_eq!(field("A\u{2a6d4}"), [0x00, 0x05, 0x41, 0xf0, 0xaa, 0x9b, 0x94]);
}

#[test]
fn connect_says_its_name_level_flags_and_keep_alive() {
    assert_eq!(connect_v3("c").bytes(Version::V31), b"\x10\x0f\x00\x06MQIsdp\x03\x02\x02\x58\x00\x01c");
    assert_eq!(connect_v4("c").bytes(Version::V311), b"\x10\x0d\x00\x04MQTT\x04\x02\x02\x58\x00\x01c");
    assert_eq!(connect_v5("c").bytes(Version::V5), b"\x10\x0e\x00\x04MQTT\x05\x02\x02\x58\x00\x00\x01c");
}

#[test]
fn connect_has_its_payload_in_the_order_of_the_standard() {
    let full = connect_v5("c")
        .keep_alive(10)
        .with(property::session_expiry_interval(10))
        .will(will("t", "w").qos(1).retain().with(property::will_delay_interval(5)))
        .user_name("u")
        .password(b"p");
    let expected = b"\x10\x25\x00\x04MQTT\x05\xee\x00\x0a\x05\x11\x00\x00\x00\x0a\x00\x01c\x05\x18\x00\x00\x00\x05\x00\x01t\x00\x01w\x00\x01u\x00\x01p";
    assert_eq!(full.bytes(Version::V5), expected);
}

#[test]
fn publish_is_as_in_the_example_of_the_standard() {
    assert_eq!(publish("a/b", "").at_least_once(10).bytes(Version::V5), b"\x32\x08\x00\x03a/b\x00\x0a\x00");
    assert_eq!(publish("a/b", "").at_least_once(10).bytes(Version::V311), b"\x32\x07\x00\x03a/b\x00\x0a");
    assert_eq!(
        publish("a/b", "x").exactly_once(1).dup().retain().bytes(Version::V311),
        b"\x3d\x08\x00\x03a/b\x00\x01x"
    );
}

#[test]
fn subscribe_is_as_in_the_example_of_the_standard() {
    let bytes = subscribe(10).to("a/b", 1).to("c/d", 2).bytes(Version::V5);
    assert_eq!(bytes, b"\x82\x0f\x00\x0a\x00\x00\x03a/b\x01\x00\x03c/d\x02");
}

#[test]
fn an_acknowledgement_is_short_unless_it_has_something_to_say() {
    assert_eq!(puback(1).bytes(Version::V5), b"\x40\x02\x00\x01");
    assert_eq!(pubrel(1).reason(0x92).bytes(Version::V5), b"\x62\x04\x00\x01\x92\x00");
    assert_eq!(pubrel(1).reason(0x92).bytes(Version::V311), b"\x62\x02\x00\x01");
}

#[test]
fn what_is_built_is_what_is_parsed() {
    let message = publish("a/b", "x").exactly_once(5).retain().with(property::user_property("k", "v"));
    let bytes = [message.bytes(Version::V5), pubrel(5).reason(0x92).bytes(Version::V5), vec![0xd0, 0]].concat();
    assert_eq!(parse(&bytes, true), [message.into(), pubrel(5).reason(0x92).into(), Parsed::PingResp]);
}

#[test]
#[should_panic(expected = "longer than it needs to be")]
fn the_parser_refuses_a_length_that_is_not_in_its_shortest_form() {
    parse(&[0xd0, 0x80, 0x00], true);
}

#[test]
#[should_panic(expected = "where 3 belong")]
fn the_parser_refuses_half_a_packet() {
    parse(&[0x40, 3, 0], true);
}

#[test]
#[should_panic(expected = "where it does not belong")]
fn the_parser_refuses_a_session_expiry_interval_in_a_servers_disconnect() {
    parse(&[0xe0, 7, 0x81, 5, 17, 0, 0, 0, 1], true);
}

#[test]
#[should_panic(expected = "twice")]
fn the_parser_refuses_a_property_that_stands_there_twice() {
    parse(&[0x30, 9, 0, 1, b't', 4, 1, 0, 1, 0, b'x'], true);
}
