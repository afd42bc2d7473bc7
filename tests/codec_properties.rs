//! Round trips of random valid packets in all versions, and bytes that are noise or nearly a packet.
//! What is asserted of any bytes is the body of the fuzz target; here the packets come from their meaning.
//! proptest prints the smallest failing case, and its seed goes into a file beside this one.

#[path = "codec_fuzz/body.rs"]
mod body;

use std::num::{NonZeroU16, NonZeroU32};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::sample::select;
use proptest::{prop_assert, prop_assert_eq, prop_assume};
use waypost::codec::{
    Ack, Auth, Characters, ConnAck, ConnAckProperties, Connect, Disconnect, Filters, Header, Limits, Options, Packet,
    PacketId, PacketType, Properties, Property, Publish, Qos, ReasonCode, RetainHandling, Sender, SubAck, Subscribe,
    TopicFilters, UnsubAck, Unsubscribe, UserProperties, Version, Will,
};

const LIMITS: Limits = Limits {
    packet_size_max: u32::MAX,
    user_properties_max: 64,
    property_bytes_max: 1 << 20,
    characters: Characters::Strict,
};

/// What any packet may need, each packet taking what it has fields for.
#[derive(Clone, Debug)]
struct Bag {
    texts: Vec<String>,
    maybe_texts: Vec<Option<String>>,
    maybe_bytes: Vec<Option<Vec<u8>>>,
    bytes: Vec<u8>,
    u32s: Vec<Option<u32>>,
    u16s: Vec<Option<u16>>,
    flags: Vec<bool>,
    maybe_flags: Vec<Option<bool>>,
    pairs: Vec<(String, String)>,
    qos: Qos,
    number: u16,
}

fn bag() -> impl Strategy<Value = Bag> {
    let numbers = (
        vec(option::of(prop_oneof![Just(0), Just(u32::MAX), any::<u32>()]), 4),
        vec(option::of(any::<u16>()), 4),
        vec(any::<bool>(), 6),
        vec(option::of(any::<bool>()), 6),
        select(vec![Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce]),
        1..=u16::MAX,
    );
    let strings = (
        vec(topic(), 1..5),
        vec(option::of(text()), 6),
        vec(option::of(vec(any::<u8>(), 0..200)), 2),
        vec(any::<u8>(), 0..300),
        vec((text(), text()), 0..4),
    );
    (numbers, strings).prop_map(|(numbers, strings)| {
        let (u32s, u16s, flags, maybe_flags, qos, number) = numbers;
        let (texts, maybe_texts, maybe_bytes, bytes, pairs) = strings;
        Bag { texts, maybe_texts, maybe_bytes, bytes, u32s, u16s, flags, maybe_flags, pairs, qos, number }
    })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "\\PC{1,10}", "[a-z]{100,200}"]
}

/// A Topic Name of a few levels, without characters that are discouraged.
fn topic() -> impl Strategy<Value = String> {
    "[a-zé/\u{1f600} ]{1,40}"
}

/// Where a packet borrows its lists from.
#[derive(Default)]
struct Storage {
    user_properties: Vec<u8>,
    properties: Vec<u8>,
    filters: Vec<u8>,
    codes: Vec<u8>,
}

impl Bag {
    fn packet_id(&self) -> PacketId {
        PacketId::new(self.number).expect("not 0")
    }

    fn maybe_text(&self, index: usize) -> Option<&str> {
        self.maybe_texts[index].as_deref()
    }

    fn maybe_bytes(&self, index: usize) -> Option<&[u8]> {
        self.maybe_bytes[index].as_deref()
    }

    fn pairs(&self) -> Vec<(&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// A Reason Code that this packet of this side may have.
    fn reason(&self, kind: PacketType, from: Sender) -> ReasonCode {
        let fitting: Vec<_> = ReasonCode::ALL.iter().filter(|reason| reason.is_of(kind, from)).collect();
        *fitting[usize::from(self.number) % fitting.len()]
    }

    /// The properties of a PUBLISH or a Will, in an order that the number decides.
    fn message_properties<'a>(&'a self, special: Option<Property<'a>>) -> Vec<Property<'a>> {
        let mut all: Vec<_> = [
            self.maybe_flags[0].map(Property::PayloadFormatIndicator),
            self.u32s[0].map(Property::MessageExpiryInterval),
            self.maybe_text(0).map(Property::ContentType),
            self.flags[0].then(|| Property::ResponseTopic(&self.texts[0])),
            self.maybe_bytes(0).map(Property::CorrelationData),
            special,
        ]
        .into_iter()
        .flatten()
        .chain(self.pairs.iter().map(|(name, value)| Property::UserProperty(name, value)))
        .collect();
        let middle = usize::from(self.number) % all.len().max(1);
        all.rotate_left(middle);
        all
    }

    /// A packet of this type as this version can say it.
    fn packet<'a>(&'a self, kind: PacketType, version: Version, storage: &'a mut Storage) -> Packet<'a> {
        let v5 = version.is_v5();
        let Storage { user_properties, properties, filters, codes } = storage;
        let pairs = if v5 { self.pairs() } else { Vec::new() };
        let user_properties = UserProperties::write(&pairs, user_properties);
        let reason_string = self.maybe_text(0).filter(|_| v5);
        let ack = |from| Ack {
            packet_id: self.packet_id(),
            reason: if v5 { self.reason(kind, from) } else { ReasonCode::Success },
            reason_string,
            user_properties,
        };
        match kind {
            PacketType::Connect => Packet::Connect(self.connect(version, user_properties, properties)),
            PacketType::ConnAck => {
                let mut reason = self.reason(kind, Sender::Server);
                if !v5 {
                    let code = self.number as u8 % 6;
                    reason = ReasonCode::from_return_code(code).expect("defined");
                }
                Packet::ConnAck(ConnAck {
                    session_present: self.flags[0] && reason == ReasonCode::Success && version != Version::V3_1,
                    reason,
                    properties: if v5 {
                        self.connack_properties(user_properties)
                    } else {
                        ConnAckProperties::default()
                    },
                })
            }
            PacketType::Publish => {
                let alias = self.u16s[0].and_then(NonZeroU16::new).map(Property::TopicAlias);
                let has_name = !v5 || alias.is_none() || self.flags[4];
                let listed = if v5 { self.message_properties(alias) } else { Vec::new() };
                let topic = if has_name { self.texts[0].as_str() } else { "" };
                let mut publish =
                    Publish::new(topic, &self.bytes).with_properties(Properties::write(&listed, properties));
                publish.qos = self.qos;
                publish.retain = self.flags[1];
                if self.qos != Qos::AtMostOnce {
                    publish.dup = self.flags[2];
                    publish.packet_id = Some(self.packet_id());
                }
                Packet::Publish(publish)
            }
            PacketType::PubAck => Packet::PubAck(ack(Sender::Client)),
            PacketType::PubRec => Packet::PubRec(ack(Sender::Client)),
            PacketType::PubRel => Packet::PubRel(ack(Sender::Client)),
            PacketType::PubComp => Packet::PubComp(ack(Sender::Client)),
            PacketType::Subscribe => {
                let options = |index: usize| Options {
                    qos: self.qos,
                    no_local: v5 && self.flags[index % 6],
                    retain_as_published: v5 && self.flags[(index + 1) % 6],
                    retain_handling: match (v5, index % 3) {
                        (false, _) | (_, 0) => RetainHandling::Send,
                        (_, 1) => RetainHandling::SendIfNew,
                        _ => RetainHandling::DoNotSend,
                    },
                };
                let listed: Vec<_> =
                    self.texts.iter().enumerate().map(|(index, filter)| (filter.as_str(), options(index))).collect();
                Packet::Subscribe(Subscribe {
                    packet_id: self.packet_id(),
                    subscription_id: self.u32s[0].filter(|_| v5).map(|id| id % 268_435_455 + 1),
                    user_properties,
                    filters: Filters::write(&listed, filters),
                })
            }
            PacketType::SubAck => {
                let code = if v5 { self.reason(kind, Sender::Server).value() } else { self.qos.value() };
                codes.extend([code, 0, 0x80]);
                let (packet_id, codes) = (self.packet_id(), codes.as_slice());
                Packet::SubAck(SubAck { packet_id, reason_string, user_properties, codes })
            }
            PacketType::Unsubscribe => {
                let listed: Vec<_> = self.texts.iter().map(String::as_str).collect();
                Packet::Unsubscribe(Unsubscribe {
                    packet_id: self.packet_id(),
                    user_properties,
                    filters: TopicFilters::write(&listed, filters),
                })
            }
            PacketType::UnsubAck => {
                if v5 {
                    codes.extend([self.reason(kind, Sender::Server).value(), 0x11]);
                }
                let (packet_id, codes) = (self.packet_id(), codes.as_slice());
                Packet::UnsubAck(UnsubAck { packet_id, reason_string, user_properties, codes })
            }
            PacketType::PingReq => Packet::PingReq,
            PacketType::PingResp => Packet::PingResp,
            PacketType::Disconnect => Packet::Disconnect(Disconnect {
                reason: if v5 { self.reason(kind, Sender::Client) } else { ReasonCode::NormalDisconnection },
                session_expiry_interval_s: self.u32s[0].filter(|_| v5),
                reason_string,
                server_reference: self.maybe_text(1).filter(|_| v5),
                user_properties,
            }),
            PacketType::Auth => Packet::Auth(Auth {
                reason: self.reason(kind, Sender::Client),
                method: Some(&self.texts[0]),
                data: self.maybe_bytes(0),
                reason_string,
                user_properties,
            }),
        }
    }

    fn connect<'a>(
        &'a self,
        version: Version,
        user_properties: UserProperties<'a>,
        properties: &'a mut Vec<u8>,
    ) -> Connect<'a> {
        let v5 = version.is_v5();
        let mut connect = Connect::new(version, &self.texts[0]);
        connect.bridge = !v5 && self.flags[3];
        connect.clean_start = self.flags[0];
        connect.keep_alive_s = self.number;
        connect.user_name = self.maybe_text(1);
        connect.password = self.maybe_bytes(0).filter(|_| v5 || connect.user_name.is_some());
        if self.flags[1] {
            let delay = self.u32s[1].filter(|_| v5);
            let listed = if v5 { self.message_properties(delay.map(Property::WillDelayInterval)) } else { Vec::new() };
            connect.will = Some(Will {
                topic: &self.texts[0],
                payload: &self.bytes,
                qos: self.qos,
                retain: self.flags[2],
                delay_interval_s: delay.unwrap_or(0),
                properties: Properties::write(&listed, properties),
            });
        }
        if v5 {
            connect.session_expiry_interval_s = self.u32s[2].unwrap_or(0);
            connect.receive_maximum = self.u16s[0].filter(|&value| value > 0).unwrap_or(u16::MAX);
            connect.packet_size_max = self.u32s[3].filter(|&value| value > 0).unwrap_or(u32::MAX);
            connect.topic_alias_maximum = self.u16s[1].unwrap_or(0);
            connect.request_response_information = self.flags[4];
            connect.request_problem_information = self.flags[5];
            connect.authentication_method = self.maybe_text(2);
            connect.authentication_data = self.maybe_bytes(1).filter(|_| connect.authentication_method.is_some());
            connect.user_properties = user_properties;
        }
        connect
    }

    fn connack_properties<'a>(&'a self, user_properties: UserProperties<'a>) -> ConnAckProperties<'a> {
        ConnAckProperties {
            session_expiry_interval_s: self.u32s[0],
            receive_maximum: self.u16s[0].and_then(NonZeroU16::new).map(NonZeroU16::get),
            maximum_qos: Some(self.qos).filter(|&qos| qos != Qos::ExactlyOnce),
            retain_available: self.maybe_flags[0],
            packet_size_max: self.u32s[1].and_then(NonZeroU32::new).map(NonZeroU32::get),
            assigned_client_id: self.maybe_text(0),
            topic_alias_maximum: self.u16s[1],
            reason_string: self.maybe_text(1),
            user_properties,
            wildcard_subscription_available: self.maybe_flags[1],
            subscription_identifiers_available: self.maybe_flags[2],
            shared_subscription_available: self.maybe_flags[3],
            server_keep_alive_s: self.u16s[2],
            response_information: self.maybe_text(2),
            server_reference: self.maybe_text(3),
            authentication_method: self.maybe_text(4),
            authentication_data: self.maybe_bytes(0),
        }
    }
}

fn kind() -> impl Strategy<Value = PacketType> {
    select(PacketType::ALL.to_vec())
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V3_1), Just(Version::V3_1_1), Just(Version::V5), Just(Version::V5)]
}

fn sender(kind: PacketType) -> Sender {
    match kind {
        PacketType::ConnAck | PacketType::SubAck | PacketType::UnsubAck | PacketType::PingResp => Sender::Server,
        _ => Sender::Client,
    }
}

/// The choice byte of the fuzz body for a packet of this kind and version.
fn choice(kind: PacketType, version: Version) -> u8 {
    u8::from(sender(kind) == Sender::Server) | (version as u8 - 3) << 1
}

proptest! {
    #[test]
    fn a_valid_packet_survives_the_wire(bag in bag(), kind in kind(), version in version()) {
        prop_assume!(kind != PacketType::Auth || version.is_v5());
        let mut storage = Storage::default();
        let packet = bag.packet(kind, version, &mut storage);
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes);
        let header = Header::decode(&bytes, sender(kind), version, &LIMITS);
        let header = header.expect("good").expect("whole");
        prop_assert_eq!(header.kind(), kind);
        prop_assert_eq!(header.packet_size(), bytes.len());
        let decoded = Packet::decode(&header, &bytes[header.header_size()..], version, &LIMITS);
        prop_assert_eq!(decoded, Ok(packet));
        let mut again = Vec::new();
        packet.encode(version, &mut again);
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn a_valid_packet_keeps_every_promise(bag in bag(), kind in kind(), version in version()) {
        let mut storage = Storage::default();
        let packet = bag.packet(kind, version, &mut storage);
        let mut data = vec![choice(kind, version)];
        packet.encode(version, &mut data);
        body::check(&data);
    }

    #[test]
    fn a_packet_with_faults_breaks_nothing(
        bag in bag(),
        kind in kind(),
        version in version(),
        faults in vec((any::<u16>(), any::<u8>(), 0..4u8), 1..4),
    ) {
        let mut storage = Storage::default();
        let mut data = vec![choice(kind, version)];
        bag.packet(kind, version, &mut storage).encode(version, &mut data);
        for (place, byte, what) in faults {
            let place = 1 + usize::from(place) % data.len();
            match what {
                0 if place < data.len() => data[place] = byte,
                1 if place < data.len() => data[place] ^= 1 << (byte % 8),
                2 if place < data.len() => { data.remove(place); }
                _ => data.insert(place, byte),
            }
        }
        body::check(&data);
    }

    #[test]
    fn noise_breaks_nothing(data in vec(any::<u8>(), 0..300)) {
        body::check(&data);
    }

    #[test]
    fn noise_behind_a_good_header_breaks_nothing(
        choice in any::<u8>(),
        kind in kind(),
        flags in 0..16u8,
        noise in vec(prop_oneof![0..5u8, any::<u8>()], 0..100),
    ) {
        let flags = if kind == PacketType::Publish { flags } else { 0 };
        let mut data = vec![choice, kind.first_byte() | flags, noise.len() as u8];
        data.extend(noise);
        body::check(&data);
    }

    #[test]
    fn a_packet_cut_short_is_waited_for(bag in bag(), kind in kind(), version in version(), cut in any::<u16>()) {
        prop_assume!(kind != PacketType::Auth || version.is_v5());
        let mut storage = Storage::default();
        let mut bytes = Vec::new();
        bag.packet(kind, version, &mut storage).encode(version, &mut bytes);
        let end = usize::from(cut) % bytes.len();
        let header = Header::decode(&bytes[..end], sender(kind), version, &LIMITS).expect("good so far");
        prop_assert!(header.is_none_or(|header| header.packet_size() == bytes.len()));
    }
}
