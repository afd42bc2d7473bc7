//! Sections 3.15 and 4.12: AUTH and enhanced authentication.

use crate::house::broker;
use crate::support::wire::{Packet, Version, auth, connect_v5, property, reason::*};
use crate::talk::Client;

#[test]
fn mqtt_3_15_1_1_an_auth_with_flags_other_than_0000_is_malformed() {
    let broker = broker();
    for flags in 1..16 {
        let mut bytes = auth(RE_AUTHENTICATE).with(property::authentication_method("m")).bytes(Version::V5);
        bytes[0] |= flags;
        let client = Client::connects(&broker, connect_v5("client"));
        client.says(bytes).is_thrown_out(&[MALFORMED_PACKET]);
    }
}

#[test]
fn mqtt_4_12_0_1_an_unknown_method_is_refused_with_0x8c() {
    let broker = broker();
    for method in ["NOPE", "", "\u{1f600}"] {
        let connect = connect_v5("client").with(property::authentication_method(method));
        Client::tries(&broker, Version::V5, connect).is_refused(&[BAD_AUTHENTICATION_METHOD, NOT_AUTHORIZED]);
    }
}

#[test]
fn mqtt_4_12_0_6_without_a_method_in_connect_there_is_no_auth_and_no_method_in_connack() {
    let broker = broker();
    let client = Client::connects(&broker, connect_v5("client").user_name("u").password(b"p"));
    assert_eq!(client.connack().property(property::AUTHENTICATION_METHOD), None);
    assert_eq!(client.connack().property(property::AUTHENTICATION_DATA), None);
    client.is_alive();
}

#[test]
fn mqtt_4_12_0_7_without_a_method_in_connect_an_auth_is_a_protocol_error() {
    let broker = broker();
    for reason in [CONTINUE_AUTHENTICATION, RE_AUTHENTICATE] {
        let client = Client::connects(&broker, connect_v5("client"));
        client.says(auth(reason).with(property::authentication_method("m"))).is_thrown_out(&[PROTOCOL_ERROR]);
    }
}
