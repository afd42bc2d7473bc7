//! Sections 4.13 of MQTT 5 and 4.8 of MQTT 3.1.1: handling errors.

use crate::house::broker;
use crate::support::wire::{
    Packet, Version, auth, connect, connect_v5, packet, property, publish, reason::*, subscribe, unsubscribe, will,
};
use crate::talk::{Client, both};

/// Ill-formed packets and Protocol Errors of each kind that a connected Client can commit.
fn errors(version: Version) -> Vec<Vec<u8>> {
    let mut errors = vec![
        vec![0x00, 0],                             // a reserved packet type
        vec![0x30, 0xff, 0xff, 0xff, 0xff, 0x7f],  // a length of five bytes
        vec![0x30, 0],                             // no Topic Name
        packet(0x30, b"\0\x05t"),                  // a Topic Name cut short
        packet(0x32, b"\0\x01t\0"),                // half a Packet Identifier
        packet(0x36, b"\0\x01t\0\x01\0"),          // QoS 3
        vec![0x40, 1, 0],                          // half a Packet Identifier
        vec![0x40, 2, 0, 0],                       // Packet Identifier 0
        vec![0x60, 2, 0, 1],                       // PUBREL with wrong flags
        vec![0x82, 2, 0, 1],                       // no filter
        subscribe(0).to("t", 0).bytes(version),    // Packet Identifier 0
        unsubscribe(0).from("t").bytes(version),   // Packet Identifier 0
        vec![0xc0, 1, 0],                          // PINGREQ with a payload
        vec![0xd0, 0],                             // PINGRESP from a Client
        vec![0xe1, 0],                             // DISCONNECT with wrong flags
        connect(version, "client").bytes(version), // a second CONNECT
        publish("a/+", "x").bytes(version),        // a wildcard in a Topic Name
        publish("\0", "x").bytes(version),         // U+0000
    ];
    if version.is_v5() {
        errors.extend([
            packet(0x30, b"\0\x01t\x02\x01"),     // a property cut short
            packet(0x30, b"\0\x01t\x7f"),         // a Property Length beyond the packet
            packet(0x30, b"\0\x01t\x02\x04\x01"), // no property has the number 4
            publish("t", "x").with(property::topic_alias(0)).bytes(version),
            auth(CONTINUE_AUTHENTICATION).with(property::authentication_method("m")).bytes(version),
        ]);
    }
    errors
}

both!(
    mqtt_4_13_1_1_a_malformed_packet_or_protocol_error_ends_the_connection,
    mqtt311_4_8_0_1_a_protocol_violation_ends_the_connection_it_came_on,
    |version| {
        let broker = broker();
        let observer = Client::connects(&broker, connect(version, "observer"));
        observer.subscribes("#", 0);
        for bytes in errors(version) {
            let client = Client::connects(&broker, connect(version, "client").will(will("will", "gone")));
            client.says(bytes).is_thrown_out(&[
                MALFORMED_PACKET,
                PROTOCOL_ERROR,
                TOPIC_NAME_INVALID,
                TOPIC_ALIAS_INVALID,
            ]);
            // The others stay, and nothing of the wrong packet has an effect.
            observer.receives(publish("will", "gone"));
            observer.is_alive();
        }
    }
);

both!(
    what_came_before_an_error_is_processed_and_what_comes_after_it_is_not,
    what_came_before_an_error_is_processed_and_what_comes_after_it_is_not_in_3_1_1,
    |version| {
        let broker = broker();
        let observer = Client::connects(&broker, connect(version, "observer"));
        observer.subscribes("t", 0);
        for bytes in errors(version).into_iter().skip(2) {
            let client = Client::connects(&broker, connect(version, "client"));
            client.says_at_once(&[&publish("t", "before"), &bytes, &publish("t", "after")]);
            observer.receives(publish("t", "before"));
        }
    }
);

#[test]
fn mqtt_4_13_2_1_a_code_of_0x80_or_above_ends_the_connection_also_when_it_could_not_be_sent() {
    let broker = broker();
    // A CONNACK that says no.
    let unknown = connect_v5("client").with(property::authentication_method("NOPE"));
    Client::tries(&broker, Version::V5, unknown.clone()).is_refused(&[BAD_AUTHENTICATION_METHOD]);
    // One that is too large for the Client.
    let narrow = unknown.with(property::maximum_packet_size(2));
    Client::tries(&broker, Version::V5, narrow).is_closed();
    // A DISCONNECT that says why.
    let client = Client::connects(&broker, connect_v5("client"));
    client.says(publish("", "x")).is_thrown_out(&[PROTOCOL_ERROR, TOPIC_NAME_INVALID]);
}

#[test]
fn an_error_leaves_a_lasting_session_as_it_was() {
    let broker = broker();
    for version in [Version::V5, Version::V311] {
        for bytes in errors(version) {
            let client = Client::connects(&broker, connect(version, "client").persistent());
            client.subscribes("t", 1).says(bytes);
            let client = Client::resumes(&broker, connect(version, "client").persistent());
            client.says(publish("t", "x")).receives(publish("t", "x"));
            client.disconnects();
            Client::connects(&broker, connect(version, "client")).disconnects();
        }
    }
}
