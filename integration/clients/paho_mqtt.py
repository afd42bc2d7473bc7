"""paho-mqtt, the client of most Python programs (version 2 API)."""
import queue
import time

from paho.mqtt import client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from harness import PATIENCE_S, Disappointed, expect, expect_equal, payloads

VERSIONS = {"v31": paho.MQTTv31, "v311": paho.MQTTv311, "v5": paho.MQTTv5}


def run(report, broker):
    for version in VERSIONS:
        for qos in (0, 1, 2):
            name = f"paho {version} qos{qos}"
            here = Case(broker, version, qos)
            report.check(f"{name} plain", here.plain)
            report.check(f"{name} order", here.order)
            report.check(f"{name} retained", here.retained)
            report.check(f"{name} will", here.will)
            report.check(f"{name} shared", here.shared)
            for kind, payload in payloads().items():
                report.check(f"{name} {kind} payload", here.payload, kind, payload)
        report.check(f"paho {version} a session waits for its client", session_waits, broker, version)
        report.check(f"paho {version} unsubscribe", unsubscribe, broker, version)
    for check in (properties, expiry, subscription_identifier, no_local, retain_handling, retain_as_published,
                  request_and_response, assigned_client_id, takeover, will_delay, topic_alias, flow_control):
        report.check(f"paho v5 {check.__name__.replace('_', ' ')}", check, broker)


class Case:
    def __init__(self, broker, version, qos):
        self.broker, self.version, self.qos = broker, version, qos

    def topic(self, kind):
        return f"paho/{self.version}/{self.qos}/{kind}"

    def client(self, **options):
        return Client(self.broker, self.version, **options)

    def plain(self):
        with self.client() as receiver, self.client() as sender:
            receiver.subscribe(self.topic("plain"), self.qos)
            sender.publish(self.topic("plain"), b"hello", self.qos)
            expect_equal(receiver.next_parts(), (self.topic("plain"), self.qos, False, b"hello"), "the message")

    def order(self):
        with self.client() as receiver, self.client() as sender:
            receiver.subscribe(self.topic("order"), self.qos)
            for number in range(200):
                sender.publish(self.topic("order"), str(number), self.qos, wait=False)
            got = [int(receiver.next().payload) for _ in range(200)]
            expect_equal(got, list(range(200)), "the order of two hundred messages")

    def retained(self):
        topic = self.topic("retained")
        with self.client() as sender, self.client() as watcher:
            watcher.subscribe(topic, self.qos)  # what it has seen, a late subscriber finds
            sender.publish(topic, b"kept", self.qos, retain=True)
            expect_equal(watcher.next_parts(), (topic, self.qos, False, b"kept"), "the message when it was live")
            with self.client() as late:
                late.subscribe(topic, self.qos)
                expect_equal(late.next_parts(), (topic, self.qos, True, b"kept"), "the retained message")
            sender.publish(topic, b"", self.qos, retain=True)
            expect_equal(watcher.next_parts(), (topic, self.qos, False, b""), "the removal")
            with self.client() as later:
                later.subscribe(topic, self.qos)
                sender.publish(topic, b"live", self.qos)
                expect_equal(later.next_parts(), (topic, self.qos, False, b"live"),
                             "the first message after the removal")

    def will(self):
        topic = self.topic("will")
        with self.client() as watcher:
            watcher.subscribe(topic, self.qos)
            with self.client(will=(topic, b"bye", self.qos)):
                pass  # says DISCONNECT, so its Will is not published
            with self.client(will=(topic, b"gone", self.qos)) as mortal:
                mortal.vanish()
                expect_equal(watcher.next_parts(), (topic, self.qos, False, b"gone"), "the Will")

    def shared(self):
        topic, total = self.topic("shared"), 60
        with self.client() as one, self.client() as two, self.client() as three, self.client() as sender:
            members = (one, two, three)
            for member in members:
                member.messages = one.messages
                member.subscribe(f"$share/group/{topic}", self.qos)
            for number in range(total):
                sender.publish(topic, str(number), self.qos, wait=False)
            got = sorted(int(one.next().payload) for _ in range(total))
            expect_equal(got, list(range(total)), "what the group got")
            for member in members:
                expect(member.count > 0, f"one member of three got nothing of {total} messages")

    def payload(self, kind, payload):
        topic = self.topic(kind)
        with self.client() as receiver, self.client() as sender:
            receiver.subscribe(topic, self.qos)
            sender.publish(topic, payload, self.qos)
            got = receiver.next()
            expect_equal(len(got.payload), len(payload), "length of the payload")
            expect(got.payload == payload, "the payload is not what was published")


class Client:
    """A connected client whose callbacks have become waits."""

    number = 0

    def __init__(self, broker, version, client_id=None, clean=True, expiry_s=0, will=None, will_properties=None,
                 connect_properties=None):
        Client.number += 1
        name = f"paho-{Client.number}" if client_id is None else client_id
        five = version == "v5"
        self.version = version
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=name, protocol=VERSIONS[version],
                                  **({} if five else {"clean_session": clean}))
        self.messages, self.count = queue.Queue(), 0
        self.events = queue.Queue()
        self.client.on_message = self._message
        self.client.on_connect = lambda _c, _u, flags, reason, found: self.events.put(("connect", flags, reason, found))
        self.client.on_subscribe = lambda _c, _u, _mid, reasons, _p: self.events.put(("subscribe", reasons))
        self.client.on_unsubscribe = lambda _c, _u, _mid, reasons, _p: self.events.put(("unsubscribe", reasons))
        self.client.on_disconnect = lambda _c, _u, _f, reason, _p: self.events.put(("disconnect", reason))
        if will:
            self.client.will_set(*will, properties=will_properties)
        options = {}
        if five:
            wishes = connect_properties or Properties(PacketTypes.CONNECT)
            if expiry_s:
                wishes.SessionExpiryInterval = expiry_s
            options = {"clean_start": clean, "properties": wishes}
        self.client.connect("127.0.0.1", broker.port, keepalive=60, **options)
        self.client.loop_start()
        _, self.flags, reason, self.answer = self.event("connect")
        expect(not reason.is_failure, f"CONNACK says {reason}")

    def _message(self, _client, _userdata, message):
        self.count += 1
        self.messages.put(message)

    def event(self, wanted):
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                event = self.events.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise Disappointed(f"no {wanted} event within {PATIENCE_S:g} s") from None
            if event[0] == wanted:
                return event
            expect(event[0] != "disconnect", f"disconnected ({event[-1]}) while waiting for {wanted}")

    def subscribe(self, topic_filter, qos=0, options=None, properties=None):
        if options:
            self.client.subscribe(topic_filter, options=options, properties=properties)
        else:
            self.client.subscribe(topic_filter, qos, properties=properties)
        reasons = self.event("subscribe")[1]
        expect_equal([reason.value for reason in reasons], [options.QoS if options else qos], "codes in SUBACK")

    def publish(self, topic, payload, qos=0, retain=False, properties=None, wait=True):
        handed = self.client.publish(topic, payload, qos, retain, properties)
        if wait:
            handed.wait_for_publish(PATIENCE_S)
            expect(handed.is_published(), f"no acknowledgement of a QoS {qos} publish within {PATIENCE_S:g} s")

    def next(self, seconds=PATIENCE_S):
        try:
            return self.messages.get(timeout=seconds)
        except queue.Empty:
            raise Disappointed(f"no message within {seconds:g} s ({self.count} came before)") from None

    def next_parts(self):
        message = self.next()
        return message.topic, message.qos, message.retain, message.payload

    def vanish(self):
        """The network fails: no DISCONNECT."""
        self.client.loop_stop()
        self.client.socket().close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.disconnect()
        self.client.loop_stop()


def session_waits(broker, version):
    """QoS 1 and 2 messages that are published while a client is away are there when it comes back, in order."""
    topic, name = f"paho/{version}/waits", f"waits-{version}"
    session = {"client_id": name, "clean": False, "expiry_s": 3600}
    with Client(broker, version, **session) as first:
        first.subscribe(topic, 2)
    with Client(broker, version) as sender:
        for number in range(20):
            sender.publish(topic, str(number), 1 + number % 2)
    with Client(broker, version, **session) as again:
        if version != "v31":
            expect(again.flags.session_present, "CONNACK does not say that the Session was kept")
        got = [int(again.next().payload) for _ in range(20)]
        for remainder in (0, 1):  # the order holds within a QoS
            expect_equal([number for number in got if number % 2 == remainder], list(range(remainder, 20, 2)),
                         "messages of one QoS")
        again.client.unsubscribe(topic)
        again.event("unsubscribe")
    with Client(broker, version, client_id=name):
        pass  # a Clean Start ends the Session


def unsubscribe(broker, version):
    topic = f"paho/{version}/unsubscribe"
    with Client(broker, version) as one:
        one.subscribe(topic, 1)
        one.client.unsubscribe(topic)
        one.event("unsubscribe")
        one.subscribe(topic + "/end", 1)
        one.publish(topic, b"unwanted", 1)
        one.publish(topic + "/end", b"end", 1)
        expect_equal(one.next().payload, b"end", "the first message after UNSUBSCRIBE")


def properties(broker):
    """What the publisher attaches arrives unchanged and in order."""
    wanted = Properties(PacketTypes.PUBLISH)
    wanted.PayloadFormatIndicator = 1
    wanted.ContentType = "text/plain; charset=utf-8"
    wanted.ResponseTopic = "paho/answers/Zürich"
    wanted.CorrelationData = bytes(range(40))
    wanted.UserProperty = [("b", "1"), ("a", "2"), ("b", "1"), ("", ""), ("größe", "∞")]
    with Client(broker, "v5") as receiver, Client(broker, "v5") as sender:
        receiver.subscribe("paho/properties", 1)
        sender.publish("paho/properties", "grüezi".encode(), 1, properties=wanted)
        got = receiver.next().properties
        for name in ("PayloadFormatIndicator", "ContentType", "ResponseTopic", "CorrelationData", "UserProperty"):
            expect_equal(getattr(got, name, None), getattr(wanted, name), name)


def expiry(broker):
    """A message that waits is forwarded with the time that remains, or not at all."""
    session = {"client_id": "paho-expiry", "clean": False, "expiry_s": 3600}
    with Client(broker, "v5", **session) as first:
        first.subscribe("paho/expiry", 1)
    with Client(broker, "v5") as sender:
        for seconds, payload in ((1, b"short"), (600, b"long")):
            lifetime = Properties(PacketTypes.PUBLISH)
            lifetime.MessageExpiryInterval = seconds
            sender.publish("paho/expiry", payload, 1, properties=lifetime)
    time.sleep(2.2)  # the passing of time is what is tested here
    with Client(broker, "v5", **session) as again:
        message = again.next()
        expect_equal(message.payload, b"long", "the message that has not expired")
        remaining = message.properties.MessageExpiryInterval
        expect(590 <= remaining <= 598, f"of 600 s, after a bit more than 2, {remaining} s remain")


def subscription_identifier(broker):
    with Client(broker, "v5") as one:
        for topic_filter, identifier in (("paho/identifier/+", 7), ("paho/identifier/#", 268435455)):
            wish = Properties(PacketTypes.SUBSCRIBE)
            wish.SubscriptionIdentifier = identifier
            one.subscribe(topic_filter, 1, properties=wish)
        one.publish("paho/identifier/a", b"x", 1)
        first = one.next().properties.SubscriptionIdentifier
        found = list(first)
        if len(found) == 1:  # a server may send one copy for each of the overlapping subscriptions
            found += one.next().properties.SubscriptionIdentifier
        expect_equal(sorted(found), [7, 268435455], "Subscription Identifiers")


def no_local(broker):
    with Client(broker, "v5") as one, Client(broker, "v5") as other:
        one.subscribe("paho/local", options=SubscribeOptions(qos=1, noLocal=True))
        one.publish("paho/local", b"mine", 1)
        other.publish("paho/local", b"theirs", 1)
        expect_equal(one.next().payload, b"theirs", "the first message of a No Local subscription")


def retain_handling(broker):
    """0: at every SUBSCRIBE; 1: only for a new subscription; 2: never."""
    with Client(broker, "v5") as one:
        one.publish("paho/handling", b"kept", 1, retain=True)
        for handling, wanted in ((2, []), (1, []), (0, [b"kept"])):  # the filter is new only once
            one.subscribe("paho/handling", options=SubscribeOptions(qos=1, retainHandling=handling))
            one.subscribe(f"paho/handling-end/{handling}", 1)
            if wanted:
                expect_equal(one.next().payload, wanted[0], "the retained message")
            one.publish(f"paho/handling-end/{handling}", b"end", 1)
            expect_equal(one.next().payload, b"end", f"what came after Retain Handling {handling}")
        one.publish("paho/handling", b"", 1, retain=True)


def retain_as_published(broker):
    with Client(broker, "v5") as one:
        one.subscribe("paho/published", options=SubscribeOptions(qos=1, retainAsPublished=True))
        for retain in (True, False):
            one.publish("paho/published", b"x", 1, retain=retain)
            expect_equal(bool(one.next().retain), retain, "the retain flag")
        one.publish("paho/published", b"", 1, retain=True)


def request_and_response(broker):
    with Client(broker, "v5") as asker, Client(broker, "v5") as answerer:
        answerer.subscribe("paho/request", 1)
        asker.subscribe("paho/response/1", 1)
        question = Properties(PacketTypes.PUBLISH)
        question.ResponseTopic, question.CorrelationData = "paho/response/1", b"\x00\x01"
        asker.publish("paho/request", b"6 * 7", 1, properties=question)
        got = answerer.next()
        answer = Properties(PacketTypes.PUBLISH)
        answer.CorrelationData = got.properties.CorrelationData
        answerer.publish(got.properties.ResponseTopic, b"42", 1, properties=answer)
        got = asker.next()
        expect_equal((got.payload, got.properties.CorrelationData), (b"42", b"\x00\x01"), "the answer")


def assigned_client_id(broker):
    with Client(broker, "v5", client_id="") as one, Client(broker, "v5", client_id="") as other:
        names = [client.answer.AssignedClientIdentifier for client in (one, other)]
        expect(all(names) and names[0] != names[1], f"Assigned Client Identifiers {names}")


def takeover(broker):
    """A second client of the same identifier takes the Session; the first is told."""
    with Client(broker, "v5", client_id="paho-takeover") as first:
        first.client.reconnect_delay_set(60, 60)
        with Client(broker, "v5", client_id="paho-takeover") as second:
            reason = first.event("disconnect")[1]
            expect_equal(reason.value, 0x8E, "the Reason Code for the first")
            second.subscribe("paho/takeover", 1)
            second.publish("paho/takeover", b"mine", 1)
            expect_equal(second.next().payload, b"mine", "the message")


def will_delay(broker):
    """A client that returns before the Will Delay has passed leaves no Will."""
    delay = Properties(PacketTypes.WILLMESSAGE)
    delay.WillDelayInterval = 30
    session = {"client_id": "paho-delay", "clean": False, "expiry_s": 3600}
    with Client(broker, "v5") as watcher:
        watcher.subscribe("paho/delay", 1)
        with Client(broker, "v5", will=("paho/delay", b"too early", 1), will_properties=delay, **session) as mortal:
            mortal.vanish()
            with Client(broker, "v5", **session):
                pass
            watcher.publish("paho/delay", b"end", 1)
            expect_equal(watcher.next().payload, b"end", "what was published")


def topic_alias(broker):
    with Client(broker, "v5") as receiver, Client(broker, "v5") as sender:
        expect(sender.answer.TopicAliasMaximum > 0, "no Topic Alias is allowed")
        receiver.subscribe("paho/alias/#", 1)
        for topic in ("paho/alias/a", "", "paho/alias/b", ""):
            alias = Properties(PacketTypes.PUBLISH)
            alias.TopicAlias = 1
            sender.publish(topic, b"x", 1, properties=alias)
        got = [receiver.next().topic for _ in range(4)]
        expect_equal(got, ["paho/alias/a"] * 2 + ["paho/alias/b"] * 2, "the topics")


def flow_control(broker):
    """A receiver that allows one unacknowledged message still gets them all."""
    wish = Properties(PacketTypes.CONNECT)
    wish.ReceiveMaximum = 1
    with Client(broker, "v5", connect_properties=wish) as receiver, Client(broker, "v5") as sender:
        receiver.subscribe("paho/flow", 2)
        for number in range(100):
            sender.publish("paho/flow", str(number), 2, wait=False)
        expect_equal([int(receiver.next().payload) for _ in range(100)], list(range(100)), "the messages")
