#!/usr/bin/env python3
"""A stand-in for the AWS HealthOmics workflows API, on loopback, with nothing but the standard library.

It lets the real awslabs.aws-healthomics-mcp-server complete real calls without AWS, and it writes down every request it
received. That record is what the drive judges by: a denied call is one that is not in it.

    python3 omics_stub.py [--port 0]        prints `READY http://127.0.0.1:PORT`, then serves until it is stopped

Run the MCP server with

    HEALTHOMICS_ENDPOINT_URL=http://127.0.0.1:PORT
    AWS_DISABLE_HOST_PREFIX_INJECTION=true  else botocore dials http://workflows-127.0.0.1:PORT

For the drive, never for the MCP server:

    GET  /__calls    every request so far: [{n, op, method, path, query, body, signed, access_key}]
    POST /__reset    forget the requests and the state
    POST /__fail     {"op": "StartRun", "status": 429, "type": "ThrottlingException", "times": 1}
"""

import argparse
import json
import re
import threading
import uuid
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

REGION = "us-east-1"
ACCOUNT = "123456789012"


class ApiError(Exception):
    """An error as AWS answers it: a status, a type for the header, a message for the body."""

    def __init__(self, status, kind, message):
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message


class Omics:
    """The state of the imaginary account, and one method for each operation we know.

    A method takes the request's body, its query and the parts of its path, and gives a status and a body.
    """

    def __init__(self):
        self.calls, self.faults = [], {}
        self.runs, self.groups, self.batches = {}, {}, {}
        self.answered = {}  # requestId -> the answer it got: StartRun is idempotent by it
        self.last_id = 1000000

    def create(self, table, kind, body, **more):
        self.last_id += 1
        number = str(self.last_id)
        kept = {
            "id": number,
            "arn": f"arn:aws:omics:{REGION}:{ACCOUNT}:{kind}/{number}",
            "tags": body.get("tags") or {},
            "creationTime": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            **more,
        }
        table[number] = {key: value for key, value in kept.items() if value is not None}
        return table[number]

    def start_run(self, body, query, path):
        need(body, "roleArn", "outputUri", "requestId")
        if body["requestId"] in self.answered:
            return 201, self.answered[body["requestId"]]
        copied = ("workflowId", "name", "roleArn", "outputUri", "parameters", "runGroupId", "storageCapacity")
        run = self.create(
            self.runs,
            "run",
            body,
            uuid=str(uuid.uuid4()),
            status="PENDING",
            workflowType=body.get("workflowType", "PRIVATE"),
            storageType=body.get("storageType", "STATIC"),
            networkingMode=body.get("networkingMode", "RESTRICTED"),
            **{key: body.get(key) for key in copied},
        )
        run["runOutputUri"] = f"{run['outputUri'].rstrip('/')}/{run['id']}"
        shown = ("arn", "id", "status", "tags", "uuid", "runOutputUri", "networkingMode")
        self.answered[body["requestId"]] = pick(run, shown)
        return 201, pick(run, shown)

    def list_runs(self, body, query, path):
        runs = list(self.runs.values())
        for key in ("status", "runGroupId", "name"):
            if key in query:
                runs = [run for run in runs if run.get(key) == query[key][0]]
        shown = ("arn", "id", "status", "workflowId", "name", "storageCapacity", "creationTime", "storageType")
        return 200, page([pick(run, shown) for run in runs], query)

    def get_run(self, body, query, path):
        return 200, find(self.runs, path[0], "Run")

    def create_run_group(self, body, query, path):
        copied = ("name", "maxCpus", "maxGpus", "maxDuration", "maxRuns")
        group = self.create(self.groups, "runGroup", body, **{key: body.get(key) for key in copied})
        return 201, pick(group, ("id", "arn", "tags"))

    def list_run_groups(self, body, query, path):
        return 200, page(list(self.groups.values()), query)

    def start_run_batch(self, body, query, path):
        need(body, "requestId", "defaultRunSetting", "batchRunSettings")
        batch = self.create(
            self.batches,
            "runBatch",
            body,
            uuid=str(uuid.uuid4()),
            status="PENDING",
            name=body.get("batchName") or "",
            totalRuns=len(body["batchRunSettings"].get("inlineSettings") or []),
        )
        return 201, pick(batch, ("id", "arn", "status", "uuid", "tags"))

    def get_batch(self, body, query, path):
        return 200, find(self.batches, path[0], "Batch")

    def update_run_group(self, body, query, path):
        find(self.groups, path[0], "Run group").update(body)
        return 202, None

    def delete_configuration(self, body, query, path):
        return 202, None


def need(body, *names):
    missing = [name for name in names if body.get(name) in (None, "")]
    if missing:
        raise ApiError(400, "ValidationException", "missing: " + ", ".join(missing))


def find(table, number, what):
    if number not in table:
        raise ApiError(404, "ResourceNotFoundException", f"{what} {number} was not found")
    return table[number]


def pick(record, keys):
    return {key: record[key] for key in keys if key in record}


def page(items, query):
    size, start = int(query.get("maxResults", ["100"])[0]), int(query.get("startingToken", ["0"])[0])
    out = {"items": items[start : start + size]}
    if start + size < len(items):
        out["nextToken"] = str(start + size)
    return out


ROUTES = [
    (method, re.compile(path + "/?"), operation, handler)
    for method, path, operation, handler in [
        ("POST", r"/run", "StartRun", Omics.start_run),
        ("GET", r"/run", "ListRuns", Omics.list_runs),
        ("GET", r"/run/([^/]+)", "GetRun", Omics.get_run),
        ("POST", r"/runGroup", "CreateRunGroup", Omics.create_run_group),
        ("GET", r"/runGroup", "ListRunGroups", Omics.list_run_groups),
        ("POST", r"/runGroup/([^/]+)", "UpdateRunGroup", Omics.update_run_group),
        ("POST", r"/runBatch", "StartRunBatch", Omics.start_run_batch),
        ("GET", r"/runBatch/([^/]+)", "GetBatch", Omics.get_batch),
        ("DELETE", r"/configuration/([^/]+)", "DeleteConfiguration", Omics.delete_configuration),
    ]
]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "omics-stub/1"
    state, lock = Omics(), threading.Lock()

    def log_message(self, *_):
        pass

    def answer(self, status, body, error=None):
        raw = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("x-amzn-RequestId", str(uuid.uuid4()))
        if error:
            self.send_header("x-amzn-ErrorType", error)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def handle_request(self):
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body = json.loads(raw) if raw else {}
        except ValueError:
            return self.answer(400, {"message": "the body is not JSON"}, "ValidationException")
        url = urlsplit(self.path)
        with self.lock:
            reply = self.decide(unquote(url.path), parse_qs(url.query), body)
        return self.answer(*reply)

    def decide(self, path, query, body):
        state = Handler.state
        if path == "/__calls":
            return 200, state.calls
        if path == "/__reset":
            Handler.state = Omics()
            return 200, {}
        if path == "/__fail":
            state.faults[body["op"]] = body
            return 200, {}

        operation, handler, parts = "Unknown", None, ()
        for method, pattern, name, known in ROUTES:
            if method == self.command and (match := pattern.fullmatch(path)):
                operation, handler, parts = name, known, match.groups()
        signature = re.match(r"AWS4-HMAC-SHA256 Credential=([^/]+)/", self.headers.get("Authorization") or "")
        state.calls.append(
            {
                "n": len(state.calls) + 1,
                "op": operation,
                "method": self.command,
                "path": path,
                "query": query,
                "body": body,
                "signed": signature is not None,
                "access_key": signature and signature[1],
            }
        )
        if fault := state.faults.get(operation):
            fault["times"] = fault.get("times", 1) - 1
            if fault["times"] <= 0:
                del state.faults[operation]
            return fault.get("status", 500), {"message": "injected"}, fault.get("type", "InternalServerException")
        if handler is None:
            return 404, {"message": f"no route for {self.command} {path}"}, "ResourceNotFoundException"
        try:
            return handler(state, body, query, parts)
        except ApiError as error:
            return error.status, {"message": error.message}, error.kind

    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = handle_request


def main():
    arguments = argparse.ArgumentParser(description="a stand-in for the AWS HealthOmics workflows API")
    arguments.add_argument("--port", type=int, default=0)
    server = ThreadingHTTPServer(("127.0.0.1", arguments.parse_args().port), Handler)
    print(f"READY http://127.0.0.1:{server.server_address[1]}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
