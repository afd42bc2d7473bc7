"""An unchanged mosquitto.conf with its password, ACL and certificate files: Waypost lets in and delivers what mosquitto does.

Each case is one folder of files. Mosquitto (Debian's, the reference) is started on it and asked every question; then it is
stopped and Waypost is started on the very same files and ports and asked the same. Every question states the answer that is
expected, so that a case cannot be empty: the reference has to give it, and so has Waypost.
"""
import os
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile
import time
from collections import namedtuple

from harness import BINARY, PATIENCE_S, TARGET, Disappointed, Program, expect, free_port
from wire import CONNACK, PUBACK, PUBLISH, SUBACK, SUBSCRIBE, Link, frame, published, text

Who = namedtuple("Who", "user password client_id", defaults=(None, None, None))
Case = namedtuple("Case", "name conf files questions")


def run(report, kind):
    places = [os.environ.get("PATH", ""), "/usr/sbin", os.path.join(TARGET, "outside", "mosquitto", "usr", "sbin")]
    reference = shutil.which("mosquitto", path=":".join(places))
    report.check("mosquitto.conf: the reference is installed", expect, reference, "no mosquitto; run integration/prepare")
    if reference:
        for case in cases():
            compare(report, case, reference)
        report.check("mosquitto.conf: check lists every option", check_lists_every_option)
        report.check("mosquitto.conf: what is not supported stops the start", refusal_stops_the_start)


def compare(report, case, reference):
    """One check for each question and broker."""
    folder = tempfile.mkdtemp(prefix="waypost-conf-")
    try:
        ports = {name: free_port() for name in ("port", "port2", "port3")}
        for name, content in {**case.files, "mosquitto.conf": "user root\n" + case.conf}.items():
            write(os.path.join(folder, name), content, folder, ports)
        for name in (name for name in case.files if name.startswith("passwd")):
            subprocess.run([os.path.join(os.path.dirname(reference), "..", "bin", "mosquitto_passwd"), "-U", os.path.join(folder, name)], check=True)
        if "certificates" in case.conf:
            make_certificates(os.path.join(folder, "certificates"))
        conf = os.path.join(folder, "mosquitto.conf")
        for broker, command in (("mosquitto", [reference, "-c", conf]), ("waypost", [BINARY, "-c", conf])):
            name = f"mosquitto.conf: {case.name}: {broker}"
            with Program(command, cwd=folder, log=os.path.join(folder, f"{broker}.log")) as program:
                started = [False]
                report.check(f"{name} starts", starts, program, ports["port"], started)
                for question in case.questions if started[0] else ():
                    report.check(f"{name}: {question.name}", question.ask, ports, folder, broker)
                program.process.terminate()
                program.process.wait(PATIENCE_S)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write(path, content, folder, ports):
    for name, port in ports.items():
        content = content.replace("{" + name + "}", str(port))
    with open(path, "w", encoding="utf-8") as file:
        file.write(content.replace("{folder}", folder))


def starts(program, port, started):
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if program.process.poll() is not None:
            raise Disappointed(f"it ended with status {program.process.returncode}: {program.output()[-600:]}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            started[0] = True
            return
        except OSError:
            time.sleep(0.01)
    raise Disappointed(f"nothing listens on port {port} after {PATIENCE_S:g} s")


# Questions


class Enters:
    """Whether somebody is let in."""

    def __init__(self, expected, who, port="port", version=5, certificate=None):
        self.expected, self.who, self.port, self.version, self.certificate = expected, who, port, version, certificate
        shown = f"{who.user} with {who.password!r}" if who.user is not None else "who says no name"
        by = f" and certificate {certificate}" if certificate else ""
        verb = "enters" if expected else "stays outside"
        self.name = f"{shown}{by} {verb} by {port}, version {version}"

    def ask(self, ports, folder, broker):
        try:
            with open_link(ports[self.port], self.version, folder, self.certificate) as link:
                code = enter(link, self.who)
        except (ssl.SSLError, ConnectionError, Disappointed) as why:
            expect(not self.expected, f"no CONNACK: {why}")
            return
        expect((code == 0) == self.expected, f"the code in CONNACK is {code:#04x}")


class Hears:
    """Whether a Message that one publishes reaches another one who subscribes to a Topic Filter. `ports`: by which each comes."""

    def __init__(self, expected, publisher, topic, receiver, topic_filter, way="live", version=5, reference=None,
                 ports=("port", "port")):
        self.expected, self.publisher, self.topic, self.ports = expected, publisher, topic, ports
        self.reference = expected if reference is None else reference  # where the two differ on purpose
        self.receiver, self.filter, self.way, self.version = receiver, topic_filter, way, version
        verb = "hears" if expected else "does not hear"
        self.name = (f"{receiver.user} with {topic_filter!r} {verb} {publisher.user} on {topic!r}"
                     f" ({way}, version {version}{'' if ports == ('port', 'port') else f', {ports[0]} to {ports[1]}'})")

    def ask(self, ports, folder, broker):
        theirs, its = (ports[name] for name in self.ports)
        expected = self.reference if broker == "mosquitto" else self.expected
        with Link(theirs, version=self.version) as sender, Link(its, version=self.version) as receiver:
            certain(enter(sender, self.publisher))
            certain(enter(receiver, self.receiver))
            if self.way == "retained":
                send(sender, self.topic, b"probe", retain=True)
            subscribe(receiver, self.filter)
            subscribe(receiver, "fence/#")
            if self.way == "live":
                send(sender, self.topic, b"probe")
            if self.way == "will":
                sender.close()
                leave_a_will(theirs, self.publisher, self.topic)
                with Link(theirs) as fence:
                    certain(enter(fence, self.publisher._replace(client_id="fence")))
                    send(fence, "fence/now", b"fence")
                    heard = until_fence(receiver)
                    if expected and not heard:  # nobody promises an order between two Clients: it may be on its way
                        time.sleep(0.5)
                        send(fence, "fence/now", b"fence")
                        heard = until_fence(receiver)
            else:
                send(sender, "fence/now", b"fence")
                heard = until_fence(receiver)
            if self.way == "retained":
                send(sender, self.topic, b"", retain=True)
        expect(heard == expected, "it came" if heard else "it did not come")


class Publishes:
    """Whether the PUBACK says that a Message was taken, of somebody whose certificate says who it is."""

    def __init__(self, expected, topic, port, certificate):
        self.expected, self.topic, self.port, self.certificate = expected, topic, port, certificate
        self.name = f"the certificate of {certificate} {'may' if expected else 'may not'} publish to {topic!r} by {port}"

    def ask(self, ports, folder, broker):
        with open_link(ports[self.port], 5, folder, self.certificate) as link:
            certain(enter(link, NOBODY))
            answer = send(link, self.topic, b"probe")
        code = answer.body[2] if len(answer.body) > 2 else 0
        expect((code < 128) == self.expected, f"the code in PUBACK is {code:#04x}")


class Subscribes:
    """Whether a SUBSCRIBE is granted, which mosquitto always does."""

    def __init__(self, who, topic_filter):
        self.who, self.filter = who, topic_filter
        self.name = f"{who.user} is granted a subscription to {topic_filter!r}"

    def ask(self, ports, folder, broker):
        with Link(ports["port"]) as link:
            certain(enter(link, self.who))
            code = subscribe(link, self.filter)
            expect(code <= 2, f"the code in SUBACK is {code:#04x}")


def open_link(port, version, folder, certificate):
    if certificate is None:
        return Link(port, version=version)
    context = ssl.create_default_context(cafile=os.path.join(folder, "certificates", "ca.pem"))
    if certificate != "none":
        path = os.path.join(folder, "certificates", certificate)
        context.load_cert_chain(f"{path}.pem", f"{path}.key")
    link = Link(port, version=version)
    link.socket = context.wrap_socket(link.socket, server_hostname="localhost")
    return link


def enter(link, who, will_topic=None):
    """CONNECT, and the code in CONNACK."""
    flags, payload = 2, text(who.client_id or "")
    properties = b"\0" if link.version == 5 else b""
    if will_topic is not None:
        flags |= 4 | 8  # QoS 1
        payload += properties + text(will_topic) + struct.pack("!H", 5) + b"probe"
    if who.user is not None:
        flags, payload = flags | 128, payload + text(who.user)
    if who.password is not None:
        flags, payload = flags | 64, payload + text(who.password)
    link.send(frame(1, 0, text("MQTT") + struct.pack("!BBH", link.version, flags, 60) + properties + payload))
    return link.next(CONNACK).body[1]


def certain(code):
    expect(code == 0, f"the code in CONNACK is {code:#04x}")


def subscribe(link, topic_filter):
    properties = b"\0" if link.version == 5 else b""
    link.send(frame(SUBSCRIBE, 2, struct.pack("!H", 1) + properties + text(topic_filter) + b"\1"))
    held = []
    while True:  # a retained message may come first
        packet = link.next()
        expect(packet is not None, "the connection was closed instead of a SUBACK")
        if packet.kind == SUBACK:
            link.waiting[:0] = held
            return packet.body[-1]
        held.append(packet)


def send(link, topic, payload, retain=False):
    """QoS 1, and waits for the PUBACK, whatever it says."""
    properties = b"\0" if link.version == 5 else b""
    link.send(frame(PUBLISH, 2 | retain, text(topic) + struct.pack("!H", 1) + properties + payload))
    return link.next(PUBACK)


def leave_a_will(port, who, topic):
    """Leaves with the word that the Will is to be sent, and waits until it has been. Waypost does not let in who has a Will that
    may not be published; mosquitto drops it later."""
    with Link(port) as link:
        if enter(link, who, will_topic=topic) != 0:
            return
        link.send(frame(14, 0, b"\4"))
        expect(link.next() is None, "the connection was not closed")


def until_fence(link):
    """Whether the probe came before the fence. Both are of QoS 1 and so in one queue."""
    heard = False
    while True:
        packet = link.next(PUBLISH)
        message = published(packet, link.version)
        link.send(frame(PUBACK, 0, struct.pack("!H", message.packet_id)))
        if message.payload == b"fence":
            return heard
        heard = heard or message.payload == b"probe"


# Cases

ALICE = Who("alice", "secret of alice", "alice-1")
BOB = Who("bob", "secret of bob", "bob-1")
PUMP = Who("pump", "p", "pump-7")
NOBODY = Who(None, None, "visitor")
PASSWORDS = "alice:secret of alice\nbob:secret of bob\npump:p\n"
ACL = """\
# what everybody may who says no name
topic read public/#

user alice
topic readwrite house/#
topic deny house/safe/#
topic read $SYS/broker/version

user bob
topic read house/+/temperature
topic write house/garden/set
topic deep/+/level
topic fence/#

pattern write devices/%c/state
pattern read devices/%u/#
pattern readwrite fence/#
"""


def cases():
    yield passwords()
    yield passwords_and_visitors()
    yield nobody_said_so()
    yield anybody()
    yield rules()
    yield listeners()
    yield listeners_with_files()
    yield certificates()
    yield names_in_certificates()


def passwords():
    questions = []
    for version in (5, 4):
        questions += [
            Enters(True, ALICE, version=version),
            Enters(False, Who("alice", "wrong"), version=version),
            Enters(False, Who("alice", "secret of bob"), version=version),
            Enters(False, Who("alice", ""), version=version),
            Enters(False, Who("alice", "secret of alice and more"), version=version),
            Enters(False, Who("Alice", "secret of alice"), version=version),
            Enters(False, Who("mallory", "secret of alice"), version=version),
            Enters(False, Who("alice", None), version=version),
            Enters(False, NOBODY, version=version),
            Enters(False, Who("", ""), version=version),
        ]
    return Case("passwords", "listener {port} 127.0.0.1\npassword_file {folder}/passwd\n", {"passwd": PASSWORDS}, questions)


def passwords_and_visitors():
    conf = "listener {port} 127.0.0.1\npassword_file {folder}/passwd\nallow_anonymous true\n"
    questions = [
        Enters(True, ALICE), Enters(True, NOBODY), Enters(True, NOBODY, version=4),
        Enters(False, Who("alice", "wrong")), Enters(False, Who("mallory", "x")), Enters(False, Who("alice", None)),
    ]
    return Case("passwords and visitors", conf, {"passwd": PASSWORDS}, questions)


def nobody_said_so():
    """Mosquitto 2: with a listener, nobody enters unless the file says so."""
    questions = [Enters(False, NOBODY), Enters(False, NOBODY, version=4), Enters(False, ALICE)]
    return Case("nothing says who may enter", "listener {port}\n", {}, questions)


def anybody():
    questions = [
        Enters(True, NOBODY), Enters(True, ALICE), Enters(True, Who("alice", None)), Enters(True, NOBODY, "port2"),
        Hears(True, ALICE, "a/b", NOBODY, "#"), Hears(True, NOBODY, "a/b", BOB, "a/+", "retained"),
    ]
    return Case("anybody", "port {port}\nallow_anonymous true\nlistener {port2} ::1\nlistener {port2} 127.0.0.1\n", {}, questions)


def rules():
    conf = "listener {port} 127.0.0.1\nallow_anonymous true\npassword_file {folder}/passwd\nacl_file {folder}/acl\n"
    live = [
        Hears(True, ALICE, "house/kitchen/temperature", BOB, "house/+/temperature"),
        Hears(True, ALICE, "house/kitchen/temperature", ALICE, "#"),
        Hears(False, ALICE, "house/kitchen/humidity", BOB, "house/#"),
        Hears(True, ALICE, "house/kitchen/temperature", BOB, "house/#"),
        Hears(False, ALICE, "house/safe/code", ALICE, "house/#"),
        Hears(False, ALICE, "outside", ALICE, "#"),
        Hears(True, BOB, "house/garden/set", ALICE, "house/garden/set"),
        Hears(False, BOB, "house/kitchen/temperature", ALICE, "house/#"),
        Hears(True, BOB, "deep/one/level", BOB, "deep/#"),
        Hears(False, BOB, "deep/one/level/more", BOB, "deep/#"),
        Hears(False, NOBODY, "public/news", NOBODY, "public/#"),
        Hears(False, PUMP, "devices/other/state", PUMP, "devices/#"),
        Hears(False, PUMP, "devices/pump-7/state", BOB, "devices/#"),
        Hears(True, Who("pump", "p", "pump"), "devices/pump/state", PUMP, "devices/#"),
        Hears(True, Who("pump", "p", "pump"), "devices/pump/state", PUMP, "devices/pump/state"),
        Hears(False, Who("bob", "secret of bob", "+"), "devices/pump/state", PUMP, "devices/#"),
        # A name must not become several levels: Waypost does not follow mosquitto 2.0 here.
        Hears(False, Who("bob", "secret of bob", "pump/x"), "devices/pump/x/state", PUMP, "devices/#", reference=True),
    ]
    again = [
        Hears(one.expected, one.publisher, one.topic, one.receiver, one.filter, way, version, one.reference)
        for way, version in (("retained", 5), ("will", 5), ("live", 4)) for one in live
    ]
    granted = [Subscribes(BOB, "#"), Subscribes(BOB, "house/safe/#"), Subscribes(NOBODY, "secret/+"), Subscribes(BOB, "$SYS/#")]
    questions = [apart(question) for question in live + again] + granted
    return Case("rules", conf, {"passwd": PASSWORDS, "acl": ACL}, questions)


def apart(question):
    """Publisher and receiver are two Clients; who writes by Client Identifier keeps it."""
    if question.publisher.client_id == question.receiver.client_id:
        question.receiver = question.receiver._replace(client_id=f"{question.receiver.client_id}-hears")
    return question


def listeners():
    conf = """\
per_listener_settings true
listener {port} 127.0.0.1
password_file {folder}/passwd
listener {port2} 127.0.0.1
allow_anonymous true
listener {port3} 127.0.0.1
allow_anonymous true
password_file {folder}/passwd
"""
    questions = [
        Enters(True, ALICE), Enters(False, NOBODY), Enters(False, Who("alice", "wrong")),
        Enters(True, ALICE, "port2"), Enters(True, NOBODY, "port2"), Enters(True, Who("alice", "wrong"), "port2"),
        Enters(True, ALICE, "port3"), Enters(True, NOBODY, "port3"), Enters(False, Who("alice", "wrong"), "port3"),
    ]
    return Case("listeners of their own", conf, {"passwd": PASSWORDS}, questions)


def listeners_with_files():
    """Different files on two listeners, and a third one with none, where everything is allowed."""
    conf = """\
per_listener_settings true
listener {port} 127.0.0.1
password_file {folder}/passwd
acl_file {folder}/acl
listener {port2} 127.0.0.1
password_file {folder}/passwd2
acl_file {folder}/acl2
listener {port3} 127.0.0.1
allow_anonymous true
"""
    yard = "user alice\ntopic readwrite yard/#\ntopic read shared/#\nuser carol\ntopic house/#\npattern readwrite fence/#\n"
    outside = Who("alice", "her other secret", "alice-2")
    visitor = Who(None, None, "visitor-1")
    enters = [
        Enters(True, ALICE), Enters(False, ALICE, "port2"), Enters(True, ALICE, "port3"),
        Enters(True, outside, "port2"), Enters(False, outside), Enters(True, outside, "port2", version=4),
        Enters(True, BOB), Enters(False, BOB, "port2"),
        Enters(False, NOBODY), Enters(False, NOBODY, "port2"), Enters(True, NOBODY, "port3"),
    ]
    inner, outer, anybody = "port", "port2", "port3"
    hears = [
        (True, ALICE, "house/kitchen", visitor, "#", (inner, anybody)),
        (False, ALICE, "yard/gate", visitor, "#", (inner, anybody)),
        (True, outside, "yard/gate", visitor, "#", (outer, anybody)),
        (False, outside, "house/kitchen", visitor, "#", (outer, anybody)),
        (True, visitor, "house/kitchen", ALICE, "#", (anybody, inner)),
        (False, visitor, "yard/gate", ALICE, "#", (anybody, inner)),
        (True, visitor, "yard/gate", outside, "#", (anybody, outer)),
        (False, visitor, "house/kitchen", outside, "#", (anybody, outer)),
        (True, visitor, "shared/x", outside, "shared/#", (anybody, outer)),
        (False, outside, "shared/x", ALICE, "#", (outer, inner)),
        (False, ALICE, "house/kitchen", outside, "#", (inner, outer)),
        (True, visitor, "anything/else", visitor._replace(client_id="visitor-2"), "anything/+", (anybody, anybody)),
    ]
    questions = [Hears(*case, way, version, ports=ports) for way, version in (("live", 5), ("retained", 5), ("will", 5), ("live", 4))
                 for *case, ports in hears]
    files = {"passwd": PASSWORDS, "passwd2": "alice:her other secret\ncarol:c\n", "acl": ACL, "acl2": yard}
    return Case("listeners with files of their own", conf, files, enters + questions)


def certificates():
    conf = """\
listener {port} 127.0.0.1
password_file {folder}/passwd
listener {port2} 127.0.0.1
cafile {folder}/certificates/ca.pem
certfile {folder}/certificates/server.pem
keyfile {folder}/certificates/server.key
crlfile {folder}/certificates/crl.pem
require_certificate true
use_identity_as_username true
listener {port3} 127.0.0.1
cafile {folder}/certificates/ca.pem
certfile {folder}/certificates/server.pem
keyfile {folder}/certificates/server.key
tls_version tlsv1.2
"""
    questions = [
        Enters(True, ALICE),
        Enters(True, NOBODY, "port2", certificate="alice"),
        Enters(True, Who("mallory", "x"), "port2", certificate="alice"),
        Enters(False, NOBODY, "port2", certificate="none"),
        Enters(False, ALICE, "port2", certificate="none"),
        Enters(False, NOBODY, "port2", certificate="revoked"),
        Enters(False, NOBODY, "port2", certificate="stranger"),
        Enters(False, NOBODY, "port2", certificate="expired"),
        Enters(False, NOBODY, "port2"),
        Enters(True, ALICE, "port3", certificate="none"),
        Enters(False, Who("alice", "wrong"), "port3", certificate="none"),
        Enters(False, NOBODY, "port3", certificate="none"),
        Enters(True, ALICE, "port3", version=4, certificate="none"),
    ]
    return Case("certificates", conf, {"passwd": PASSWORDS}, questions)


def names_in_certificates():
    """By Common Name on one listener, by the whole subject on another, which has a folder of authorities; the rules speak of both."""
    tls = """\
cafile {folder}/certificates/ca.pem
certfile {folder}/certificates/server.pem
keyfile {folder}/certificates/server.key
require_certificate true
"""
    conf = ("listener {port} 127.0.0.1\nallow_anonymous true\nacl_file {folder}/acl\n"
            f"listener {{port2}} 127.0.0.1\n{tls}use_identity_as_username true\n"
            f"listener {{port3}} 127.0.0.1\n{tls.replace('cafile {folder}/certificates/ca.pem', 'capath {folder}/certificates/hashed')}"
            "use_subject_as_username true\n")
    acl = "user alice\ntopic by/name\nuser CN=alice,OU=Pumps & Co,O=The Works,C=DE\ntopic by/subject\npattern write of/%u/x\n"
    questions = [
        Publishes(True, "by/name", "port2", "alice"), Publishes(False, "by/subject", "port2", "alice"),
        Publishes(True, "of/alice/x", "port2", "alice"), Publishes(False, "of/bob/x", "port2", "alice"),
        Publishes(False, "by/name", "port3", "alice"), Publishes(True, "by/subject", "port3", "alice"),
        Enters(False, NOBODY, "port3", certificate="stranger"),
    ]
    return Case("names in certificates", conf, {"acl": acl}, questions)


def make_certificates(folder):
    """A root, a server, and Clients: a good one, a revoked one, one that has expired and one from somebody else."""
    os.mkdir(folder)

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    def issue(name, issuer="ca", days="30", extensions="keyUsage=digitalSignature"):
        write(os.path.join(folder, "extensions"), f"{extensions}\nbasicConstraints=CA:FALSE\n", "", {})
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key",
                "-out", f"{name}.csr", "-subj", f"/C=DE/O=The Works/OU=Pumps & Co/CN={name}")
        arguments = ["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"] if days == "past" else ["-days", days]
        openssl("ca", "-batch", "-config", "ca.cnf", "-name", issuer, "-in", f"{name}.csr", "-out", f"{name}.pem",
                "-extfile", "extensions", *arguments)

    sections = []
    for issuer in ("ca", "other"):
        for name, content in ((f"{issuer}.index", ""), (f"{issuer}.serial", "1000\n"), (f"{issuer}.crlnumber", "1000\n")):
            write(os.path.join(folder, name), content, "", {})
        sections.append(f"[{issuer}]\ndatabase={issuer}.index\nserial={issuer}.serial\ncrlnumber={issuer}.crlnumber\n"
                        f"new_certs_dir=.\ncertificate={issuer}.pem\nprivate_key={issuer}.key\ndefault_md=sha256\n"
                        "default_crl_days=30\npolicy=policy\n")
    write(os.path.join(folder, "ca.cnf"), "\n".join(sections) + "[policy]\ncountryName=optional\norganizationName=optional\norganizationalUnitName=optional\n"
          "commonName=supplied\n", "", {})
    for issuer in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout",
                f"{issuer}.key", "-out", f"{issuer}.pem", "-days", "30", "-subj", f"/CN={issuer} of the test",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    os.mkdir(os.path.join(folder, "hashed"))
    shutil.copy(os.path.join(folder, "ca.pem"), os.path.join(folder, "hashed"))
    openssl("rehash", "hashed")
    shutil.copy(os.path.join(folder, "other.pem"), os.path.join(folder, "hashed"))  # which has no hash, and is not trusted
    issue("server", extensions="subjectAltName=DNS:localhost,IP:127.0.0.1")
    for name in ("alice", "revoked"):
        issue(name, extensions="extendedKeyUsage=clientAuth")
    issue("expired", days="past", extensions="extendedKeyUsage=clientAuth")
    issue("stranger", issuer="other", extensions="extendedKeyUsage=clientAuth")
    openssl("ca", "-config", "ca.cnf", "-name", "ca", "-revoke", "revoked.pem")
    openssl("ca", "-config", "ca.cnf", "-name", "ca", "-gencrl", "-out", "crl.pem")


# The commands


def check_lists_every_option():
    with tempfile.TemporaryDirectory() as folder:
        conf = os.path.join(folder, "mosquitto.conf")
        write(conf, "listener 1883\nallow_anonymous true\nmax_queued_messages 0\nlog_dest syslog\n", folder, {})
        said = subprocess.run([BINARY, "check", "-c", conf], capture_output=True, text=True, check=True).stdout
    for line, word in ((1, "honoured"), (2, "honoured"), (3, "changed"), (4, "not supported")):
        expect(any(f"mosquitto.conf:{line}: " in told and f": {word}: " in told for told in said.splitlines()),
               f"nothing says that line {line} is {word}:\n{said}")


def refusal_stops_the_start():
    with tempfile.TemporaryDirectory() as folder:
        conf = os.path.join(folder, "mosquitto.conf")
        write(conf, "listener 0 {folder}/socket\npsk_file {folder}/psk\n", folder, {})
        ended = subprocess.run([BINARY, "-c", conf], capture_output=True, text=True, timeout=PATIENCE_S)
    expect(ended.returncode == 2, f"it ended with status {ended.returncode}")
    expect("mosquitto.conf:2: psk_file is not supported" in ended.stderr, f"it says {ended.stderr}")
