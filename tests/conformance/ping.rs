//! Section 3.12: PINGREQ and PINGRESP.

use crate::house::broker;
use crate::support::wire::{PINGREQ, Parsed, connect, packet, reason::*};
use crate::talk::{Client, both};

both!(
    mqtt_3_12_4_1_a_pingreq_is_answered_by_a_pingresp,
    mqtt311_3_12_4_1_a_pingreq_is_answered_by_a_pingresp,
    mqtt31_a_pingreq_is_answered_by_a_pingresp,
    |version| {
        let broker = broker();
        let client = Client::connects(&broker, connect(version, "client"));
        client.says(PINGREQ);
        assert_eq!(client.hears_bytes(), [0xd0, 0]);
        client.says_at_once(&[&PINGREQ, &PINGREQ, &PINGREQ]).hears([
            Parsed::PingResp,
            Parsed::PingResp,
            Parsed::PingResp,
        ]);
        client.is_open();
    }
);

both!(a_pingreq_with_a_payload_is_malformed, a_pingreq_with_a_payload_is_malformed_in_3_1_1, |version| {
    let broker = broker();
    let client = Client::connects(&broker, connect(version, "client"));
    client.says(packet(0xc0, [0])).is_thrown_out(&[MALFORMED_PACKET]);
});
