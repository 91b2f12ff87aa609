#!/usr/bin/env python3
"""An MCP server for tests that never writes JSON of its own where the exact text matters.

Over stdio (`--stdio`), streamable HTTP (`--http PORT`, printed as `listening PORT`) or HTTP+SSE of 2024-11-05 (`--old`),
both eras, or `--era legacy|modern` alone: then it does nothing for the other. Every message that reaches it is one line of `--log`, in Base64. To a `tools/call` it answers with the bytes that the argument `back` holds in Base64,
as they are, in the place of `structuredContent`: so a test chooses both what goes and what comes, byte by byte.

It finds its way by Python's own reader, which is a lenient one; what that cannot read is logged and not answered.
"""

import argparse
import base64
import json
import os
import queue
import sys
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TAIL = b',"resultType":"complete"'
LIST = b'{"tools":[{"name":"echo","inputSchema":{"type":"object"}}],"ttlMs":0,"cacheScope":"public"'


class Log:
    def __init__(self, path):
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, message):
        os.write(self.fd, base64.b64encode(message) + b"\n")


def answer(text, era):
    """The answer to a message, as bytes; nothing where none is due."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or message.get("id") is None or "method" not in message:
        return None
    params = message.get("params") or {}
    modern = "io.modelcontextprotocol/protocolVersion" in params.get("_meta", {})
    tail = (TAIL if modern else b"") + b"}"
    method = message["method"]
    said_in = {"initialize": "legacy", "server/discover": "modern"}.get(method, "modern" if modern else "legacy")
    kind = b"result"
    if era not in ("both", said_in):
        kind, result = b"error", b'{"code":-32601,"message":"that is not said in this era"}'
    elif method == "initialize":
        version = json.dumps(params["protocolVersion"]).encode()
        result = b'{"protocolVersion":%s,"capabilities":{"tools":{}},"serverInfo":{"name":"parrot","version":"1"}}' % version
    elif method == "server/discover":
        result = b'{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"public"' + tail
    elif method == "tools/list":
        result = LIST + tail
    elif method == "tools/call":
        result = b'{"content":[],"structuredContent":' + base64.b64decode(params["arguments"].get("back", "e30=")) + tail
    else:
        result = b"{" + tail.lstrip(b",")
    return b'{"jsonrpc":"2.0","id":%s,"%s":%s}' % (json.dumps(message["id"]).encode(), kind, result)


def serve_stdio(log, era):
    for line in sys.stdin.buffer:
        line = line.rstrip(b"\n")
        log.write(line)
        text = answer(line, era)
        if text is not None:
            # One line, whatever is in it: a test that sends a line feed back wants to see what becomes of that.
            sys.stdout.buffer.write(text + b"\n")
            sys.stdout.buffer.flush()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.server.old:
            return self.take_old(body)
        self.server.log.write(body)
        text = answer(body, self.server.era)
        self.send_response(200 if text is not None else 202)
        if text is not None and b'"initialize"' in body:
            self.send_header("Mcp-Session-Id", uuid.uuid4().hex)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text or b"")))
        self.end_headers()
        self.wfile.write(text or b"")

    def take_old(self, body):
        """What is posted is answered on the stream."""
        stream = self.server.streams.get(self.path.removeprefix("/messages?"))
        if stream is None:
            return self.empty(405)
        self.server.log.write(body)
        self.empty(202)
        stream.put(answer(body, "legacy"))

    def do_GET(self):
        if not self.server.old:
            return self.empty(405)
        name, stream = uuid.uuid4().hex, queue.Queue()
        self.server.streams[name] = stream
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"event: endpoint\ndata: /messages?%s\n\n" % name.encode())
        while True:
            self.wfile.flush()
            text = stream.get()
            if text is not None:
                self.wfile.write(b"event: message\ndata: %s\n\n" % text)

    def do_DELETE(self):
        self.empty(405)

    def empty(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


class HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stdio", action="store_true")
    parser.add_argument("--http", type=int, metavar="PORT")
    parser.add_argument("--old", action="store_true", help="HTTP+SSE of 2024-11-05, and no streamable HTTP")
    parser.add_argument("--era", choices=("both", "legacy", "modern"), default="both")
    parser.add_argument("--log", required=True)
    options = parser.parse_args()
    log = Log(options.log)
    if options.stdio:
        return serve_stdio(log, options.era)
    server = HttpServer(("127.0.0.1", options.http), Handler)
    server.log, server.era, server.old, server.streams = log, options.era, options.old, {}
    print(f"listening {server.server_address[1]}", flush=True)
    server.serve_forever(poll_interval=0.05)


if __name__ == "__main__":
    main()
