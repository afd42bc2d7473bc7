"""What every outside test stands on: a broker in a process of its own, named checks, and deadlines.

A check is a function that raises when the broker disappoints it. Each gets one line of output, `ok NAME` or
`FAIL NAME: why`, and a time after which it counts as failed whatever it waits for. Nothing here sleeps to let
something happen: it waits for the event, and says which event did not come.
"""
import os
import queue
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TARGET = os.path.abspath(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")))
BINARY = os.path.abspath(os.environ.get("WAYPOST_BINARY", os.path.join(TARGET, "release", "waypost")))
# Several brokers run at a time, and only one could have the default address of the metrics page.
os.environ.setdefault("WAYPOST__ADMIN__ADDRESS", "off")
PATIENCE_S = 15.0  # for one event on a busy machine; what works takes milliseconds
# MQTT.js does not look at the Receive Maximum of the broker, so what is in flight must not meet it.
MOSQUITTO_CONFIG = "listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 1000\n"


class Disappointed(Exception):
    """The broker did something else than it should have; the text says what."""


class Skipped(Exception):
    """This machine cannot show it; the text says why."""


def expect(condition, why):
    if not condition:
        raise Disappointed(why)


def expect_equal(got, wanted, what):
    if got != wanted:
        raise Disappointed(f"{what}: expected {short(wanted)}, got {short(got)}")


def short(value):
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:160]}… ({len(text)} characters)"


class Report:
    """Runs checks one after the other, prints a line for each and counts them."""

    def __init__(self, only="", forgiven=()):
        self.only = only
        self.forgiven = forgiven
        self.broker = None  # the one that several checks share; started anew when it has died
        self.passed = 0
        self.failed = 0
        self.skipped = 0

    def check(self, name, function, *arguments, seconds=60):
        if self.only and self.only not in name:
            return
        signal.signal(signal.SIGALRM, overdue)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            function(*arguments)
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.line(True, name)
        except Skipped as why:
            self.skipped += 1
            print(f"skipped {name}: {why}", flush=True)
        except Disappointed as why:
            self.line(False, name, str(why))
        except Exception as error:  # a fault of the test or of a client library: show where
            traceback.print_exc(limit=-4, file=sys.stdout)
            self.line(False, name, f"{type(error).__name__}: {error}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if self.broker and self.broker.died():
            self.line(False, f"{name}: the broker survives it", self.broker.last_words())
            self.broker.restart()

    def line(self, good, name, why=""):
        if good:
            self.passed += 1
            print(f"ok {name}", flush=True)
        elif name in self.forgiven:
            self.skipped += 1
            print(f"skipped {name}: {why}", flush=True)
        else:
            self.failed += 1
            print(f"FAIL {name}: {why}", flush=True)

    def adopt(self, line):
        """Counts a line that a client in another language has printed in our form."""
        line = line.rstrip("\n")
        if line.startswith("ok "):
            self.line(True, line[3:])
        elif line.startswith("FAIL "):
            name, _, why = line[5:].partition(": ")
            self.line(False, name, why)
        elif line:
            print(line, flush=True)

    def summary(self):
        rest = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{rest}"


def overdue(*_):
    raise Disappointed("took too long as a whole")


def free_port(host="127.0.0.1"):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


class Program:
    """A child process whose output is read as it comes. Ends with the block that opened it."""

    def __init__(self, command, log=None, **options):
        self.command = command
        self.lines = queue.Queue()
        self.seen = []
        self.log = open(log, "wb") if log else None
        self.process = subprocess.Popen(
            command, stdin=options.pop("stdin", subprocess.DEVNULL), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, **options)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            if self.log:
                self.log.write(line)
                self.log.flush()
            self.lines.put(line.decode("utf-8", "replace").rstrip("\n"))
        self.lines.put(None)

    def line(self, wanted, what, seconds=PATIENCE_S):
        """The next line of output for which `wanted(line)` holds."""
        end = time.monotonic() + seconds
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise Disappointed(f"no {what} within {seconds:g} s; {self.story()}") from None
            if line is None:
                self.lines.put(None)
                raise Disappointed(f"ended without {what}; {self.story()}")
            self.seen.append(line)
            if wanted(line):
                return line

    def ends(self, seconds=PATIENCE_S):
        """Waits for the end and returns the exit status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Disappointed(f"{os.path.basename(self.command[0])} still runs after {seconds:g} s; "
                               f"{self.story()}") from None

    def story(self):
        last = short(" | ".join(text[:120] for text in self.seen[-4:]))
        return f"status {self.process.poll()}, last output: {last}"

    def output(self):
        """All that the program has printed; only after its end."""
        self.reader.join(PATIENCE_S)
        while not self.lines.empty():
            line = self.lines.get()
            if line is not None:
                self.seen.append(line)
        return "\n".join(self.seen)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join(5)
        self.process.stdout.close()
        if self.log:
            self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def many_files():
    """A thousand clients in one process need more descriptors than a shell usually allows."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else 65536, hard))


def usual_files():
    """What a broker finds that somebody starts from a shell. It may raise its limit itself."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))


class Broker:
    """A running broker on a free port of the loopback, with a data directory that goes away with it.

    `kind` is "waypost", or "mosquitto" to try the tests themselves on a broker that is known to work. `config` is the
    text of a configuration file in which {port}, {port2} stand for free ports and {folder} for its folder.
    """

    def __init__(self, kind="waypost", config=None, before=(), preexec=None, host="127.0.0.1", data=None):
        self.kind = kind
        self.host = host
        self.config = config
        self.before = list(before)
        self.preexec = preexec or (usual_files if kind == "waypost" else None)  # mosquitto does not raise its limit
        self.directory = tempfile.mkdtemp(prefix="waypost-outside-")
        self.data = data or os.path.join(self.directory, "data")  # of its own, or one that stays
        try:
            self._start()
        except BaseException:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise

    def _start(self):
        for attempt in range(3):  # somebody else may take the port between the asking and the binding
            self.port, self.port2 = free_port(self.host), free_port()
            self.program = Program(self.before + self.command(), log=os.path.join(self.directory, "log"),
                                   preexec_fn=self.preexec)
            try:
                return self._answers()
            except Disappointed:
                taken = "in use" in self.program.output() if self.program.process.poll() is not None else False
                self.program.close()
                if not taken or attempt == 2:
                    raise

    def command(self):
        if self.kind == "mosquitto":
            path = self.write("mosquitto.conf", self.config or MOSQUITTO_CONFIG)
            unpacked = os.path.join(TARGET, "outside", "mosquitto", "usr", "sbin")  # by integration/prepare
            places = ":".join([os.environ.get("PATH", ""), "/usr/sbin", unpacked])
            return [shutil.which("mosquitto", path=places) or "mosquitto", "-c", path]
        arguments = ["--data-dir", self.data]
        if self.config is None:
            return [BINARY, "-p", str(self.port), *arguments]
        return [BINARY, "-c", self.write("waypost.toml", self.config), *arguments]

    def write(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace("{port}", str(self.port)).replace("{port2}", str(self.port2))
                       .replace("{folder}", self.directory))
        return path

    def _answers(self):
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if self.program.process.poll() is not None:
                raise Disappointed(f"the broker ended with status {self.program.process.returncode} instead of "
                                   f"starting: {short(self.program.output())}")
            try:
                socket.create_connection((self.host, self.port), 1).close()
                return
            except OSError:
                time.sleep(0.01)
        raise Disappointed(f"the broker does not listen on port {self.port} after {PATIENCE_S:g} s")

    @property
    def pid(self):
        return self.program.process.pid

    def cpu_s(self):
        """CPU seconds that the process has used, from the kernel's account."""
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self, number=signal.SIGTERM, seconds=PATIENCE_S):
        self.program.process.send_signal(number)
        return self.program.ends(seconds)

    def log(self):
        with open(os.path.join(self.directory, "log"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def died(self):
        return self.program.process.poll() is not None

    def last_words(self):
        """What it said at its end: the panic if there was one, or the last lines."""
        lines = self.log().splitlines()
        panics = [index for index, line in enumerate(lines) if "panicked" in line]
        told = lines[panics[0]:panics[0] + 3] if panics else lines[-3:]
        return f"status {self.program.process.poll()}, " + " | ".join(line[:300] for line in told)

    def restart(self):
        self.program.close()
        self._start()

    def close(self):
        self.program.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, _, error, __):
        if error and not isinstance(error, Skipped) and (self.died() or "panicked" in self.log()):
            print(f"   the broker: {self.last_words()}", flush=True)
        self.close()


def payloads():
    """The payloads that every client is tried with, by name."""
    large = bytes(range(256)) * 4096
    assert len(large) == 1024 * 1024
    return {"large": large, "tiny": b"x", "empty": b""}
