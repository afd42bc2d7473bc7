"""The broker as a process: how it starts, stops, listens, runs out of descriptors, and checks its configuration."""
import os
import resource
import signal
import socket
import subprocess
import tempfile
import time

import wire
from harness import (BINARY, PATIENCE_S, Broker, Disappointed, Program, Skipped, expect, expect_equal, free_port, short)
from wire import Link

TWO_LISTENERS = {
    "waypost": '[[listener]]\naddress = "127.0.0.1:{port}"\n[[listener]]\naddress = "127.0.0.1:{port2}"\n',
    "mosquitto": "listener {port} 127.0.0.1\nlistener {port2} 127.0.0.1\nallow_anonymous true\n",
}
IPV6_LISTENER = {
    "waypost": '[[listener]]\naddress = "[::1]:{port}"\n[[listener]]\naddress = "127.0.0.1:{port2}"\n',
    "mosquitto": "listener {port} ::1\nlistener {port2} 127.0.0.1\nallow_anonymous true\n",
}


def run(report, kind):
    for check in (sigterm, sigint, port_in_use, two_listeners, ipv6, descriptors, many_starts, says_how_it_is):
        report.check(f"process {check.__name__.replace('_', ' ')}", check, kind)
    if kind == "waypost":  # a command line of its own
        for check in (version_and_help, check_valid, check_unknown_key, check_bad_value, check_missing_file,
                      run_refuses_what_check_refuses, reachable_listener_needs_a_decision, environment):
            report.check(f"process {check.__name__.replace('_', ' ')}", check)


def sigterm(kind):
    stops_cleanly(kind, signal.SIGTERM)


def sigint(kind):
    stops_cleanly(kind, signal.SIGINT)


def stops_cleanly(kind, number):
    """5.0 clients are told 0x8B Server shutting down, 3.1.1 ones see the end of the stream; the exit status is 0."""
    with Broker(kind) as broker:
        with Link(broker.port) as five, Link(broker.port, version=4) as four:
            five.connect("five")
            four.connect("four")
            status = broker.stop(number)
            goodbye = five.next()
            expect(goodbye is not None and goodbye.kind == wire.DISCONNECT,
                   f"instead of DISCONNECT the 5.0 client got {goodbye}")
            expect_equal(goodbye.body[:1], b"\x8b", "the Reason Code in DISCONNECT")
            expect_equal(five.next(), None, "after DISCONNECT")
            expect_equal(four.next(), None, "what the 3.1.1 client got")
            expect_equal(status, 0, "exit status")


def port_in_use(kind):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with File(f"listener {port} 127.0.0.1\n") as path:
            command = ["mosquitto", "-c", path] if kind == "mosquitto" else [BINARY, "-p", str(port)]
            with Program(command, cwd=os.path.dirname(path)) as program:
                status = program.ends()
                said = program.output()
    expect(status != 0, "it ended with status 0 although the port was taken")
    expect("in use" in said.lower(), f"it does not say that the port is in use: {short(said)}")
    expect(kind == "mosquitto" or str(port) in said, f"it does not name the port {port}: {short(said)}")
    expect("panicked" not in said, f"it panicked: {short(said)}")


def two_listeners(kind):
    with Broker(kind, TWO_LISTENERS[kind]) as broker:
        heard_across(Link(broker.port), Link(broker.port2))


def ipv6(kind):
    try:
        free_port("::1")
    except OSError as error:
        raise Skipped(f"no IPv6 on the loopback here ({error})") from None
    with Broker(kind, IPV6_LISTENER[kind], host="::1") as broker:
        heard_across(Link(broker.port, "::1"), Link(broker.port2))


def heard_across(first, second):
    with first, second:
        first.connect("first").subscribe("across", 1)
        second.connect("second").send(wire.publish("across", b"x", 1, 1))
        second.next(wire.PUBACK)
        message = wire.published(first.next(wire.PUBLISH))
        expect_equal((message.topic, message.payload), ("across", b"x"), "the message")


def descriptors(kind):
    """300 connections meet a process that may open 100 files: those who are in are served, and later others again."""
    def few_files():
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))

    with Broker(kind, preexec=few_files) as broker, Link(broker.port) as one, Link(broker.port) as other:
        one.connect("one").subscribe("storm", 1)
        other.connect("other")
        crowd = []
        try:
            for index in range(300):
                link = socket.socket()
                link.setblocking(False)
                link.connect_ex(("127.0.0.1", broker.port))
                crowd.append(link)
            for number in range(50):
                other.send(wire.publish("storm", b"%d" % number, 1, number + 1))
                other.next(wire.PUBACK)
                message = wire.published(one.next(wire.PUBLISH))
                expect_equal(int(message.payload), number, "the message in the storm")
                one.send(wire.acknowledge(wire.PUBACK, message.packet_id))
            before, began = broker.cpu_s(), time.monotonic()
            time.sleep(1)  # what is measured is a second of waiting for a descriptor
            busy = (broker.cpu_s() - before) / (time.monotonic() - began)
            expect(kind == "mosquitto" or busy < 0.2, f"it burns {busy:.0%} of a CPU while it has no descriptor to give")
        finally:
            for link in crowd:
                link.close()
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                with Link(broker.port) as late:
                    late.connect("late")
                    break
            except (Disappointed, OSError):
                if time.monotonic() > end:
                    raise Disappointed(f"no newcomer gets in within {PATIENCE_S:g} s after the storm") from None
        expect(broker.program.process.poll() is None, "the broker has ended")


def many_starts(kind):
    """Stopped as soon as it listens, and stopped while it serves: always cleanly."""
    for number in range(20):
        with Broker(kind) as broker:
            if number % 2:
                with Link(broker.port) as link:
                    link.connect("x")
            expect_equal(broker.stop(), 0, "exit status")


def says_how_it_is(kind):
    """What people read first under $SYS is there."""
    with Broker(kind) as broker, Link(broker.port) as link:
        link.connect("x").subscribe("$SYS/broker/#")
        missing = {f"$SYS/broker/{name}" for name in ("version", "uptime", "clients/connected", "subscriptions/count",
                                                      "messages/received", "retained messages/count")}
        while missing:
            try:
                message = wire.published(link.next(wire.PUBLISH))
            except Disappointed:
                raise Disappointed(f"nothing came under {', '.join(sorted(missing))}") from None
            expect(message.payload != b"", f"{message.topic} says nothing")
            missing.discard(message.topic)


# The command line of Waypost.


def waypost(*arguments, environment=None):
    """Runs a command that ends by itself: (exit status, standard output, standard error)."""
    try:
        done = subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=PATIENCE_S,
                              stdin=subprocess.DEVNULL, env={**os.environ, **(environment or {})})
    except subprocess.TimeoutExpired:
        raise Disappointed(f"waypost {' '.join(arguments)} still runs after {PATIENCE_S:g} s") from None
    expect("panicked" not in done.stderr, f"it panicked: {short(done.stderr)}")
    return done.returncode, done.stdout, done.stderr


class File:
    """A configuration file in a folder of its own, which goes away with the block."""

    def __init__(self, text):
        self.text = text

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="waypost-outside-")
        path = os.path.join(self.folder.name, "waypost.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.text)
        return path

    def __exit__(self, *_):
        self.folder.cleanup()


def version_and_help():
    status, out, _ = waypost("--version")
    expect(status == 0 and out.startswith("waypost "), f"--version: status {status}, {short(out)}")
    status, out, _ = waypost("--help")
    expect_equal(status, 0, "status of --help")
    for word in ("check", "--data-dir", "-c", "-p", "-v"):
        expect(word in out, f"--help does not mention {word}")


def check_valid():
    text = '[node]\nshards = 2\n[[listener]]\naddress = "127.0.0.1:0"\n[limits]\nreceive_maximum = 100\n'
    with File(text) as path:
        status, out, err = waypost("check", "-c", path)
    expect_equal(status, 0, f"status of a valid file ({short(err)})")
    expect_equal(len(out.strip().splitlines()), 1, f"lines of the summary ({short(out)})")


def check_unknown_key():
    with File('[limits]\nconnect_timeout = "5s"\nrecieve_maximum = 5\n') as path:
        refused(waypost("check", "-c", path), f"{path}:3:", "recieve_maximum", "receive_maximum")


def check_bad_value():
    with File('[limits]\nreceive_maximum = 0\nconnect_timeout = "5x"\n') as path:  # both are told at once
        refused(waypost("check", "-c", path), f"{path}:2:", "65535", f"{path}:3:", "5x")


def check_missing_file():
    refused(waypost("check", "-c", "/nowhere/waypost.toml"), "/nowhere/waypost.toml")


def run_refuses_what_check_refuses():
    with File("[limits]\nrecieve_maximum = 5\n") as path:
        refused(waypost("-c", path), f"{path}:2:", "receive_maximum")


def reachable_listener_needs_a_decision():
    with File(f'[[listener]]\naddress = "0.0.0.0:{free_port()}"\n') as path:
        refused(waypost("check", "-c", path), "allow_anonymous")


def environment():
    with File("") as path:
        right = waypost("check", "-c", path, environment={"WAYPOST__LIMITS__RECEIVE_MAXIMUM": "7"})
        expect_equal(right[0], 0, f"status with a valid variable ({short(right[2])})")
        refused(waypost("check", "-c", path, environment={"WAYPOST__LIMITS__RECIEVE_MAXIMUM": "7"}),
                "WAYPOST__LIMITS__RECIEVE_MAXIMUM")


def refused(result, *words):
    status, _, err = result
    expect(status != 0, "it was accepted")
    for word in words:
        expect(word in err, f"the error does not say {word!r}: {short(err)}")
