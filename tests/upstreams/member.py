#!/usr/bin/env python3
"""One of several servers for tests, each of which has what its options say. It speaks stdio, both eras.

    member.py NAME [--log FILE] [--unless FILE | --mute FILE] [--uri URI]… [--pages] [--unruly]

It offers the tools `echo` (says `NAME says …`), `end` (ends the process), `ask` (asks the client for an elicitation and says what
came back), `progress`, `sleep` (until it is cancelled), `link` (links to a resource it does not list), `later` (a task) and `touch`
(tells of an update of the resource `uri`, whether or not anybody has subscribed to it); the prompt `hello`, the resources `NAME://1`
and each URI, the template `NAME://item/{id}`. `--unless` ends at once while FILE is there, `--mute` answers only when it is gone.
`--pages` gives one tool a page. `--unruly` adds a second definition of `echo` and a name of 140 characters. Each message that
arrives is a line of the log.
"""

import argparse
import json
import os
import sys
import threading
import time

META = "io.modelcontextprotocol/"
LOCK = threading.Lock()


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--log")
    parser.add_argument("--unless")
    parser.add_argument("--mute")
    parser.add_argument("--uri", action="append", default=[])
    parser.add_argument("--pages", action="store_true")
    parser.add_argument("--unruly", action="store_true")
    return parser.parse_args()


OPTIONS = options()
NAME = OPTIONS.name
TOOLS = ["echo", "end", "ask", "progress", "sleep", "link", "later", "touch"]
WAITING = {}
LISTENING = []
QUESTION = {"message": f"{NAME}?", "requestedSchema": {"type": "object", "properties": {}}}


def say(message):
    with LOCK:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def text(said):
    return {"content": [{"type": "text", "text": said}]}


def listed(params):
    tools = [{"name": tool, "inputSchema": {"type": "object"}} for tool in TOOLS]
    if OPTIONS.unruly:
        tools.append({"name": "echo", "description": "Something else.", "inputSchema": {"type": "object"}})
        tools.append({"name": "x" * 140, "inputSchema": {"type": "object"}})
    if not OPTIONS.pages:
        return {"tools": tools}
    at = int(params.get("cursor", "0"))
    return {"tools": tools[at:at + 1]} | ({"nextCursor": str(at + 1)} if at + 1 < len(tools) else {})


def call(message, params):
    tool, arguments = params["name"], params.get("arguments", {})
    identifier = message["id"]
    if tool == "end":
        os._exit(3)
    if tool == "ask" and modern(message):
        if "requestState" in params:
            return text(f"{NAME} was told {json.dumps(params['inputResponses'])}")
        question = {"q": {"method": "elicitation/create", "params": QUESTION}}
        return {"resultType": "input_required", "inputRequests": question, "requestState": f"state of {NAME}"}
    if tool == "ask":
        WAITING["q"] = identifier
        say({"id": "q", "method": "elicitation/create", "params": QUESTION})
        return None
    if tool == "progress":
        token = params.get("_meta", {}).get("progressToken")
        for step in (1, 2):
            say({"method": "notifications/progress", "params": {"progressToken": token, "progress": step}})
        say({"method": "notifications/progress", "params": {"progressToken": "another's", "progress": 9}})
    if tool == "sleep":
        return None
    if tool == "link":
        return {"content": [{"type": "resource_link", "name": "hidden", "uri": f"{NAME}-hidden://x"}]}
    if tool == "touch":
        updated = {"uri": arguments["uri"]}
        if not modern(message):
            say({"method": "notifications/resources/updated", "params": updated})
        for subscription in LISTENING if modern(message) else ():
            say({"method": "notifications/resources/updated", "params": updated | {"_meta": {META + "subscriptionId": subscription}}})
    if tool == "later" and modern(message):
        return {"resultType": "task", "taskId": f"task of {NAME}", "status": "working"}
    if tool == "later":
        return {"task": {"taskId": f"task of {NAME}", "status": "working"}}
    return text(f"{NAME} says {json.dumps(arguments)}")


def answer(message):
    method, params = message.get("method"), message.get("params") or {}
    if method == "initialize":
        return {"protocolVersion": params["protocolVersion"], "serverInfo": {"name": NAME, "version": "1"}, "instructions": f"Ask {NAME}.",
                "capabilities": {"tools": {"listChanged": True}, "prompts": {}, "resources": {"subscribe": True}, "logging": {}, "completions": {}, "tasks": {"list": {}}}}
    if method == "server/discover":
        return {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {"listChanged": True}, "prompts": {}, "resources": {}, "completions": {}}}
    if method == "tools/list":
        return listed(params)
    if method == "tools/call":
        return call(message, params)
    if method == "prompts/list":
        return {"prompts": [{"name": "hello"}]}
    if method == "prompts/get":
        return {"messages": [{"role": "user", "content": {"type": "text", "text": f"{NAME} greets {params['name']}"}}]}
    if method == "resources/list":
        return {"resources": [{"uri": uri, "name": "r"} for uri in [f"{NAME}://1", *OPTIONS.uri]]}
    if method == "resources/templates/list":
        return {"resourceTemplates": [{"uriTemplate": f"{NAME}://item/{{id}}", "name": "item"}]}
    if method == "resources/read":
        return {"contents": [{"uri": params["uri"], "text": f"{NAME} has {params['uri']}"}]}
    if method == "completion/complete":
        return {"completion": {"values": [NAME, params["ref"].get("name") or params["ref"].get("uri")]}}
    if method == "tasks/get":
        return {"taskId": params["taskId"], "status": "completed", "pollInterval": 1}
    if method == "tasks/list":
        return {"tasks": [{"taskId": f"task of {NAME}", "status": "working"}]}
    return {}


def modern(message):
    return META + "protocolVersion" in (message.get("params") or {}).get("_meta", {})


def hear(message):
    if "method" not in message:
        identifier = WAITING.pop(message["id"], None)
        if identifier is not None:
            say({"id": identifier, "result": text(f"{NAME} was told {json.dumps(message.get('result'))}")})
        return
    if message["method"] == "subscriptions/listen":
        wanted = message["params"]["notifications"]
        LISTENING.append(message["id"])
        tag = {"_meta": {META + "subscriptionId": message["id"]}}
        say({"method": "notifications/subscriptions/acknowledged", "params": tag | {"notifications": wanted}})
        return
    if "id" not in message:
        return
    while OPTIONS.mute and os.path.exists(OPTIONS.mute):
        time.sleep(0.02)
    result = answer(message)
    if result is not None:
        say({"id": message["id"], "result": ({"resultType": "complete"} if modern(message) else {}) | result})


def main():
    if OPTIONS.unless and os.path.exists(OPTIONS.unless):
        print(f"{NAME} will not start", file=sys.stderr)
        sys.exit(4)
    for line in sys.stdin:
        if OPTIONS.log:
            with open(OPTIONS.log, "a") as log:
                log.write(line)
        hear(json.loads(line))


main()
