//! What must hold for whatever comes before and around MQTT: the bodies that the fuzz targets and the bounded test share.
#![allow(dead_code, reason = "each fuzz target uses one of them")]

use waypost::net::WebSocketSettings;
use waypost::net::proxy;
use waypost::net::websocket::WebSocket;

/// A first byte below 64: the rest is an upgrade request. Otherwise frames, and the first byte says how they are cut.
pub(crate) fn websocket(data: &[u8]) {
    match data.split_first() {
        Some((0..64, request)) => upgrade(request),
        Some((cut, bytes)) => frames(bytes, usize::from(*cut - 63)),
        None => {}
    }
}

fn upgrade(request: &[u8]) {
    let settings = WebSocketSettings { origins: vec!["*".to_owned(), "none".to_owned()], path: None };
    match settings.upgrade(request) {
        Ok(Some((answer, size))) => {
            assert!(size <= request.len(), "{size} bytes of {}", request.len());
            assert!(answer.starts_with(b"HTTP/1.1 101 "));
            // It was complete at just this byte, and what follows it is not looked at.
            assert_eq!(settings.upgrade(&request[..size]), Ok(Some((answer, size))));
            assert_eq!(settings.upgrade(&request[..size - 1]), Ok(None));
        }
        Ok(None) => assert!(request.len() <= 8 << 10, "a request is bounded"),
        Err(refused) => {
            assert!(refused.answer.starts_with(b"HTTP/1.1 4"));
            assert!(refused.answer.ends_with(b"\r\n\r\n"));
        }
    }
}

/// However frames are cut, the same content comes out of them, and the same end.
fn frames(bytes: &[u8], cut: usize) {
    let (content, answers, ended) = take_apart(bytes, bytes.len());
    let cut_up = take_apart(bytes, cut);
    assert!(content.len() <= bytes.len());
    assert_eq!((&content, ended), (&cut_up.0, cut_up.2), "cut at each {cut} bytes");
    // Of several Pings in one piece only the last is answered, and it is answered in both.
    assert_eq!(answers.last().map(Vec::as_slice), cut_up.1.last().map(Vec::as_slice));
}

fn take_apart(bytes: &[u8], cut: usize) -> (Vec<u8>, Vec<Vec<u8>>, bool) {
    let mut socket = WebSocket::default();
    let (mut content, mut answers) = (Vec::new(), Vec::new());
    for part in bytes.chunks(cut.max(1)) {
        let mut part = part.to_vec();
        let received = socket.receive(&mut part);
        content.extend_from_slice(&part[..received.count]);
        if let Some(answer) = received.answer {
            let answer = answer.parts().concat();
            assert!(answer.len() <= 127 && answer[0] & 0x80 != 0, "a control frame: {answer:?}");
            answers.push(answer);
        }
        if received.ended {
            assert!(socket.close().is_none(), "one Close frame is enough");
            return (content, answers, true);
        }
    }
    (content, answers, false)
}

/// What a proxy says is the same however much has come behind it, and is not said before it is complete.
pub(crate) fn proxy(data: &[u8]) {
    match proxy::read(data) {
        Ok(Some((proxied, size))) => {
            assert!(size <= data.len() && size <= 2048, "{size} bytes of {}", data.len());
            assert_eq!(proxy::read(&data[..size]), Ok(Some((proxied, size))));
            assert_eq!(proxy::read(&data[..size - 1]), Ok(None));
        }
        Ok(None) => assert!(data.len() < 2048, "a header is bounded"),
        Err(why) => assert!(!why.is_empty()),
    }
}
