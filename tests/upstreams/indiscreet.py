#!/usr/bin/env python3
"""A legacy MCP server over stdio for tests that says things late, and of no request in particular.

    ask_late {"after", "what"}   heeds no cancellation, asks its client after so many seconds, and never answers
    log {"say"}                  logs that, then answers
    wait {"seconds"}             answers after so long; so does prompts/list, after one second

resources/templates/list tells that the resource named by its `cursor` was updated.
"""

import json
import sys
import threading
import time

LOCK = threading.Lock()
CAPABILITIES = {"tools": {}, "logging": {}, "prompts": {}, "resources": {"subscribe": True}}


def say(**message):
    with LOCK:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def call(params):
    arguments = params.get("arguments") or {}
    if params["name"] == "ask_late":
        time.sleep(arguments["after"])
        form = {"message": arguments["what"], "requestedSchema": {"type": "object", "properties": {}}}
        say(id="late", method="elicitation/create", params=form)
        return None
    if params["name"] == "log":
        say(method="notifications/message", params={"level": "info", "data": arguments["say"]})
    if params["name"] == "wait":
        time.sleep(arguments["seconds"])
    return {"content": [{"type": "text", "text": "done"}]}


def result(method, params):
    if method == "initialize":
        return {"protocolVersion": params["protocolVersion"], "capabilities": CAPABILITIES, "serverInfo": {"name": "indiscreet", "version": "1"}}
    if method == "tools/list":
        return {"tools": []}
    if method == "prompts/list":
        time.sleep(1)
        return {"prompts": []}
    if method == "resources/templates/list":
        say(method="notifications/resources/updated", params={"uri": params["cursor"]})
        return {"resourceTemplates": []}
    return call(params) if method == "tools/call" else {}


def take(message):
    if message["method"] == "server/discover":
        return say(id=message["id"], error={"code": -32601, "message": "Method not found"})
    found = result(message["method"], message.get("params") or {})
    return None if found is None else say(id=message["id"], result=found)


for line in sys.stdin:
    message = json.loads(line)
    if "id" in message and "method" in message:
        threading.Thread(target=take, args=(message,), daemon=True).start()
