"""mosquitto_pub and mosquitto_sub, as Debian ships them, in all three versions and at every QoS."""
import contextlib
import os
import queue
import shutil
import tempfile
import time

from harness import PATIENCE_S, Disappointed, Program, expect, expect_equal, payloads

VERSIONS = {"v31": "mqttv31", "v311": "mqttv311", "v5": "mqttv5"}
# One line a message, told from the client's own chatter by its beginning: topic, QoS, retain flag, payload in hex.
FORMAT = "message\t%t\t%q\t%r\t%x"


def run(report, broker):
    if not shutil.which("mosquitto_sub"):
        report.line(False, "mosquitto", "mosquitto_sub is not installed (apt-get install mosquitto-clients)")
        return
    for version in VERSIONS:
        for qos in (0, 1, 2):
            name = f"mosquitto {version} qos{qos}"
            here = Case(broker, version, qos)
            report.check(f"{name} plain", here.plain)
            report.check(f"{name} order", here.order)
            report.check(f"{name} retained", here.retained)
            report.check(f"{name} will", here.will)
            report.check(f"{name} shared", here.shared)
            for kind, payload in payloads().items():
                report.check(f"{name} {kind} payload", here.payload, kind, payload)
    report.check("mosquitto v5 lower QoS wins", lowest_qos, broker)
    report.check("mosquitto versions meet", versions_meet, broker)


class Case:
    def __init__(self, broker, version, qos):
        self.broker, self.version, self.qos = broker, version, qos

    def topic(self, kind):
        return f"mosquitto/{self.version}/{self.qos}/{kind}"

    def command(self, program, *options, qos=None):
        qos = self.qos if qos is None else qos
        return ["stdbuf", "-oL", program, "-h", "127.0.0.1", "-p", str(self.broker.port), "-V", VERSIONS[self.version],
                "-q", str(qos), *options]

    def publish(self, topic, *options, qos=None):
        with Program(self.command("mosquitto_pub", "-t", topic, *options, qos=qos)) as program:
            status = program.ends()
            expect(status == 0, f"mosquitto_pub ended with {status}: {program.output()}")

    def subscriber(self, topic_filter, count, *options, qos=None):
        """A subscriber whose subscription stands."""
        program = Program(self.command("mosquitto_sub", "-d", "-t", topic_filter, "-C", str(count), "-W", "30",
                                       "-F", FORMAT, *options, qos=qos))
        try:
            program.line(lambda line: line.startswith("Subscribed"), "SUBACK")
        except Disappointed:
            program.close()
            raise
        return program

    def plain(self):
        with self.subscriber(self.topic("plain"), 1) as subscriber:
            self.publish(self.topic("plain"), "-m", "hello")
            expect_equal(message(subscriber), (self.topic("plain"), self.qos, 0, b"hello"), "the message")
            expect_equal(subscriber.ends(), 0, "status of mosquitto_sub")

    def order(self):
        with self.subscriber(self.topic("order"), 50) as subscriber:
            self.publish_numbers(self.topic("order"), 50)
            got = [int(message(subscriber)[3]) for _ in range(50)]
            expect_equal(got, list(range(50)), "the order of fifty messages")

    def retained(self):
        topic = self.topic("retained")
        with self.subscriber(topic, 2) as watcher:  # what it has seen, a late subscriber finds
            self.publish(topic, "-r", "-m", "kept")
            expect_equal(message(watcher), (topic, self.qos, 0, b"kept"), "the message when it was live")
            with self.subscriber(topic, 1) as late:
                expect_equal(message(late), (topic, self.qos, 1, b"kept"), "the retained message")
            self.publish(topic, "-r", "-n")  # an empty one takes it away
            expect_equal(message(watcher), (topic, self.qos, 0, b""), "the removal")
        with self.subscriber(topic, 1) as later:
            self.publish(topic, "-m", "live")
            expect_equal(message(later), (topic, self.qos, 0, b"live"), "the first message after the removal")

    def will(self):
        topic = self.topic("will")
        with self.subscriber(topic, 1) as watcher:
            with self.subscriber(topic + "/unused", 1, "--will-topic", topic, "--will-payload", "gone",
                                 "--will-qos", str(self.qos)) as mortal:
                mortal.process.kill()
            expect_equal(message(watcher), (topic, self.qos, 0, b"gone"), "the Will")

    def shared(self):
        topic, total = self.topic("shared"), 40
        group = f"$share/group/{topic}"
        with self.subscriber(group, total) as one, self.subscriber(group, total) as two:
            self.publish_numbers(topic, total)
            got = [either(one, two) for _ in range(total)]
            expect_equal(sorted(number for _, number in got), list(range(total)), "what the group got")
            members = {member for member, _ in got}
            expect(len(members) == 2, f"one member of two got all {total} messages")

    def payload(self, kind, payload):
        topic = self.topic(kind)
        with file_with(payload) as path, self.subscriber(topic, 1) as subscriber:
            self.publish(topic, *(["-f", path] if payload else ["-n"]))
            got = message(subscriber)
            expect_equal(got[:3], (topic, self.qos, 0), "topic, QoS and retain flag")
            expect_equal(len(got[3]), len(payload), "length of the payload")
            expect(got[3] == payload, "the payload is not what was published")

    def publish_numbers(self, topic, total):
        """One connection that publishes 0, 1, 2 …"""
        with file_with("".join(f"{number}\n" for number in range(total)).encode()) as path, open(path, "rb") as lines:
            with Program(self.command("mosquitto_pub", "-t", topic, "-l"), stdin=lines) as sender:
                expect_equal(sender.ends(), 0, "status of mosquitto_pub")


@contextlib.contextmanager
def file_with(content):
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file.name


def message(subscriber):
    line = subscriber.line(lambda line: line.startswith("message\t"), "message")
    _, topic, qos, retain, payload = line.split("\t")
    return topic, int(qos), int(retain), bytes.fromhex(payload)


def either(*members):
    """Takes a number from whichever member of a group has one first: (member, number)."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        for index, member in enumerate(members):
            try:
                line = member.lines.get(timeout=0.02)
            except queue.Empty:
                continue
            expect(line is not None, "a member of the group ended early")
            if line.startswith("message\t"):
                return index, int(bytes.fromhex(line.split("\t")[4]))
    raise Disappointed("not all messages reached the group")


def lowest_qos(broker):
    """A message comes at the lower one of the QoS that was published and the QoS that was subscribed."""
    for published in (0, 1, 2):
        for subscribed in (0, 1, 2):
            here = Case(broker, "v5", published)
            topic = f"mosquitto/lowest/{published}/{subscribed}"
            with here.subscriber(topic, 1, qos=subscribed) as subscriber:
                here.publish(topic, "-m", "x")
                expect_equal(message(subscriber)[1], min(published, subscribed),
                             f"QoS of a message published at {published} to a subscription at {subscribed}")


def versions_meet(broker):
    for sender in VERSIONS:
        for receiver in VERSIONS:
            topic = f"mosquitto/meet/{sender}/{receiver}"
            with Case(broker, receiver, 2).subscriber(topic, 1) as subscriber:
                Case(broker, sender, 2).publish(topic, "-m", "x")
                expect_equal(message(subscriber), (topic, 2, 0, b"x"), f"what {receiver} got from {sender}")
