"""kill -9 in the middle of the load, again and again; what mosquitto does in the same place."""
import subprocess
import time

import wire
from faithful import World
from harness import Broker, Disappointed, Program, expect
from promises import (SILENCE_S, busyness, crowd, drain, findings, is_shared, judge, missing, present, retained, summary,
                      totals)

READY_S = 2.0
CONFIG = {
    "waypost": '[[listener]]\naddress = "127.0.0.1:{port}"\n[log]\nlevel = "warn"\n',
    # Persistence as its package has it, and no bound on queues.
    "mosquitto": "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {data}/\nuser root\n"
                 "max_queued_messages 0\nmax_inflight_messages 1000\n",
}


def without_promise(durability):
    """The configuration of a broker that keeps less: these trials must notice it."""
    return CONFIG["waypost"] + f'[store]\ndurability = "{durability}"\n'


def trial(kind, kills, seed, config=None, silence_s=SILENCE_S):
    """(the World afterwards, what is wrong with it by kind, how long starts took in seconds)."""
    world, lost, starts = crowd(World(seed)), [], []
    with Broker(kind, config or CONFIG[kind]) as broker:
        for world.cycle in range(kills):
            late_comers(world, kills)
            world.connect(broker.port, present(world))
            with_wills(world, kills, broker.port)
            world.load(world.random.uniform(0.1, 0.3))
            fall(broker, world)
            if world.random.random() < 0.2:
                fall_while_starting(broker, world.random.uniform(0, 0.05))
            began = time.monotonic()
            broker.restart()
            starts.append(time.monotonic() - began - waited_for_a_processor_s(broker.pid))
            if world.cycle % 10 == 0:
                lost += retained(world, broker.port, silence_s)
        drain(world, broker.port, silence_s)
        lost += retained(world, broker.port, silence_s)
    wrong = findings(world)
    wrong["retained lost"] += lost
    return world, wrong, starts


def waited_for_a_processor_s(pid):
    """How long its main thread could have run and did not, since others did."""
    with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[1]) / 1e9


def fall(broker, world):
    """kill -9; what was on its way to the Clients still comes."""
    expect(not broker.died(), f"the broker has ended by itself: {broker.last_words()}")
    broker.program.process.kill()
    world.lose()
    broker.program.process.wait()
    expect("panicked" not in broker.log(), f"the broker panicked: {broker.last_words()}")


def fall_while_starting(broker, seconds):
    with Program(broker.command()) as program:
        try:
            program.process.wait(seconds)  # at any moment, whatever it does then
        except subprocess.TimeoutExpired:
            program.process.kill()
        expect("panicked" not in program.output(), f"the broker panicked while it started: {program.story()}")


def late_comers(world, kills):
    """A subscription is kept from its SUBACK on, not only those of the first cycle."""
    if world.cycle and world.cycle % max(1, kills // 5) == 0:
        world.add(f"s-late-{world.cycle}", subscribes={"load/+/a": 1}).away = 0.5


def with_wills(world, kills, port):
    """In the middle of the trial three Clients go away: two for good, whose Wills are due later, one is back in time."""
    if world.cycle == kills // 2:
        for name, delay_s in (("w-cut", 1), ("w-held", 1), ("w-back", 300)):
            stream = world.stream(name, f"will/{name}", 1)
            world.add(name, will=wire.Will(stream.topic, stream.payload(1), 1, delay_s)).away = 1
        wills = [client for client in world.clients.values() if client.will]
        world.connect(port, [client.name for client in wills])
        if not world.pump(5 * busyness(), lambda: all(client.is_in for client in wills)):
            raise Disappointed("Clients with a Will were not let in")
        for name in ("w-cut", "w-held"):
            stream = world.streams[(name, f"will/{name}", 1)]
            stream.sent = 1
            stream.acknowledged.add(1)
            world.note(name, "left as a Will", stream.key, 1)
        world.clients["w-cut"].cut()  # and w-held stays until the kill
        world.clients["w-back"].cut()
    elif world.cycle == kills // 2 + 1:
        world.connect(port, ["w-back"])
        world.clients["w-back"].will = None  # from here on it is like the others


def run(report, kills, seed):
    began = time.monotonic()
    world, wrong, starts = trial("waypost", kills, seed)
    took, longest = time.monotonic() - began, max(starts)
    print(f"   {kills} kills in {took:.0f} s: {summary(world, wrong)}; starts took up to {longest:.2f} s", flush=True)
    report.line(longest < READY_S * busyness(), f"kills: ready within {READY_S:g} s", f"a start took {longest:.2f} s")
    judge(report, "kills", wrong, seed)


def notices(seed):
    """What these trials are worth: a broker that keeps nothing does not get through."""
    _, wrong, _ = trial("waypost", 2, seed, without_promise("memory"), silence_s=0.3)
    for kind in ("lost", "Sessions lost"):
        expect(wrong[kind], f"nothing {kind}")


def compare(seed, kills):
    """The table for the README: the same Clients, the same kills."""
    print("| broker | acknowledged | of these, lost | lost in shared groups | QoS 2, twice | Sessions lost |")
    print("|---|---|---|---|---|---|")
    for kind, name in (("waypost", "Waypost, as it comes"), ("mosquitto", "mosquitto 2.0 with `persistence true`")):
        world, wrong, _ = trial(kind, kills, seed)
        lost = missing(world)
        counts = [len({which[1:] for which in lost if is_shared(which[0]) == in_group}) for in_group in (False, True)]
        counts += [len(wrong[kind]) for kind in ("duplicated", "Sessions lost")]
        print(f"| {name} | {totals(world)[0]:,} | " + " | ".join(f"{count:,}" for count in counts) + " |", flush=True)
