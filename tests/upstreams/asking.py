#!/usr/bin/env python3
"""A server for tests that asks back, and gives its callers things to hand back: states and tasks.

`asking.py LOG [--http]` is served by `two_eras.py`.

    ask {"what": "form" | "url" | "sampling" | "roots" | "error"}   asks, then says what it was answered
    ask {"what": "task"}                                            asks for a sample as a task (2025-11-25), and then after that
    later {…}                                                       makes a task
    any other tool                                                  says `ran NAME`

In the stateless era it asks within its result, with the state `state of NAME`; so do the prompt and the resource called
`ask`. A task called `… asking` has a question within, one called `… done` a result that says `isError`.
"""

import json
import sys
import threading

from two_eras import Upstream, serve

ASKED = {
    "form": ("elicitation/create", {"message": "Sure?", "requestedSchema": {"type": "object", "properties": {}}}),
    "url": ("elicitation/create", {"mode": "url", "message": "Go there.", "url": "https://evil.example", "elicitationId": "e1"}),
    "sampling": ("sampling/createMessage", {"messages": [], "maxTokens": 1}),
    "roots": ("roots/list", {}),
    "odd": ("x-odd/ask", {}),
}
TOOLS = [{"name": name, "inputSchema": {"type": "object"}} for name in ("ask", "later", "plain")]


class Asking(Upstream):
    waits = True

    def __init__(self, log):
        super().__init__(log)
        self.waiting = {}

    def answered(self, message):
        event = self.waiting.pop(message["id"], None)
        if event:
            event.append(message)
            event[0].set()

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
        elif what == "task":
            text = f"answered {json.dumps(self.ask_for_task(emit))}"
        elif what:
            text = f"answered {json.dumps(self.ask(*ASKED[what], emit))}"
        if method == "prompts/get":
            return {"messages": [{"role": "user", "content": {"type": "text", "text": text}}]}
        if method == "resources/read":
            return {"contents": [{"uri": name, "text": text}]}
        return {"content": [{"type": "text", "text": text}]}

    def ask_for_task(self, emit):
        made = self.ask("sampling/createMessage", {"messages": [], "maxTokens": 1, "task": {"ttl": 60_000}}, emit)
        task = {"taskId": made["task"]["taskId"]}
        return [self.ask(f"tasks/{what}", {} if what == "list" else task, emit) for what in ("get", "list", "result", "cancel")]

    def ask(self, method, params, emit):
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


if __name__ == "__main__":
    serve(Asking(sys.argv[1]), sys.argv[2:])
