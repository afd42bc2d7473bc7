//! MQTT 3.1, whose statements have no numbers. What it shares with the later versions stands beside their tests, in those
//! that are named `mqtt31_…`.

use crate::house::broker;
use crate::support::wire::{Packet, Version, connect, connect_v3, field, packet, publish, suback, subscribe, will};
use crate::talk::Client;

#[test]
fn mqtt31_is_recognised_by_mqisdp_and_level_3() {
    let broker = broker();
    let client = Client::tries(&broker, Version::V31, connect_v3("client"));
    assert_eq!(client.hears_bytes(), [0x20, 2, 0, 0]);
    client.is_alive();
}

#[test]
fn mqtt31_a_connack_has_no_session_present() {
    let broker = broker();
    for _ in 0..3 {
        let client = Client::tries(&broker, Version::V31, connect_v3("client").persistent());
        assert_eq!(client.hears_bytes(), [0x20, 2, 0, 0]);
        client.vanishes();
    }
}

#[test]
fn mqtt31_name_and_level_must_belong_together() {
    let broker = broker();
    for (name, level) in [("MQIsdp", 4), ("MQIsdp", 5), ("MQTT", 3)] {
        let header = [field(name), vec![level, 2, 0, 10], field("client")].concat();
        let client = Client::tries(&broker, Version::V31, packet(0x10, header));
        let answer = client.hears_bytes();
        let refusals: [&[u8]; 2] = [b"", b"\x20\x02\x00\x01"];
        assert!(refusals.contains(&&answer[..]), "{name} {level}: {answer:02x?}");
        client.is_closed();
    }
}

#[test]
fn mqtt31_a_client_identifier_of_23_characters_is_accepted() {
    let broker = broker();
    Client::connects(&broker, connect_v3("an-identifier.of_23-chr")).is_alive();
}

#[test]
fn mqtt31_an_empty_client_identifier_is_refused_with_return_code_2() {
    let broker = broker();
    let client = Client::tries(&broker, Version::V31, connect_v3(""));
    assert_eq!(client.hears_bytes(), [0x20, 2, 0, 2]);
    client.is_closed();
}

#[test]
fn mqtt31_a_user_name_and_a_password_are_read() {
    let broker = broker();
    let observer = Client::connects(&broker, connect_v3("observer"));
    observer.subscribes("will/t", 1);
    let client = connect_v3("client").will(will("will/t", "gone").qos(1)).user_name("user").password(b"password");
    Client::connects(&broker, client).vanishes();
    observer.takes(publish("will/t", "gone").at_least_once(0)).hears_nothing();
}

#[test]
fn mqtt31_a_suback_grants_what_was_asked_for() {
    let broker = broker();
    let client = Client::connects(&broker, connect_v3("client"));
    client.says(subscribe(3).to("a", 0).to("b", 1).to("c/+", 2)).hears(suback(3, &[0, 1, 2]));
}

#[test]
fn mqtt31_a_retained_message_is_kept_and_deleted() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect_v3("publisher"));
    publisher.publishes(publish("t", "x").at_least_once(1).retain());
    let client = Client::connects(&broker, connect_v3("client"));
    client.subscribes("t", 1).takes(publish("t", "x").at_least_once(0).retain());
    publisher.publishes(publish("t", "").at_least_once(2).retain());
    client.takes(publish("t", "").at_least_once(0));
    let late = Client::connects(&broker, connect_v3("late"));
    late.subscribes("t", 1).hears_nothing();
}

#[test]
fn mqtt31_clients_of_all_versions_talk_with_each_other() {
    let broker = broker();
    let versions = [Version::V31, Version::V311, Version::V5];
    let clients = versions.map(|version| {
        let client = Client::connects(&broker, connect(version, &format!("{version:?}")));
        client.subscribes("t/#", 2);
        client
    });
    for sender in &clients {
        for qos in [0, 1, 2] {
            let observer = Client::connects(&broker, connect(Version::V5, "observer"));
            observer.subscribes("t/x", 2);
            let publisher = Client::connects(&broker, connect(Version::V31, "publisher"));
            publisher.publishes(publish("t/x", "x").qos(qos, 1));
            observer.takes(publish("t/x", "x").qos(qos, 0));
            for client in &clients {
                client.takes(publish("t/x", "x").qos(qos, 0)).hears_nothing();
            }
        }
        sender.is_alive();
    }
}

#[test]
fn mqtt31_a_takeover_crosses_versions() {
    let broker = broker();
    let old = Client::connects(&broker, connect(Version::V31, "client").persistent());
    old.subscribes("t", 1);
    let new = Client::resumes(&broker, connect(Version::V311, "client").persistent());
    old.is_closed();
    new.says(publish("t", "x")).receives(publish("t", "x"));
}

#[test]
fn mqtt31_a_packet_that_is_ill_formed_closes_the_connection() {
    let broker = broker();
    for bytes in [packet(0x36, b"\0\x01t\0\x01"), packet(0x30, b"\0\x05t"), vec![0xf0, 0], packet(0x82, b"\0\x01")] {
        Client::connects(&broker, connect_v3("client")).says(bytes).is_closed();
    }
    let subscribe = subscribe(1).to("t", 0).bytes(Version::V5);
    Client::connects(&broker, connect_v3("client")).says(subscribe).is_closed();
}
