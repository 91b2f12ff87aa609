#!/usr/bin/env python3
"""A server for tests that lets everything it says be kept by anybody for an hour, and has each list on two pages.

`paged.py LOG NAME [--http]` is served by `two_eras.py`. On the first page is `one`, on the second `two`; resources are
`NAME:///one` and so on.
"""

import sys

from two_eras import Upstream, serve

NAME = sys.argv[2]
LISTS = {
    "tools/list": ("tools", lambda name: {"name": name, "inputSchema": {"type": "object"}}),
    "prompts/list": ("prompts", lambda name: {"name": name}),
    "resources/list": ("resources", lambda name: {"uri": f"{NAME}:///{name}", "name": name}),
    "resources/templates/list": ("resourceTemplates", lambda name: {"uriTemplate": f"{NAME}:///{name}/{{id}}", "name": name}),
}


class Paged(Upstream):
    def answer(self, method, params, modern, emit, identity):
        return self.said(method, params) | ({"ttlMs": 3_600_000, "cacheScope": "public"} if modern else {})

    def said(self, method, params):
        if method == "initialize":
            return {"protocolVersion": params["protocolVersion"], "capabilities": {}, "serverInfo": {"name": "paged", "version": "1"}}
        if method == "server/discover":
            return {"supportedVersions": ["2026-07-28", "2025-11-25"], "capabilities": {"tools": {}, "prompts": {}, "resources": {}}}
        if method in LISTS:
            key, entry = LISTS[method]
            return {key: [entry("two")]} if params.get("cursor") else {key: [entry("one")], "nextCursor": "2"}
        if method == "resources/read":
            return {"contents": [{"uri": params["uri"], "text": "mail to ada@example.com"}]}
        return {}


if __name__ == "__main__":
    serve(Paged(sys.argv[1]), sys.argv[3:])
