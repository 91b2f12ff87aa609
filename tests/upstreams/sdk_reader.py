#!/usr/bin/env python3
"""An upstream on the Python SDK (`mcp` 2.x): it reads as that SDK does, and runs whatever tool it is asked for.

`--stdio` or `--http PORT` (printed as `listening PORT`), both eras. Every call that it runs is one line of `--log`:
`{"t": "ran", "tool", "arguments"}`. `--tools FILE` is the list it shows. Started with the SDK's own interpreter. With
`--modern-only` it knows no handshake, over HTTP.

Some tools do what a client may want to see: `progress` reports three steps, `hang` waits to be cancelled (and logs
`{"t": "cancelled"}`), `ask` elicits, `sample` samples: in the legacy era by a request of its own, in the stateless one
within its result.
"""

import argparse
import json
import os
import socket
import warnings

import anyio
import mcp_types as types
from mcp.server import Server
from mcp.server.stdio import stdio_server

warnings.simplefilter("ignore")
STATELESS = "2026-07-28"
FORM = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"]}


class Reader:
    def __init__(self, log, tools):
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with open(tools, encoding="utf-8") as file:
            self.tools = [types.Tool.model_validate(tool) for tool in json.load(file)["tools"]]
        self.server = Server(
            "sdk-reader",
            on_list_tools=self.list_tools,
            on_call_tool=self.call_tool,
            on_list_resources=self.list_resources,
            on_read_resource=self.read_resource,
            on_list_prompts=self.list_prompts,
            on_get_prompt=self.get_prompt,
        )

    def write(self, **entry):
        os.write(self.log, (json.dumps(entry) + "\n").encode())

    async def list_tools(self, _context, _params):
        return types.ListToolsResult(tools=self.tools, ttl_ms=0, cache_scope="private")

    async def call_tool(self, context, params):
        self.write(t="ran", tool=params.name, arguments=params.arguments)
        said = f"ran {params.name}"
        if params.name == "progress":
            for step in (1, 2, 3):
                await context.session.report_progress(step, 3)
                # The TypeScript SDK takes in a result before the steps that stand in front of it, and then drops them.
                await anyio.sleep(0.1)
        elif params.name == "hang":
            try:
                await anyio.sleep(60)
            except anyio.get_cancelled_exc_class():
                self.write(t="cancelled")
                raise
        elif params.name in ("ask", "sample"):
            answer = await self.ask(context, params)
            if isinstance(answer, types.InputRequiredResult):
                return answer
            said = f"{params.name}: {answer}"
        return types.CallToolResult(content=[types.TextContent(type="text", text=said)])

    async def ask(self, context, params):
        """What the client answers, or the result that asks for it."""
        elicit = types.ElicitRequest(params=types.ElicitRequestFormParams(message="Sure?", requested_schema=FORM))
        message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text="Say it."))
        sample = types.CreateMessageRequest(params=types.CreateMessageRequestParams(messages=[message], max_tokens=9))
        if context.protocol_version == STATELESS:
            if not params.input_responses:
                request = elicit if params.name == "ask" else sample
                return types.InputRequiredResult(input_requests={"one": request}, request_state="state é \u2028 1.0")
            self.write(t="state", state=params.request_state)
            answer = params.input_responses["one"]
        elif params.name == "ask":
            answer = await context.session.elicit_form("Sure?", FORM, related_request_id=context.request_id)
        else:
            answer = await context.session.create_message([message], max_tokens=9, related_request_id=context.request_id)
        return answer.model_dump_json(by_alias=True, exclude_none=True) if hasattr(answer, "model_dump_json") else json.dumps(answer)

    async def list_resources(self, _context, _params):
        resource = types.Resource(uri="reader://motd", name="motd")
        return types.ListResourcesResult(resources=[resource], ttl_ms=0, cache_scope="private")

    async def read_resource(self, _context, params):
        content = types.TextResourceContents(uri=params.uri, text="hello")
        return types.ReadResourceResult(contents=[content], ttl_ms=0, cache_scope="private")

    async def list_prompts(self, _context, _params):
        return types.ListPromptsResult(prompts=[types.Prompt(name="greet")], ttl_ms=0, cache_scope="private")

    async def get_prompt(self, _context, _params):
        message = types.PromptMessage(role="user", content=types.TextContent(type="text", text="hello"))
        return types.GetPromptResult(messages=[message])

    async def over_stdio(self):
        async with stdio_server() as (read, write):
            await self.server.run(read, write, self.server.create_initialization_options())

    async def over_http(self, port, modern_only):
        import uvicorn

        listener = socket.socket()
        listener.bind(("127.0.0.1", port))
        listener.listen(256)
        print(f"listening {listener.getsockname()[1]}", flush=True)
        app = self.server.streamable_http_app()
        config = uvicorn.Config(without_handshake(app) if modern_only else app, log_level="error", timeout_graceful_shutdown=1)
        await uvicorn.Server(config).serve(sockets=[listener])


def without_handshake(app):
    """The same server, to which `initialize` is a method like any other that it does not know."""

    async def answer(scope, receive, send):
        if scope["type"] != "http" or scope["method"] != "POST":
            return await app(scope, receive, send)
        body = b""
        while True:
            part = await receive()
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        message = json.loads(body or b"null")
        if isinstance(message, dict) and message.get("method") == "initialize":
            error = {"code": -32601, "message": "Method not found"}
            text = json.dumps({"jsonrpc": "2.0", "id": message.get("id"), "error": error}).encode()
            head = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
            await send({"type": "http.response.start", "status": 404, "headers": head})
            return await send({"type": "http.response.body", "body": text})
        given = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again():
            return next(given, None) or await receive()

        return await app(scope, again, send)

    return answer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stdio", action="store_true")
    parser.add_argument("--http", type=int, metavar="PORT")
    parser.add_argument("--modern-only", action="store_true")
    parser.add_argument("--log", required=True)
    parser.add_argument("--tools", required=True)
    options = parser.parse_args()
    reader = Reader(options.log, options.tools)
    anyio.run(reader.over_stdio) if options.stdio else anyio.run(reader.over_http, options.http, options.modern_only)


if __name__ == "__main__":
    main()
