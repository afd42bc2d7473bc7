"""What must be true of a `World` whatever happened to its broker, and the crowd that is tried.

Every finding is a line that ends with the history of the message in question.
"""
import os
import time
from collections import Counter

import wire
from harness import Disappointed
from wire import Link

SILENCE_S = 4.0  # after so long nothing more comes
FINDINGS = ("lost", "duplicated", "disordered", "invented", "retained lost", "Sessions lost", "not answered",
            "refused and delivered", "lost in a group", "duplicated in a group")


def busyness():
    """How many times more work there is here than cores to do it: bounds on time are stretched by it."""
    return min(8.0, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))


def crowd(world, small=False):
    """Publishers and subscribers of both versions and QoS; some stay away now and then (`away`: how often)."""
    load = [(f"load/{{}}/{name}", qos) for name in "ab" for qos in (1, 2)]
    retained = [("state/{}", 1, True)]
    for name, version, streams in (("p1", 5, load[:1] + retained), ("p2", 5, load[1:2]), ("p3", 4, load[:2]),
                                   ("p4", 4, load[1:] + retained), ("p5", 5, load), ("p6", 4, load[2:3])):
        if not (small and name in ("p5", "p6")):
            world.add(name, version=version, publishes=[(topic.format(name), *rest) for topic, *rest in streams])
    world.add("s-all", subscribes={"load/#": 2})
    world.add("s-four", version=4, subscribes={"load/+/a": 2}).away = 0.1
    world.add("s-one", subscribes={"load/+/b": 1}).away = 0.3
    if not small:
        world.add("s-rare", subscribes={"load/p1/#": 1, "load/p2/#": 2}).away = 0.8
        world.add("s-rare-four", version=4, subscribes={"load/p3/#": 1, "load/p4/#": 2}).away = 0.9
        for number in range(3):
            world.add(f"s-crew-{number}", subscribes={"$share/crew/load/#": 2}).away = 0.3
    world.add("s-wills", subscribes={"will/#": 1}).away = 0.3
    return world


def present(world):
    """Who connects in this cycle."""
    return [name for name, client in world.clients.items() if not client.will and (
            world.cycle == 0 or world.random.random() >= client.away)]


def drain(world, port, silence_s=SILENCE_S):
    """Connects everybody and returns when everything has come, or when nothing more comes for long."""
    patience_s = silence_s * busyness()
    world.connect(port, [name for name, client in world.clients.items() if not client.will])
    if not world.pump(patience_s, world.is_quiet):
        return
    seen, end = -1, time.monotonic() + patience_s
    while missing(world) and time.monotonic() < end:
        if seen != len(world.history):
            seen, end = len(world.history), time.monotonic() + patience_s
        world.pump(0.05)
    world.pump(0.1)  # what comes beyond that should not


def matches(topic_filter, topic):
    """Of those filters that the crowd has: no wildcard at first, no topic of $SYS."""
    wanted = topic_filter.split("/")
    wanted = wanted[2:] if wanted[0] == "$share" else wanted
    levels = topic.split("/")
    if wanted[-1] == "#":
        wanted, levels = wanted[:-1], levels[:len(wanted) - 1]
    return len(wanted) == len(levels) and all(one in ("+", level) for one, level in zip(wanted, levels))


def is_shared(topic_filter):
    return topic_filter.startswith("$share/")


def audiences(world):
    """(name, members, stream, number after which its messages are owed, QoS) for each subscription and stream.

    The members of a shared subscription are owed each message once together.
    """
    together = {}
    for client in world.clients.values():
        for topic_filter, since in client.subscribed.items():
            name = topic_filter if is_shared(topic_filter) else client.name
            members, before = together.setdefault((name, topic_filter), ([], {}))
            members.append(client)
            # Of a group, what was sent before all had subscribed may be with any of them.
            before.update({key: max(before.get(key, 0), number) for key, number in since.items()})
    for (name, topic_filter), (members, before) in together.items():
        for stream in world.streams.values():
            if matches(topic_filter, stream.topic):
                qos = min(stream.qos, members[0].wants[topic_filter])
                yield name, members, stream, before.get(stream.key, 0), qos


def missing(world):
    """(audience, stream, number) of what was acknowledged and did not come."""
    gone = []
    for name, members, stream, since, _ in audiences(world):
        got = set().union(*(client.received.get(stream.key, ()) for client in members))
        gone += [(name, stream, number) for number in stream.acknowledged - got if number > since]
    return gone


def findings(world):
    """Everything that is wrong, by its kind; of each kind the first few with their history."""
    found = {kind: [] for kind in FINDINGS}
    for name, stream, number in missing(world):
        found["lost in a group" if is_shared(name) else "lost"].append((f"{name} never got", stream, number))
    for name, members, stream, _, qos in audiences(world):
        everything = [number for client in members for number in client.received.get(stream.key, ())]
        if qos == 2 and len(everything) > len(set(everything)):
            twice = sorted(number for number, count in Counter(everything).items() if count > 1)
            kind = "duplicated in a group" if is_shared(name) else "duplicated"
            found[kind] += [(f"{name} got more than once", stream, number) for number in twice]
        if stream.qos == 2:  # of QoS 1, whoever is refused sends it again, and at least once it comes
            both = sorted(stream.refused.keys() & set(everything))
            found["refused and delivered"] += [(f"{name} got", stream, number) for number in both]
        if len(members) == 1:
            first = list(dict.fromkeys(everything))
            found["disordered"] += [(f"{name} got after {earlier}", stream, number)
                                    for earlier, number in zip(first, first[1:]) if number < earlier]
    found["invented"] = list(world.faults)
    found["Sessions lost"] = [f"the Session of {who} was gone" for who in world.sessions_lost]
    for client in world.clients.values():
        if client.socket and not client.is_in:
            found["not answered"].append(f"{client.name} was not let in ({client.codes})")
        for stream, number, stage in client.sending.values():
            found["not answered"].append((f"nothing answers packet type {stage} of", stream, number))
        found["not answered"] += [f"{client.name} was not answered to SUBSCRIBE" for _ in client.asking]
        found["not answered"] += [f"{client.name} was told 0x{code:02x}" for code in client.codes]
    # Only the first ones with their history, which is a long search.
    return {kind: [told(world, which) for which in some[:3]] + some[3:] for kind, some in found.items()}


def judge(report, name, wrong, seed):
    """A line for each kind of finding."""
    for kind, some in wrong.items():
        why = "; ".join(some[:3]) + (f"; {len(some)} in all" if some else "")
        report.line(not some, f"{name}: nothing {kind}", f"seed {seed}: {why}")


def totals(world):
    """How many messages were acknowledged, and how many came to subscribers."""
    return (sum(len(stream.acknowledged) for stream in world.streams.values()),
            sum(len(numbers) for client in world.clients.values() for numbers in client.received.values()))


def summary(world, wrong):
    acknowledged, received = totals(world)
    bad = ", ".join(f"{len(some)} {kind}" for kind, some in wrong.items() if some)
    return f"{acknowledged} acknowledged, {received} received, {bad or 'nothing wrong'}"


def told(world, finding):
    if isinstance(finding, str):
        return finding
    what, stream, number = finding
    return f"{what} {number} on {stream.topic} by {stream.publisher}, QoS {stream.qos} ({world.story(stream.key, number)})"


def retained(world, port, silence_s=SILENCE_S):
    """A newcomer gets the last acknowledged retained message of each Topic, or one that was sent later."""
    wrong, got = [], {}
    streams = {stream.topic: stream for stream in world.streams.values() if stream.retain}
    allowed = {topic: range(max(stream.acknowledged, default=0), stream.sent + 1) for topic, stream in streams.items()}
    owed = {topic for topic, numbers in allowed.items() if all(number % 4 for number in numbers)}
    with Link(port) as link:
        link.connect("newcomer").send(wire.subscribe(1, "state/#"))
        end, is_asked = time.monotonic() + silence_s * busyness(), False
        while time.monotonic() < end:
            if not is_asked and owed <= set(got):
                link.send(wire.frame(wire.PINGREQ, 0, b""))
                is_asked = True
            try:
                packet = link.next(seconds=max(0.01, end - time.monotonic()))
            except Disappointed:
                break
            if packet is None or packet.kind == wire.PINGRESP:
                break
            if packet.kind == wire.PUBLISH:
                message = wire.published(packet)
                got[message.topic] = message.payload
    for topic, stream in streams.items():
        payloads = {stream.payload(number) for number in allowed[topic]}  # number 0 clears, which is right: nothing there
        if got.get(topic, b"") not in payloads:
            last = allowed[topic][0]
            wrong.append(f"{topic} says {got.get(topic, b'')[:30]!r}, not what was last acknowledged or later sent, "
                         f"{last} to {stream.sent} ({world.story(stream.key, last)})")
    return wrong
