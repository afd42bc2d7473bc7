"""A thousand clients at once, of our own making, so that one small process can be all of them."""
import asyncio

import wire
from harness import PATIENCE_S, Disappointed, expect_equal

CLIENTS = 1000


def run(report, broker):
    for version, name in ((4, "v311"), (5, "v5")):
        for qos in (0, 1, 2):
            crowd = f"crowd {name} qos{qos} 1,000 clients"
            report.check(f"{crowd} around a ring", within, ring, broker, version, qos, seconds=120)
            report.check(f"{crowd} hear one", within, fan_out, broker, version, qos, seconds=120)
            report.check(f"{crowd} heard by one", within, fan_in, broker, version, qos, seconds=120)
    report.check("crowd 1,000 connections at the same moment", within, rush, broker, seconds=120)


def within(story, *arguments):
    asyncio.run(asyncio.wait_for(story(*arguments), 90))


class Member:
    """One client; a task of its own answers whatever the QoS demands and keeps the messages."""

    def __init__(self, version):
        self.version = version
        self.packets, self.messages, self.answers = wire.Packets(), asyncio.Queue(), asyncio.Queue()

    @classmethod
    async def open(cls, broker, client_id, version):
        self = cls(version)
        self.reader, self.writer = await asyncio.open_connection(broker.host, broker.port)
        self.task = asyncio.create_task(self._read())
        self.writer.write(wire.connect(client_id, version))
        expect_equal((await self.answer(wire.CONNACK)).body[1], 0, "the code in CONNACK")
        return self

    async def _read(self):
        while data := await self.reader.read(65536):
            for packet in self.packets.feed(data):
                if packet.kind == wire.PUBLISH:
                    message = wire.published(packet, self.version)
                    if message.qos:
                        reply = wire.PUBACK if message.qos == 1 else wire.PUBREC
                        self.writer.write(wire.acknowledge(reply, message.packet_id))
                    self.messages.put_nowait(message)
                elif packet.kind == wire.PUBREC:
                    self.writer.write(wire.acknowledge(wire.PUBREL, int.from_bytes(packet.body[:2], "big")))
                elif packet.kind == wire.PUBREL:
                    self.writer.write(wire.acknowledge(wire.PUBCOMP, int.from_bytes(packet.body[:2], "big")))
                else:
                    self.answers.put_nowait(packet)

    async def answer(self, kind):
        packet = await soon(self.answers.get(), f"answer of type {kind}")
        expect_equal(packet.kind, kind, "type of the answer")
        return packet

    async def subscribe(self, topic_filter, qos):
        self.writer.write(wire.subscribe(1, topic_filter, qos, self.version))
        expect_equal((await self.answer(wire.SUBACK)).body[-1], qos, "the code in SUBACK")

    async def publish(self, topic, payload, qos, packet_id=1):
        """Returns when the broker has taken the message over."""
        self.writer.write(wire.publish(topic, payload, qos, packet_id, self.version))
        if qos:
            await self.answer(wire.PUBACK if qos == 1 else wire.PUBCOMP)

    async def next(self):
        return await soon(self.messages.get(), "message")

    def close(self):
        self.task.cancel()
        self.writer.close()


class Crowd:
    def __init__(self, broker, version):
        self.broker, self.version, self.members = broker, version, []

    async def __aenter__(self):
        for start in range(0, CLIENTS, 100):
            self.members += await asyncio.gather(*(
                Member.open(self.broker, f"crowd-{index}", self.version) for index in range(start, start + 100)))
        return self.members

    async def __aexit__(self, *_):
        for member in self.members:
            member.close()


async def soon(event, what):
    try:
        return await asyncio.wait_for(event, 2 * PATIENCE_S)
    except asyncio.TimeoutError:
        raise Disappointed(f"no {what} within {2 * PATIENCE_S:g} s") from None


async def ring(broker, version, qos):
    """Everybody has a Topic of its own and publishes to the next one's."""
    async with Crowd(broker, version) as crowd:
        await asyncio.gather(*(member.subscribe(f"ring/{index}", qos) for index, member in enumerate(crowd)))
        await asyncio.gather(*(member.publish(f"ring/{(index + 1) % CLIENTS}", b"%d" % index, qos)
                               for index, member in enumerate(crowd)))
        for index, member in enumerate(crowd):
            message = await member.next()
            expect_equal((message.qos, int(message.payload)), (qos, (index - 1) % CLIENTS), f"QoS and sender at {index}")


async def fan_out(broker, version, qos):
    async with Crowd(broker, version) as crowd:
        await asyncio.gather(*(member.subscribe("out", qos) for member in crowd))
        for number in range(10):
            await crowd[0].publish("out", b"%d" % number, qos)
        for member in crowd:
            got = [int((await member.next()).payload) for _ in range(10)]
            expect_equal(got, list(range(10)), "what one of the thousand got")


async def fan_in(broker, version, qos):
    async with Crowd(broker, version) as crowd:
        await crowd[0].subscribe("in/+", qos)
        await asyncio.gather(*(member.publish(f"in/{index}", b"%d" % index, qos) for index, member in enumerate(crowd)))
        got = sorted([int((await crowd[0].next()).payload) for _ in crowd])
        expect_equal(got, list(range(CLIENTS)), "what the one got")


async def rush(broker):
    """Nobody waits for anybody: a thousand connections are opened in one go, and all are served."""
    members = await asyncio.gather(*(Member.open(broker, f"rush-{index}", 5) for index in range(CLIENTS)))
    for member in members:
        member.close()
