//! Guard benchmark of the codec: instructions per operation, counted by valgrind, with limits that fail the run.
//! Counts do not depend on the machine's load, and times are left to end-to-end measurements.
//! `cargo bench --bench codec`; with the name of a case and a number it runs that case so many times and ends.

use std::hint::black_box;
use std::process::{Command, ExitCode, Stdio};

use waypost::codec::{
    Characters, Delivery, Header, Limits, Message, Moment, Origin, Packet, PacketId, PacketType, Properties, Property,
    Publish, Qos, ReasonCode, Sender, Version, Violation, encode_ack, encode_publish,
};

const LIMITS: Limits = Limits {
    packet_size_max: 1 << 20,
    user_properties_max: 64,
    property_bytes_max: 1 << 16,
    characters: Characters::Strict,
};
const TOPIC: &str = "plant/hall-07/line-03/machine-0042/state";
const PAYLOAD: [u8; 80] = [b'x'; 80];
const NOW: Moment = Moment::from_millis(1_000);

/// One operation, the most instructions it may take, and what does it so many times.
struct Case {
    name: &'static str,
    limit: u64,
    run: fn(u64),
}

const fn case(name: &'static str, limit: u64, run: fn(u64)) -> Case {
    Case { name, limit, run }
}

const CASES: &[Case] = &[
    case("own_publish", 700, own_plain),
    case("own_publish_3_user_properties", 1_900, own_rich),
    case("own_publish_3_1_1", 700, own_v3_1_1),
    case("decode_publish", 450, decode_plain),
    case("encode_publish", 230, encode_plain),
    case("encode_publish_qos1", 250, encode_qos1),
    case("encode_publish_subscription_id", 340, encode_subscription_id),
    case("encode_publish_to_3_1_1", 230, encode_v3_1_1),
    case("decode_puback", 200, decode_puback),
    case("encode_puback", 60, encode_puback),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let named = CASES.iter().find(|case| arguments.first().is_some_and(|name| name == case.name));
    let times = arguments.get(1).and_then(|times| times.parse().ok());
    match (named, times) {
        (Some(case), Some(times)) => {
            (case.run)(times);
            ExitCode::SUCCESS
        }
        _ => measure_all(),
    }
}

#[expect(clippy::print_stdout, reason = "the figures are what this program is for")]
fn measure_all() -> ExitCode {
    let mut result = ExitCode::SUCCESS;
    for &Case { name, limit, .. } in CASES {
        let (Some(few), Some(many)) = (instructions(name, 1_000), instructions(name, 3_000)) else {
            println!("{name}: valgrind did not run, nothing measured");
            continue;
        };
        let each = (many - few) / 2_000;
        let verdict = if each <= limit { "" } else { "  TOO MANY" };
        println!("{name:32} {each:6} instructions, at most {limit}{verdict}");
        if each > limit {
            result = ExitCode::FAILURE;
        }
    }
    result
}

/// All instructions of a run of this program that does one case so many times.
fn instructions(name: &str, times: u64) -> Option<u64> {
    let program = std::env::current_exe().ok()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([name, &times.to_string()])
        .stdout(Stdio::null())
        .output()
        .ok()?;
    let report = String::from_utf8_lossy(&output.stderr);
    let (_, count) = report.split_once("Collected : ")?;
    count.split_whitespace().next()?.parse().ok()
}

fn own(bytes: &[u8], version: Version) -> Message {
    match decode(bytes, version) {
        Ok(Packet::Publish(publish)) => Message::of_publish(&publish, version, Origin::new(7), NOW),
        _ => unreachable!("only PUBLISH is given"),
    }
}

#[inline]
fn decode(bytes: &[u8], version: Version) -> Result<Packet<'_>, Violation> {
    let Some(header) = Header::decode(bytes, Sender::Client, version, &LIMITS)? else {
        unreachable!("only whole packets are given");
    };
    let body = &bytes[header.header_size()..header.packet_size()];
    Packet::decode(&header, body, version, &LIMITS)
}

fn publish_bytes(version: Version, properties: &[Property<'_>]) -> Vec<u8> {
    let mut storage = Vec::new();
    let properties = Properties::write(properties, &mut storage);
    let mut bytes = Vec::new();
    Packet::Publish(Publish::new(TOPIC, &PAYLOAD).with_properties(properties)).encode(version, &mut bytes);
    bytes
}

fn own_plain(times: u64) {
    own_all(times, &publish_bytes(Version::V5, &[]), Version::V5);
}

fn own_rich(times: u64) {
    let properties = [
        Property::UserProperty("unit", "kelvin"),
        Property::UserProperty("source", "sensor-12"),
        Property::UserProperty("schema", "state/v3"),
    ];
    own_all(times, &publish_bytes(Version::V5, &properties), Version::V5);
}

fn own_v3_1_1(times: u64) {
    own_all(times, &publish_bytes(Version::V3_1_1, &[]), Version::V3_1_1);
}

fn own_all(times: u64, bytes: &[u8], version: Version) {
    for _ in 0..times {
        black_box(own(black_box(bytes), black_box(version)));
    }
}

fn decode_plain(times: u64) {
    let bytes = publish_bytes(Version::V5, &[]);
    for _ in 0..times {
        let _ = black_box(decode(black_box(&bytes), black_box(Version::V5)));
    }
}

fn encode_plain(times: u64) {
    encode_all(times, &Delivery::default(), Version::V5);
}

fn encode_qos1(times: u64) {
    let delivery = Delivery { qos: Qos::AtLeastOnce, packet_id: PacketId::new(77), ..Delivery::default() };
    encode_all(times, &delivery, Version::V5);
}

fn encode_subscription_id(times: u64) {
    let delivery = Delivery { subscription_ids: &[1_000], ..Delivery::default() };
    encode_all(times, &delivery, Version::V5);
}

fn encode_v3_1_1(times: u64) {
    encode_all(times, &Delivery::default(), Version::V3_1_1);
}

fn encode_all(times: u64, delivery: &Delivery<'_>, version: Version) {
    let message = own(&publish_bytes(Version::V5, &[]), Version::V5);
    let mut out = Vec::with_capacity(64 * 1024);
    for _ in 0..times {
        out.clear();
        let _ = encode_publish(black_box(&message), black_box(delivery), black_box(version), NOW, u32::MAX, &mut out);
        black_box(&out);
    }
}

fn decode_puback(times: u64) {
    let bytes = [0x40, 2, 0, 7];
    for _ in 0..times {
        let _ = black_box(decode(black_box(&bytes), black_box(Version::V5)));
    }
}

fn encode_puback(times: u64) {
    let mut out = Vec::with_capacity(64);
    let packet_id = PacketId::new(7).expect("not 0");
    for _ in 0..times {
        out.clear();
        let packet_id = black_box(packet_id);
        encode_ack(PacketType::PubAck, packet_id, ReasonCode::Success, black_box(Version::V5), &mut out);
        black_box(&out);
    }
}
