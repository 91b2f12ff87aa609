#!/usr/bin/env python3
"""A real MCP client, the SDK's own, driven by lines: the half of the drive that must run inside a client environment.

    python client.py (--url URL | -- COMMAND [ARG…])

Reads one JSON object a line, `{"list": true}` or `{"call": NAME, "arguments": {…}}`, and answers each with one line:
what the SDK gave back as the model that calls it would see it, or `{"error": {"code", "message"}}`.
An array of orders is carried out all at once, and answered with one array.
SDK 1.x speaks the handshake revisions; SDK 2.x is held to the stateless one, so that nothing falls back unseen.
"""

import argparse
import json
import os
import sys
from contextlib import asynccontextmanager
from importlib.metadata import version

import anyio

STATELESS = "2026-07-28"
# Under load the server needs up to half a minute to start; the SDK's own patience for the first answer is ten seconds.
PATIENCE = 90.0


@asynccontextmanager
async def handshake_session(target):
    """A session of SDK 1.x: `initialize`, then calls."""
    from datetime import timedelta

    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client
    from mcp.client.streamable_http import streamable_http_client

    if isinstance(target, str):
        transport = streamable_http_client(target)
    else:
        transport = stdio_client(StdioServerParameters(command=target[0], args=target[1:], env=dict(os.environ)))
    async with transport as streams:
        async with ClientSession(streams[0], streams[1], read_timeout_seconds=timedelta(seconds=PATIENCE)) as session:
            revision = (await session.initialize()).protocolVersion
            yield session, revision


@asynccontextmanager
async def stateless_session(target):
    """A session of SDK 2.x: `server/discover`, then calls that each carry the protocol version in `_meta`."""
    import mcp.client.session
    from mcp import Client, StdioServerParameters

    mcp.client.session.DISCOVER_TIMEOUT_SECONDS = PATIENCE
    if not isinstance(target, str):
        target = StdioServerParameters(command=target[0], args=target[1:], env=dict(os.environ))
    async with Client(target, mode="auto", read_timeout_seconds=PATIENCE, cache=None) as client:
        if client.protocol_version != STATELESS:
            raise SystemExit(f"the client fell back to {client.protocol_version}; this drive is about {STATELESS}")
        yield client, client.protocol_version


async def answer(session, order):
    if "list" in order:
        tools, cursor = [], None
        while True:
            page = await session.list_tools(cursor=cursor) if cursor else await session.list_tools()
            tools += [tool.name for tool in page.tools]
            cursor = getattr(page, "next_cursor", None) or getattr(page, "nextCursor", None)
            if not cursor:
                return {"tools": tools}
    result = await session.call_tool(order["call"], order.get("arguments"))
    return {"result": result.model_dump(by_alias=True, mode="json", exclude_none=True)}


async def run(target):
    sdk = version("mcp")
    connect = handshake_session if sdk.startswith("1.") else stateless_session
    async with connect(target) as (session, revision):
        say({"ready": revision, "sdk": sdk})
        async for line in anyio.wrap_file(sys.stdin):
            order = json.loads(line)
            if isinstance(order, list):
                said = [None] * len(order)
                async with anyio.create_task_group() as group:
                    for place, single in enumerate(order):
                        group.start_soon(attempt, session, single, said, place)
            else:
                said = [None]
                await attempt(session, order, said, 0)
                said = said[0]
            say(said)


async def attempt(session, order, said, place):
    try:
        said[place] = await answer(session, order)
    except Exception as error:  # the SDKs raise an error of their own for every JSON-RPC error
        data = getattr(error, "error", None)
        said[place] = {"error": {"code": getattr(data, "code", None), "message": str(error), "kind": type(error).__name__}}


def say(value):
    print(json.dumps(value), flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--url")
    arguments.add_argument("command", nargs="*")
    chosen = arguments.parse_args()
    anyio.run(run, chosen.url or chosen.command)


if __name__ == "__main__":
    main()
