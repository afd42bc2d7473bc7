//! Packets made by chance: in most of them everything is right, whatever a Client or a server may send.
#![allow(dead_code, reason = "each program that includes this uses some of it")]

use super::random::Random;

pub const CONNECT: u8 = 1;

/// A packet of this type, 1 to 15, in this version, 3 to 5.
pub fn packet(kind: u8, version: u8, random: &mut Random) -> Vec<u8> {
    let qos = random.below(3) as u8;
    let flags = match kind {
        3 if qos == 0 => random.below(2) as u8,
        3 => qos << 1 | random.byte() & 0b1001,
        6 | 8 | 10 => 2,
        _ => 0,
    };
    let mut body = Vec::new();
    let v5 = version == 5;
    let places: &[u8] = match kind {
        1 => &[0x11, 0x15, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27],
        2 => &[0x11, 0x12, 0x13, 0x15, 0x16, 0x1a, 0x1c, 0x1f, 0x24, 0x25, 0x26, 0x28, 0x29, 0x2a],
        3 => &[0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26, 0x26],
        8 => &[0x0b, 0x26],
        10 => &[0x26],
        14 => &[0x1c, 0x1f, 0x26],
        15 => &[0x16, 0x1f, 0x26],
        _ => &[0x1f, 0x26, 0x26],
    };
    match kind {
        1 => connect(&mut body, version, places, random),
        2 => {
            body.extend([0, [0, 1, 5, 0x87][random.below(4)]]);
            section(&mut body, v5, places, random);
        }
        3 => {
            string(&mut body, TOPICS, random);
            if qos > 0 {
                body.extend([0, random.byte()]);
            }
            section(&mut body, v5, places, random);
            body.extend_from_slice(&b"payload"[random.below(8)..]);
        }
        8..=11 => {
            body.extend([0, random.byte()]);
            section(&mut body, v5, places, random);
            for _ in 0..=random.below(3) {
                match kind {
                    8 => {
                        string(&mut body, FILTERS, random);
                        body.push(random.below(if v5 { 48 } else { 3 }) as u8);
                    }
                    10 => string(&mut body, FILTERS, random),
                    9 => body.push([0, 1, 2, 0x80, 0x8f][random.below(5)]),
                    _ if v5 => body.push([0, 0x11, 0x80, 0x8f][random.below(4)]),
                    _ => {}
                }
            }
        }
        4..=7 | 14 | 15 => {
            if kind <= 7 {
                body.extend([0, random.byte()]);
            }
            if v5 && random.below(4) > 0 {
                let codes: &[u8] = match kind {
                    4 | 5 => &[0, 0x10, 0x87],
                    6 | 7 => &[0, 0x92],
                    14 => &[0, 0x81],
                    _ => &[0x18],
                };
                body.push(codes[random.below(codes.len())]);
                section(&mut body, v5, places, random);
            }
        }
        _ => {}
    }
    let mut data = vec![kind << 4 | flags];
    if body.len() < 0x80 {
        data.push(body.len() as u8);
    } else {
        data.extend([body.len() as u8 & 0x7f | 0x80, (body.len() >> 7) as u8]);
    }
    data.extend(body);
    data
}

const TOPICS: &[&str] = &["a", "a/b", "/", "é", "$SYS/x", "0123456789abcdefghij", "", "a/+"];
const FILTERS: &[&str] = &["a", "#", "+/a", "$share/g/t", "a#", "", "\u{1}", "0123456789abcdefghij"];
const STRINGS: &[&str] = &["", "a", "text", "é", "0123456789abcdefghij", "\u{1f600}"];

fn connect(body: &mut Vec<u8>, version: u8, places: &[u8], random: &mut Random) {
    let name: &[u8] = if version == 3 { b"\0\x06MQIsdp" } else { b"\0\x04MQTT" };
    body.extend_from_slice(name);
    let will = random.below(2) as u8;
    let mut flags = will << 2 | (will * random.below(3) as u8) << 3 | (random.below(2) as u8) << 1;
    flags |= [0, 0x80, 0xc0][random.below(3)];
    body.extend([version, flags, 0, random.byte()]);
    section(body, version == 5, places, random);
    string(body, STRINGS, random);
    if will == 1 {
        section(body, version == 5, &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26, 0x26], random);
        string(body, TOPICS, random);
        string(body, STRINGS, random);
    }
    for flag in [0x80, 0x40] {
        if flags & flag != 0 {
            string(body, STRINGS, random);
        }
    }
}

fn section(body: &mut Vec<u8>, v5: bool, places: &[u8], random: &mut Random) {
    if !v5 {
        return;
    }
    let mut section = Vec::new();
    if places.first() == Some(&0x16) {
        section.extend(b"\x15\0\x01m"); // AUTH always has a method
    }
    for _ in 0..random.below(4) {
        let id = places[random.below(places.len())];
        section.push(id);
        match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2a => section.push(random.below(2) as u8),
            0x0b => section.extend([random.byte() | 0x80, 1 + random.below(100) as u8]),
            0x13 | 0x21..=0x23 => section.extend([random.byte(), random.byte()]),
            0x02 | 0x11 | 0x18 | 0x27 => {
                section.extend(random.next().to_be_bytes().into_iter().take(4));
            }
            0x26 => {
                string(&mut section, STRINGS, random);
                string(&mut section, STRINGS, random);
            }
            0x08 => string(&mut section, &TOPICS[..6], random),
            _ => string(&mut section, STRINGS, random),
        }
    }
    if section.len() >= 0x80 {
        section.truncate(0x7f);
    }
    body.push(section.len() as u8);
    body.extend(section);
}

fn string(body: &mut Vec<u8>, strings: &[&str], random: &mut Random) {
    let string = strings[random.below(strings.len())];
    body.extend([0, string.len() as u8]);
    body.extend(string.bytes());
}

/// One change: a bit, a byte, an end, a piece doubled; every other time the Remaining Length is made right again.
pub fn mutate(data: &mut Vec<u8>, random: &mut Random) {
    let place = random.below(data.len());
    match random.below(7) {
        0 if !data.is_empty() => data[place] ^= 1 << random.below(8),
        1 if !data.is_empty() => data[place] = random.byte(),
        2 if !data.is_empty() => data[place] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
        3 => data.insert(place, random.byte()),
        4 if !data.is_empty() => {
            data.remove(place);
        }
        5 => data.truncate(place),
        _ => {
            let end = place + random.below(data.len() - place);
            let copied = data[place..end].to_vec();
            data.splice(place..place, copied);
        }
    }
    if random.below(2) == 0 && data.len() >= 2 {
        data[1] = (data.len() - 2).min(0x7f) as u8;
    }
}
