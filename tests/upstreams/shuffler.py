#!/usr/bin/env python3
"""An MCP server that answers in the worst order it can think of, the same one for the same `--seed`.

It holds requests back, answers them in random order, with progress in between, and answers cancelled ones all the same,
late. Each answer repeats what it was asked, so that whoever gets another's can tell: `tools/call` its argument `nonce`, a
list its `cursor` as `nextCursor`. Every list of tools holds `secret`. Over stdio, or streamable HTTP (`--http PORT`, printed
as `listening PORT`), where there is nothing late; both eras, or `--era legacy|modern` alone.
"""

import argparse
import json
import os
import random
import select
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MOST = 24  # held back at one time
LATE = 64  # cancelled, and still to be answered


def answer(request, era):
    params = request.get("params", {})
    method = request["method"]
    modern = "io.modelcontextprotocol/protocolVersion" in params.get("_meta", {})
    if era not in ("both", "modern" if modern else "legacy"):
        return {"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32601, "message": "that is not said in this era"}}
    if method == "initialize":
        result = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}, "prompts": {}}, "serverInfo": {"name": "shuffler", "version": "1"}}
    elif method == "server/discover":
        result = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}, "prompts": {}}}
    elif method == "tools/call":
        result = {"content": [{"type": "text", "text": params["arguments"]["nonce"]}]}
    elif method == "tools/list":
        result = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("echo", "secret")]}
        result |= {"nextCursor": params["cursor"]} if "cursor" in params else {}
    elif method == "prompts/list":
        result = {"prompts": [], "nextCursor": params.get("cursor", "")}
    else:
        result = {}
    if modern:
        result |= {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    return {"jsonrpc": "2.0", "id": request["id"], "result": result}


def progress(request):
    """A notice of progress that repeats the request's word, where one is wanted."""
    params = request.get("params", {})
    token = params.get("_meta", {}).get("progressToken")
    if token is None:
        return []
    nonce = params.get("cursor") or params.get("arguments", {}).get("nonce")
    return [{"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1, "message": nonce}}]


def stdio(chance, era):
    held, late, rest = [], [], b""
    while True:
        # Wait for more only while there is nothing to answer; else answer as soon as nothing more is there.
        ready = select.select([0], [], [], 0 if held else None)[0]
        if ready:
            chunk = os.read(0, 1 << 16)
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            for message in map(json.loads, filter(None, lines)):
                if message.get("method") == "notifications/cancelled":
                    late += [request for request in held if request["id"] == message["params"]["requestId"]]
                    held = [request for request in held if request["id"] != message["params"]["requestId"]]
                elif "id" in message and "method" in message:
                    held.append(message)
            if len(held) < MOST and chance.random() < 0.7:
                continue
        out = []
        for _ in range(chance.randint(1, max(1, len(held)))):
            if late and (chance.random() < 0.1 or len(late) > LATE):
                out.append(answer(late.pop(chance.randrange(len(late))), era))
            if not held:
                break
            request = held.pop(chance.randrange(len(held)))
            for waiting in [request] + ([chance.choice(held)] if held and chance.random() < 0.2 else []):
                out += progress(waiting)
            out.append(answer(request, era))
        sys.stdout.write("".join(json.dumps(message) + "\n" for message in out))
        sys.stdout.flush()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "id" not in message or "method" not in message:
            return self.whole(202, b"")
        server, turn = self.server, threading.Event()
        with server.waiting:
            server.held.append(turn)
            server.waiting.notify()
        turn.wait()
        told = progress(message) + [answer(message, server.era)]
        if len(told) == 1:
            return self.whole(200, json.dumps(told[0]).encode(), "application/json")
        return self.whole(200, "".join(f"data: {json.dumps(text)}\n\n" for text in told).encode(), "text/event-stream")

    def do_GET(self):
        self.whole(405, b"")

    do_DELETE = do_GET

    def whole(self, status, body, kind=None):
        head = f"HTTP/1.1 {status} .\r\nContent-Length: {len(body)}\r\n" + (f"Content-Type: {kind}\r\n" if kind else "")
        self.wfile.write(head.encode() + b"\r\n" + body)


class HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        pass  # whoever hangs up has cancelled


def http(port, chance, era):
    server = HttpServer(("127.0.0.1", port), Handler)
    server.era, server.held, server.waiting = era, [], threading.Condition()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    print(f"listening {server.server_address[1]}", flush=True)
    while True:
        with server.waiting:
            server.waiting.wait_for(lambda: server.held)
        time.sleep(chance.random() * 0.002)  # more come meanwhile
        with server.waiting:
            chance.shuffle(server.held)
            most = chance.randint(1, len(server.held))
            turns, server.held = server.held[:most], server.held[most:]
        for turn in turns:
            turn.set()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--http", type=int, metavar="PORT")
    parser.add_argument("--era", choices=("both", "legacy", "modern"), default="both")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    if options.http is None:
        stdio(chance, options.era)
    else:
        http(options.http, chance, options.era)


if __name__ == "__main__":
    main()
