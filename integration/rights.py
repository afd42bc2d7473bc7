"""The same ACL files under mosquitto and Waypost: who may write and read what, case by case, over real sockets.

Each file is given to both brokers. For every Client in CLIENTS, every topic in TOPICS is published by it (the PUBACK says
whether it may) and to it (what arrives says whether it may read), and both brokers must answer the same.
"""
import os
import shutil
import signal
import struct
import time

from harness import PATIENCE_S, Broker, Skipped, expect, short
from wire import CONNACK, PINGREQ, PINGRESP, PUBACK, PUBLISH, SUBACK, Link, frame, publish, published, subscribe, text

NOT_AUTHORIZED = 0x87

CONFIGS = {
    "mosquitto": "listener {port} 127.0.0.1\nallow_anonymous true\nacl_file ACL\n",
    "waypost": "[[listener]]\naddress = \"127.0.0.1:{port}\"\n[acl]\nfiles = [\"ACL\"]\nsubscribe = \"lenient\"\n"
               "[node]\nshards = 1\n",
}

# The one who publishes what the others may read.
ADMIN = "user admin\ntopic write #\n"

FILES = {
    "users": """\
# Until the first user, rules are for Clients without a name.
topic read pub/#
topic write in/+/state
user alice
topic readwrite a/#
topic read pub/#
user bob
topic b/#
topic deny b/secret/#
topic read pub/+
user Dr. No
topic write in a row/#
user alice
topic deny a/b
""",
    "patterns": """\
pattern readwrite dev/%c/#
pattern read home/%u/x
pattern write mid/a-%u-b/+
pattern deny dev/%c/secret
pattern read %u
topic read dev/#
user bob
topic read dev/c1/secret
topic deny home/bob/x
""",
    "wildcards": """\
topic read +
topic write +/+
user alice
topic read #
topic deny +/secret
topic deny b/#
user bob
topic read a/+/x
topic write /
topic readwrite +/b/#
""",
    "users only": "user alice\ntopic a/#\n",
    "nothing": "# not a rule\n\n",
}

# User name and Client Identifier. A name with a `/` is left out: mosquitto lets it stand for two levels.
CLIENTS = [(None, "c1"), (None, "x#y"), ("alice", "c1"), ("alice", "+"), ("bob", "c2"), ("Dr. No", "c1"), ("+", "c1"), ("%u", "%c"),
           ("stranger", "a")]

TOPICS = ["a", "b", "/", "a/b", "a/b/x", "a/c/x", "a/secret", "b/secret/x", "b/x", "x/b", "x/b/y/z", "pub", "pub/1", "pub/1/2",
          "in/7/state", "in a row/1", "dev/c1", "dev/c1/x", "dev/c1/secret", "dev/c2/x", "dev/%c/x", "home/alice/x",
          "home/bob/x", "home//x", "mid/a-alice-b/1", "mid/a-bob-b/1", "mid/a--b/1", "alice", "bob", "%u", "stranger", "c1"]


def run(report, kind):
    for name, rules in FILES.items():
        report.check(f"rights as mosquitto: {name}", same, rules)
    report.check("rights: a reload holds for who is there", reload)
    report.check("rights: a ban holds for who is there and who comes", ban)


def same(rules):
    if not shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"):
        raise Skipped("mosquitto is not installed")
    theirs, ours = (answers(kind, rules + ADMIN) for kind in ("mosquitto", "waypost"))
    differing = [case for case in theirs if theirs[case] != ours[case]]
    shown = "; ".join(f"{case} {'allowed' if ours[case] else 'denied'}" for case in differing[:5])
    expect(not differing, f"{len(differing)} of {len(theirs)} cases differ from mosquitto: {short(shown)}")
    expect(0 < len(theirs) == len(ours) == 2 * len(CLIENTS) * len(TOPICS), "cases are missing")


def reload():
    """SIGHUP takes new rules within two seconds, also for what waits; a file with a fault changes nothing."""
    with RuledBroker("waypost", CONFIGS["waypost"], "user u\ntopic a/#\n" + ADMIN) as broker:
        with enter(broker.port, "u", "c") as link, enter(broker.port, "admin", "admin") as admin:
            link.send(subscribe(1, "a/#"))
            answer(link, SUBACK)
            expect(publishes(link, "a/1") and not publishes(link, "b/1"), "the first rules do not hold")
            take(broker, "user u\ntopic b/#\n" + ADMIN)
            within(2.0, lambda: publishes(link, "b/1") and not publishes(link, "a/1"), "the second rules do not hold")
            expect(publishes(admin, "a/2"), "the administrator may not publish")
            expect("a/2" not in {message.topic for message in arrived(link)}, "a message came that may not be read any more")
            take(broker, "topic red a/#\n")
            within(PATIENCE_S, lambda: "acl:1: unknown access" in broker.log(), "the log does not name the fault")
            expect(publishes(link, "b/2") and not publishes(link, "a/2"), "a file with a fault has changed the rules")


def ban():
    """SIGHUP with a ban: within two seconds DISCONNECT 0x98 to one, silence for the other version, and 0x8A or 5 for who comes."""
    config = CONFIGS["waypost"].replace("[\"ACL\"]", "[\"ACL\", \"ACL.toml\"]")
    with RuledBroker("waypost", config, "user u\ntopic a/#\n" + ADMIN) as broker:
        with enter(broker.port, "u", "c5") as new, enter(broker.port, "u", "c4", 4) as old, enter(broker.port, "v", "v") as other:
            broker.write("acl.toml", "[[ban]]\nuser = \"u\"\nuntil = 2999-01-01T00:00:00Z\n")
            began = time.monotonic()
            broker.program.process.send_signal(signal.SIGHUP)
            goodbye = new.next()
            expect(goodbye.kind == 14 and goodbye.body[0] == 0x98, f"not DISCONNECT 0x98 but {goodbye}")
            expect(new.next() is None and old.next() is None, "the connections are not closed")
            expect(time.monotonic() - began < 2, "it took more than 2 s")
            for version, code in ((5, 0x8A), (4, 5)):
                with Link(broker.port, version=version) as again:
                    expect(connect(again, "u", "c") == code, f"version {version} is not told {code:#04x}")
            expect(not publishes(other, "a/1"), "the other one has other rights")


def take(broker, rules):
    broker.write("acl", rules)
    broker.program.process.send_signal(signal.SIGHUP)


def within(seconds, condition, why):
    end = time.monotonic() + seconds
    while not condition():
        expect(time.monotonic() < end, f"{why} after {seconds:g} s")


def answers(kind, rules):
    """Whether each Client may write and read each topic."""
    found = {}
    with RuledBroker(kind, CONFIGS[kind], rules) as broker:
        for user, client_id in CLIENTS:
            with enter(broker.port, user, client_id) as link, enter(broker.port, "admin", "admin") as admin:
                for topic in TOPICS:
                    found["write", user, client_id, topic] = publishes(link, topic)
                for number, topic_filter in enumerate(["#", "$SYS/never"]):
                    link.send(subscribe(number + 1, topic_filter))
                    answer(link, SUBACK)
                for topic in TOPICS:
                    expect(publishes(admin, topic), f"the administrator may not publish to {topic!r}")
                received = {message.topic for message in arrived(link)}
                for topic in TOPICS:
                    found["read", user, client_id, topic] = topic in received
    return found


class RuledBroker(Broker):
    """A broker with an ACL file beside its configuration."""

    def __init__(self, kind, config, rules):
        self.rules = rules
        super().__init__(kind, config)

    def command(self):
        path = self.write("acl", self.rules)
        self.write("acl.toml", "")
        os.chmod(self.directory, 0o755)  # mosquitto, started by root, gives up what root may read
        self.config = self.config.replace("ACL", path)
        return super().command()


def enter(port, user, client_id, version=5):
    link = Link(port, version=version)
    expect(connect(link, user, client_id) == 0, f"{user!r} {client_id!r} may not enter")
    return link


def connect(link, user, client_id):
    """CONNECT, and the code in CONNACK."""
    flags, name = (2, b"") if user is None else (0x82, text(user))
    properties = b"\0" if link.version == 5 else b""
    link.send(frame(1, 0, text("MQTT") + struct.pack("!BBH", link.version, flags, 60) + properties + text(client_id) + name))
    return link.next(CONNACK).body[1]


def answer(link, kind):
    """The next packet of a kind; messages that come in between are passed over."""
    while True:
        packet = link.next()
        expect(packet is not None, "the connection was closed")
        if packet.kind == kind:
            return packet


def publishes(link, topic):
    link.send(publish(topic, b"x", qos=1, packet_id=1))
    acknowledged = answer(link, PUBACK).body
    return len(acknowledged) < 3 or acknowledged[2] != NOT_AUTHORIZED


def arrived(link):
    """What has come before the answer to a second PINGREQ: everything that was acknowledged to its publisher before."""
    messages = []
    for _ in range(2):
        link.send(frame(PINGREQ, 0, b""))
        while True:
            packet = link.next()
            expect(packet is not None, "the connection was closed")
            if packet.kind == PINGRESP:
                break
            if packet.kind == PUBLISH:
                messages.append(published(packet))
    return messages
