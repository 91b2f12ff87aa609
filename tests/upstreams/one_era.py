#!/usr/bin/env python3
"""An MCP server for tests that speaks one era, and that strictly.

`--era legacy` wants a handshake, asks its client by requests of its own and tells of changes by itself. `--era modern` wants
an envelope in every request, asks by `input_required` and tells of changes to those who listen. Each refuses what only the
other has. It speaks stdio (`--stdio`) and streamable HTTP (`--http PORT`), and writes what it gets to `--log`, one JSON object
a line: {"t": "got", "message"}, {"t": "cancelled", "id"}, {"t": "closed", "id"}. Needs Python ≥ 3.11 and nothing else.
"""

import argparse
import json
import os
import select
import socket
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

META = "io.modelcontextprotocol/"
MODERN = "2026-07-28"
LEGACY = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
TOOLS = ("echo", "ask", "ask_twice", "sample", "roots", "slow", "progress", "log", "change", "touch", "delete_repo", "session")
CAPABILITIES = {
    "tools": {"listChanged": True},
    "resources": {"subscribe": True, "listChanged": True},
    "prompts": {"listChanged": True},
    "logging": {},
    "experimental": {"odd": {"n": 1}},
}
INFO = {"name": "one-era", "version": "1.2.3"}
FORM = {"message": "Who are you?", "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}}}
QUESTIONS = {
    "ask": [("elicitation/create", FORM)],
    "ask_twice": [("elicitation/create", FORM), ("elicitation/create", {**FORM, "message": "Are you sure?"})],
    "sample": [("sampling/createMessage", {"messages": [], "maxTokens": 10})],
    "roots": [("roots/list", None)],
}


class Failure(Exception):
    def __init__(self, code, message, status=200, data=None):
        super().__init__(message)
        self.error = {"code": code, "message": message, **({"data": data} if data else {})}
        self.status = status


class Log:
    def __init__(self, path):
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if path else None

    def write(self, kind, **facts):
        if self.fd is not None:
            os.write(self.fd, json.dumps({"t": kind, "pid": os.getpid(), **facts}).encode() + b"\n")


class Exchange:
    """Where what belongs to one request goes, and whether somebody still waits for it."""

    def __init__(self, say, gone=lambda: False):
        self.say, self.gone = say, gone


class Session:
    """What a legacy server keeps of one client; of a modern one, what all share."""

    def __init__(self, options, log, say):
        self.options, self.log, self.say = options, log, say
        self.numbers = count(1)
        self.ready = False
        self.capabilities = {}
        self.waiting = {}
        self.cancelled = set()
        self.subscribed = set()
        self.listening = {}
        self.calls = 0

    # ------------------------------------------------------------ what arrives

    def take(self, message, exchange):
        """Gives the answer, or None; raises Failure."""
        self.log.write("got", message=message)
        method, params = message.get("method"), message.get("params") or {}
        if method is None:
            waiting = self.waiting.pop(message.get("id"), None)
            if waiting is None:
                raise Failure(-32600, "nothing was asked", 400)
            waiting[1] = message
            waiting[0].set()
            return None
        if method == "notifications/cancelled":
            self.log.write("cancelled", id=params.get("requestId"))
            self.cancelled.add(params.get("requestId"))
            self.listening.pop(params.get("requestId"), None)
            return None
        if self.options.era == "modern":
            return self.modern(message, method, params, exchange)
        return self.legacy(message, method, params, exchange)

    def legacy(self, message, method, params, exchange):
        if any(key.startswith(META) for key in params.get("_meta") or {}):
            raise Failure(-32602, "an envelope of another era")
        if method == "notifications/initialized" or "id" not in message:
            return None
        if method == "initialize":
            if self.ready:
                raise Failure(-32600, "initialized already")
            self.ready = True
            self.capabilities = params["capabilities"]
            version = params["protocolVersion"] if params["protocolVersion"] in LEGACY else LEGACY[-1]
            return {"protocolVersion": version, "capabilities": CAPABILITIES, "serverInfo": INFO, "instructions": "Read this."}
        if not self.ready:
            raise Failure(-32602, "Invalid request parameters" if self.options.odd else "not initialized", 400)
        if method in ("ping", "logging/setLevel"):
            return {}
        if method in ("resources/subscribe", "resources/unsubscribe"):
            (self.subscribed.add if method.endswith("/subscribe") else self.subscribed.discard)(params["uri"])
            return {}
        if method == "tools/call":
            if "requestState" in params or "inputResponses" in params:
                raise Failure(-32602, "members of another era")
            return self.call(message, params, exchange)
        return self.common(method, params)

    def modern(self, message, method, params, exchange):
        if "id" not in message:
            return None
        meta = params.get("_meta") or {}
        if method in ("initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"):
            raise Failure(-32601, "Method not found", 404)
        if meta.get(META + "protocolVersion") != MODERN or not isinstance(meta.get(META + "clientCapabilities"), dict):
            raise Failure(-32602, "an envelope is missing", 400)
        self.capabilities = meta[META + "clientCapabilities"]
        if method == "server/discover":
            result = {"supportedVersions": [MODERN], "capabilities": CAPABILITIES, "instructions": "Read this.", "ttlMs": 0, "cacheScope": "public"}
            return {"resultType": "complete", **result, "_meta": {META + "serverInfo": INFO}}
        if method == "subscriptions/listen":
            return self.listen(message, params, exchange)
        if method == "tools/call":
            result = self.call(message, params, exchange)
        else:
            result = self.common(method, params)
        if method.endswith("/list") or method == "resources/read":
            result = {"ttlMs": 1000, "cacheScope": "public", **result}
        return {"resultType": "complete", **result}

    def common(self, method, params):
        if method == "tools/list":
            return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}
        if method == "prompts/list":
            return {"prompts": [{"name": "greet"}]}
        if method == "resources/list":
            return {"resources": [{"uri": "file:///a", "name": "a"}]}
        if method == "resources/read":
            if params.get("uri") != "file:///a":
                raise Failure(-32602 if self.options.era == "modern" else -32002, "Resource not found")
            return {"contents": [{"uri": "file:///a", "text": "hello"}]}
        raise Failure(-32601, "Method not found", 404 if self.options.era == "modern" else 200)

    def listen(self, message, params, exchange):
        wanted = params["notifications"]
        self.listening[message["id"]] = (wanted, exchange)
        tag = {"_meta": {META + "subscriptionId": message["id"]}}
        exchange.say({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {**tag, "notifications": wanted}})
        while message["id"] in self.listening and not exchange.gone():
            time.sleep(0.02)
        if exchange.gone():
            self.log.write("closed", id=message["id"])
        self.listening.pop(message["id"], None)
        return None

    # ------------------------------------------------------------ calls

    def call(self, message, params, exchange):
        name, arguments = params["name"], params.get("arguments") or {}
        token = (params.get("_meta") or {}).get("progressToken")
        self.calls += 1
        self.log.write("ran", tool=name)
        text = json.dumps(arguments)
        if name in QUESTIONS:
            answers = self.ask(message, params, QUESTIONS[name], exchange)
            if isinstance(answers, dict):
                return answers
            text = json.dumps(answers)
        elif name == "slow":
            self.sleep(message["id"], arguments.get("seconds", 1), exchange)
        elif name == "progress":
            for step in (1, 2):
                exchange.say({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": step}})
        elif name == "log":
            exchange.say({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": arguments.get("say")}})
        elif name == "change":
            self.tell({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}, lambda wanted: wanted.get("toolsListChanged"))
        elif name == "touch":
            uri = arguments["uri"]
            notice = {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}}
            if self.options.era == "modern" or uri in self.subscribed:
                self.tell(notice, lambda wanted: uri in wanted.get("resourceSubscriptions", ()))
        elif name == "session":
            text = f"{os.getpid()} {self.calls}"
        return {"content": [{"type": "text", "text": text}], "odd": {"n": 1}}

    def ask(self, message, params, questions, exchange):
        if self.options.era == "modern":
            state = json.loads(params.get("requestState") or '{"answers":[]}')
            answers = state["answers"]
            if "requestState" in params:
                answers.append(params["inputResponses"]["q"])
            if len(answers) == len(questions):
                return answers
            method, asked = questions[len(answers)]
            question = {"method": method, **({"params": asked} if asked else {})}
            return {"resultType": "input_required", "inputRequests": {"q": question}, "requestState": json.dumps({"answers": answers})}
        answers = []
        for method, asked in questions:
            identity = f"server-{next(self.numbers)}"
            self.waiting[identity] = waiting = [threading.Event(), None]
            exchange.say({"jsonrpc": "2.0", "id": identity, "method": method, **({"params": asked} if asked else {})})
            while not waiting[0].wait(0.05):
                if message["id"] in self.cancelled:
                    raise Failure(-32800, "cancelled")
            answer = waiting[1]
            answers.append(answer.get("result", answer.get("error")))
        return answers

    def sleep(self, identity, seconds, exchange):
        until = time.monotonic() + seconds
        while time.monotonic() < until and identity not in self.cancelled:
            if exchange.gone():
                self.log.write("closed", id=identity)
                return
            time.sleep(0.01)

    def tell(self, notice, wants):
        if self.options.era == "legacy":
            return self.say(notice)
        for identity, (wanted, exchange) in list(self.listening.items()):
            if wants(wanted):
                params = {**(notice.get("params") or {}), "_meta": {META + "subscriptionId": identity}}
                exchange.say({**notice, "params": params})
        return None


def answer(session, message, exchange):
    """The answer as a message, and the status under which it goes over HTTP."""
    try:
        result = session.take(message, exchange)
    except Failure as failure:
        if "id" not in message or "method" not in message:
            return None, failure.status
        return {"jsonrpc": "2.0", "id": message["id"], "error": failure.error}, failure.status
    if result is None:
        return None, 202
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}, 200


# ---------------------------------------------------------------- stdio

def serve_stdio(options, log):
    lock = threading.Lock()

    def say(message):
        with lock:
            sys.stdout.write(json.dumps(message) + "\n")
            sys.stdout.flush()

    session = Session(options, log, say)

    def take(message):
        if options.mute and message.get("method") == "server/discover":
            return
        reply, _ = answer(session, message, Exchange(say))
        if reply is not None:
            say(reply)

    for line in sys.stdin:
        message = json.loads(line)
        if message.get("method") in ("tools/call", "subscriptions/listen"):
            threading.Thread(target=take, args=(message,), daemon=True).start()
        else:
            take(message)
    os._exit(0)


# ---------------------------------------------------------------- HTTP

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_POST(self):
        server = self.server
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        version, method = self.headers.get("mcp-protocol-version"), message.get("method")
        session = server.shared
        if server.options.era == "legacy":
            if version not in (None, *LEGACY):
                return self.json(400, {"jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": "Bad Request: Unsupported protocol version"}})
            if method == "initialize":
                session = self.begin()
            else:
                session = server.sessions.get(self.headers.get("mcp-session-id"))
                if session is None:
                    return self.json(400, {"jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": "no session"}})
        elif version != MODERN or (method and self.headers.get("mcp-method") != method):
            error = {"code": -32022, "message": "Unsupported protocol version", "data": {"supported": [MODERN], "requested": version}}
            return self.json(400, {"jsonrpc": "2.0", "id": message.get("id"), "error": error})
        events = Events(self)
        reply, status = answer(session, message, Exchange(events.say, self.gone))
        if events.open:
            if reply is not None:
                events.say(reply)
            return events.end()
        if reply is None:
            return self.json(status, None)
        return self.json(status, reply, session.id if method == "initialize" else None)

    def begin(self):
        server = self.server
        session = Session(server.options, server.shared.log, None)
        session.id, session.streams = uuid.uuid4().hex, []
        session.say = lambda message: [stream.say(message) for stream in session.streams[-1:]]
        server.sessions[session.id] = session
        return session

    def do_GET(self):
        session = self.server.sessions.get(self.headers.get("mcp-session-id"))
        if session is None:
            return self.json(405, None)
        events = Events(self)
        events.begin()
        session.streams.append(events)
        while not self.gone():
            time.sleep(0.02)
        session.streams.remove(events)
        self.close_connection = True
        return None

    def do_DELETE(self):
        found = self.server.sessions.pop(self.headers.get("mcp-session-id"), None)
        self.server.shared.log.write("deleted", known=found is not None)
        self.json(200 if found else 405, None)

    def gone(self):
        ready, _, _ = select.select([self.connection], [], [], 0)
        try:
            return bool(ready) and self.connection.recv(1, socket.MSG_PEEK) == b""
        except OSError:
            return True

    def json(self, status, body, session=None):
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        if session:
            self.send_header("Mcp-Session-Id", session)
        if data:
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Events:
    """The event stream of one exchange, begun with its first event."""

    def __init__(self, handler):
        self.handler, self.open, self.lock = handler, False, threading.Lock()

    def begin(self):
        self.open = True
        self.handler.send_response(200)
        self.handler.send_header("Content-Type", "text/event-stream")
        self.handler.send_header("Transfer-Encoding", "chunked")
        self.handler.end_headers()
        self.write(b": here\n\n")

    def write(self, data):
        try:
            self.handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.handler.wfile.flush()
        except OSError:
            pass

    def say(self, message):
        with self.lock:
            if not self.open:
                self.begin()
            self.write(f"event: message\ndata: {json.dumps(message)}\n\n".encode())

    def end(self):
        self.write(b"")


class HttpServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # clients that hang up are part of the tests


def serve_http(options, log):
    server = HttpServer(("127.0.0.1", options.http), Handler)
    server.options, server.sessions, server.shared = options, {}, Session(options, log, None)
    print(f"listening {server.server_address[1]}", flush=True)
    server.serve_forever(poll_interval=0.05)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--era", choices=("legacy", "modern"), required=True)
    parser.add_argument("--stdio", action="store_true")
    parser.add_argument("--http", type=int, metavar="PORT", help="0: any; printed as `listening PORT`")
    parser.add_argument("--log")
    parser.add_argument("--odd", action="store_true", help="refuse what comes before the handshake as wrong parameters")
    parser.add_argument("--mute", action="store_true", help="never answer server/discover")
    options = parser.parse_args()
    log = Log(options.log)
    log.write("start")
    if options.stdio:
        serve_stdio(options, log)
    else:
        serve_http(options, log)


if __name__ == "__main__":
    main()
