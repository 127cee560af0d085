#!/usr/bin/env python3
"""Asks the whole interface /api/v1 what nobody would ask, by schemathesis, of a real gateway between real parts.

EXAMPLES=100 SECONDS=1800 asks more, SEED=7 asks the same again. It runs where no address but this machine's own can be reached: what is
asked may name any address, and the gateway would go there. Without such a place it fails and says so.

What is in order: nothing that schemathesis finds; no answer 5xx but 503 for "not now"; the gateway alive; its token still lets in,
every operation was done at least once (a run whose token is void would pass with 401 throughout); the file of the configuration is as
it was, or a version that was kept, to the byte.
"""

import http.client
import http.server
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()
BIN = TARGET / "peers/venv/bin"
FOREBAY = os.environ.get("FOREBAY_BIN") or str(TARGET / "debug/forebay")

EXAMPLES = int(os.environ.get("EXAMPLES") or 10)
SECONDS = int(os.environ.get("SECONDS") or 150)
SEED = int(os.environ.get("SEED") or time.time() % 1_000_000)

# How long a busy machine may take to start anything here.
PATIENCE_S = 90
# How long an event stream may take to send its first event.
EVENT_S = 30
# Streams have no end, which schemathesis waits for; this script asks for them itself.
STREAMS = {"GET /events": "/events?of=overview", "GET /api/v1/logs/follow": "/api/v1/logs/follow?after=0"}
# What a token is told that it is not for; no run with a token sees it done.
NOT_FOR_TOKENS = {"POST /api/v1/account/password", "POST /api/v1/account/sign-out-everywhere"}
RIGHTS = "see,metrics,operate,configure,people"


class Failed(Exception):
    """Something is not in order."""


def alone():
    """Goes on in a network of its own, in which there is nothing but this machine."""
    if os.environ.get("FOREBAY_FUZZ_ALONE") != str(os.getppid()):
        here = [sys.executable, __file__]
        for way in (["unshare", "--net"], ["unshare", "--net", "--user", "--map-root-user"]):
            if subprocess.run([*way, "true"], stderr=subprocess.DEVNULL).returncode == 0:
                run = ["sh", "-c", 'FOREBAY_FUZZ_ALONE=$$ "$@"', "sh", *here]
                sys.exit(subprocess.run([*way, *run]).returncode)
        raise Failed("no network of its own can be had (unshare --net): run as root, or allow user namespaces; it is not run without, for it would ask any address")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    others = [name for _, name in socket.if_nameindex() if name != "lo" and is_up(name)]
    if others:
        raise Failed(f"there are other ways out of this network: {others}")


def is_up(name):
    return int(pathlib.Path(f"/sys/class/net/{name}/flags").read_text(), 16) & 1


def until(what, look):
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise Failed(f"waited {PATIENCE_S} s in vain for {what}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes everything in."""

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Plant:
    """A broker with devices, a Modbus device, an endpoint, a serial line, and a gateway between them."""

    def __init__(self, folder):
        self.folder, self.children = folder, []
        self.config, self.log = folder / "forebay.toml", folder / "gateway.log"
        self.port, self.broker = free_port(), free_port()
        (folder / "mosquitto.conf").write_text(f"user {os.environ.get('USER') or 'root'}\nlistener {self.broker} 127.0.0.1\nallow_anonymous true\n")
        self.start("mosquitto", "-c", str(folder / "mosquitto.conf"), stderr=subprocess.DEVNULL)
        until("the broker", lambda: connects(self.broker))
        self.publisher = self.start("mosquitto_pub", "-p", str(self.broker), "-t", "plant/boiler-3/supply_temp", "-l", stdin=subprocess.PIPE)
        threading.Thread(target=self.publish, daemon=True).start()
        device = self.start(str(BIN / "python"), str(ROOT / "tests/peers/modbus_server.py"), "tcp", "0", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.modbus = json.loads(device.stdout.readline())["port"]
        device.stdin.write(b'{"do": "set", "unit": 1, "table": "holding", "address": 0, "values": [712, 184]}\n')
        device.stdin.flush()
        device.stdout.readline()
        receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        self.receiver = receiver.server_port
        # Both ends stay open, so that the line is there for whoever listens.
        self.line = os.openpty()
        self.config.write_text(self.text())
        self.gateway = self.start(FOREBAY, "run", "--config", str(self.config), stdout=self.log.open("wb"), stderr=subprocess.STDOUT)
        until("the gateway", lambda: self.status("/ready") == 200)
        self.tool("people", "add", "anna", "--role", "administrator", typed="the river runs to the sea\n")
        self.tool("people", "add", "ben", "--role", "viewer", typed="a quiet hum in the hall\n")
        self.token = self.tool("token", "add", "fuzz", "--rights", RIGHTS).strip()

    def start(self, *command, **how):
        how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, **how}
        child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], **how)
        self.children.append(child)
        return child

    def publish(self):
        for turn in range(1_000_000):
            # Now and then what no rule can read: a dead letter.
            line = f"{70 + turn % 7 / 10}" if turn % 50 else "warm"
            try:
                self.publisher.stdin.write(f"{line}\n".encode())
                self.publisher.stdin.flush()
            except OSError:
                return
            time.sleep(0.1)

    def tool(self, *args, typed=""):
        ran = subprocess.run([FOREBAY, *args, "--config", str(self.config)], input=typed, capture_output=True, text=True)
        if ran.returncode != 0:
            raise Failed(f"forebay {' '.join(args)}: {ran.stderr}")
        return ran.stdout

    def text(self):
        return f'''# The gateway of line 2.
[gateway]
id = "plant-7-line-2"
data_dir = "{self.folder}/data"

[web]
listen = "127.0.0.1:{self.port}"

[[source]]
type = "mqtt"
name = "plant-broker"
url = "mqtt://127.0.0.1:{self.broker}"

[[source.subscribe]]
filter = "plant/+/+"
device = "{{2}}"
point = "{{3}}"
unit = "°C"
payload = {{ format = "number" }}

[[source]]
type = "modbus"
name = "boiler-bus"
url = "tcp://127.0.0.1:{self.modbus}"

[[source.unit]]
id = 1
device = "boiler-1"
every_ms = 500
registers = [
  {{ point = "supply_temp", table = "holding", address = 0, kind = "i16", scale = 0.1, unit = "°C" }},
  {{ point = "flow", table = "holding", address = 1, kind = "i16", scale = 0.1, unit = "m³/h" }},
]

[[check]]
points = "boiler-*/supply_temp"
range = {{ operating = [20.0, 95.0], possible = [-40.0, 150.0] }}

[[sink]]
type = "http"
name = "cloud"
url = "http://127.0.0.1:{self.receiver}/v1/readings"
'''

    def ask(self, method, path, body=None, with_token=True):
        """The status and the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        headers = {"authorization": f"Bearer {self.token}"} if with_token and hasattr(self, "token") else {}
        if body is not None:
            headers["content-type"] = "application/json"
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        return answer.status, json.loads(said) if said[:1] in (b"{", b"[") else said

    def status(self, path):
        try:
            return self.ask("GET", path)[0]
        except OSError:
            if self.gateway.poll() is not None:
                raise Failed(f"the gateway ended:\n{self.tail()}") from None
            return None

    def tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])

    def has_something_to_tell(self):
        points, letters = self.ask("GET", "/api/v1/points")[1], self.ask("GET", "/api/v1/dead-letters")[1]
        return points["known"] >= 3 and letters["records"]

    def keep_a_version(self):
        """So that there is one to look at and to go back to."""
        running = self.ask("GET", "/api/v1/config")[1]
        change = {"text": running["text"] + "\n# Kept before the run.\n", "base": running["revision"]}
        for method, path, body in [("PUT", "", change), ("POST", "/confirm", {"force": True})]:
            status, said = self.ask(method, f"/api/v1/config{path}", body)
            if status != 200:
                raise Failed(f"{method} /api/v1/config{path}: {status} {said}")

    def known_texts(self):
        return {path.read_bytes() for path in (self.folder / "data/config-history").glob("*.toml")}

    def end(self):
        for child in reversed(self.children):
            child.kill()
            child.wait()


def connects(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def first_event(plant, address):
    """The status of a stream whose first event came."""
    connection = http.client.HTTPConnection("127.0.0.1", plant.port, timeout=EVENT_S)
    connection.request("GET", address, headers={"authorization": f"Bearer {plant.token}"})
    answer = connection.getresponse()
    kind, line = answer.headers["content-type"], b""
    while answer.status == 200 and not line.startswith(b"data:"):
        line = answer.readline()
        if not line:
            raise Failed(f"{address} ended before its first event")
    connection.close()
    if answer.status == 200 and kind != "text/event-stream":
        raise Failed(f"{address} is {kind}")
    return answer.status


def certificate(folder):
    """One that somebody might bring, and its key."""
    paths = {"certificate": folder / "brought.pem", "key": folder / "brought.key"}
    subprocess.run([
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=plant",
        "-addext", "subjectAltName=DNS:plant.local", "-out", paths["certificate"], "-keyout", paths["key"],
    ], check=True, stderr=subprocess.DEVNULL)
    return {what: path.read_text() for what, path in paths.items()}


def stay_shut(plant, operations):
    """Nothing is to be had without a token."""
    for operation in operations:
        method, path = operation.split()
        status, _ = plant.ask(method, re.sub(r"\{.*?\}", "1", path), with_token=False)
        if status != 401:
            raise Failed(f"{operation} answers {status} to someone without a token")


def fuzz(plant, seen):
    place = f"http://127.0.0.1:{plant.port}"
    env = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": "hooks",
        "PYTHONPATH": str(HERE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "FUZZ_SEEN": str(seen),
        "FUZZ_TOKEN": plant.token,
        "FUZZ_PLACE": place,
        "FUZZ_PARTS": json.dumps({
            "broker": plant.broker, "modbus": plant.modbus, "line": os.ttyname(plant.line[1]), **certificate(plant.folder),
        }),
        "NO_PROXY": "*",
    }
    command = [
        str(BIN / "schemathesis"), "--config-file", str(HERE / "schemathesis.toml"), "run", f"{place}/api/v1/openapi.json",
        "--header", f"Authorization: Bearer {plant.token}", "--phases", "coverage,fuzzing,stateful",
        "--max-examples", str(EXAMPLES), "--max-time", str(SECONDS), "--seed", str(SEED), "--continue-on-failure",
        # That much is refused is what this is about; told() looks that not everything is.
        "--warnings", "off",
        *[part for address in STREAMS for part in ("--exclude-path", address.split()[1])],
    ]
    # It writes its memory of failures beside where it runs.
    return subprocess.run(command, env=env, cwd=plant.folder).returncode


def told(seen, operations):
    """Prints what was answered, a line an operation; what is wrong with that."""
    counts = {operation: {} for operation in operations}
    for line in seen.read_text().splitlines():
        operation, status = line.rsplit(" ", 1)
        kind = status if status in ("503", "000") else f"{status[0]}xx"
        counts.setdefault(operation, {}).setdefault(kind, 0)
        counts[operation][kind] += 1
    wrong = []
    print(f"\n{'operation':58} {'2xx':>6} {'4xx':>6} {'503':>6}")
    for operation, kinds in sorted(counts.items(), key=lambda pair: pair[0].split()[::-1]):
        print(f"{operation:58} {kinds.get('2xx', 0):6} {kinds.get('4xx', 0):6} {kinds.get('503', 0):6}")
        if kinds.get("5xx") or kinds.get("000"):
            wrong.append(f"{operation}: {kinds.get('5xx', 0)} answers 5xx, {kinds.get('000', 0)} without an answer")
        if not kinds.get("2xx") and operation not in NOT_FOR_TOKENS:
            wrong.append(f"{operation} was never done: nothing is known of it")
    return wrong


def run(folder):
    plant = Plant(folder)
    try:
        until("readings and a dead letter", plant.has_something_to_tell)
        first = plant.config.read_bytes()
        plant.keep_a_version()
        described = plant.ask("GET", "/api/v1/openapi.json")[1]["paths"]
        operations = [f"{method.upper()} {path}" for path, methods in described.items() for method in methods]
        stay_shut(plant, operations)
        seen = folder / "seen"
        seen.touch()
        found = fuzz(plant, seen)
        with seen.open("a") as more:
            for operation, address in STREAMS.items():
                more.write(f"{operation} {first_event(plant, address)}\n")
        wrong = told(seen, operations)
        if found:
            wrong.append(f"schemathesis found what is written above (SEED={SEED})")
        for path in ("/api/v1/account", "/live"):
            if plant.status(path) != 200:
                wrong.append(f"{path} answers {plant.status(path)} at the end: nothing above counts")
        if plant.config.read_bytes() not in plant.known_texts() | {first}:
            wrong.append(f"the configuration on disk is neither the first nor a kept one:\n{plant.config.read_text(errors='replace')}")
        halves = [path.name for path in folder.iterdir() if path.name.startswith(".forebay")]
        if halves:
            wrong.append(f"files that are half written: {halves}")
        if re.search("panicked", plant.log.read_text(errors="replace")):
            wrong.append(f"a panic in the log:\n{plant.tail()}")
        if wrong:
            raise Failed("\n".join(wrong))
        print(f"\nin order: {len(operations)} operations, {len(seen.read_text().splitlines())} answers, seed {SEED}")
    finally:
        plant.end()


def main():
    alone()
    if not (BIN / "schemathesis").exists():
        raise Failed("schemathesis is missing; run tests/setup")
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    folder = pathlib.Path(tempfile.mkdtemp(prefix="forebay-fuzz-"))
    try:
        run(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        sys.exit(f"tests/interface: {failed}")
