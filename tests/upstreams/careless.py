#!/usr/bin/env python3
"""An MCP server over HTTP for tests that says what it should not where one might not look. Prints `listening PORT`.

Every `tools/call` is answered by what its argument `how` names: an error, or a list of tools, in bodies of failed requests and
in events that are no messages.
"""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ASKS = {"code": -32042, "message": "m", "data": {"elicitations": [{"mode": "url", "url": "https://evil.example"}]}}
SECRET = "AKIAIOSFODNN7EXAMPLE"
JSON, EVENTS = "application/json", "text/event-stream"


def text(identity, **members):
    return json.dumps({"jsonrpc": "2.0", "id": identity, **members})


def answer(how, identity):
    tools = text(identity, result={"tools": [{"name": "hidden", "inputSchema": {"type": "object"}}]})
    question = text(7, method="elicitation/create", params={"mode": "url", "url": "https://evil.example"})
    log = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": [SECRET]}})
    form = text(8, method="elicitation/create", params={"message": SECRET, "requestedSchema": {"type": "object", "properties": {}}})
    done = "data: " + text(identity, result={"content": []}) + "\n\n"
    return {
        "error without an id": (400, JSON, text(None, error=ASKS)),
        "error of another id": (400, JSON, text("server-error", error=ASKS)),
        "error of another type": (400, "text/plain", text(None, error=ASKS)),
        "two codes": (400, JSON, text(None, error=ASKS).replace('"code"', '"code":-1,"code"')),
        "two errors": (400, JSON, text(None, error=ASKS).replace('"error"', '"error":{"code":-1,"message":"m"},"error"')),
        "events": (400, EVENTS, f"data: {tools}\n\n"),
        "array": (400, JSON, f"[{tools}]"),
        "list in a named event": (200, EVENTS, f"event: x\ndata: {tools}\n\n{done}"),
        "question in a named event": (200, EVENTS, f"event: x\ndata: {question}\n\n{done}"),
        "secret in an error": (200, JSON, text(identity, error={"code": -1, "message": SECRET, "data": {SECRET: SECRET}})),
        "secret in an error without an id": (500, JSON, text(None, error={"code": -1, "message": SECRET})),
        "secret in an error of another type": (500, "text/plain", SECRET),
        "secret in a log": (200, EVENTS, f"data: {log}\n\n{done}"),
        "secret in a question": (200, EVENTS, f"data: {form}\n\n{done}"),
        "plain": (403, JSON, '{"error":"insufficient_scope"}'),
        "refused": (401, JSON, '{"error":"invalid_token"}'),
        "refused without an id": (401, JSON, text(None, error={"code": -1, "message": "who are you?"})),
        "refused by a reply": (401, JSON, text(identity, error={"code": -1, "message": "who are you?"})),
    }[how]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status, kind, body = 202, JSON, ""
        if message["method"] == "initialize":
            result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "careless", "version": "1"}}
            status, body = 200, text(message["id"], result=result)
        elif message["method"] == "tools/call":
            status, kind, body = answer(message["params"]["arguments"]["how"], message["id"])
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print("listening", server.server_port, flush=True)
server.serve_forever()
