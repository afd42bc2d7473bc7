//! Frames of WebSocket as a Client sends them (RFC 6455, 5.2).

/// One frame: its first byte (FIN, reserved bits, opcode), its content, and what that is masked with.
pub(crate) fn frame(first: u8, content: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut bytes = vec![first];
    match content.len() {
        size @ 0..=125 => bytes.push(0x80 | size as u8),
        size @ 126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(size as u16).to_be_bytes());
        }
        size => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(size as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&mask);
    bytes.extend(content.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}
