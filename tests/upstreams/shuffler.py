#!/usr/bin/env python3
"""An MCP server over stdio that answers in the worst order it can think of, the same one for the same `--seed`.

It holds requests back, answers them in random order, with progress in between, and answers cancelled ones all the same,
late. Each answer repeats what it was asked, so that whoever gets another's can tell: `tools/call` its argument `nonce`, a
list its `cursor` as `nextCursor`. Every list of tools holds `secret`. Both eras.
"""

import argparse
import json
import os
import random
import select
import sys

MOST = 24  # held back at one time
LATE = 64  # cancelled, and still to be answered


def answer(request):
    params = request.get("params", {})
    method = request["method"]
    if method == "initialize":
        result = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}, "prompts": {}}, "serverInfo": {"name": "shuffler", "version": "1"}}
    elif method == "server/discover":
        result = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}, "prompts": {}}}
    elif method == "tools/call":
        result = {"content": [{"type": "text", "text": params["arguments"]["nonce"]}]}
    elif method == "tools/list":
        result = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("echo", "secret")], "nextCursor": params.get("cursor", "")}
    elif method == "prompts/list":
        result = {"prompts": [], "nextCursor": params.get("cursor", "")}
    else:
        result = {}
    if "io.modelcontextprotocol/protocolVersion" in params.get("_meta", {}):
        result |= {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    return {"jsonrpc": "2.0", "id": request["id"], "result": result}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    chance = random.Random(parser.parse_args().seed)
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
                out.append(answer(late.pop(chance.randrange(len(late)))))
            if not held:
                break
            request = held.pop(chance.randrange(len(held)))
            for waiting in [request] + ([chance.choice(held)] if held and chance.random() < 0.2 else []):
                token = waiting.get("params", {}).get("_meta", {}).get("progressToken")
                if token is not None:
                    nonce = waiting["params"].get("cursor") or waiting["params"].get("arguments", {}).get("nonce")
                    out.append({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1, "message": nonce}})
            out.append(answer(request))
        sys.stdout.write("".join(json.dumps(message) + "\n" for message in out))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
