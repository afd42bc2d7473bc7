"""MQTT clients that keep their Session State as the standard demands, and remember everything.

A `World` is all clients of a trial with what they sent, were told and got. It outlives any number of brokers: clients
that are connected again say again, with DUP and the same Packet Identifier, what was not acknowledged. It can be
copied by pickle, without its connections: the copy then lives on with another broker, from that moment.
"""
import random
import selectors
import socket
import time

import wire
from harness import Disappointed

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Stream:
    """The messages of one publisher with the same Topic and QoS, numbered from 1 in the order of sending."""

    def __init__(self, publisher, topic, qos, retain=False, size=None):
        self.key = (publisher, topic, qos)
        self.publisher, self.topic, self.qos, self.retain, self.size = publisher, topic, qos, retain, size
        self.sent = 0
        self.acknowledged = set()  # by PUBACK, or by PUBREC: from then on the message is the broker's
        self.refused = {}  # by its Reason Code, 0x80 and up

    def payload(self, number):
        """Says who sent it; of different lengths, of which each is known. Every fourth retained one is empty: it clears."""
        if self.retain and number % 4 == 0:
            return b""
        size = self.size or (20_000 if number % 97 == 0 else number * 37 % 400)
        return f"{self.publisher} {self.qos} {number} ".encode() + b"." * size


class World:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.clients, self.streams = {}, {}
        self.history = []  # (cycle, client, what, stream's key, number)
        self.faults = []  # what the standard forbids, found in a packet
        self.sessions_lost = []
        self.cycle = 0
        self.loading = False
        self.selector = selectors.DefaultSelector()

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "selector"}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.selector, self.loading = selectors.DefaultSelector(), False

    def add(self, name, **what):
        self.clients[name] = Client(self, name, **what)
        return self.clients[name]

    def stream(self, *what):
        stream = Stream(*what)
        return self.streams.setdefault(stream.key, stream)

    def note(self, client, what, key, number):
        self.history.append((self.cycle, client, what, key, number))

    def story(self, key, number):
        """What happened to one message."""
        told = [f"{what} by {client} in cycle {cycle}"
                for cycle, client, what, *which in self.history if which == [key, number]]
        return ", ".join(told) or "never sent"

    def pump(self, seconds, until=lambda: False):
        """Lets everybody talk for so long, or until this holds; says whether it does."""
        end = time.monotonic() + seconds
        while not until():
            left = end - time.monotonic()
            if left <= 0:
                return False
            for key, events in self.selector.select(min(left, 0.05)):
                key.data.serve(events)
        return True

    def load(self, seconds, until=lambda: False):
        """The same while publishers publish as fast as they are acknowledged."""
        self.loading = True
        for client in self.clients.values():
            client.refill()
        try:
            return self.pump(seconds, until)
        finally:
            self.loading = False

    def is_in(self):
        """Everybody is connected, welcome and subscribed."""
        return all(client.is_in and not client.asking for client in self.clients.values())

    def is_quiet(self):
        """Everybody who is connected has been let in, and nothing of theirs waits for an answer."""
        return all(not client.socket or (client.is_in and not client.sending and not client.asking)
                   for client in self.clients.values())

    def connect(self, port, names=None):
        for name in names or self.clients:
            if not self.clients[name].socket:
                self.clients[name].connect(port)

    def lose(self):
        """The broker is gone: what is on its way still comes, then every connection ends."""
        self.pump(1, lambda: not self.selector.get_map())
        for client in self.clients.values():
            client.cut()


class Client:
    """One Client with a Session that never ends."""

    def __init__(self, world, name, version=5, publishes=(), subscribes=(), will=None, window=4):
        self.world, self.name, self.version, self.window = world, name, version, window
        self.publishes = [world.stream(name, *stream) for stream in publishes]
        self.wants = dict(subscribes)  # Topic Filter to QoS
        self.will, self.away = will, 0  # `away`: how often it stays away
        # Session State [MQTT5 4.1, MQTT3 3.1.2.4]:
        self.sending = {}  # Packet Identifier to [stream, number, PUBLISH or PUBREL], in the order of sending
        self.receiving = set()  # Packet Identifiers of QoS 2 between PUBLISH and PUBREL
        self.has_session = False  # the broker has said so, so it must still be there
        self.next_id = 0
        # What the application knows:
        self.subscribed = {}  # Topic Filter to what was sent before it was acknowledged: stream's key to number
        self.asking = {}  # Packet Identifier of a SUBSCRIBE to its Topic Filter
        self.received = {}  # stream's key to the numbers that came, in order
        self.socket, self.is_in, self.unsent, self.codes = None, False, bytearray(), []

    def __getstate__(self):
        return {**self.__dict__, "socket": None, "is_in": False, "unsent": bytearray(), "asking": {}, "packets": None}

    # The connection.

    def connect(self, port):
        try:
            self.socket = socket.create_connection(("127.0.0.1", port), 5)
        except OSError as error:
            raise Disappointed(f"{self.name} cannot connect: {error}") from None
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.packets, self.is_in, self.unsent, self.asking, self.events = wire.Packets(), False, bytearray(), {}, READ
        self.world.selector.register(self.socket, READ, self)
        self.say(wire.resume(self.name, self.version, self.will))
        self.flush()

    def cut(self):
        """Ends the connection without a word."""
        if self.socket:
            self.world.selector.unregister(self.socket)
            self.socket.close()
            self.socket, self.is_in = None, False

    def say(self, data):
        self.unsent += data

    def flush(self):
        try:
            del self.unsent[:self.socket.send(self.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            return  # what there is to read says that it is over
        events = READ | WRITE if self.unsent else READ
        if events != self.events:
            self.events = events
            self.world.selector.modify(self.socket, events, self)

    def serve(self, events):
        if events & READ:
            try:
                data = self.socket.recv(262144)
            except BlockingIOError:
                data = None
            except OSError:
                data = b""
            if data == b"":
                return self.cut()
            for packet in self.packets.feed(data or b""):
                self.take(packet)
                if not self.socket:
                    return None
        if self.unsent:
            self.flush()
        return None

    # Sending.

    def free_id(self):
        while True:
            self.next_id = self.next_id % 65535 + 1
            if self.next_id not in self.sending and self.next_id not in self.asking:
                return self.next_id

    def refill(self):
        if self.is_in and self.publishes:
            while self.world.loading and len(self.sending) < self.window:
                self.publish(self.world.random.choice(self.publishes))
            self.flush()

    def publish(self, stream):
        stream.sent += 1
        packet_id = self.free_id()
        self.sending[packet_id] = [stream, stream.sent, wire.PUBLISH]
        self.note("sent", stream.key, stream.sent)
        self.say(wire.publish(stream.topic, stream.payload(stream.sent), stream.qos, packet_id, self.version, stream.retain))

    def send_again(self):
        """What was not acknowledged, in the order in which it was first sent [MQTT-4.4.0-1], [MQTT-4.6.0-1]."""
        for packet_id, (stream, number, stage) in self.sending.items():
            if stage == wire.PUBREL:
                self.say(wire.acknowledge(wire.PUBREL, packet_id))
            else:
                self.note("sent again", stream.key, number)
                self.say(wire.publish(stream.topic, stream.payload(number), stream.qos, packet_id, self.version,
                                      stream.retain, dup=True))

    # Receiving.

    def take(self, packet):
        if packet.kind == wire.PUBLISH:
            self.take_publish(packet)
        elif packet.kind in (wire.PUBACK, wire.PUBREC, wire.PUBCOMP):
            self.take_answer(packet)
        elif packet.kind == wire.PUBREL:
            packet_id = int.from_bytes(packet.body[:2], "big")
            self.receiving.discard(packet_id)
            self.say(wire.acknowledge(wire.PUBCOMP, packet_id))
        elif packet.kind == wire.CONNACK:
            self.take_welcome(packet)
        elif packet.kind == wire.SUBACK:
            topic_filter = self.asking.pop(int.from_bytes(packet.body[:2], "big"))
            if self.comes_again(packet.body[-1]):
                return None
            if packet.body[-1] != self.wants[topic_filter]:
                return self.codes.append(packet.body[-1])
            if topic_filter not in self.subscribed:
                self.subscribed[topic_filter] = {key: stream.sent for key, stream in self.world.streams.items()}
        elif packet.kind == wire.DISCONNECT:
            self.codes.append(packet.body[0] if packet.body else 0)
        else:
            self.fault(f"a packet of type {packet.kind} came")
        return None

    def comes_again(self, code):
        """The disk takes nothing for a moment: the broker says so, and this client asks again when it connects again."""
        return code == (0x97 if self.version == 5 else 3)

    def take_welcome(self, packet):
        if packet.body[1]:  # refused, and closed by the broker
            if not self.comes_again(packet.body[1]):
                self.codes.append(packet.body[1])
            return
        is_present = bool(packet.body[0] & 1)
        if self.has_session and not is_present:
            self.world.sessions_lost.append(f"{self.name} in cycle {self.world.cycle}")
            # The standard then demands to forget: what is not acknowledged is the application's affair again, not ours.
            self.sending, self.receiving = {}, set()
        self.is_in, self.has_session = True, True
        self.send_again()
        for topic_filter, qos in self.wants.items():
            if topic_filter not in self.subscribed or not is_present:
                packet_id = self.free_id()
                self.asking[packet_id] = topic_filter
                self.say(wire.subscribe(packet_id, topic_filter, qos, self.version))
        self.refill()

    def take_answer(self, packet):
        packet_id = int.from_bytes(packet.body[:2], "big")
        code = packet.body[2] if len(packet.body) > 2 else 0
        if packet_id not in self.sending:
            return self.fault(f"an answer of type {packet.kind} to Packet Identifier {packet_id}, which is free")
        stream, number, stage = self.sending[packet_id]
        wanted = wire.PUBCOMP if stage == wire.PUBREL else (wire.PUBACK, wire.PUBREC)[stream.qos - 1]
        if packet.kind == wire.PUBREC and stage == wire.PUBREL:
            return self.say(wire.acknowledge(wire.PUBREL, packet_id))  # to a PUBLISH that was sent again
        if packet.kind != wanted:
            return self.fault(f"an answer of type {packet.kind} where {wanted} was due")
        if code >= 0x80 and packet.kind != wire.PUBCOMP:  # 0x92 there: the broker was through with it before it fell
            stream.refused[number] = code
            self.note(f"refused with 0x{code:02x}", stream.key, number)
            del self.sending[packet_id]
        elif packet.kind == wire.PUBREC:
            self.acknowledged(stream, number)
            self.sending[packet_id][2] = wire.PUBREL
            self.say(wire.acknowledge(wire.PUBREL, packet_id))
        else:
            if packet.kind == wire.PUBACK:
                self.acknowledged(stream, number)
            del self.sending[packet_id]
        return self.refill()

    def acknowledged(self, stream, number):
        stream.acknowledged.add(number)
        self.note("acknowledged", stream.key, number)

    def take_publish(self, packet):
        message = wire.published(packet, self.version)
        is_new = True
        if message.qos == 2:
            is_new = message.packet_id not in self.receiving
            self.receiving.add(message.packet_id)
            self.say(wire.acknowledge(wire.PUBREC, message.packet_id))
        elif message.qos == 1:
            self.say(wire.acknowledge(wire.PUBACK, message.packet_id))
        if not is_new:
            return
        try:
            publisher, qos, number = message.payload.split(b" ")[:3]
            key, number = (publisher.decode(), message.topic, int(qos)), int(number)
            stream = self.world.streams[key]
            is_sent = number <= stream.sent and message.payload == stream.payload(number)
        except (ValueError, KeyError, UnicodeDecodeError):
            is_sent = False
        if not is_sent:
            return self.fault(f"what nobody sent came on {message.topic}: {message.payload[:60]!r}")
        self.received.setdefault(key, []).append(number)
        self.note("received", key, number)
        return None

    def note(self, what, key, number):
        self.world.note(self.name, what, key, number)

    def fault(self, what):
        self.world.faults.append(f"{self.name} in cycle {self.world.cycle}: {what}")
