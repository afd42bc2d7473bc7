"""How many writes and syncs a delivery costs, counted by strace: what is ready at the same time must leave in one write, and
what waits for the disk at the same time in one sync.

The counts hold everything that writes, wake-ups between threads included; the few of the handshakes are lost in the
number of messages. A slow machine makes batches larger, so that load cannot make these checks fail.
"""
import os
import selectors
import shutil
import subprocess
import tempfile
import time

import wire
from harness import PATIENCE_S, Broker, Disappointed, Skipped, expect
from wire import Link

WRITES = ("write", "writev", "sendto", "sendmsg", "sendmmsg")
SYNCS = ("fdatasync",)  # of the journal; what is at rest takes fsync
QUIET = {"waypost": '[[listener]]\naddress = "127.0.0.1:{port}"\n[log]\nlevel = "error"\n', "mosquitto": None}


def run(report, kind):
    report.check("syscalls fan-in 100:1 at most 0.35 writes per delivery", counted, kind, fan_in, 0.35, seconds=180)
    report.check("syscalls fan-out 1:200 at most 1.05 writes per delivery", counted, kind, fan_out, 1.05, seconds=180)
    report.check("syscalls one publisher alone waits for one sync", counted, kind, alone, 1.1, SYNCS, seconds=180)
    report.check("syscalls 100 publishers share their syncs", counted, kind, together, 0.1, SYNCS, seconds=180)


def counted(kind, load, limit, which=WRITES):
    strace = shutil.which("strace")
    if not strace:
        raise Skipped("strace is not installed")
    if subprocess.run([strace, "-f", "-c", "-o", os.devnull, "true"], stdin=subprocess.DEVNULL, capture_output=True,
                      timeout=PATIENCE_S).returncode:
        raise Skipped("strace may not trace here")
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as table:
        counter = [strace, "-D", "-f", "-c", "-e", f"trace={','.join(which)}", "-o", table.name]
        with Broker(kind, QUIET[kind], before=counter) as broker:
            deliveries = load(broker)
            broker.stop()
            broker.program.output()  # ends with strace, which has then written its table
            calls = summary(table.read(), which)
    per_delivery = sum(calls.values()) / deliveries
    told = ", ".join(f"{name} {count}" for name, count in sorted(calls.items()))
    print(f"   {load.__name__}: {deliveries} deliveries, {per_delivery:.3f} calls for each ({told})", flush=True)
    expect(per_delivery <= limit, f"{per_delivery:.3f} calls per delivery ({told} for {deliveries} deliveries)")


def summary(text, which):
    """The table of strace -c: a line a system call, calls in the fourth column, the name in the last."""
    rows = [line.split() for line in text.splitlines()]
    calls = {row[-1]: int(row[3]) for row in rows if row and row[-1] in which}
    if not calls:
        raise Skipped(f"strace gave no summary: {text[:100]!r}")
    return calls


def fan_in(broker):
    """Hundred publishers, one message each and all at once, a hundred times; one subscriber."""
    rounds = 100
    with Link(broker.port) as subscriber:
        subscriber.connect("subscriber").subscribe("in/#")
        publishers = [Link(broker.port).connect(f"publisher-{index}") for index in range(100)]
        try:
            for _ in range(rounds):
                for index, publisher in enumerate(publishers):
                    publisher.send(wire.publish(f"in/{index}", b"x" * 64))
                for _ in publishers:
                    subscriber.next(wire.PUBLISH)
        finally:
            for publisher in publishers:
                publisher.close()
        return rounds * len(publishers)


def fan_out(broker):
    """One publisher, one message at a time, two hundred subscribers."""
    rounds, selector = 200, selectors.DefaultSelector()
    subscribers = [Link(broker.port).connect(f"subscriber-{index}").subscribe("out") for index in range(200)]
    with Link(broker.port) as publisher:
        publisher.connect("publisher")
        for subscriber in subscribers:
            selector.register(subscriber.socket, selectors.EVENT_READ, subscriber)
        try:
            for _ in range(rounds):
                publisher.send(wire.publish("out", b"x" * 64))
                missing, end = len(subscribers), time.monotonic() + 2 * PATIENCE_S
                while missing:
                    ready = selector.select(max(0.0, end - time.monotonic()))
                    if not ready:
                        raise Disappointed(f"{missing} of {len(subscribers)} subscribers still wait for a message")
                    for key, _ in ready:
                        key.data.next(wire.PUBLISH)
                        missing -= 1
        finally:
            selector.close()
            for subscriber in subscribers:
                subscriber.close()
    return rounds * len(subscribers)


def alone(broker):
    """One publisher, one QoS 1 message at a time; one subscriber whose Session is kept."""
    rounds = 300
    with Link(broker.port) as subscriber, Link(broker.port) as publisher:
        stays(subscriber, "kept/#")
        publisher.connect("publisher")
        for packet_id in range(1, rounds + 1):
            publisher.send(wire.publish("kept/1", b"x" * 64, qos=1, packet_id=packet_id))
            publisher.next(wire.PUBACK)
            acknowledges(subscriber)
    return rounds


def together(broker):
    """A hundred publishers, each with one QoS 1 message at a time; one subscriber whose Session is kept."""
    rounds = 50
    with Link(broker.port) as subscriber:
        stays(subscriber, "kept/#")
        publishers = [Link(broker.port).connect(f"publisher-{index}") for index in range(100)]
        try:
            for packet_id in range(1, rounds + 1):
                for publisher in publishers:
                    publisher.send(wire.publish("kept/1", b"x" * 64, qos=1, packet_id=packet_id))
                for publisher in publishers:
                    publisher.next(wire.PUBACK)
                    acknowledges(subscriber)
        finally:
            for publisher in publishers:
                publisher.close()
        return rounds * len(publishers)


def stays(subscriber, topic_filter):
    subscriber.send(wire.resume("subscriber"))
    subscriber.next(wire.CONNACK)
    subscriber.subscribe(topic_filter, qos=1)


def acknowledges(subscriber):
    packet_id = wire.published(subscriber.next(wire.PUBLISH)).packet_id
    subscriber.send(wire.acknowledge(wire.PUBACK, packet_id))
