"""A disk that fails: errors of single system calls, put in by strace, and a file system that is full.

What was acknowledged while the disk failed is looked for after a power cut, since a write that is only in the memory of
the kernel would outlive a kill. Short writes come with the full file system; strace cannot make one that writes.
"""
import contextlib
import os
import pickle
import random
import shutil
import subprocess
import tempfile
import time

import wire
from faithful import World
from harness import PATIENCE_S, Broker, Disappointed, Program, Skipped, expect, expect_equal
from kills import CONFIG, fall
from power import after, cut, memory, mounted, new_disk
from promises import busyness, crowd, drain, findings, judge, summary
from wire import Link

# While it runs: what fails, how, and at which calls of a thread. A new segment is asked for only after a failure.
MAKING_ONE = "fallocate:error=ENOSPC:when=1+2", "openat:error=EIO:when=2+3", "rename:error=EIO:when=1+2"
RUNNING = [
    ["fdatasync:error=EIO:when=3+7"],
    ["fdatasync:error=EIO:when=2+1"],
    ["pwrite64:error=EIO:when=5+11"],
    ["pwrite64:error=ENOSPC:when=3+2"],
    ["pwrite64:error=EINTR:when=1+2", "fdatasync:error=EINTR:when=4+5"],
    ["fsync:error=EIO:when=1+2", "fdatasync:error=EIO:when=5+5"],
    *(["fdatasync:error=EIO:when=4+9", making] for making in MAKING_ONE),
]
# While it starts on data that are there; each of them at several calls. Not `write`: threads wake one another by it, and one that
# cannot ends the process. The full file system refuses it for files.
STARTING = ["openat:error=EIO", "openat:error=EMFILE", "pread64:error=EIO", "pwrite64:error=ENOSPC",
            "fdatasync:error=EIO", "fsync:error=EIO", "fallocate:error=ENOSPC", "rename:error=EIO", "ftruncate:error=EIO"]


def run(report, seed):
    rng = random.Random(seed)
    for faults in RUNNING:
        report.check(f"disk with {' and '.join(faults)}", failing, faults, rng, seconds=120)
    for call in STARTING:
        report.check(f"start with {call}", starting, call, rng, seconds=120)


def failing(faults, rng):
    """Nothing is acknowledged that is not on the disk, QoS 0 goes on, and when the disk is well again so is the broker."""
    need_strace()
    with memory() as folder:
        disk = new_disk(folder)
        with mounted(disk) as place, Broker(config=CONFIG["waypost"], data=os.path.join(place, "data")) as broker:
            world = crowd(World(rng.random()), small=True)
            world.connect(broker.port)
            expect(world.pump(PATIENCE_S * busyness(), world.is_in), "not everybody was let in")
            with ephemeral(broker) as talk:
                with failing_calls(broker, faults, os.path.join(folder, "calls")) as calls:
                    end = time.monotonic() + PATIENCE_S * busyness()
                    while not calls():
                        expect(time.monotonic() < end, "none of these calls is made")
                        world.load(0.1)
                    world.load(0.3)
                    talk()
                    image, clients = cut(broker, world, disk, f"{disk}-cut")
                talk()
            expect(not broker.died(), f"the broker has ended: {broker.last_words()}")
            world.cycle += 1
            expect(world.load(PATIENCE_S * busyness(), goes_on(world)), "publishers are not served again when the disk is well")
            drain(world, broker.port)
            right(findings(world), "when the disk was well again")
            fall(broker, world)
        world = pickle.loads(clients)
        right(after(image, world), "after a power cut")


def goes_on(world):
    before = {key: len(stream.acknowledged) for key, stream in world.streams.items()}
    return lambda: all(len(stream.acknowledged) > before[key] for key, stream in world.streams.items())


def right(wrong, when):
    bad = [f"{kind}: {'; '.join(some[:3])}" for kind, some in wrong.items() if some]
    expect(not bad, f"{when}: {', '.join(bad)}")


def starting(call, rng):
    """The broker says why it cannot start, or starts; later, on a disk that is well, everything is there."""
    need_strace()
    with Broker(config=CONFIG["waypost"]) as broker, tempfile.NamedTemporaryFile("r", encoding="utf-8") as calls:
        strace = ["strace", "-D", "-f", "-qq", "-A", "-o", calls.name, "-e", f"trace={call.split(':')[0]}", "-e"]
        world = crowd(World(rng.random()), small=True)
        world.connect(broker.port)
        expect(world.pump(PATIENCE_S * busyness(), world.is_in), "not everybody was let in")
        for when in sorted({1, 2, *rng.sample(range(3, 30), 2)}):
            world.load(0.05)
            fall(broker, world)
            broker.before = [*strace, f"inject={call}:when={when}"]
            try:
                broker.restart()
            except Disappointed as why:  # it may refuse; not without a word, and not by a panic
                status = broker.program.process.returncode  # 2: its configuration cannot be read; 127: its libraries
                expect(status in (1, 2, 127) and "panicked" not in str(why), f"call {when}: {why}")
            else:
                world.connect(broker.port)
                world.load(0.1)
                fall(broker, world)
            broker.before = []
            broker.restart()
            world.cycle += 1
            world.connect(broker.port)
        drain(world, broker.port)
        right(findings(world), "afterwards")
        if "INJECTED" not in calls.read():
            raise Skipped("it makes none of these calls when it starts")


def need_strace():
    if not shutil.which("strace"):
        raise Skipped("strace is not installed")
    if subprocess.run(["strace", "-f", "-o", os.devnull, "true"], stdin=subprocess.DEVNULL, capture_output=True,
                      timeout=PATIENCE_S).returncode:
        raise Skipped("strace may not trace here")


@contextlib.contextmanager
def failing_calls(broker, faults, log):
    """Lets calls of the running broker fail; yields how many have failed by then, as a function."""
    wanted = ",".join(fault.split(":")[0] for fault in faults)
    command = ["strace", "-f", "-o", log, "-e", f"trace={wanted}"]
    for fault in faults:
        command += ["-e", f"inject={fault}"]
    with Program([*command, "-p", str(broker.pid)]) as tracer:
        tracer.line(lambda line: "attached" in line, "attached tracer")

        def hits():
            with open(log, encoding="utf-8", errors="replace") as file:
                return sum("INJECTED" in line for line in file)
        yield hits
        tracer.process.terminate()  # it detaches
        tracer.ends()


@contextlib.contextmanager
def ephemeral(broker):
    """Two Clients that leave nothing behind; the yielded function sends messages of QoS 0 from one to the other."""
    with Link(broker.port) as one, Link(broker.port) as other:
        one.connect("ephemeral-one").subscribe("passing", 1)
        other.connect("ephemeral-other")
        sent = 0

        def talk():
            nonlocal sent
            for _ in range(10):
                sent += 1
                other.send(wire.publish("passing", b"%d" % sent, 0))
                expect_equal(wire.published(one.next(wire.PUBLISH)).payload, b"%d" % sent, "the message of QoS 0")
        yield talk


def full(report, seed):
    report.check("full file system: told, held back, and served again", is_full, report, seed, seconds=180)
    report.check("full file system at the start: what is there is served, and nothing falsely acknowledged", starts_full,
                 seconds=60)


def waits(world, client):
    """Whether nothing is acknowledged to it for a while. Small messages may find the last bytes when large ones do not."""
    before = [len(stream.acknowledged) for stream in client.publishes]
    world.load(0.5)
    return [len(stream.acknowledged) for stream in client.publishes] == before


def is_full(report, seed):
    """5.0 publishers are told, older ones wait, what needs no disk goes on; when there is room again, everything does."""
    with memory("160m") as folder:
        with Broker(config=CONFIG["waypost"], data=os.path.join(folder, "data")) as broker:
            world = World(seed)
            bulk = world.add("bulk", publishes=[("load/bulk", 1, False, 100_000)])
            five = world.add("five", publishes=[("load/five", 1), ("load/five", 2)])
            four = world.add("four", version=4, publishes=[("load/four", 1), ("load/four", 2)])
            world.add("s-away", subscribes={"load/#": 2})
            world.connect(broker.port)
            world.pump(PATIENCE_S * busyness(), world.is_in)
            world.clients["s-away"].cut()  # so that everything has to be kept
            with ephemeral(broker) as talk:
                filler = fill(os.path.join(folder, "filler"))
                told = lambda: any(stream.refused for stream in five.publishes)  # noqa: E731
                expect(world.load(60 * busyness(), told), "no 5.0 publisher is told that nothing more can be kept")
                codes = {code for stream in five.publishes + bulk.publishes for code in stream.refused.values()}
                expect(codes <= {0x97, 0x80}, f"5.0 publishers are told {sorted(hex(code) for code in codes)}")
                expect(any(waits(world, four) for _ in range(20)), "a 3.1.1 publisher is acknowledged what cannot be kept")
                expect(four.socket, "the 3.1.1 publisher was thrown out")
                talk()
                said = [line for line in broker.log().splitlines() if "disk" in line]
                expect(said, "the log does not say that the disk is full")
                os.remove(filler)
                expect(world.load(60 * busyness(), goes_on(world)), "not everybody is served when there is room again")
                talk()
            fall(broker, world)
            world.cycle += 1
            broker.restart()
            drain(world, broker.port)
            wrong = findings(world)
            print(f"   full file system: {summary(world, wrong)}; it said: {said[0][:200]}", flush=True)
            judge(report, "full file system", wrong, seed)


def starts_full():
    """Killed, and started while there is no room left: it serves what is there, and keeps again when there is room."""
    with memory("128m") as folder, Broker(config=CONFIG["waypost"], data=os.path.join(folder, "data")) as broker:
        with Link(broker.port) as link:
            link.connect("before")
            for number in range(3000):  # more than one segment, none of them at rest
                expect(keep(link, f"kept/{number}", os.urandom(10_000)) < 0x80, "there is room, and nothing is kept")
        broker.program.process.kill()
        broker.program.process.wait()
        filler = fill(os.path.join(folder, "filler"))
        broker.restart()
        with ephemeral(broker) as talk, Link(broker.port) as link:
            link.connect("meanwhile")
            expect_equal(keep(link, "kept/more", b"x"), 0x97, "the answer to what cannot be kept")
            finds(broker, 3000)
            talk()
            os.remove(filler)
            end = time.monotonic() + PATIENCE_S * busyness()
            while keep(link, "kept/more", b"x") >= 0x80:
                expect(time.monotonic() < end, "nothing is kept when there is room again")
        broker.program.process.kill()
        broker.program.process.wait()
        broker.restart()
        finds(broker, 3001)


def keep(link, topic, payload):
    """Has a message retained; returns the code in PUBACK."""
    link.send(wire.publish(topic, payload, 1, 1, retain=True))
    body = link.next(wire.PUBACK).body
    return body[2] if len(body) > 2 else 0


def finds(broker, count):
    """So many messages are retained."""
    with Link(broker.port) as link:
        link.connect("reader").subscribe("kept/#")
        topics = {wire.published(link.next(wire.PUBLISH)).topic for _ in range(count)}
        expect_equal(len(topics), count, "topics with a retained message")


def fill(path):
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size):
                    pass
    return path
