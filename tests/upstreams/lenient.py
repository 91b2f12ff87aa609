#!/usr/bin/env python3
"""An MCP server for tests that reads as carelessly as real ones do, and tells.

It speaks stdio (`--stdio`), streamable HTTP (`--http PORT`), and HTTP+SSE of 2024-11-05 (`--old`), both eras. Whatever bytes arrive, it writes to `--log`,
one JSON object a line:

    {"t": "start", pid, pgid, env, fds}        once
    {"t": "raw", n, b64, methods, …}           every line or HTTP request that reached it, whatever it holds
    {"t": "call", n, reading, tool, arguments} every tool call that SOME reading of those bytes would have run
    {"t": "ran", n, tool, arguments}           every call that it did run (by the reading `--duplicates`)
    {"t": "sent", b64}                         every reply
    {"t": "cancelled"|"closed"|"answered"|"eof"|"signal"|"child", …}

so that a test can say: nothing got through, under any reading. The readings are in readings.py. Needs Python ≥ 3.11 and
nothing else. `selftest.py` shows that it does run the evasions when nothing stands in front of it.
"""

import argparse
import base64
import gzip
import json
import os
import select
import signal
import socket
import ssl
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import readings
from readings import Number, Pairs, member

PROTOCOL_KEY = "io.modelcontextprotocol/protocolVersion"

# Verbatim: odd spacing, number texts and unknown members are what a gateway must not touch.
TOOLS = [
    '{"name":"read_file","title":"Read","description":"Reads a file.","inputSchema":{"type":"object","properties":{"path":{"type":"string"}},"required":["path"]},"annotations":{"readOnlyHint":true}}',
    '{ "description" : "Writes \\u0061 file \\u2028 caf\\u00e9 é", "name" : "write_file" , "inputSchema":{"type":"object","properties":{"path":{"type":"string"},"content":{"type":"string"}},"required":["path","content"]},"x-vendor":{"price":1.50,"big":12345678901234567890123,"exp":1E3,"neg":-0} }',
    '{"name":"delete_repo","description":"Deletes a repository.","inputSchema":{"type":"object","properties":{"repo":{"type":"string"}}},"annotations":{"destructiveHint":true}}',
    '{"name":"transfer","description":"Moves money.","inputSchema":{"type":"object","properties":{"amount":{"type":"number"},"count":{"type":"integer"},"to":{"type":"string"},"fast":{"type":"boolean"},"items":{"type":"array","items":{"type":"object","properties":{"amount":{"type":"number"}},"required":["amount"]}}},"required":["amount","to"],"additionalProperties":false}}',
    '{"name":"echo","description":"Answers with its arguments.","inputSchema":{"type":"object"},"_meta":{"ui":{"resourceUri":"ui://echo/1"}}}',
    '{"name":"slow","inputSchema":{"type":"object","properties":{"seconds":{"type":"number"}}}}',
    '{"name":"big","inputSchema":{"type":"object","properties":{"mb":{"type":"number"}}}}',
    '{"name":"ask","inputSchema":{"type":"object"}}',
    '{"name":"sample","inputSchema":{"type":"object"}}',
    '{"name":"pay","inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"},"count":{"type":"integer","x-mcp-header":"Count"}}}}',
    '{"name":"guarded","description":"A schema that points elsewhere.","inputSchema":{"type":"object","properties":{"x":{"$ref":"http://127.0.0.1:9/schema.json"}},"required":["x"]}}',
]


class Log:
    """One line per event, each in a single append, so that several processes may share the file."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if path else None
        self.numbers = count(1)

    def write(self, kind, **facts):
        if self.fd is not None:
            text = json.dumps({"t": kind, **facts}, ensure_ascii=False)
            os.write(self.fd, (text + "\n").encode("utf-8", "replace"))  # `?` for half a surrogate pair


def dumps(value):
    """JSON text; numbers as they were spelt."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{json.dumps(k)}:{dumps(v)}" for k, v in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dumps, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k, ensure_ascii=False)}:{dumps(v)}" for k, v in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


class Server:
    """What it answers. `emit` (per exchange) takes one JSON text towards the client."""

    def __init__(self, options, log):
        self.options, self.log = options, log
        self.waiting = {}  # id of our own requests -> [event, answer]
        self.cancelled = set()
        self.insisting = {}  # id of a call that is answered when it is cancelled -> how
        self.listeners = 0
        self.numbers = count(1)

    # Gives True when `message` was a request that will be (or was) answered through `emit`.
    def take(self, number, message, emit):
        reader = self.options.duplicates
        method, identity = member(message, "method", reader), member(message, "id", reader)
        params = member(message, "params", reader)
        params = params if isinstance(params, Pairs) else Pairs()
        if method is None:
            self.answered(message)
            return False
        meta = member(params, "_meta", "last")
        modern = isinstance(meta, Pairs) and member(meta, PROTOCOL_KEY, "last") is not None
        if self.options.era not in ("both", "modern" if modern else "legacy") and method not in ("initialize", "server/discover"):
            # A server of one era does nothing for the other, so that whatever of it came here would show.
            self.reply(emit, identity, Failure(-32600, "that is not said in this era"))
            return identity is not None
        if readings.is_tools_call(method) or any(call[0] == reader for call in readings.calls(message)):
            self.call(number, message, params, identity, emit)
            return identity is not None
        if isinstance(method, str) and method.startswith("notifications/"):
            if method == "notifications/cancelled":
                wanted = member(params, "requestId", "last")
                self.cancelled.add(dumps(wanted))
                self.log.write("cancelled", id=dumps(wanted))
                self.insist(wanted)  # before the end of the input is read, which may be the next thing
            return False
        if identity is None:
            return False
        if method == "subscriptions/listen" and self.options.quiet:
            self.listeners += 1
            self.log.write("listening", count=self.listeners)
            emit('{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{},"_meta":{"io.modelcontextprotocol/subscriptionId":%s}}}' % dumps(identity))
            return True
        self.reply(emit, identity, self.result(str(method), params, modern), is_list=method == "tools/list")
        return True

    def answered(self, message):
        identity = dumps(member(message, "id", "last"))
        self.log.write("answered", id=identity, text=dumps(message))
        if identity in self.waiting:
            event = self.waiting.pop(identity)
            event[1] = message
            event[0].set()

    def result(self, method, params, modern):
        extra = ',"resultType":"complete"' if modern else ""
        if method == "initialize":
            if self.options.era == "modern":
                return Failure(-32022, "Unsupported protocol version")
            version = member(params, "protocolVersion", "last")
            return ('{"protocolVersion":%s,"capabilities":{"tools":{"listChanged":true},"prompts":{},"resources":{},"experimental":{"x-odd":{"n":1.0}}},'
                    '"serverInfo":{"name":"lenient","version":""},"instructions":"Read \\u2028 carefully."}') % dumps(version or "2025-11-25")
        if method == "server/discover":
            if self.options.era == "legacy":
                return Failure(-32601, "Method not found")
            return ('{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}},'
                    '"serverInfo":{"name":"lenient","version":"1"},"ttlMs":60000,"cacheScope":"public"}')
        if method == "tools/list":
            return self.tools(params, modern)
        if method == "prompts/list":
            return '{"prompts":[{"name":"greet","description":"Greets."}]%s}' % extra
        if method == "prompts/get":
            return '{"messages":[{"role":"user","content":{"type":"text","text":"hello"}}]%s}' % extra
        if method == "resources/list":
            return '{"resources":[{"uri":"file:///etc/motd","name":"motd"}]%s}' % extra
        if method == "resources/templates/list":
            return '{"resourceTemplates":[]%s}' % extra
        if method == "resources/read":
            return '{"contents":[{"uri":"file:///etc/motd","text":"hello"}]%s}' % extra
        if method == "completion/complete":
            return '{"completion":{"values":["a"]}%s}' % extra
        if method == "ping" or method == "logging/setLevel":
            return "{}"
        if method.startswith("x-ok/"):
            return '{"odd":true%s}' % extra
        return Failure(-32601, "Method not found")

    def tools(self, params, modern):
        kind = self.options.list
        tail = ',"resultType":"complete","ttlMs":60000,"cacheScope":"public"' if modern else ""
        tools = list(TOOLS)
        if kind == "shape":
            return '{"tools":{"0":%s}%s}' % (TOOLS[2], tail)
        if kind == "strings":
            return '{"tools":["delete_repo",%s]%s}' % (TOOLS[2], tail)
        if kind == "absent":
            return '{"Tools":[%s]%s}' % (TOOLS[2], tail)
        if kind == "twice-key":
            return '{"tools":[],"tools":[%s]%s}' % (TOOLS[2], tail)
        if kind == "hidden-name":  # the entry has the name twice: a careless client shows the second
            tools = ['{"name":"echo","name":"delete_repo","inputSchema":{"type":"object"}}', '{"Name":"delete_repo","inputSchema":{}}']
        if kind == "headers":  # annotations that 2026-07-28 forbids: those tools must not be listed
            tools += [('{"name":"bad_%d","inputSchema":{"type":"object","properties":{"a":%s}}}' % (n, schema)) for n, schema in enumerate([
                '{"type":"string","x-mcp-header":"A\\r\\nEvil: 1"}', '{"type":"number","x-mcp-header":"N"}', '{"type":"string","x-mcp-header":""}',
                '{"type":"array","items":{"type":"string","x-mcp-header":"I"}}', '{"type":"string","x-mcp-header":"A B"}'])]
        if kind == "pages":
            cursor = member(params, "cursor", "last")
            if cursor is None:
                return '{"tools":[%s,%s],"nextCursor":"","_meta":{"page":1.0}%s}' % (TOOLS[2], TOOLS[4], tail)
            return '{"tools":[%s,%s]%s}' % (TOOLS[2], TOOLS[0], tail)
        if self.options.big_list:
            pad = "x" * int(self.options.big_list * 1_000_000 / 50)
            tools += ['{"name":"padded_%d","description":"%s","inputSchema":{"type":"object"}}' % (n, pad) for n in range(50)]
        return '{"_meta":{"odd":1.10},"tools": [ %s ],"x-unknown":[1,2.0,3e0]%s}' % (" , ".join(tools), tail)

    def call(self, number, message, params, identity, emit):
        found = [c for c in readings.calls(message) if c[0] == self.options.duplicates] or readings.calls(message)
        name, arguments = (found[0][1], found[0][2]) if found else ("", {})
        self.log.write("ran", n=number, tool=name[:200])
        meta = member(params, "_meta", "last")
        modern = isinstance(meta, Pairs) and member(meta, PROTOCOL_KEY, "last") is not None
        tail = ',"resultType":"complete"' if modern else ""
        if self.options.crash_on_call:
            os._exit(self.options.exit_code or 3)
        if self.options.error_after_acting or name == "fail":
            return self.reply(emit, identity, Failure(-32000, "it failed after all"))
        if self.options.hang or name == "hang":
            return None
        text = dumps(arguments)
        if name == "crash":
            os._exit(int(quantity(arguments, "code", 3)))
        if name == "noisy":
            emit.noise()
        if name == "slow":
            self.sleep(quantity(arguments, "seconds", 1), dumps(identity), emit)
        if name == "stubborn":  # answers all the same, and only once it was told to stop
            self.insisting[dumps(identity)] = (emit, tail)
            self.sleep(quantity(arguments, "seconds", 60), dumps(identity), emit)
            return self.insist(identity)
        if name == "big":
            text = "x" * int(quantity(arguments, "mb", 5) * 1_000_000)
        if name in ("ask", "sample"):
            text = self.ask_client(name, arguments, emit)
        if name == "progress":
            token = member(meta, "progressToken", "last") if isinstance(meta, Pairs) else None
            for step in (1, 2, 3):
                emit('{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":%d.50,"total":3}}' % (dumps(token), step))
        if name == "changed":
            emit('{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}')
        if name == "spawn":
            self.log.write("child", pid=linger())
        is_error = ',"isError":true' if name == "tool_error" else ""
        result = '{"content":[{"type":"text","text":%s}]%s%s,"x-odd":{"n":1.10}}' % (json.dumps(text), is_error, tail)
        if name == "wrong_id":
            emit('{"jsonrpc":"2.0","id":"never-asked","result":{"content":[{"type":"text","text":"stray"}]}}')
            emit('{"jsonrpc":"2.0","id":null,"result":{"content":[{"type":"text","text":"stray"}]}}')
        self.reply(emit, identity, result)
        if name == "twice":
            self.reply(emit, identity, '{"content":[{"type":"text","text":"second"}]%s}' % tail)
        return None

    def sleep(self, seconds, identity, emit):
        until = time.monotonic() + seconds
        while time.monotonic() < until and identity not in self.cancelled:
            if emit.gone():
                self.log.write("closed", id=identity)
                return
            time.sleep(0.01)

    def insist(self, identity):
        emit, tail = self.insisting.pop(dumps(identity), (None, None))
        if emit is not None:
            text = json.dumps("known to the " + "server alone")
            emit('{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":%s}}' % text)
            self.reply(emit, identity, '{"content":[{"type":"text","text":%s}]%s}' % (text, tail))
            self.log.write("insisted")

    def ask_client(self, name, arguments, emit):
        identity = json.dumps(arguments.get("id", f"server-{next(self.numbers)}"))
        event = [threading.Event(), None]
        self.waiting[identity] = event
        if name == "ask":
            emit('{"jsonrpc":"2.0","id":%s,"method":"elicitation/create","params":{"message":"Sure?","requestedSchema":{"type":"object","properties":{}}}}' % identity)
        else:
            emit('{"jsonrpc":"2.0","id":%s,"method":"sampling/createMessage","params":{"messages":[],"maxTokens":1.0}}' % identity)
        if not event[0].wait(20):
            return "no answer"
        return dumps(event[1])

    def reply(self, emit, identity, result, is_list=False):
        if identity is None:
            return
        if isinstance(result, Failure):
            emit('{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":%s,"data":{"odd":1.0}}}' % (dumps(identity), result.code, json.dumps(result.message)))
        elif is_list and self.options.reply_file:
            emit(open(self.options.reply_file, encoding="utf-8").read().replace("{{id}}", dumps(identity)))
        elif is_list and self.options.list == "broken":
            emit('{"jsonrpc":"2.0","id":%s,"result":%s' % (dumps(identity), result[:-20]))
        elif is_list and self.options.list == "wrong-id":
            emit('{"jsonrpc":"2.0","id":"%s-other","result":%s}' % (dumps(identity).strip('"'), result))
            emit('{"jsonrpc":"2.0","id":%s,"result":%s}' % (dumps(identity), result))
        else:
            emit('{"jsonrpc":"2.0","id":%s,"result":%s}' % (dumps(identity), result))


def quantity(arguments, key, default):
    value = arguments.get(key)
    return float(value) if isinstance(value, (int, float)) else default


class Failure:
    """A JSON-RPC error."""

    def __init__(self, code, message):
        self.code, self.message = code, message


def record(log, number, messages, headers=(), **facts):
    """Writes what arrived and every call that some reading of it would run."""
    log.write("raw", n=number, methods=sorted({m for message in messages for m in readings.methods(message)}), headers=list(headers), **facts)
    seen = {}
    for message in messages:
        for reading, tool, arguments in readings.calls(message, headers):
            key = (tool[:200], json.dumps(arguments)[:2000])
            seen.setdefault(key, (tool, arguments, []))[2].append(reading)
    for tool, arguments, how in seen.values():
        tool = tool[:200]
        if len(json.dumps(arguments)) > 100_000:
            arguments = "(long)"
        log.write("call", n=number, tool=tool, arguments=arguments, reading=sorted(set(how)))


# ---------------------------------------------------------------- stdio

class StdioEmit:
    def __init__(self, server):
        self.server, self.lock = server, threading.Lock()

    def __call__(self, text):
        if self.server.options.noise:
            self.noise()
        data = text.encode() + b"\n"
        self.server.log.write("sent", b64=base64.b64encode(data[:20_000]).decode())
        self.write(data)

    def write(self, data):
        with self.lock:
            try:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            except OSError:
                pass  # nobody reads any more; what has been sent to us is run all the same

    def noise(self):
        self.write(b'Loading model... 50%\r\n\n{"level":"info","msg":"not MCP"}\n[1,2\n\xff\xfe\n"text"\n42\n')

    def gone(self):
        return False


def serve_stdio(options, log):
    server = Server(options, log)
    emit = StdioEmit(server)
    if options.noise:
        emit.noise()
    rest = b""
    while True:
        chunk = os.read(0, 1 << 20)
        if not chunk:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            take_line(server, emit, line)
    log.write("eof")
    while options.ignore_eof:
        time.sleep(0.05)
    os._exit(options.exit_code)


def take_line(server, emit, line):
    if not line.strip():
        return
    number = next(server.log.numbers)
    messages = readings.messages(line, lines=True)
    record(server.log, number, messages, b64=base64.b64encode(line[:65_536]).decode(), via="stdio")
    for message in messages:
        # In a thread of its own, for a call may wait for the client, whose answer arrives here.
        slow = any(call[1] in ("slow", "stubborn", "ask", "sample") for call in readings.calls(message))
        if slow:
            threading.Thread(target=server.take, args=(number, message, emit), daemon=True).start()
        else:
            server.take(number, message, emit)


# ---------------------------------------------------------------- HTTP

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "lenient"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def take(self):
        options, log = self.server.options, self.server.mcp.log
        body = self.body()
        headers = [(key, value) for key, value in self.headers.items()]
        number = next(log.numbers)
        charset = self.headers.get_content_charset() or None
        encodings = [e for e in (self.headers.get("content-encoding") or "").split(",") if e.strip() and e.strip() != "identity"]
        messages = readings.messages(body, charset, encodings) if body else []
        record(log, number, messages, headers, b64=base64.b64encode(body[:65_536]).decode(), via="http", http=self.command, path=self.path)
        if options.redirect:
            return self.answer(307, b"", [("Location", options.redirect)])
        if options.status:
            return self.answer(options.status, b'<html>no</html>', [("Content-Type", "text/html")])
        if options.old:
            return self.take_old(number, messages)
        if self.command == "GET" and not body:
            return self.stream()
        if self.command == "DELETE" and not body:
            return self.answer(200, b"")
        emit = HttpEmit(self, sse=options.sse or any(call[1] in ("ask", "sample", "progress", "noisy") for m in messages for call in readings.calls(m)))
        asked = False
        for message in messages:
            if member(message, "method", "last") == "initialize" and options.era != "modern":
                emit.headers.append(("Mcp-Session-Id", uuid.uuid4().hex))
            asked |= self.server.mcp.take(number, message, emit)
        return emit.finish(asked)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_HEAD = do_TRACE = take

    def body(self):
        if "chunked" in (self.headers.get("transfer-encoding") or "").lower():
            out = b""
            while True:
                size = int(self.rfile.readline().split(b";")[0].strip() or b"0", 16)
                if size == 0:
                    while self.rfile.readline().strip():
                        pass
                    return out
                out += self.rfile.read(size)
                self.rfile.readline()
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def take_old(self, number, messages):
        """HTTP+SSE: a stream at /sse (and /mcp), posts to /messages, answers on the stream."""
        path, _, query = self.path.partition("?")
        if self.command == "GET" and path in ("/sse", "/mcp"):
            token = uuid.uuid4().hex
            emit = OldEmit(self)
            self.server.streams[token] = emit
            endpoint = self.server.options.endpoint or "/messages?session={token}"
            emit.event("endpoint", endpoint.replace("{token}", token).replace("{port}", str(self.server.server_address[1])))
            self.close_connection = True
            while not emit.gone():
                time.sleep(0.02)
            del self.server.streams[token]
            self.server.mcp.log.write("closed", id=token)
            return None
        emit = self.server.streams.get(query.removeprefix("session="))
        if self.command != "POST" or path != "/messages" or emit is None:
            return self.answer(405 if path in ("/sse", "/mcp") else 404, b"")
        # What is posted next may be what this call waits for: not on this connection.
        self.close_connection = True
        self.answer(202, b"Accepted", [("Connection", "close")])
        for message in messages:
            self.server.mcp.take(number, message, emit)
        return None

    def answer(self, status, body, headers=()):
        self.send_response(status)
        for key, value in headers:
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self):
        """The legacy GET stream: a comment, then quiet until the client goes."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b": hello\n\n")
        self.wfile.flush()
        self.close_connection = True
        while not hung_up(self.connection):
            time.sleep(0.02)


def hung_up(connection):
    ready, _, _ = select.select([connection], [], [], 0)
    try:
        return bool(ready) and connection.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        return True


class OldEmit:
    """The stream of one client of HTTP+SSE."""

    def __init__(self, handler):
        self.handler, self.lock = handler, threading.Lock()
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Connection", "close")
        handler.end_headers()

    def __call__(self, text):
        self.handler.server.mcp.log.write("sent", b64=base64.b64encode(text.encode()[:20_000]).decode())
        self.event("message", text)

    def event(self, name, data):
        with self.lock:
            try:
                self.handler.wfile.write(f"event: {name}\ndata: {data}\n\n".encode())
                self.handler.wfile.flush()
            except OSError:
                pass

    def noise(self):
        self.event("odd", "not MCP")

    def gone(self):
        return hung_up(self.handler.connection)


class HttpEmit:
    """Collects a JSON reply, or streams events."""

    def __init__(self, handler, sse):
        self.handler, self.sse, self.headers, self.sent, self.open = handler, sse, [], [], False

    def __call__(self, text):
        self.handler.server.mcp.log.write("sent", b64=base64.b64encode(text.encode()[:20_000]).decode())
        if not self.sse:
            self.sent.append(text)
            return
        self.begin()
        self.event(f"event: message\nid: {uuid.uuid4().hex}\ndata: {text}\n\n".encode())

    def begin(self):
        if not self.open:
            self.open = True
            self.handler.send_response(200)
            for key, value in self.headers:
                self.handler.send_header(key, value)
            self.handler.send_header("Content-Type", "text/event-stream")
            self.handler.send_header("Transfer-Encoding", "chunked")
            self.handler.end_headers()
            self.event(b": a comment\n\n")

    def event(self, data):
        try:
            self.handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.handler.wfile.flush()
        except OSError:
            pass

    def noise(self):
        if self.sse:
            self.begin()
            self.event(b": noise\n\nevent: odd\ndata: not MCP\n\n")

    def gone(self):
        return hung_up(self.handler.connection)

    def finish(self, asked):
        handler = self.handler
        if self.open:
            return self.event(b"")
        if asked and not self.sent:  # a call that hangs
            while not self.gone():
                time.sleep(0.02)
            handler.close_connection = True
            return None
        if not self.sent:
            return handler.answer(202, b"", self.headers)
        options = handler.server.options
        text = self.sent[0] if len(self.sent) == 1 else "[" + ",".join(self.sent) + "]"
        body, extra = text.encode(), [("Content-Type", "application/json")]
        if options.list == "gzip" and '"inputSchema"' in text:
            body = gzip.compress(body)
            extra.append(("Content-Encoding", "gzip"))
        return handler.answer(200, body, self.headers + extra)


class HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        pass  # clients that hang up are part of the tests


def serve_http(options, log):
    server = HttpServer(("127.0.0.1", options.http), Handler)
    server.options, server.mcp, server.streams = options, Server(options, log), {}
    if options.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.tls[0], options.tls[1])
        if options.tls_client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(options.tls_client_ca)
        # The handshake belongs to the first read, in the thread of the connection.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print(f"listening {server.server_address[1]}", flush=True)
    server.serve_forever(poll_interval=0.05)


# ---------------------------------------------------------------- start

def linger():
    """A grandchild in our process group that would outlive us."""
    pid = os.fork()
    if pid == 0:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for fd in range(3):
            os.close(fd)
        time.sleep(600)
        os._exit(0)
    return pid


def descriptors():
    found = []
    for fd in sorted(os.listdir("/proc/self/fd"), key=int):
        try:
            found.append([int(fd), os.readlink(f"/proc/self/fd/{fd}")])
        except OSError:
            pass  # the directory we are reading
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stdio", action="store_true")
    parser.add_argument("--http", type=int, metavar="PORT", help="0: any; printed as `listening PORT`")
    parser.add_argument("--log", default=os.environ.get("LENIENT_LOG"))
    parser.add_argument("--duplicates", choices=readings.DUPLICATES, default="last")
    parser.add_argument("--era", choices=("both", "legacy", "modern"), default="both")
    parser.add_argument("--list", default="plain", choices=("plain", "broken", "shape", "strings", "absent", "twice-key", "hidden-name", "headers", "pages", "wrong-id", "gzip"))
    parser.add_argument("--reply-file", help="the whole reply to tools/list; {{id}} stands for the id")
    parser.add_argument("--big-list", type=float, default=0, metavar="MB")
    parser.add_argument("--print-tools", action="store_true", help="print the list of tools, for other servers to show, and end")
    parser.add_argument("--noise", action="store_true")
    parser.add_argument("--sse", action="store_true", help="answer every POST with an event stream")
    parser.add_argument("--old", action="store_true", help="HTTP+SSE of 2024-11-05 at /sse and /mcp, and no streamable HTTP")
    parser.add_argument("--endpoint", help="what the first event of such a stream says; {token} and {port} stand for themselves")
    parser.add_argument("--start-delay", type=float, default=0, metavar="SECONDS")
    parser.add_argument("--ignore-sigterm", action="store_true")
    parser.add_argument("--ignore-eof", action="store_true")
    parser.add_argument("--fork", action="store_true")
    parser.add_argument("--crash-on-call", action="store_true")
    parser.add_argument("--error-after-acting", action="store_true")
    parser.add_argument("--hang", action="store_true")
    parser.add_argument("--exit-code", type=int, default=0)
    parser.add_argument("--redirect", metavar="URL")
    parser.add_argument("--quiet", action="store_true", help="let clients listen, and tell them nothing more than that")
    parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"), help="speak HTTPS")
    parser.add_argument("--tls-client-ca", metavar="FILE", help="and ask clients for certificates that this authority has signed")
    parser.add_argument("--status", type=int, help="answer every HTTP request with this status and HTML")
    options = parser.parse_args()
    if options.print_tools:
        print('{"tools":[%s]}' % ",".join(TOOLS))
        return
    log = Log(options.log)
    log.write("start", pid=os.getpid(), pgid=os.getpgrp(), env=sorted(os.environ), fds=descriptors())
    if options.ignore_sigterm:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda n, _: log.write("signal", number=n))
    if options.fork:
        log.write("child", pid=linger())
    time.sleep(options.start_delay)
    if options.stdio:
        serve_stdio(options, log)
    else:
        serve_http(options, log)


if __name__ == "__main__":
    main()
