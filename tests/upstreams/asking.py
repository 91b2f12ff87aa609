#!/usr/bin/env python3
"""A server for tests that asks back, and gives its callers things to hand back: states and tasks.

`asking.py LOG` speaks stdio, `asking.py LOG --http` streamable HTTP (it prints `listening PORT`), both in both eras. Every
message that reaches it is a line of LOG, as it came.

    ask {"what": "form" | "url" | "sampling" | "roots" | "error"}   asks, then says what it was answered
    later {…}                                                       makes a task
    any other tool                                                  says `ran NAME`

In the stateless era it asks within its result, with the state `state of NAME`; so do the prompt and the resource called
`ask`. A task called `… asking` has a question within, one called `… done` a result that says `isError`.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

ASKED = {
    "form": ("elicitation/create", {"message": "Sure?", "requestedSchema": {"type": "object", "properties": {}}}),
    "url": ("elicitation/create", {"mode": "url", "message": "Go there.", "url": "https://evil.example", "elicitationId": "e1"}),
    "sampling": ("sampling/createMessage", {"messages": [], "maxTokens": 1}),
    "roots": ("roots/list", {}),
    "odd": ("x-odd/ask", {}),
}
TOOLS = [{"name": name, "inputSchema": {"type": "object"}} for name in ("ask", "later", "plain")]


class Server:
    def __init__(self, log):
        self.log = open(log, "a", encoding="utf-8")
        self.lock = threading.Lock()
        self.waiting = {}
        self.numbers = count(1)

    def hear(self, text):
        with self.lock:
            self.log.write(text.strip() + "\n")
            self.log.flush()

    def take(self, message, emit):
        """Answers one message through `emit`; may wait for answers of the client's."""
        if "method" not in message:
            event = self.waiting.pop(message["id"], None)
            if event:
                event.append(message)
                event[0].set()
            return
        if "id" not in message:
            return
        params = message.get("params") or {}
        modern = "io.modelcontextprotocol/protocolVersion" in (params.get("_meta") or {})
        answer = self.answer(message["method"], params, modern, emit, message["id"])
        kind = "error" if "code" in answer else "result"
        if kind == "result" and modern:
            answer = {"resultType": "complete", **answer}
        emit({"jsonrpc": "2.0", "id": message["id"], kind: answer})

    def answer(self, method, params, modern, emit, identity):
        if method == "initialize":
            return {"protocolVersion": params["protocolVersion"], "capabilities": {}, "serverInfo": {"name": "asking", "version": "1"}}
        if method == "server/discover":
            return {"supportedVersions": ["2026-07-28", "2025-11-25"], "capabilities": {}, "serverInfo": {"name": "asking", "version": "1"}}
        if method == "tools/list":
            return {"tools": TOOLS}
        if method in ("tools/call", "prompts/get", "resources/read"):
            return self.run(method, params, modern, emit)
        if method.startswith("tasks/"):
            return self.task(method, params)
        if method == "subscriptions/listen":
            meta = {"io.modelcontextprotocol/subscriptionId": identity}
            emit({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
                  "params": {"notifications": params["notifications"], "_meta": meta}})
            return {"_meta": meta}
        return {}

    def run(self, method, params, modern, emit):
        name = params.get("name") or params.get("uri")
        arguments = params.get("arguments") or {}
        if name == "later":
            task = {"taskId": arguments.get("id", "task 1"), "status": "working"}
            return {"resultType": "task", **task} if modern else {"task": task}
        if name == "chatty":
            emit({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "psst"}})
        what = arguments.get("what", "form") if name in ("ask", "ask://") else None
        if what == "error":
            elicitation = {"mode": "url", "message": "Go there.", "url": "https://evil.example", "elicitationId": "e1"}
            return {"code": -32042, "message": "go there first", "data": {"elicitations": [elicitation]}}
        text = f"ran {name}"
        if what and modern and "requestState" not in params:
            kind, asked = ASKED[what]
            return {"resultType": "input_required", "requestState": f"state of {name}", "inputRequests": {"q": {"method": kind, "params": asked}}}
        if what and modern:
            text = f"answered {json.dumps(params.get('inputResponses'))}"
        elif what:
            text = f"answered {json.dumps(self.ask(what, emit))}"
        if method == "prompts/get":
            return {"messages": [{"role": "user", "content": {"type": "text", "text": text}}]}
        if method == "resources/read":
            return {"contents": [{"uri": name, "text": text}]}
        return {"content": [{"type": "text", "text": text}]}

    def ask(self, what, emit):
        method, params = ASKED[what]
        identity = f"server-{next(self.numbers)}"
        event = [threading.Event()]
        self.waiting[identity] = event
        emit({"jsonrpc": "2.0", "id": identity, "method": method, "params": params})
        event[0].wait(20)
        answer = event[1] if len(event) > 1 else {}
        return answer.get("result") or answer.get("error")

    def task(self, method, params):
        if method == "tasks/list":
            return {"tasks": [{"taskId": "task 1", "status": "working"}, {"taskId": "task 2", "status": "working"}]}
        task = {"taskId": params["taskId"], "status": "working"}
        if task["taskId"].endswith("asking"):
            kind, asked = ASKED["url"]
            return {**task, "status": "input_required", "inputRequests": {"q": {"method": kind, "params": asked}}}
        if task["taskId"].endswith("done"):
            return {**task, "status": "completed", "result": {"content": [], "isError": True}}
        return task if method == "tasks/get" else {}


def stdio(server):
    lock = threading.Lock()

    def emit(message):
        with lock:
            print(json.dumps(message), flush=True)

    for line in sys.stdin:
        server.hear(line)
        # In a thread of its own: a call may wait for the client, whose answer arrives here.
        threading.Thread(target=server.take, args=(json.loads(line), emit), daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.whole(405, b"")

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.mcp.hear(text)
        message = json.loads(text)
        if "method" not in message or "id" not in message:
            self.server.mcp.take(message, None)
            return self.whole(202, b"")
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        if message["method"] == "initialize":
            self.send_header("Mcp-Session-Id", f"session-{next(self.server.mcp.numbers)}")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        self.server.mcp.take(message, self.event)

    def event(self, message):
        self.wfile.write(f"data: {json.dumps(message)}\n\n".encode())
        self.wfile.flush()

    def whole(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class HttpServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


if __name__ == "__main__":
    mcp = Server(sys.argv[1])
    if sys.argv[2:] == ["--http"]:
        http = HttpServer(("127.0.0.1", 0), Handler)
        http.mcp = mcp
        print(f"listening {http.server_address[1]}", flush=True)
        http.serve_forever(poll_interval=0.05)
    else:
        stdio(mcp)
