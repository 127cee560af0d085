"""What schemathesis is told beside the description: sense, now and then, and that somebody counts.

No description says which names there are, or what a TOML text must say. So some of the requests that should be taken get values that
make sense here; the others stay as they were made up. What was answered is written down for fuzz.py, which looks whether every operation was done.
"""

import hashlib
import http.client
import itertools
import json
import os
from urllib.parse import urlsplit

import schemathesis

TOKEN, SEEN = os.environ["FUZZ_TOKEN"], os.environ["FUZZ_SEEN"]
PLACE, PARTS = urlsplit(os.environ["FUZZ_PLACE"]), json.loads(os.environ["FUZZ_PARTS"])

# One in so many of the requests gets sense.
EVERY = 3
# Most of them an operation.
SENSE_MAX = 3
# Those that begin a trial, of which the gateway takes no more than 15 in a minute of one token.
TRIALS = {
    "PUT /api/v1/config", "PATCH /api/v1/config", "POST /api/v1/config/confirm", "POST /api/v1/config/revert",
    "POST /api/v1/config/history/{n}/restore", "PUT /api/v1/sources/{name}/registers", "POST /api/v1/templates/{id}",
}

numbers = itertools.count(1)
given = {}


def ask(method, path, body=None):
    connection = http.client.HTTPConnection(PLACE.hostname, PLACE.port, timeout=60)
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    return json.loads(said) if said[:1] in (b"{", b"[") else said.decode(errors="replace")


def base():
    return ask("GET", "/api/v1/config")["revision"]


def text():
    # Hidden secrets are put back where they stood; a comment is a change that starts nothing anew.
    return f"{ask('GET', '/api/v1/config')['text'].rstrip()}\n# Try {next(numbers)}.\n"


def on_trial():
    ask("PUT", "/api/v1/config", {"text": text(), "base": base()})
    return base()


def person():
    name = f"person {next(numbers)}"
    ask("POST", "/api/v1/people", {"name": name, "role": "viewer", "password": "a quiet hum in the hall"})
    return name


def token():
    name = f"token {next(numbers)}"
    ask("POST", "/api/v1/tokens", {"name": name, "rights": ["see"]})
    return name


def secret():
    name = f"secret-{next(numbers)}"
    ask("PUT", f"/api/v1/secrets/{name}", {"secret": "s3cret"})
    return name


def template():
    return ask("POST", "/api/v1/templates", {"at": "source[0]", "name": f"device {next(numbers)}"}).get("id", "none")


def replay():
    begun = ask("POST", "/api/v1/replays", {"sink": "cloud", "from_us": 0})
    return begun.get("id", 1)


def certificate():
    return {"certificate": PARTS["certificate"], "key": PARTS["key"]}


def with_certificate():
    ask("PUT", "/api/v1/certificate", certificate())
    return {}


def filling():
    at = next(numbers)
    asked = ask("GET", "/api/v1/templates/json-topics")["ask"]
    fresh = {one["name"]: one["default"] or f"x{at}" for one in asked}
    fresh.update({name: f"x-{at}" for name in fresh if "name" in name})
    fresh.update({name: f"mqtt://127.0.0.1:{PARTS['broker']}" for name in fresh if name == "url"})
    return fresh


POINT, LETTER = {"id": 0}, {"sequence": 0}
# What makes sense of an operation: what stands in the address, what is asked there, what is sent.
SENSE = {
    "GET /api/v1/points/{id}": lambda: (POINT, {}, None),
    "GET /api/v1/points/{id}/chart": lambda: (POINT, {}, None),
    "GET /api/v1/points/{id}/marks": lambda: (POINT, {}, None),
    "GET /api/v1/points/{id}/export": lambda: (POINT, {"format": "csv" if next(numbers) % 2 else "ndjson"}, None),
    "GET /api/v1/sources/{name}": lambda: ({"name": "plant-broker"}, {}, None),
    "GET /api/v1/sources/{name}/registers": lambda: ({"name": "boiler-bus"}, {}, None),
    "PUT /api/v1/sources/{name}/registers": lambda: (
        {"name": "boiler-bus"}, {}, {"base": base(), "csv": ask("GET", "/api/v1/sources/boiler-bus/registers").replace("flow", f"flow_{next(numbers)}")}),
    "GET /api/v1/sinks/{name}": lambda: ({"name": "cloud"}, {}, None),
    "POST /api/v1/try/source": lambda: ({}, {}, {"name": "boiler-bus"}),
    "POST /api/v1/try/sink": lambda: ({}, {}, {"name": "cloud"}),
    "POST /api/v1/discover/serial": lambda: ({}, {}, {"port": PARTS["line"], "bauds": [9600], "seconds": 0.1}),
    "POST /api/v1/discover/mqtt": lambda: ({}, {}, {"url": f"mqtt://127.0.0.1:{PARTS['broker']}", "seconds": 1}),
    "POST /api/v1/discover/modbus": lambda: (
        {}, {}, {"url": f"tcp://127.0.0.1:{PARTS['modbus']}", "unit": 1, "table": "holding", "address": 0, "count": 2}),
    "POST /api/v1/replays": lambda: ({}, {}, {"sink": "cloud", "from_us": 0}),
    "DELETE /api/v1/replays/{id}": lambda: ({"id": replay()}, {}, None),
    "GET /api/v1/dead-letters/{sequence}": lambda: (LETTER, {}, None),
    "GET /api/v1/dead-letters/{sequence}/raw": lambda: (LETTER, {}, None),
    "PUT /api/v1/config": lambda: ({}, {}, {"text": text(), "base": base()}),
    "PATCH /api/v1/config": lambda: (
        {}, {}, {"base": base(), "edits": [{"at": "source[1].unit[0].every_ms", "value": 400 + next(numbers)}]}),
    "POST /api/v1/config/check": lambda: ({}, {}, {"text": text()}),
    "POST /api/v1/config/confirm": lambda: ({}, {}, {"force": True, "revision": on_trial()}),
    "POST /api/v1/config/revert": lambda: ({}, {}, {"revision": on_trial()}),
    "GET /api/v1/config/history/{n}": lambda: ({"n": 1}, {}, None),
    "POST /api/v1/config/history/{n}/restore": lambda: ({"n": 1}, {}, {"base": on_trial()}),
    "GET /api/v1/config/schema": lambda: ({}, {"at": "source[0]"}, None),
    "POST /api/v1/templates": lambda: ({}, {}, {"at": "source[0]", "name": f"device {next(numbers)}"}),
    "GET /api/v1/templates/{id}": lambda: ({"id": "eastron-sdm120"}, {}, None),
    "POST /api/v1/templates/{id}": lambda: ({"id": "json-topics"}, {}, {"base": base(), "values": filling()}),
    "DELETE /api/v1/templates/{id}": lambda: ({"id": template()}, {}, None),
    "PUT /api/v1/certificate": lambda: ({}, {}, certificate()),
    "DELETE /api/v1/certificate": lambda: (with_certificate(), {}, None),
    "PUT /api/v1/secrets/{name}": lambda: ({"name": f"secret-{next(numbers)}"}, {}, {"secret": "s3cret"}),
    "DELETE /api/v1/secrets/{name}": lambda: ({"name": secret()}, {}, None),
    "POST /api/v1/people": lambda: (
        {}, {}, {"name": f"person {next(numbers)}", "role": "operator", "password": "a quiet hum in the hall"}),
    "GET /api/v1/people/{name}": lambda: ({"name": "anna"}, {}, None),
    "PATCH /api/v1/people/{name}": lambda: ({"name": person()}, {}, {"role": "operator"}),
    "DELETE /api/v1/people/{name}": lambda: ({"name": person()}, {}, None),
    "POST /api/v1/tokens": lambda: ({}, {}, {"name": f"token {next(numbers)}", "rights": ["see"]}),
    "GET /api/v1/tokens/{name}": lambda: ({"name": "fuzz"}, {}, None),
    "DELETE /api/v1/tokens/{name}": lambda: ({"name": token()}, {}, None),
}


def is_positive(case):
    return case.meta is not None and case.meta.generation.mode.is_positive


def digest(case):
    """The same case gets the same, also when schemathesis asks again to see whether a failure stays."""
    shown = repr((case.operation.label, case.path_parameters, case.query, case.body))
    return int.from_bytes(hashlib.sha256(shown.encode(errors="replace")).digest()[:4])


@schemathesis.hook
def before_call(context, case, kwargs):
    label = case.operation.label
    # Nobody waits a minute for topics that do not come.
    if label == "POST /api/v1/discover/mqtt" and isinstance(case.body, dict) and is_positive(case):
        case.body["seconds"] = 1
    if label not in SENSE or not is_positive(case):
        return
    most = 1 if label in TRIALS else SENSE_MAX
    # The first of each for certain, whatever is made up.
    count = given.get(label, 0)
    if count >= most or (count > 0 and digest(case) % EVERY):
        return
    given[label] = count + 1
    path, query, body = SENSE[label]()
    case.path_parameters = path
    case.query = query
    if body is not None:
        case.body = body
        case.media_type = "application/json"


@schemathesis.hook
def after_call(context, case, response):
    label = case.operation.label
    # Too many trials within the minute: it is for a later one.
    if label in TRIALS and response.status_code == 429:
        given[label] = 0
    with open(SEEN, "a") as seen:
        seen.write(f"{label} {response.status_code}\n")


@schemathesis.hook
def after_network_error(context, case, request):
    with open(SEEN, "a") as seen:
        seen.write(f"{case.operation.label} 000\n")
