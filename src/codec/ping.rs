//! PINGREQ and PINGRESP: two bytes each, the same in all versions.
//! There is nothing to decode: a body is refused by the fixed header.
//! Read `header.rs` for that.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use super::header::PacketType;

/// Appends a PINGREQ.
pub fn encode_pingreq(out: &mut Vec<u8>) {
    out.extend_from_slice(&[PacketType::PingReq.first_byte(), 0]);
}

/// Appends a PINGRESP, the answer to PINGREQ [MQTT-3.12.4-1].
pub fn encode_pingresp(out: &mut Vec<u8>) {
    out.extend_from_slice(&[PacketType::PingResp.first_byte(), 0]);
}
