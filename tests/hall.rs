//! What the hall promises beyond the standard, in memory and in virtual time.

mod support;

use std::time::Duration;
use support::{Link, TestBroker};
use waypost::codec::{
    Connect, Filters, Options, Packet, PacketId, Property, Publish, Qos, RetainHandling, Subscribe, UserProperties,
    Version,
};

fn connected(broker: &TestBroker, client_id: &str) -> Link {
    let link = broker.link();
    link.send(&encoded(&Packet::Connect(Connect::new(Version::V5, client_id))));
    assert_eq!(link.received()[3], 0, "CONNACK says success");
    link
}

fn encoded(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(Version::V5, &mut bytes);
    bytes
}

fn retained(topic: &str, payload: &[u8], expiry_s: Option<u32>) -> Vec<u8> {
    let mut storage = Vec::new();
    let properties: Vec<Property<'_>> = expiry_s.map(Property::MessageExpiryInterval).into_iter().collect();
    let properties = waypost::codec::Properties::write(&properties, &mut storage);
    let mut publish = Publish::new(topic, payload).with_properties(properties);
    publish.retain = true;
    encoded(&Packet::Publish(publish))
}

fn subscribed(filter: &str, qos: Qos) -> Vec<u8> {
    let options = Options { qos, no_local: false, retain_as_published: false, retain_handling: RetainHandling::Send };
    let mut storage = Vec::new();
    let filters = Filters::write(&[(filter, options)], &mut storage);
    let packet_id = PacketId::new(1).expect("1 is not 0");
    encoded(&Packet::Subscribe(Subscribe {
        packet_id,
        subscription_id: None,
        user_properties: UserProperties::default(),
        filters,
    }))
}

#[test]
fn what_has_expired_leaves_the_retained_store_without_being_asked_for() {
    let broker = TestBroker::new();
    let client = connected(&broker, "publisher");
    client.send(&retained("brief", b"x", Some(5)));
    client.send(&retained("lasting", b"x", None));
    broker.advance(Duration::from_secs(4));
    assert_eq!(broker.retained("brief"), Some(b"x".to_vec()));
    broker.advance(Duration::from_secs(6));
    assert_eq!(broker.retained("brief"), None);
    assert_eq!(broker.retained("lasting"), Some(b"x".to_vec()));
}

#[test]
fn all_retained_messages_arrive_however_many_and_however_slowly_they_are_read() {
    let broker = TestBroker::with(|settings| settings.session.codec.packet_size_max = 1 << 20);
    let publisher = connected(&broker, "publisher");
    let count = 20_000;
    for number in 0..count {
        publisher.send(&retained(&format!("store/{number}/value"), &[b'x'; 40], None));
    }
    let reader = connected(&broker, "reader");
    reader.stop_reading();
    reader.send(&subscribed("store/+/value", Qos::AtMostOnce));
    let mut heard = 0;
    let mut rounds = 0;
    while heard < count && rounds < 10_000 {
        reader.resume_reading();
        let bytes = reader.received();
        heard += bytes.windows(6).filter(|window| window == b"store/").count();
        reader.stop_reading();
        rounds += 1;
        // Others are served meanwhile.
        publisher.send(&[0xC0, 0]);
        assert_eq!(publisher.received(), [0xD0, 0]);
    }
    assert_eq!(heard, count);
}

#[test]
fn a_client_that_takes_nothing_for_too_long_is_disconnected() {
    let broker = TestBroker::new();
    let reader = connected(&broker, "reader");
    reader.send(&subscribed("t", Qos::AtMostOnce));
    reader.received();
    reader.stop_reading();
    let publisher = connected(&broker, "publisher");
    publisher.send(&encoded(&Packet::Publish(Publish::new("t", b"x"))));
    broker.advance(Duration::from_secs(19));
    assert!(!reader.is_closed());
    broker.advance(Duration::from_secs(2));
    assert!(reader.is_closed());
}
