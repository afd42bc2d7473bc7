"""Two figures that only an optimized broker can show: what a match costs among filters that all match, and how long anybody waits
while much is due in the same second.

Time for which this program or a thread of the broker could have run, and others did, is taken off: it says nothing of the broker.
"""
import os
import socket
import struct
import time

import wire
from harness import Broker, Disappointed, expect, expect_equal
from promises import busyness
from wire import Link

LEVELS = 12
MATCH_S, PAUSE_S = 0.001, 0.1
TRIES = 5
# A machine whose host gives it less than it seems to have is as much slower at times; what is measured is always said.
SLOW = 2
WILLS, EXPIRIES = 2_000, 50_000
CONFIG = ('[[listener]]\naddress = "127.0.0.1:{port}"\n[limits]\nsubscriptions_per_session_max = 10000\n'
          'filters_per_subscribe_max = 100\nconnect_rate_max = 1000000\nconnect_rate_per_address_max = 1000000\n'
          'connections_pending_max = 5000\n')


def run(report, _kind):
    report.check("figures n10: a match among 4,096 filters takes about a millisecond, 99 times of 100", n10_wildcard_explosion)
    report.check("figures n16: no pause above 100 ms when much is due at once", n16_everything_due_at_once, seconds=90)


def n10_wildcard_explosion():
    """`+` in every combination of twelve levels, all of which match; each Topic is a new one, which no cache knows."""
    with Broker(config=CONFIG) as broker, Link(broker.port, version=4) as subscriber, Link(broker.port, version=4) as publisher:
        subscriber.connect("n10-subscriber")
        publisher.connect("n10-publisher")
        levels = [chr(ord("a") + level) for level in range(LEVELS)]
        filters = ["/".join("+" if mask >> level & 1 else levels[level] for level in range(LEVELS)) + "/#"
                   for mask in range(1 << LEVELS)]
        for at in range(0, len(filters), 100):
            part = filters[at:at + 100]
            body = struct.pack("!H", 1) + b"".join(wire.text(one) + b"\0" for one in part)
            subscriber.send(wire.frame(wire.SUBSCRIBE, 2, body))
            expect_equal(subscriber.next(wire.SUBACK).body[2:], bytes(len(part)), "the codes in SUBACK")
        best, sent = None, 0
        for _ in range(TRIES):
            times = []
            for _ in range(300):
                sent += 1
                message = wire.publish("/".join([*levels, str(sent)]), b"x", 1, 1 + sent % 1000, version=4)
                times.append(took(broker.pid, lambda: publisher.send(message) or publisher.next(wire.PUBACK)))
                subscriber.next(wire.PUBLISH)
            found = sorted(times)[len(times) * 99 // 100 - 1]
            best = min(best or found, found)
            if best <= MATCH_S:
                break
        print(f"   n10: 99 of 100 answers among 4,096 filters after {best * 1e6:.0f} us at most", flush=True)
        expect(best <= SLOW * MATCH_S * busyness(), f"99 of 100 take up to {best * 1e3:.2f} ms")


def n16_everything_due_at_once():
    """Thousands of Wills and retained messages whose time has come in the same second."""
    with Broker(config=CONFIG) as broker, Link(broker.port) as watcher, Link(broker.port) as publisher:
        watcher.connect("n16-watcher").subscribe("n16/will")
        publisher.connect("n16-publisher")
        dying = [socket.create_connection(("127.0.0.1", broker.port), 10) for _ in range(WILLS)]
        for number, client in enumerate(dying):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(with_a_will(number))
        for client in dying:
            expect(client.recv(4096)[:1] == b"\x20", "no CONNACK")
        due_s = 4
        begun = time.monotonic()
        expiry = b"\5\2" + struct.pack("!I", due_s)
        for at in range(0, EXPIRIES, 5000):
            topics = (wire.text(f"n16/r/{number}") for number in range(at, at + 5000))
            publisher.send(b"".join(wire.frame(wire.PUBLISH, 1, topic + expiry + b"x") for topic in topics))
        publisher.send(wire.frame(wire.PINGREQ, 0, b""))
        publisher.next(wire.PINGRESP, seconds=30)
        last = time.monotonic() - begun
        time.sleep(max(0.0, begun + due_s - 2 - time.monotonic()))
        for client in dying:
            client.close()  # without a word
        pauses, end = [], time.monotonic() + 2 + last + 1
        while time.monotonic() < end:
            pauses.append(took(broker.pid, lambda: publisher.send(wire.frame(wire.PINGREQ, 0, b""))
                               or publisher.next(wire.PINGRESP)))
            time.sleep(0.002)
        seen = {wire.published(watcher.next(wire.PUBLISH)).payload for _ in range(WILLS)}
        expect_equal(len(seen), WILLS, "how many Wills went out")
        print(f"   n16: {WILLS} Wills and {EXPIRIES} expiries, the longest pause {max(pauses) * 1e3:.1f} ms", flush=True)
        expect(max(pauses) <= PAUSE_S * busyness(), f"a pause of {max(pauses) * 1e3:.0f} ms")


def with_a_will(number):
    """CONNECT with a Will that is due two seconds after the connection is lost."""
    expiry, delay = b"\5\x11" + struct.pack("!I", 2), b"\5\x18" + struct.pack("!I", 2)
    payload = wire.text(f"n16-{number}") + delay + wire.text("n16/will") + wire.text(str(number))
    return wire.frame(wire.CONNECT, 0, wire.connect_header(5, 6) + expiry + payload)


def took(pid, what):
    """Seconds that it took, without those in which somebody else had the processor."""
    before, begun = waited_s(pid), time.monotonic()
    what()
    elapsed = time.monotonic() - begun
    return max(0.0, elapsed - (waited_s(pid) - before))


def waited_s(pid):
    """For how long threads of the broker and this one could have run so far, and did not."""
    total = 0
    for place in [f"/proc/{pid}/task/{thread}" for thread in os.listdir(f"/proc/{pid}/task")] + ["/proc/thread-self"]:
        try:
            with open(f"{place}/schedstat", encoding="ascii") as file:
                total += int(file.read().split()[1])
        except FileNotFoundError:
            continue  # it has ended
        except ValueError:
            raise Disappointed(f"{place}/schedstat cannot be read") from None
    return total / 1e9
