//! Sections 3.15 and 4.12: AUTH and enhanced authentication.
//!
//! Authentication takes place at the door, before there is a Session, so those tests that need a method go through a
//! real socket on the loopback interface, to a node with the authenticator below.

use std::future::ready;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crate::house::broker;
use crate::support::wire::{
    Farewell, PINGREQ, Packet, Parsed, Version, auth, connect, connect_v5, disconnect, packet_sizes, parse, property,
    publish, reason::*, suback, subscribe, will,
};
use crate::talk::{Client, both, shows};
use waypost::access::{Authenticator, Exchange, Identity, Login, Pending, Step};
use waypost::codec::ReasonCode;
use waypost::config::{AddressOrOff, Config, Durability};
use waypost::node::{Node, settings};

// ------------------------------------------------------------------------------------------------------ without a method

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

// ------------------------------------------------------------------------------------------------- the authenticator

/// Lets in who gives the right password, or who counts on: with the method `counting` the server says a number, and the
/// Client says the next one, until the server has said 3. A Client may begin in CONNECT at a higher number.
struct Counting;

impl Authenticator for Counting {
    fn begin(&self, login: Login) -> Pending {
        let step = match (login.method.as_deref(), login.password.as_deref()) {
            (Some("counting"), _) => count_on(login.data.as_deref().unwrap_or(b"0")),
            (Some(_), _) => Step::Refuse(ReasonCode::BadAuthenticationMethod, "as the test wants it"),
            (None, Some(b"wrong")) => Step::Refuse(ReasonCode::BadUserNameOrPassword, "as the test wants it"),
            (None, _) => Step::Accept { identity: Identity::default(), data: None },
        };
        Box::pin(ready(step))
    }
}

/// What the server says to the Client's number.
fn count_on(number: &[u8]) -> Step {
    match number {
        b"0" => Step::Challenge { data: b"1".to_vec(), exchange: Box::new(Expected(b"2")) },
        b"2" => Step::Challenge { data: b"3".to_vec(), exchange: Box::new(Expected(b"4")) },
        b"4" => Step::Accept { identity: Identity::default(), data: Some(b"5".to_vec()) },
        _ => Step::Refuse(ReasonCode::NotAuthorized, "as the test wants it"),
    }
}

struct Expected(&'static [u8]);

impl Exchange for Expected {
    fn proceed(self: Box<Self>, data: Option<Box<[u8]>>) -> Pending {
        let data = data.unwrap_or_default();
        Box::pin(ready(if *data == *self.0 {
            count_on(&data)
        } else {
            Step::Refuse(ReasonCode::NotAuthorized, "as the test wants it")
        }))
    }
}

/// A node with that authenticator, on a port of its own.
struct Door {
    node: Option<Node>,
    address: SocketAddr,
}

impl Door {
    fn open() -> Self {
        let mut config = Config::default();
        config.admin.address = Some(AddressOrOff::Off);
        config.store.durability = Durability::Memory;
        config.listeners[0].address = "127.0.0.1:0".parse().expect("this is an address");
        let mut settings = settings(&config);
        settings.shards = 2;
        let node = Node::start_with(&config, settings, Some(Arc::new(Counting))).expect("any free port will do");
        let address = node.addresses()[0];
        Self { node: Some(node), address }
    }

    /// A Network Connection on which this was said.
    fn hears(&self, packet: impl Packet) -> Visitor {
        let stream = TcpStream::connect(self.address).expect("the node listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("ten seconds are a deadline");
        let visitor = Visitor { stream };
        visitor.says(packet);
        visitor
    }

    /// Connects by counting and is let in.
    fn lets_in(&self, client_id: &str) -> Visitor {
        let visitor = self.hears(connect_v5(client_id).with(method()).with(property::authentication_data(b"4")));
        match visitor.hears() {
            Parsed::ConnAck(connack) => assert_eq!(connack.code, 0),
            other => panic!("{other:?}"),
        }
        visitor
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            node.stop().expect("no shard has panicked");
        }
    }
}

struct Visitor {
    stream: TcpStream,
}

impl Visitor {
    fn says(&self, packet: impl Packet) -> &Self {
        // A connection that was closed meanwhile shows when it is read.
        let _ = (&self.stream).write_all(&packet.bytes(Version::V5));
        self
    }

    /// The next packet, as it came.
    fn hears_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut byte = [0];
        loop {
            (&self.stream).read_exact(&mut byte).expect("the broker answers before the deadline");
            bytes.push(byte[0]);
            if bytes.len() > 1 && byte[0] & 0x80 == 0 {
                break;
            }
        }
        let length = bytes[1..].iter().rev().fold(0, |length, byte| length << 7 | usize::from(byte & 0x7f));
        let mut body = vec![0; length];
        (&self.stream).read_exact(&mut body).expect("the broker sends whole packets before the deadline");
        [bytes, body].concat()
    }

    fn hears(&self) -> Parsed {
        parse(&self.hears_bytes(), true).remove(0)
    }

    /// Everything until the broker closes the connection.
    fn hears_the_last(&self) -> Vec<Parsed> {
        let mut bytes = Vec::new();
        match (&self.stream).read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the broker closes in time"),
        }
        parse(&bytes, true)
    }

    /// The CONNECT was refused: with one of these codes, and nothing else.
    #[track_caller]
    fn is_refused(&self, codes: &[u8]) {
        let last = self.hears_the_last();
        match &last[..] {
            [Parsed::ConnAck(connack)] => {
                assert!(codes.contains(&connack.code), "{codes:02x?} expected, not {connack:02x?}")
            }
            _ => panic!("expected CONNACK {codes:02x?} and nothing else, not {last:02x?}"),
        }
    }

    #[track_caller]
    fn is_thrown_out(&self, codes: &[u8]) {
        let last = self.hears_the_last();
        match &last[..] {
            [Parsed::Disconnect(disconnect)] => {
                assert!(codes.contains(&disconnect.reason), "{codes:02x?} expected, not {disconnect:02x?}");
            }
            _ => panic!("expected DISCONNECT {codes:02x?} and nothing else, not {last:02x?}"),
        }
    }

    /// It is connected, and had nothing else to hear.
    #[track_caller]
    fn is_alive(&self) -> &Self {
        self.says(PINGREQ);
        assert_eq!(self.hears(), Parsed::PingResp);
        self
    }
}

fn method() -> (u8, crate::support::wire::Value) {
    property::authentication_method("counting")
}

/// The AUTH that says a number.
fn counted(reason: u8, number: &[u8]) -> Farewell {
    auth(reason).with(method()).with(property::authentication_data(number))
}

fn going_on(number: &[u8]) -> Farewell {
    counted(CONTINUE_AUTHENTICATION, number)
}

// --------------------------------------------------------------------------------------------------- the first time

#[test]
fn mqtt_4_12_0_2_a_server_that_needs_more_sends_auth_0x18() {
    let door = Door::open();
    let visitor = door.hears(connect_v5("client").with(method()));
    assert_eq!(visitor.hears_bytes(), going_on(b"1").bytes(Version::V5));
    visitor.says(going_on(b"2"));
    assert_eq!(visitor.hears_bytes(), going_on(b"3").bytes(Version::V5));
    visitor.says(going_on(b"4"));
    let Parsed::ConnAck(connack) = visitor.hears() else { panic!("a CONNACK ends a successful authentication") };
    assert_eq!((connack.code, connack.session_present), (0, false));
    visitor.is_alive();
}

#[test]
fn mqtt_4_12_0_3_the_clients_answer_is_auth_0x18() {
    let door = Door::open();
    for other in [counted(0x00, b"2"), counted(RE_AUTHENTICATE, b"2"), disconnect(0)] {
        let is_disconnect = other == disconnect(0);
        let visitor = door.hears(connect_v5("client").with(method()));
        assert_eq!(visitor.hears(), Parsed::Auth(going_on(b"1")));
        visitor.says(other);
        if is_disconnect {
            assert_eq!(visitor.hears_the_last(), []);
        } else {
            visitor.is_refused(&[PROTOCOL_ERROR, MALFORMED_PACKET]);
        }
    }
}

#[test]
fn mqtt_4_12_0_4_authentication_may_be_refused_at_any_step() {
    let door = Door::open();
    let connect = || connect_v5("client").with(method());
    // at once
    door.hears(connect().with(property::authentication_data(b"7"))).is_refused(&[NOT_AUTHORIZED]);
    // after the first answer
    let visitor = door.hears(connect());
    assert_eq!(visitor.hears(), Parsed::Auth(going_on(b"1")));
    visitor.says(going_on(b"9")).is_refused(&[NOT_AUTHORIZED]);
    // after the second
    let visitor = door.hears(connect());
    assert_eq!(visitor.hears(), Parsed::Auth(going_on(b"1")));
    visitor.says(going_on(b"2"));
    assert_eq!(visitor.hears(), Parsed::Auth(going_on(b"3")));
    visitor.says(going_on(b"9")).is_refused(&[NOT_AUTHORIZED]);
}

#[test]
fn mqtt_4_12_0_5_the_method_of_connect_is_in_every_auth_and_in_the_successful_connack() {
    let door = Door::open();
    let visitor = door.hears(connect_v5("client").with(method()).with(property::authentication_data(b"2")));
    assert_eq!(visitor.hears(), Parsed::Auth(going_on(b"3")));
    visitor.says(going_on(b"4"));
    let Parsed::ConnAck(connack) = visitor.hears() else { panic!("a CONNACK ends a successful authentication") };
    assert_eq!(connack.property(property::AUTHENTICATION_METHOD), Some(&method().1));
    assert_eq!(connack.property(property::AUTHENTICATION_DATA), Some(&property::authentication_data(b"5").1));
    // And the Client has to keep to it.
    let visitor = door.hears(connect_v5("client").with(method()));
    assert_eq!(visitor.hears(), Parsed::Auth(going_on(b"1")));
    let other = auth(CONTINUE_AUTHENTICATION).with(property::authentication_method("another"));
    visitor.says(other).is_refused(&[PROTOCOL_ERROR, BAD_AUTHENTICATION_METHOD]);
    let visitor = door.hears(connect_v5("client").with(method()));
    assert_eq!(visitor.hears(), Parsed::Auth(going_on(b"1")));
    let without = auth(CONTINUE_AUTHENTICATION).with(property::authentication_data(b"2"));
    visitor.says(without).is_refused(&[PROTOCOL_ERROR, MALFORMED_PACKET]);
}

#[test]
fn mqtt_4_12_0_6_a_client_without_a_method_gets_no_auth_from_an_authenticator() {
    let door = Door::open();
    let visitor = door.hears(connect_v5("client").user_name("u").password(b"right"));
    let Parsed::ConnAck(connack) = visitor.hears() else { panic!("no AUTH is sent to a Client without a method") };
    assert_eq!((connack.code, connack.property(property::AUTHENTICATION_METHOD)), (0, None));
    visitor.is_alive();
}

#[test]
fn mqtt_4_12_0_1_a_method_that_the_authenticator_does_not_know_is_refused_with_0x8c() {
    let door = Door::open();
    let unknown = connect_v5("client").with(property::authentication_method("Counting"));
    door.hears(unknown).is_refused(&[BAD_AUTHENTICATION_METHOD]);
}

#[test]
fn mqtt_3_1_2_30_during_authentication_nothing_but_auth_and_disconnect_may_be_sent() {
    let door = Door::open();
    let observer = door.lets_in("observer");
    observer.says(subscribe(1).to("#", 0));
    assert_eq!(observer.hears(), suback(1, &[0]));
    let packets = [
        publish("t", "x").retain().bytes(Version::V5),
        publish("t", "x").at_least_once(1).bytes(Version::V5),
        subscribe(1).to("t", 0).bytes(Version::V5),
        PINGREQ.to_vec(),
        connect_v5("client").bytes(Version::V5),
    ];
    for bytes in packets {
        let connect = connect_v5("client").with(method()).will(will("will", "of one who was never let in"));
        let visitor = door.hears(connect);
        assert_eq!(visitor.hears(), Parsed::Auth(going_on(b"1")));
        visitor.says(bytes).is_refused(&[PROTOCOL_ERROR]);
    }
    observer.is_alive();
    observer.says(subscribe(2).to("t", 0));
    assert_eq!(observer.hears(), suback(2, &[0]));
    observer.is_alive();
}

#[test]
fn mqtt_3_15_2_1_an_auth_with_a_code_of_another_table_is_refused() {
    let door = Door::open();
    for code in [0x01, 0x17, 0x1a, 0x80, 0x87, 0xff] {
        let visitor = door.hears(connect_v5("client").with(method()));
        assert_eq!(visitor.hears(), Parsed::Auth(going_on(b"1")));
        visitor.says(counted(code, b"2")).is_refused(&[PROTOCOL_ERROR, MALFORMED_PACKET]);
        let visitor = door.lets_in("client");
        visitor.says(counted(code, b"4")).is_thrown_out(&[PROTOCOL_ERROR, MALFORMED_PACKET]);
    }
}

shows!(
    mqtt_3_15_2_2_no_reason_string_makes_auth_too_large,
    mqtt_3_15_2_3_no_user_property_makes_auth_too_large,
    || {
        let door = Door::open();
        let limit = going_on(b"1").bytes(Version::V5).len();
        let maximum = property::maximum_packet_size(u32::try_from(limit).expect("an AUTH is small"));
        let visitor = door.hears(connect_v5("client").with(method()).with(maximum));
        let bytes = visitor.hears_bytes();
        assert_eq!(bytes, going_on(b"1").bytes(Version::V5));
        assert_eq!(packet_sizes(&bytes), [limit]);
    }
);

#[test]
fn mqtt_3_1_2_24_an_auth_larger_than_the_clients_maximum_packet_size_is_not_sent() {
    let door = Door::open();
    let maximum = property::maximum_packet_size(10);
    let visitor = door.hears(connect_v5("client").with(method()).with(maximum));
    let heard = visitor.hears_the_last();
    assert!(heard.iter().all(|parsed| matches!(parsed, Parsed::ConnAck(_))), "{heard:?}");
}

// --------------------------------------------------------------------------------------------------- and once more

#[test]
fn mqtt_4_12_1_1_re_authentication_is_auth_0x19_with_the_first_method_again() {
    let door = Door::open();
    let visitor = door.lets_in("client");
    for _ in 0..2 {
        visitor.says(counted(RE_AUTHENTICATE, b"0"));
        assert_eq!(visitor.hears(), Parsed::Auth(going_on(b"1")));
        // Other packets go on meanwhile.
        visitor.says(PINGREQ);
        assert_eq!(visitor.hears(), Parsed::PingResp);
        visitor.says(going_on(b"2"));
        assert_eq!(visitor.hears(), Parsed::Auth(going_on(b"3")));
        visitor.says(going_on(b"4"));
        assert_eq!(visitor.hears(), Parsed::Auth(counted(0x00, b"5")));
        visitor.is_alive();
    }
    // In one step.
    visitor.says(counted(RE_AUTHENTICATE, b"4"));
    assert_eq!(visitor.hears(), Parsed::Auth(counted(0x00, b"5")));
    visitor.is_alive();
    // Another method is a Protocol Error.
    let other = auth(RE_AUTHENTICATE).with(property::authentication_method("another"));
    visitor.says(other).is_thrown_out(&[PROTOCOL_ERROR, BAD_AUTHENTICATION_METHOD]);
    // So is going on where nothing has begun.
    door.lets_in("client").says(going_on(b"2")).is_thrown_out(&[PROTOCOL_ERROR]);
}

#[test]
fn mqtt_4_12_1_2_failed_re_authentication_is_answered_by_disconnect() {
    let door = Door::open();
    let observer = door.lets_in("observer");
    observer.says(subscribe(1).to("will", 0));
    assert_eq!(observer.hears(), suback(1, &[0]));
    // at once
    let visitor = door.lets_in("client");
    visitor.says(counted(RE_AUTHENTICATE, b"7")).is_thrown_out(&[NOT_AUTHORIZED]);
    // after the first answer, and the Will is due
    let connect = connect_v5("client").with(method()).with(property::authentication_data(b"4"));
    let visitor = door.hears(connect.will(will("will", "gone")));
    assert!(matches!(visitor.hears(), Parsed::ConnAck(connack) if connack.code == 0));
    visitor.says(counted(RE_AUTHENTICATE, b"0"));
    assert_eq!(visitor.hears(), Parsed::Auth(going_on(b"1")));
    visitor.says(going_on(b"9")).is_thrown_out(&[NOT_AUTHORIZED]);
    assert_eq!(observer.hears(), publish("will", "gone").into());
    observer.is_alive();
}

#[test]
fn re_authentication_does_not_touch_the_session() {
    let door = Door::open();
    let visitor = door.lets_in("client");
    visitor.says(subscribe(1).to("t", 1));
    assert_eq!(visitor.hears(), suback(1, &[1]));
    visitor.says(counted(RE_AUTHENTICATE, b"4"));
    assert_eq!(visitor.hears(), Parsed::Auth(counted(0x00, b"5")));
    visitor.says(publish("t", "x"));
    assert_eq!(visitor.hears(), publish("t", "x").into());
}

// ------------------------------------------------------------------------------------------------ refused in the hall

both!(
    mqtt_3_1_4_2_a_wrong_password_ends_the_connection_and_has_no_effect,
    a_wrong_password_gets_return_code_4_in_3_1_1,
    |version| {
        let broker = broker().guarded_by(Counting);
        let observer = Client::connects(&broker, connect(version, "observer").password(b"right").user_name("u"));
        observer.subscribes("#", 0);
        let client = Client::connects(&broker, connect(version, "client").persistent());
        client.subscribes("t", 1);
        let wrong = connect(version, "client").user_name("u").password(b"wrong").will(will("will", "of a stranger"));
        let codes: &[u8] = if version.is_v5() { &[BAD_USER_NAME_OR_PASSWORD] } else { &[4] };
        Client::tries(&broker, version, wrong.clone()).is_refused(codes);
        Client::tries(&broker, version, wrong.persistent()).is_refused(codes);
        client.is_alive();
        client.vanishes();
        observer.hears_nothing();
        Client::resumes(&broker, connect(version, "client").persistent()).is_alive();
    }
);
