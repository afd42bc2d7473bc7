"""MQTT packets by hand, for what no client library does: hold back, misbehave, or be a thousand clients at once.

Only what these tests send and read; `version` is the protocol level, 3 for MQTT 3.1, 4 for 3.1.1 and 5 for 5.0.
"""
import socket
import struct
import time
from collections import namedtuple

from harness import PATIENCE_S, Disappointed, expect, expect_equal

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK = range(1, 10)
PINGREQ, PINGRESP, DISCONNECT = 12, 13, 14

Packet = namedtuple("Packet", "kind flags body")


def frame(kind, flags, body):
    length, header = len(body), bytearray([kind << 4 | flags])
    while True:
        length, digit = length >> 7, length & 127
        header.append(digit | (128 if length else 0))
        if not length:
            return bytes(header) + body


def text(value):
    data = value.encode()
    return struct.pack("!H", len(data)) + data


def connect(client_id, version=5, keep_alive_s=60):
    return frame(CONNECT, 0, connect_header(version, 2, keep_alive_s) + (b"\0" if version == 5 else b"") + text(client_id))


def connect_header(version, flags, keep_alive_s=60):
    return text("MQIsdp" if version == 3 else "MQTT") + struct.pack("!BBH", version, flags, keep_alive_s)


Will = namedtuple("Will", "topic payload qos delay_s")


def resume(client_id, version=5, will=None):
    """CONNECT to a Session that never ends: Clean Start 0 and, in 5.0, the longest Session Expiry Interval."""
    properties, flags, last_words = b"", 0, b""
    if version == 5:
        properties = b"\x05\x11\xff\xff\xff\xff"
    if will:
        flags = 4 | will.qos << 3
        delay = struct.pack("!BBI", 5, 0x18, will.delay_s) if version == 5 else b""
        last_words = delay + text(will.topic) + struct.pack("!H", len(will.payload)) + will.payload
    return frame(CONNECT, 0, connect_header(version, flags) + properties + text(client_id) + last_words)


def subscribe(packet_id, topic_filter, qos=0, version=5):
    properties = b"\0" if version == 5 else b""
    return frame(SUBSCRIBE, 2, struct.pack("!H", packet_id) + properties + text(topic_filter) + bytes([qos]))


def publish(topic, payload, qos=0, packet_id=0, version=5, retain=False, dup=False):
    identifier = struct.pack("!H", packet_id) if qos else b""
    properties = b"\0" if version == 5 else b""
    return frame(PUBLISH, dup << 3 | qos << 1 | retain, text(topic) + identifier + properties + payload)


def acknowledge(kind, packet_id):
    return frame(kind, 2 if kind == PUBREL else 0, struct.pack("!H", packet_id))


Published = namedtuple("Published", "topic qos packet_id payload")


def published(packet, version=5):
    """What a PUBLISH says; its properties are passed over."""
    qos, at = packet.flags >> 1 & 3, 2 + struct.unpack_from("!H", packet.body)[0]
    topic, packet_id = packet.body[2:at].decode(), 0
    if qos:
        packet_id, at = struct.unpack_from("!H", packet.body, at)[0], at + 2
    if version == 5:
        length = shift = 0
        while True:
            digit, at = packet.body[at], at + 1
            length, shift = length | (digit & 127) << shift, shift + 7
            if digit < 128:
                break
        at += length
    return Published(topic, qos, packet_id, packet.body[at:])


class Packets:
    """Cuts a stream of bytes into packets."""

    def __init__(self):
        self.rest = bytearray()

    def feed(self, data):
        self.rest += data
        found, start = [], 0
        while True:
            at, length, shift = start + 1, 0, 0
            while at < len(self.rest) and shift < 28:
                digit, at = self.rest[at], at + 1
                length, shift = length | (digit & 127) << shift, shift + 7
                if digit < 128:
                    break
            else:
                break
            if len(self.rest) < at + length:
                break
            found.append(Packet(self.rest[start] >> 4, self.rest[start] & 15, bytes(self.rest[at:at + length])))
            start = at + length
        del self.rest[:start]
        return found


class Link:
    """One blocking Network Connection with a deadline on every wait."""

    def __init__(self, port, host="127.0.0.1", version=5):
        self.version = version
        self.socket = socket.create_connection((host, port), PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.packets, self.waiting = Packets(), []

    def send(self, data):
        self.socket.sendall(data)

    def next(self, kind=None, seconds=PATIENCE_S):
        """The next packet, which must be of `kind`; None when the broker has closed the connection."""
        end = time.monotonic() + seconds
        while not self.waiting:
            self.socket.settimeout(max(0.001, end - time.monotonic()))
            try:
                data = self.socket.recv(65536)
            except socket.timeout:
                raise Disappointed(f"no packet of type {kind} within {seconds:g} s") from None
            except ConnectionResetError:
                raise Disappointed("the connection was reset instead of closed") from None
            if not data:
                expect(kind is None, f"closed where a packet of type {kind} was due")
                return None
            self.waiting += self.packets.feed(data)
        packet = self.waiting.pop(0)
        if kind is not None:
            expect_equal(packet.kind, kind, f"packet type (body {packet.body[:40]!r})")
        return packet

    def connect(self, client_id, keep_alive_s=60):
        self.send(connect(client_id, self.version, keep_alive_s))
        answer = self.next(CONNACK)
        expect_equal(answer.body[1], 0, "the code in CONNACK")
        return self

    def subscribe(self, topic_filter, qos=0, packet_id=1):
        self.send(subscribe(packet_id, topic_filter, qos, self.version))
        answer = self.next(SUBACK)
        expect_equal(answer.body[-1], qos, f"the code in SUBACK for {topic_filter!r}")
        return self

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
