"""Power cuts: what a disk would hold if the power went now, many times, each of them given to a broker of its own.

The data directory lies on a small file system in an image file. The broker is stopped by SIGSTOP in the middle of the load
and the image is copied: writes that nobody has synced are then in the memory of the kernel only, or, where the file
system happened to write them early, partly in the image. The Clients, too, are copied as they are at that moment.
"""
import contextlib
import os
import pickle
import random
import shutil
import signal
import subprocess
import tempfile
import time

from faithful import World
from harness import PATIENCE_S, Broker, Disappointed, Skipped, expect
from kills import CONFIG, without_promise
from promises import SILENCE_S, busyness, crowd, drain, findings, judge, retained, totals

IMAGE_BYTES = 256 << 20  # sparse: what is not written takes nothing
IMAGES_A_RUN = 20


def run(report, images, seed):
    rng, cuts, wrong, acknowledged, began = random.Random(seed), 0, {}, 0, time.monotonic()
    with memory() as folder:
        for number in range(0, images, IMAGES_A_RUN):
            for place, (image, clients) in enumerate(cut_often(folder, min(IMAGES_A_RUN, images - number), rng)):
                world = pickle.loads(clients)
                acknowledged += totals(world)[0]
                again = cut_again(image)
                for kind, some in after(again, world).items():
                    wrong.setdefault(kind, []).extend(f"image {number + place}: {what}" for what in some)
                os.remove(image)
                os.remove(again)
                cuts += 1
    print(f"   {cuts} images in {time.monotonic() - began:.0f} s: {acknowledged} acknowledged before them", flush=True)
    judge(report, "power cut", wrong, seed)


def notices(seed):
    """What these images are worth: a broker that acknowledges before the disk has it does not get through."""
    rng, config = random.Random(seed), without_promise("os")
    with memory() as folder:
        for image, clients in cut_often(folder, 5, rng, config):
            wrong = after(image, pickle.loads(clients), config, silence_s=0.3)
            if wrong["Sessions lost"]:
                return
    raise Disappointed("in five images nothing is lost of what was not synced")


def cut_often(folder, images, rng, config=CONFIG["waypost"]):
    """One broker under load, and images of its disk at random moments, each with its Clients."""
    original, cuts = new_disk(folder), []
    with mounted(original) as disk, Broker(config=config, data=os.path.join(disk, "data")) as broker:
        world = crowd(World(rng.random()), small=True)
        world.connect(broker.port)
        while len(cuts) < images:
            world.load(rng.uniform(0.005, 0.1))
            if not world.is_in():  # the first image is of a broker that has told everybody who is new
                continue
            expect(not broker.died(), f"the broker has ended by itself: {broker.last_words()}")
            write_some_early(disk, rng)
            cuts.append(cut(broker, world, original, f"{original}-{len(cuts)}"))
            world.cycle += 1
        broker.program.process.kill()
        world.lose()
    os.remove(original)
    return cuts


def write_some_early(disk, rng):
    """A file system may write anything before it is asked to, in any order, and another program's fsync makes it stay."""
    for folder, _, names in os.walk(disk):
        for name in names:
            with contextlib.suppress(OSError), open(os.path.join(folder, name), "rb") as file:
                size = os.fstat(file.fileno()).st_size
                os.posix_fadvise(file.fileno(), rng.randrange(size + 1), rng.randrange(1 << 16) + 1, os.POSIX_FADV_DONTNEED)
    with open(os.path.join(disk, "other"), "wb") as other:
        other.write(b"x")
        os.fsync(other.fileno())


def new_disk(folder):
    image = os.path.join(folder, "disk")
    subprocess.run(["truncate", "-s", str(IMAGE_BYTES), image], check=True)
    # The journal of the file system as small as it may be.
    subprocess.run(["mkfs.ext4", "-q", "-F", "-b", "4096", "-J", "size=4", "-E", "lazy_itable_init=0", image], check=True)
    return image


def cut(broker, world, disk, image):
    """What is left when the power goes now: an image of the disk, and the Clients as bytes."""
    with stopped(broker.pid):
        subprocess.run(["cp", "--sparse=auto", disk, image], check=True)
        return image, pickle.dumps(world)


def cut_again(image):
    """The power comes back, and goes again as soon as the broker is up: what recovery did may not be on the disk yet."""
    with mounted(image) as disk, Broker(config=CONFIG["waypost"], data=os.path.join(disk, "data")) as broker:
        return cut(broker, None, image, f"{image}-again")[0]


def after(image, world, config=CONFIG["waypost"], silence_s=SILENCE_S):
    """What is wrong with a broker that starts on this image, as these Clients see it."""
    world.cycle += 1
    with mounted(image) as disk, Broker(config=config, data=os.path.join(disk, "data")) as broker:
        lost = retained(world, broker.port, silence_s)
        drain(world, broker.port, silence_s)
        expect("panicked" not in broker.log(), f"the broker panicked: {broker.last_words()}")
        wrong = findings(world)
        wrong["retained lost"] += lost
        broker.program.process.kill()
        world.lose()
    return wrong


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        end = time.monotonic() + PATIENCE_S * busyness()
        while not all(state(pid, thread) in "Tt" for thread in os.listdir(f"/proc/{pid}/task")):
            expect(time.monotonic() < end, "the broker's threads do not stop")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def state(pid, thread):
    with open(f"/proc/{pid}/task/{thread}/stat", encoding="ascii") as file:
        return file.read().rsplit(")", 1)[1].split()[0]


# File systems that go away with their block.


@contextlib.contextmanager
def memory(size="4g"):
    """A folder in memory, so that nothing here waits for the disk of this machine."""
    folder = tempfile.mkdtemp(prefix="waypost-outside-")
    try:
        with mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def mounted(image):
    """The file system in an image, which writes early only when it is told to."""
    folder = f"{image}-mounted"
    os.makedirs(folder)
    try:
        with mount("-o", "loop,commit=600", image, folder):
            yield folder
    finally:
        os.rmdir(folder)


@contextlib.contextmanager
def mount(*arguments):
    if os.geteuid() != 0:
        raise Skipped("only root may mount file systems")
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise Skipped(f"no file systems can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        unmount(arguments[-1])


def unmount(folder):
    for lazily in ([], ["-l"]):  # lazily only after a failure, when somebody still has a file open
        if subprocess.run(["umount", *lazily, folder], capture_output=True, timeout=60).returncode == 0:
            return
    raise Disappointed(f"{folder} cannot be unmounted")
