#!/usr/bin/env python3
"""Shows that the bypass corpus proves something: sent straight to the stand-in, its messages run what they should not.

Every case of tests/bypass/*.json is sent, in every era and transport that it names, to lenient.py with nothing in between.
A case passes when the log holds each call of its `would_run` (default: `delete_repo`), under whatever reading.
"""

import base64
import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
CORPUS = HERE.parent / "bypass"


def expand(message):
    """The exact bytes of a message: text, {"base64"}, or a list of parts, some of them repeated."""
    if isinstance(message, str):
        return message.encode()
    if isinstance(message, dict) and "base64" in message:
        return base64.b64decode(message["base64"])
    if isinstance(message, dict):
        text = message["text"]
        if "{n}" in text:
            return "".join(text.replace("{n}", str(n)) for n in range(message["times"])).encode()
        return text.encode() * message["times"]
    return b"".join(map(expand, message))


def cases():
    for path in sorted(CORPUS.glob("*.json")):
        for case in json.loads(path.read_text()).get("cases", []):
            if not case.get("heavy"):  # those are about size, not about reading
                yield case


def start(log, *options):
    return subprocess.Popen([sys.executable, str(HERE / "lenient.py"), "--log", log, *options],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def over_stdio(log):
    sent = []
    server = start(log, "--stdio")
    text = b""
    for case in cases():
        for era in ("legacy", "modern"):
            if era in case and "stdio" in case.get("transports", ["stdio"]):
                sent.append((case, era))
                text += expand(case[era]) + b'\n{"method":"tools/call","params":{"name":"sync_%d"}}\n' % (len(sent) - 1)
    server.communicate(text)
    return sent


def over_http(log):
    sent = []
    server = start(log, "--http", "0")
    port = int(server.stdout.readline().split()[1])
    for case in cases():
        for era in ("legacy", "modern"):
            if era in case and "http" in case.get("transports", ["http"]):
                request(port, case, era, expand(case[era]))
                post(port, b'{"method":"tools/call","params":{"name":"sync_%d"}}' % len(sent))
                sent.append((case, era))
    server.kill()
    server.communicate()
    return sent


def request(port, case, era, body):
    if case.get("raw"):
        data = body.replace(b"{{address}}", b"127.0.0.1:%d" % port).replace(b"{{port}}", b"%d" % port).replace(b"{{session}}", b"")
        return exchange(port, data.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\nConnection: close\r\n", 1))
    headers = {"content-type": ["application/json"]}
    if era == "modern":
        headers["mcp-method"] = [case.get("mirror_method", "tools/call")]
        headers["mcp-name"] = [mirrored(name) for name in case.get("mirrors", ["delete_repo"])[:1] if name]
    for key, value in case.get("headers", {}).items():
        values = value if isinstance(value, list) else [value]
        headers[key.lower()] = [expand(v).decode() if isinstance(v, dict) else v for v in values if v is not None]
    return post(port, body, "".join(f"{key}: {value}\r\n" for key, values in headers.items() for value in values))


def mirrored(name):
    """A name as `Mcp-Name` carries it."""
    plain = name.isascii() and name.isprintable() and " " not in name
    return name if plain else f"=?base64?{base64.b64encode(name.encode()).decode()}?="


def post(port, body, headers="Content-Type: application/json\r\n"):
    head = f"POST /mcp HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return exchange(port, head.encode() + body)


def exchange(port, data):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        try:
            connection.sendall(data)
            while connection.recv(65_536):
                pass
        except OSError:
            pass  # the stand-in closes on what http.server itself refuses


def ran(log):
    """The calls of each case: what stands in the log before its `sync` call."""
    found, calls = {}, []
    for line in open(log, encoding="utf-8"):
        entry = json.loads(line)
        if entry["t"] != "call":
            continue
        sync = re.fullmatch(r"sync_(\d+)", entry["tool"])
        if sync:
            found[int(sync[1])] = calls
            calls = []
        else:
            calls.append(entry)
    return found


def main():
    failures = total = 0
    for transport, run in (("stdio", over_stdio), ("http", over_http)):
        with tempfile.NamedTemporaryFile() as log:
            sent = run(log.name)
            found = ran(log.name)
        for number, (case, era) in enumerate(sent):
            total += 1
            for wanted in case["would_run"]:
                wanted = {"tool": wanted} if isinstance(wanted, str) else wanted
                if not any(all(call.get(key) == value for key, value in wanted.items()) for call in found.get(number, [])):
                    failures += 1
                    print(f"{case['id']} ({transport}, {era}): the stand-in would not run {wanted}: {found.get(number)}"[:300])
    print(f"{total} exchanges sent straight to the stand-in, {failures} of them harmless")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
