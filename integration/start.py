"""How long a start takes that has very much to read: retained messages, and Sessions with subscriptions.

One of each is made by a running broker, exported, multiplied and imported, since a broker that is given a million would keep a
test waiting.
"""
import base64
import json
import os
import subprocess
import tempfile
import time

import wire
from harness import BINARY, Broker, expect, expect_equal, short
from kills import CONFIG
from promises import busyness
from wire import Link

# What is to be ready within 5 s on a quiet machine; a tenth of it, unless a long run is asked for, takes what processes take.
RETAINED, SESSIONS, READY_WITHIN_S = 1_000_000, 100_000, 5

DIGITS = "000000"
FILTERS = f"to/+/device/{DIGITS}/#", f"commands/{DIGITS}", "news"


def templates(data):
    """The lines of a store with one retained message and one Session."""
    with Broker(config=CONFIG["waypost"], data=data) as broker:
        with Link(broker.port) as link:
            link.connect("publisher")
            link.send(wire.publish(f"site/{DIGITS[:3]}/device/{DIGITS}/state", b"x" * 100, 1, 1, retain=True))
            link.next(wire.PUBACK)
        with Link(broker.port) as link:
            link.send(wire.resume(f"client-{DIGITS}"))
            link.next(wire.CONNACK)
            for number, topic_filter in enumerate(FILTERS):
                link.subscribe(topic_filter, 1, number + 1)
        broker.stop()
    done = subprocess.run([BINARY, "store", "export", "--data-dir", data], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def numbered(text, number, session=None):
    """These bytes of another one; `session`: they begin with its number."""
    decoded = base64.b64decode(text).replace(DIGITS.encode(), b"%06d" % number).replace(b"site/000", b"site/%03d" % (number % 997))
    if session is not None:
        decoded = session.to_bytes(8, "big") + decoded[8:]
    return base64.b64encode(decoded).decode()


def lines(one, retained, sessions):
    """As many of each as asked for."""
    yield from (line for line in one if "waypost-store" in line or line.get("table") == 6)
    for line in one:
        kind = line.get("table") or ("blob" if "bytes" in line else None)
        if kind == 1:
            for number in range(sessions):
                yield {**line, "key": numbered(line["key"], number), "value": numbered(line["value"], number, number + 1)}
        elif kind == 2:
            for number in range(sessions):
                yield {**line, "key": numbered(line["key"], number, number + 1)}
        elif kind == 3:
            for number in range(retained):
                yield {**line, "key": numbered(line["key"], number), "blob": line["blob"] + number}
        elif kind == "blob":
            for number in range(retained):
                yield {"blob": line["blob"] + number, "bytes": numbered(line["bytes"], number)}


def fill(data, retained, sessions):
    with tempfile.TemporaryDirectory(prefix="waypost-outside-") as folder:
        one = templates(os.path.join(folder, "data"))
        path = os.path.join(folder, "lines")
        with open(path, "w", encoding="ascii") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines(one, retained, sessions))
        done = subprocess.run([BINARY, "store", "import", "--data-dir", data, path], capture_output=True, text=True)
        expect_equal(done.returncode, 0, f"what import ends with ({short(done.stderr)})")


def run(report, is_long):
    part = 1 if is_long else 10
    within_s = READY_WITHIN_S if is_long else READY_WITHIN_S / 2
    report.check("start with very much in the store", ready_soon, RETAINED // part, SESSIONS // part, within_s, seconds=600 / part)


def ready_soon(retained, sessions, within_s):
    """It is ready soon, and everything is there."""
    with tempfile.TemporaryDirectory(prefix="waypost-outside-") as folder:
        fill(folder, retained, sessions)
        began = time.monotonic()
        with Broker(config=CONFIG["waypost"], data=folder) as broker:
            took = time.monotonic() - began
            print(f"   {retained} retained messages and {sessions} Sessions: ready after {took:.2f} s", flush=True)
            expect(took < within_s * busyness(), f"it was ready after {took:.1f} s")
            with Link(broker.port) as link:
                link.send(wire.resume(f"client-{sessions - 1:06d}"))
                expect_equal(link.next(wire.CONNACK).body[:2], b"\1\0", "Session Present and the code")
                last = b"%06d" % (retained - 1)
                link.subscribe(f"+/+/device/{last.decode()}/#")
                expect(last in wire.published(link.next(wire.PUBLISH)).topic.encode(), "the last of the retained messages")
