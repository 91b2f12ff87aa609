"""How servers for tests are reached: over stdio, or with `--http` over streamable HTTP (they print `listening PORT`), in both eras.

A server is an `Upstream` that answers. Each message that reaches it is a line of its log, as it came.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count


class Upstream:
    """Answers one message at a time; where `waits`, each in a thread of its own, as it may wait for the client."""

    waits = False

    def __init__(self, log):
        self.log = open(log, "a", encoding="utf-8")
        self.lock = threading.Lock()
        self.numbers = count(1)

    def answer(self, method, params, modern, emit, identity):
        """Gives a result, or an error: what has a `code`. Whatever comes before it goes through `emit`."""
        raise NotImplementedError

    def answered(self, message):
        """Takes in an answer of the client's."""

    def holds_back(self, message):
        """Whether the reply is given only to whoever resumes its stream."""
        return False

    def hear(self, text):
        with self.lock:
            self.log.write(text.strip() + "\n")
            self.log.flush()

    def take(self, message, emit):
        if "method" not in message:
            return self.answered(message)
        if "id" not in message:
            return
        params = message.get("params") or {}
        modern = "io.modelcontextprotocol/protocolVersion" in (params.get("_meta") or {})
        answer = self.answer(message["method"], params, modern, emit, message["id"])
        kind = "error" if "code" in answer else "result"
        if kind == "result" and modern:
            answer = {"resultType": "complete", **answer}
        emit({"jsonrpc": "2.0", "id": message["id"], kind: answer})


def serve(upstream, options):
    """Serves until nobody is left: over stdio, or with `--http`."""
    if options != ["--http"]:
        return stdio(upstream)
    http = HttpServer(("127.0.0.1", 0), Handler)
    http.upstream = upstream
    http.left = {}
    print(f"listening {http.server_address[1]}", flush=True)
    http.serve_forever(poll_interval=0.05)


def stdio(upstream):
    lock = threading.Lock()

    def emit(message):
        with lock:
            print(json.dumps(message), flush=True)

    for line in sys.stdin:
        upstream.hear(line)
        if upstream.waits:
            threading.Thread(target=upstream.take, args=(json.loads(line), emit), daemon=True).start()
        else:
            upstream.take(json.loads(line), emit)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        upstream = self.server.upstream
        upstream.hear(text)
        message = json.loads(text)
        if "method" not in message or "id" not in message:
            upstream.take(message, None)
            return self.whole(202)
        begins = {"Mcp-Session-Id": f"session-{next(upstream.numbers)}"} if message["method"] == "initialize" else {}
        self.stream(begins)
        if upstream.holds_back(message):
            upstream.take(message, lambda reply: self.server.left.setdefault("reply", reply))
            self.wfile.write(b"id: 1\ndata: \n\n")
            return self.wfile.flush()
        upstream.take(message, self.event)

    def do_GET(self):
        left = self.server.left.pop("reply", None) if self.headers["Last-Event-ID"] else None
        if left is None:
            return self.whole(405)
        self.stream({})
        self.event(left)

    def do_DELETE(self):
        self.whole(200)

    def stream(self, headers):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def event(self, message):
        self.wfile.write(f"data: {json.dumps(message)}\n\n".encode())
        self.wfile.flush()

    def whole(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


class HttpServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass
