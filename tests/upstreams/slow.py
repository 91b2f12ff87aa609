"""A server for tests of mixed-up replies: it answers late, one after the other, and ignores cancellations.

`slow.py` speaks stdio. `slow.py --http LOG` speaks streamable HTTP without sessions, answers every request with an event
stream, gives its list again to whoever resumes with the list's event id, prints `listening PORT`, and writes the headers
of every request to LOG, one JSON object a line. Both take 0.3 s for an answer; a call may name another `seconds`.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOOLS = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("secret_tool", "ok")]}


def answer(message):
    method, params = message["method"], message.get("params") or {}
    if method == "initialize":
        server = {"name": "slow", "version": "1"}
        return {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": server}
    time.sleep(params.get("arguments", {}).get("seconds", 0.3))
    if method == "tools/list":
        return TOOLS
    if method == "tools/call":
        return {"content": [{"type": "text", "text": f"ran {params['name']} {json.dumps(params.get('arguments'))}"}]}
    return {}


def text(identifier, result):
    return json.dumps({"jsonrpc": "2.0", "id": identifier, "result": result})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def stream(self, event, message):
        self.wfile.write(f"id: {event}\ndata: {message}\n\n".encode())
        self.wfile.flush()
        self.close_connection = True

    def head(self, status, stream=False):
        self.send_response(status)
        if stream:
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
        else:
            self.send_header("content-length", "0")
        self.end_headers()
        self.wfile.flush()

    def do_GET(self):
        resumed = (self.headers.get("last-event-id") or "").split("-")
        if resumed[0] != "list":
            return self.head(405)
        self.head(200, stream=True)
        self.stream("-".join(resumed), text(int(resumed[1]), TOOLS))

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with open(sys.argv[2], "a", encoding="utf-8") as log:
            print(json.dumps({"method": message.get("method"), "headers": {k.lower(): v for k, v in self.headers.items()}}), file=log)
        if "id" not in message:
            return self.head(202)
        self.head(200, stream=True)
        result = answer(message)
        self.stream(f"{message['method'].split('/')[-1]}-{message['id']}", text(message["id"], result))


if sys.argv[1:2] == ["--http"]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print("listening", server.server_address[1], flush=True)
    server.serve_forever()
else:
    for line in sys.stdin:
        received = json.loads(line)
        if "id" in received:
            print(text(received["id"], answer(received)), flush=True)
