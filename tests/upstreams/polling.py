#!/usr/bin/env python3
"""A streamable HTTP server of 2025-11-25 that lets its clients poll.

Lists and calls are answered with a stream that brings a prime event (an id and a time to wait, no data) and
ends; the reply is for whoever resumes the stream by `Last-Event-ID`. Writes `METHOD path session body` to `--log`, a line
each. Needs Python >= 3.11 and nothing else.
"""

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOOLS = [{"name": name, "inputSchema": {"type": "object"}} for name in ("echo", "delete_repo")]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.note(body.decode())
        message = json.loads(body)
        identity, method, params = message.get("id"), message.get("method"), message.get("params", {})
        if identity is None:
            return self.answer(202, b"", [])
        if method == "initialize":
            result = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": {"name": "polling", "version": "1"}}
            text = json.dumps({"jsonrpc": "2.0", "id": identity, "result": result}).encode()
            return self.answer(200, text, [("Content-Type", "application/json"), ("Mcp-Session-Id", "only-one")])
        if method not in ("tools/list", "tools/call"):
            error = {"code": -32601, "message": "Method not found"}
            text = json.dumps({"jsonrpc": "2.0", "id": identity, "error": error}).encode()
            return self.answer(400, text, [("Content-Type", "application/json")])
        content = [{"type": "text", "text": json.dumps(params.get("arguments"))}]
        result = {"tools": TOOLS} if method == "tools/list" else {"content": content}
        event = f"event-{len(self.server.kept)}"
        self.server.kept[event] = json.dumps({"jsonrpc": "2.0", "id": identity, "result": result})
        return self.stream(f"id: {event}\nretry: 20\ndata:\n\n")

    def do_GET(self):
        self.note("")
        reply = self.server.kept.get(self.headers.get("last-event-id"))
        if reply is None:
            return self.answer(405, b"", [])
        return self.stream(f"id: last\nevent: message\ndata: {reply}\n\n")

    def do_DELETE(self):
        self.note("")
        self.answer(200, b"", [])

    def note(self, body):
        with open(self.server.log, "a", encoding="utf-8") as log:
            log.write(f"{self.command} {self.path} {self.headers.get('mcp-session-id')} {body}\n")

    def answer(self, status, body, headers):
        self.send_response(status)
        for name, value in [*headers, ("Content-Length", str(len(body)))]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def stream(self, events):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(events.encode())
        self.close_connection = True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--http", type=int, default=0, metavar="PORT")
    parser.add_argument("--log", required=True)
    options = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", options.http), Handler)
    server.daemon_threads, server.kept, server.log = True, {}, options.log
    print(f"listening {server.server_address[1]}", flush=True)
    server.serve_forever(poll_interval=0.05)


if __name__ == "__main__":
    main()
