#!/usr/bin/env python3
"""The Python SDK's own client, driven by lines. Runs in the environment of setup.sh.

    client.py --era legacy|stateless (--url URL | --sse URL | -- COMMAND [ARG…])

Says `{"ready": REVISION}`, then reads one order a line and answers each with one line; see `answer`. What a server asks of
the client (elicitation, sampling) is answered at once, and named under `asked` in the answer to the order it belongs to.
"""

import argparse
import json
import os
import sys
import warnings

import anyio
import mcp.client.session
import mcp_types as types
from mcp import Client, StdioServerParameters
from mcp.client.sse import sse_client

warnings.simplefilter("ignore")
STATELESS = "2026-07-28"
PATIENCE = 60.0
mcp.client.session.DISCOVER_TIMEOUT_SECONDS = PATIENCE

asked = []


async def elicited(_context, params):
    asked.append("elicitation")
    return types.ElicitResult(action="accept", content={name: True for name in params.requested_schema["properties"]})


async def sampled(_context, _params):
    asked.append("sampling")
    return types.CreateMessageResult(role="assistant", model="none", content=types.TextContent(type="text", text="said it"))


async def answer(client, order):
    asked.clear()
    if "list" in order:
        return {"tools": [tool.name for tool in (await client.list_tools()).tools]}
    if "resource" in order:
        listed = [str(resource.uri) for resource in (await client.list_resources()).resources]
        return {"listed": listed, "text": (await client.read_resource(order["resource"])).contents[0].text}
    if "prompt" in order:
        listed = [prompt.name for prompt in (await client.list_prompts()).prompts]
        got = await client.get_prompt(order["prompt"], order.get("arguments"))
        return {"listed": listed, "text": got.messages[0].content.text}
    steps = []

    async def progress(step, _total, _message):
        steps.append(step)

    with anyio.move_on_after(order.get("cancel_after", PATIENCE)) as scope:
        result = await client.call_tool(order["call"], order.get("arguments"), progress_callback=progress)
    if scope.cancelled_caught:
        return {"cancelled": True}
    return {"result": result.model_dump(by_alias=True, mode="json", exclude_none=True), "steps": steps, "asked": asked[:]}


async def run(options):
    target = options.url or options.sse
    if options.sse:
        target = sse_client(options.sse)
    elif not options.url:
        target = StdioServerParameters(command=options.command[0], args=options.command[1:], env=dict(os.environ))
    mode = "legacy" if options.era == "legacy" else "auto"
    async with Client(
        target, mode=mode, read_timeout_seconds=PATIENCE, cache=None, elicitation_callback=elicited, sampling_callback=sampled
    ) as client:
        if (client.protocol_version == STATELESS) != (options.era == "stateless"):
            raise SystemExit(f"the client speaks {client.protocol_version}, which is not the {options.era} era")
        say({"ready": client.protocol_version})
        async for line in anyio.wrap_file(sys.stdin):
            try:
                said = await answer(client, json.loads(line))
            except Exception as error:  # the SDK raises an error of its own for every JSON-RPC error
                said = {"error": str(error)}
            say(said)


def say(value):
    print(json.dumps(value), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--era", choices=("legacy", "stateless"), required=True)
    parser.add_argument("--url")
    parser.add_argument("--sse")
    parser.add_argument("command", nargs="*")
    anyio.run(run, parser.parse_args())


if __name__ == "__main__":
    main()
