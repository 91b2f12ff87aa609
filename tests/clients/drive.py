#!/usr/bin/env python3
"""Puts real clients and real servers on either side of Callgate, and judges by what happened, not by what was said.

    setup.sh                                        once: the clients and servers
    drive.py --callgate target/debug/callgate       everything; prints a table
    drive.py --callgate … inspector filesystem      the rows whose name holds one of these words (--list names them)
    drive.py --write                                the same; what works for whom goes into docs/verification.md
    drive.py --direct                               the clients without Callgate: what they can do by themselves, and that
                                                    nothing else keeps them from what the policy denies

The first table is about clients: each does all it can do before the same server (tests/upstreams/sdk_reader.py), wrapped
by `run` and behind `serve`. The second is about servers: each under a policy of its own, with checks on what it has really
done. In both, the audit log must hold exactly the calls that were made. Standard library only; the SDKs run in their own
environments, in client.py and client.mjs.
"""

import argparse
import json
import re
import shutil
import socket
import subprocess
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "examples" / "healthomics"))
from chain import Broken, Lines, bare_environment  # noqa: E402

PREFIX = "[POLICY DENIED] "
LEGACY, STATELESS = "legacy", "stateless"

CLIENT_POLICY = """\
version: "1"
hide: [secret]
tools:
  forbidden: {action: deny, reason: "Not today."}
  limited: {rules: [{name: pace, rate_limit: 2/hour}]}
  echo: {rules: [{name: asks, action: require_approval, conditions: [{path: args.ask, op: eq, value: true}]}]}
"""
TOOLS = ["echo", "secret", "forbidden", "limited", "progress", "hang", "ask", "sample"]
# What a client can be asked to do, in the order of the table.
FEATURES = ["list", "call", "denial", "limit", "resources", "prompts", "progress", "cancel", "elicitation", "sampling", "approval", "audit"]


class Wrong(Exception):
    """A check that does not hold."""


def check(says, holds, found=""):
    if not holds:
        raise Wrong(f"{says}: {found}" if found != "" else says)


# ---------------------------------------------------------------------------------------------------- the chain


class Chain:
    """One client, Callgate, one server; and the processes of that."""

    def __init__(self, options, name, policy, server, env=()):
        self.options, self.name = options, name
        self.installed = Path(options.clients)
        self.work = Path(options.work) / name
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        (self.work / "policy.yaml").write_text(policy)
        self.env = bare_environment(self.work) | {"CALLGATE_CLIENTS": str(self.installed), "MCP_REMOTE_CONFIG_DIR": str(self.work)}
        self.log = open(self.work / "log.txt", "w")
        # `env`, because `serve` hands a child only the bare essentials.
        self.server = [shutil.which("env"), *env, *map(str, server)]
        self.kept = ["--state", f"sqlite:{self.work / 'callgate.db'}", "--audit-args", "full"]
        self.started = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        ended = [process.close() for process in reversed(self.started)]
        self.log.close()
        if not all(ended):
            raise Broken("a process had to be killed at the end")

    def start(self, command, **how):
        process = Lines([str(word) for word in command], self.env, self.log, **how)
        self.started.append(process)
        return process

    def run(self, *upstream):
        """The command line of a wrapped server, or of the bridge to a URL."""
        upstream = upstream or ["--", *self.server]
        return [self.options.callgate, "run", "-p", self.work / "policy.yaml", "--server", "tested", "--approve-in-client", *self.kept, *upstream]

    def serve(self, *upstream):
        """The address of a gateway before the server, or before a URL."""
        upstream = upstream or ["--", *self.server]
        command = [self.options.callgate, "serve", "-p", self.work / "policy.yaml", "--server", "tested", "--approve-in-client", *self.kept]
        process = self.start([*command, "--listen", "127.0.0.1:0", *upstream], read="stderr")
        deadline = time.monotonic() + 60
        while True:
            if ready := re.search(r"callgate listening on (http://\S+)", process.line(max(0.1, deadline - time.monotonic()))):
                return ready[1]

    def python(self):
        return [self.installed / "python" / "bin" / "python"]

    def node(self, script):
        return [self.installed / "node" / "node", self.installed / "node" / "node_modules" / script]

    def records(self):
        """The records of calls, oldest first; the chain is verified on the way."""
        def ask(*words):
            command = [self.options.callgate, *words, *self.kept[:2], "--json"]
            done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60)
            check(f"callgate {' '.join(words)} succeeds", done.returncode == 0, done.stderr + done.stdout)
            return [json.loads(line) for line in done.stdout.splitlines()]

        check("the audit chain verifies", ask("audit", "verify")[0]["valid"] is True)
        return [record for record in ask("audit", "list") if record["method"] == "tools/call"]

    def decided(self):
        """What the audit log says of each call: its tool and outcome."""
        return [(record["tool"], record["outcome"]) for record in self.records() if record["phase"] == "decided"]


class Sdk:
    """A client on an SDK, in a process of its own that is driven by lines."""

    def __init__(self, chain, driver, target):
        self.process = chain.start([*driver, *target], asked=True)
        self.revision = json.loads(self.process.line())["ready"]

    def ask(self, **order):
        self.process.write(order)
        return json.loads(self.process.line())

    def list(self):
        return self.ask(list=True)["tools"]

    def call(self, tool, arguments=None, **more):
        """The answer to a call; one that is no result is a mistake of the chain's."""
        said = self.ask(call=tool, arguments=arguments or {}, **more)
        check(f"{tool} is answered with a result", "result" in said or "cancelled" in said, said)
        return said

    def passes(self, tool, arguments=None):
        result = self.call(tool, arguments)["result"]
        check(f"{tool} is let through", not result.get("isError"), result)
        return text(result)

    def denied(self, tool, arguments=None):
        result = self.call(tool, arguments)["result"]
        check(f"{tool} is denied", result.get("isError") is True and text(result).startswith(PREFIX), result)
        return text(result)


def text(result):
    return " ".join(part.get("text", "") for part in result.get("content", []))


# ---------------------------------------------------------------------------------------------------- clients


class ClientRow:
    """A client, an era, and a way in."""

    denials = ["forbidden", "secret", "limited"]

    def __init__(self, name, way, era, driver=None, features=FEATURES):
        self.name, self.way, self.era, self.driver, self.features = f"{name} {way}", way, era, driver, features

    def play(self, options):
        """The features that work, by name: True, or what is wrong."""
        tools = Path(options.work) / "tools.json"
        log = Path(options.work) / self.name.replace(" ", "-") / "reader.log"
        reader = [ROOT / "tests" / "upstreams" / "sdk_reader.py", "--log", log, "--tools", tools]
        chain = Chain(options, self.name.replace(" ", "-"), CLIENT_POLICY, [])
        server = [*chain.python(), *reader, *(["--modern-only"] if self.way.startswith("modern") else [])]
        chain.server += [str(word) for word in [*server, "--stdio"]]
        with chain:
            client = self.connect(chain, server)
            found = {}
            for feature in self.features:
                try:
                    getattr(self, feature)(client, chain, log)
                    found[feature] = True
                except (Wrong, Broken) as problem:
                    found[feature] = str(problem)
            return found

    def connect(self, chain, server):
        def address():
            port = chain.start([*server, "--http", "0"]).line().split()[1]
            return f"http://127.0.0.1:{port}/mcp"

        if self.way == "run":
            target = ["--", *chain.run()]
        elif self.way in ("run-http", "modern-run"):
            target = ["--", *chain.run("--upstream", address())]
        elif self.way in ("serve-http", "modern-serve"):
            target = ["--url", chain.serve("--upstream", address())]
        elif self.way == "direct-stdio":
            target = ["--", *chain.server]
        elif self.way == "direct-http":
            target = ["--url", address()]
        elif self.way == "sse":
            target = ["--sse", chain.serve().replace("/mcp", "/sse")]
        elif self.way == "mcp-remote":
            target = ["--", *chain.node("mcp-remote/dist/proxy.js"), chain.serve()]
        else:
            target = ["--url", chain.serve()]
        return Sdk(chain, [*self.driver(chain), "--era", self.era], target)

    # Each feature in a method of its name.

    def list(self, client, _chain, _log):
        tools = client.list()
        check("the hidden tool is not listed, all others are", sorted(tools) == sorted(set(TOOLS) - {"secret"}), tools)

    def call(self, client, _chain, _log):
        check("an allowed tool runs", client.passes("echo", {"n": 1}) == "ran echo")

    def denial(self, client, _chain, _log):
        check("a denial says why", "Not today." in client.denied("forbidden"))
        client.denied("secret")

    def limit(self, client, _chain, _log):
        client.passes("limited")
        client.passes("limited")
        client.denied("limited")

    def resources(self, client, _chain, _log):
        said = client.ask(resource="reader://motd")
        check("a resource is listed and read", said == {"listed": ["reader://motd"], "text": "hello"}, said)

    def prompts(self, client, _chain, _log):
        said = client.ask(prompt="greet")
        check("a prompt is listed and got", said == {"listed": ["greet"], "text": "hello"}, said)

    def progress(self, client, _chain, _log):
        said = client.call("progress")
        check("progress arrives, in order", said.get("steps") == [1, 2, 3], said)

    def cancel(self, client, _chain, log):
        said = client.call("hang", cancel_after=1)
        check("the client gives up", said == {"cancelled": True}, said)
        deadline = time.monotonic() + 20
        while not any(entry["t"] == "cancelled" for entry in entries(log)):
            check("the server hears of it", time.monotonic() < deadline)
            time.sleep(0.05)

    def elicitation(self, client, _chain, _log):
        said = client.call("ask")
        check("the client was asked once", said["asked"] == ["elicitation"], said)
        check("the server has the answer", '"sure":true' in text(said["result"]).replace(" ", ""), said)

    def sampling(self, client, _chain, _log):
        said = client.call("sample")
        check("the client was asked once", said["asked"] == ["sampling"], said)
        check("the server has the answer", "said it" in text(said["result"]), said)

    def approval(self, client, _chain, _log):
        said = client.call("echo", {"ask": True})
        check("the client was asked once, by us", said["asked"] == ["elicitation"], said)
        check("and the call went through", text(said["result"]) == "ran echo", said)

    def audit(self, _client, chain, log):
        ran = [entry["tool"] for entry in entries(log) if entry["t"] == "ran"]
        if self.way.startswith("modern"):
            # What such a server asks back is answered by another request; to the legacy client that is one call, as on record.
            ran = [tool for at, tool in enumerate(ran) if tool not in ("ask", "sample") or ran[at - 1 : at] != [tool]]
        decided = chain.decided()
        allowed = [tool for tool, outcome in decided if outcome == "allow"]
        check("what ran is what is on record as allowed", ran == allowed, f"ran {ran}, on record {allowed}")
        denied = [tool for tool, outcome in decided if outcome == "deny"]
        check("so are the denials", denied == self.denials, denied)


class DirectRow(ClientRow):
    """A client before the server itself."""

    def __init__(self, name, way, era, driver):
        super().__init__(name, way, era, driver, [name for name in FEATURES if name not in ("approval", "audit")])

    def list(self, client, _chain, _log):
        tools = client.list()
        check("all tools are listed", sorted(tools) == sorted(TOOLS), tools)

    def denial(self, client, _chain, _log):
        for tool in ("forbidden", "secret"):
            check("what the policy denies runs", client.passes(tool) == f"ran {tool}")

    def limit(self, client, _chain, _log):
        for _ in range(3):
            client.passes("limited")


class InspectorRow(ClientRow):
    """The inspector's command line: one process for each request, so there is nothing to cancel and nobody to ask.

    It looks a tool up in the list before it calls it, and so never calls a hidden one.
    """

    denials = ["forbidden", "limited"]

    def __init__(self, way, era):
        # Wrapped by `run`, each request starts the server anew: the rest is shown behind `serve`.
        more = ["resources", "prompts"] if way == "serve" else []
        super().__init__(f"inspector {era}", way, era, features=["list", "call", "denial", "limit", *more, "audit"])

    def denial(self, client, _chain, _log):
        check("a denial says why", "Not today." in client.denied("forbidden"))

    def connect(self, chain, server):
        target = chain.run() if self.way == "run" else [chain.serve()]
        return Inspector(chain, self.era, target)


class Inspector(Sdk):
    def __init__(self, chain, era, target):
        launcher = chain.node("@modelcontextprotocol/inspector/clients/launcher/build/index.js")
        era = "modern" if era == STATELESS else "legacy"
        self.chain, self.target = chain, target
        self.command = [*launcher, "--cli", "--format", "json", "-q", "--protocol-era", era, "--connect-timeout", "60000"]

    def ask(self, **order):
        if "list" in order:
            return {"tools": [tool["name"] for tool in self.method("tools/list")["tools"]]}
        if "resource" in order:
            listed = [resource["uri"] for resource in self.method("resources/list")["resources"]]
            return {"listed": listed, "text": self.method("resources/read", "--uri", order["resource"])["contents"][0]["text"]}
        if "prompt" in order:
            listed = [prompt["name"] for prompt in self.method("prompts/list")["prompts"]]
            got = self.method("prompts/get", "--prompt-name", order["prompt"])
            return {"listed": listed, "text": got["messages"][0]["content"]["text"]}
        arguments = ["--tool-args-json", json.dumps(order["arguments"])]
        return {"result": self.method("tools/call", "--tool-name", order["call"], *arguments)}

    def method(self, method, *more):
        # The inspector's own words come before the target; of a command, what begins with a dash would be taken for them.
        if len(self.target) == 1:
            target = ["--server-url", self.target[0], "--transport", "http"]
        else:
            catalog = self.chain.work / "inspector.json"
            command, *rest = map(str, self.target)
            catalog.write_text(json.dumps({"mcpServers": {"tested": {"command": command, "args": rest}}}))
            target = ["--config", catalog, "--server", "tested"]
        command = [str(word) for word in [*self.command, "--method", method, *more, *target]]
        done = subprocess.run(command, env=self.chain.env, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
        self.chain.log.write(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}\n")
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            raise Broken(f"the inspector says no JSON ({done.returncode}): {done.stderr[-500:]}{done.stdout[-500:]}") from None
        return answer.get("result", answer)


def entries(log):
    lines = log.read_text().splitlines() if log.exists() else []
    return [json.loads(line) for line in lines]


# ---------------------------------------------------------------------------------------------------- servers


class ServerRow:
    """A server under a policy of its own, by `run` and behind `serve`."""

    def __init__(self, name, way, era, show):
        self.name, self.way, self.era, self.show = f"{name} {era} {way}", way, era, show

    def play(self, options):
        try:
            return self.show(self, options)
        except (Wrong, Broken) as problem:
            return {"": str(problem)}

    def chain(self, options, policy, server, env=()):
        return Chain(options, self.name.replace(" ", "-"), policy, server, env)

    def connect(self, chain, *upstream):
        target = ["--", *chain.run(*upstream)] if self.way.startswith("run") else ["--url", chain.serve(*upstream)]
        return Sdk(chain, [*chain.python(), HERE / "client.py", "--era", self.era], target)


def listening(chain, command, path):
    """Starts a server that takes its port from `PORT`; gives its address once it can be reached."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    chain.start([shutil.which("env"), f"PORT={port}", *command], read="stderr")
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return f"http://127.0.0.1:{port}{path}"
        except OSError:
            check("the server listens", time.monotonic() < deadline)
            time.sleep(0.05)


def on_record(chain, expected):
    """The audit log has exactly these calls."""
    check("the audit log holds what was called", chain.decided() == expected, chain.decided())


def everything(row, options):
    policy = 'version: "1"\nhide: [get-env]\ntools:\n  get-sum: {rules: [{name: small, conditions: [{path: args.a, op: lte, value: 10}]}]}\n'
    chain = row.chain(options, policy, [])
    command = chain.node("@modelcontextprotocol/server-everything/dist/index.js")
    chain.server += [str(word) for word in [*command, "stdio"]]
    with chain:
        upstream = []
        if row.way.endswith("-http"):
            upstream = ["--upstream", listening(chain, [*command, "streamableHttp"], "/mcp")]
        elif row.way.endswith("-sse"):
            upstream = ["--upstream", listening(chain, [*command, "sse"], "/sse")]
        client = row.connect(chain, *upstream)
        tools = client.list()
        check("get-env is hidden, the others are not", "get-env" not in tools and {"echo", "get-sum"} <= set(tools), tools)
        # Over the bridge between eras, lists come from a line that all clients share, and of which nobody may be asked.
        if row.era == LEGACY:
            check("it sees that the client can be asked", "trigger-elicitation-request" in tools, tools)
        check("a sum comes back", "12" in client.passes("get-sum", {"a": 5, "b": 7}))
        client.denied("get-sum", {"a": 11, "b": 1})
        client.denied("get-env")
        said = client.call("trigger-long-running-operation", {"duration": 0.3, "steps": 3})
        # This server sends its last step with the result, and SDKs forget whom steps are for when they have that.
        check("progress arrives", said["steps"] in ([1, 2], [1, 2, 3]), said)
        check("elicitation reaches the client", client.call("trigger-elicitation-request")["asked"] == ["elicitation"])
        said = client.call("trigger-sampling-request", {"prompt": "hello"})
        check("a sample goes back", said["asked"] == ["sampling"] and "said it" in text(said["result"]), said)
        read = client.ask(resource="demo://resource/static/document/architecture.md")
        check("a resource is read", "Architecture" in read.get("text", ""), read)
        prompt = client.ask(prompt="simple-prompt")
        check("a prompt is got", prompt.get("text"), prompt)
        # In the stateless era a call that is asked something back is made once more, with the answer, and judged anew.
        times = 1 if row.era == LEGACY else 2
        on_record(chain, [("get-sum", "allow"), ("get-sum", "deny"), ("get-env", "deny"), ("trigger-long-running-operation", "allow")]
                  + [("trigger-elicitation-request", "allow")] * times + [("trigger-sampling-request", "allow")] * times)  # fmt: skip
    return {}


def filesystem(row, options):
    files = Path(options.work) / f"files-{row.era}-{row.way}"
    shutil.rmtree(files, ignore_errors=True)
    (files / "open").mkdir(parents=True)
    (files / "open" / "a.txt").write_text("an open secret")
    (files / "closed.txt").write_text("a closed one")
    inside = "^" + re.escape(str(files / "open")) + "/[a-z]+\\.txt$"
    policy = f"""\
version: "1"
default: deny
tools:
  read_text_file: {{rules: [{{name: inside, conditions: [{{path: args.path, op: regex, value: '{inside}'}}]}}]}}
  list_directory: {{}}
  write_file: {{action: deny, reason: "Nothing is written here."}}
"""
    chain = row.chain(options, policy, [])
    chain.server += [str(word) for word in [*chain.node("@modelcontextprotocol/server-filesystem/dist/index.js"), files]]
    with chain:
        client = row.connect(chain)
        tools = client.list()
        check("only what the policy lists is shown", sorted(tools) == ["list_directory", "read_text_file", "write_file"], tools)
        check("a file inside is read", "an open secret" in client.passes("read_text_file", {"path": str(files / "open" / "a.txt")}))
        for path in ("closed.txt", "open/../closed.txt", "open/a.txt/../../closed.txt"):
            check("nothing of a file outside is told", "closed one" not in client.denied("read_text_file", {"path": f"{files}/{path}"}))
        client.denied("write_file", {"path": str(files / "open" / "new.txt"), "content": "x"})
        client.denied("edit_file", {"path": str(files / "open" / "a.txt"), "edits": [{"oldText": "open", "newText": "x"}]})
        client.denied("move_file", {"source": str(files / "closed.txt"), "destination": str(files / "open" / "b.txt")})
        check("the directory is listed", "[DIR] open" in client.passes("list_directory", {"path": str(files)}))
        on_record(chain, [("read_text_file", "allow")] + [("read_text_file", "deny")] * 3
                  + [("write_file", "deny"), ("edit_file", "deny"), ("move_file", "deny"), ("list_directory", "allow")])  # fmt: skip
    found = {str(path.relative_to(files)): path.read_text() for path in files.rglob("*.txt")}
    check("no file was written, changed or moved", found == {"open/a.txt": "an open secret", "closed.txt": "a closed one"}, found)
    return {}


def memory(row, options):
    kept = Path(options.work) / f"memory-{row.era}-{row.way}.jsonl"
    kept.unlink(missing_ok=True)
    policy = """\
version: "1"
hide: ["delete_*"]
tools:
  create_entities: {rules: [{name: pace, rate_limit: 2/hour}]}
"""
    chain = row.chain(options, policy, [], [f"MEMORY_FILE_PATH={kept}"])
    chain.server += [str(word) for word in chain.node("@modelcontextprotocol/server-memory/dist/index.js")]
    with chain:
        client = row.connect(chain)
        check("nothing that deletes is shown", not [tool for tool in client.list() if tool.startswith("delete_")])
        for name in ("ada", "bob"):
            client.passes("create_entities", {"entities": [{"name": name, "entityType": "person", "observations": []}]})
        client.denied("create_entities", {"entities": [{"name": "eve", "entityType": "person", "observations": []}]})
        client.denied("delete_entities", {"entityNames": ["ada"]})
        client.passes("read_graph")
        on_record(chain, [("create_entities", "allow")] * 2 + [("create_entities", "deny"), ("delete_entities", "deny"), ("read_graph", "allow")])
    names = [json.loads(line)["name"] for line in kept.read_text().splitlines()]
    check("two are remembered, and no third", names == ["ada", "bob"], names)
    return {}


def git(row, options):
    repository = Path(options.work) / f"repository-{row.name.replace(' ', '-')}"
    shutil.rmtree(repository, ignore_errors=True)
    repository.mkdir(parents=True)

    def run(*words):
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        return subprocess.run(["git", *identity, *words], cwd=repository, check=True, capture_output=True, text=True).stdout

    run("init", "-q")
    run("config", "user.name", "test")
    run("config", "user.email", "test@example.org")
    run("commit", "-q", "--allow-empty", "-m", "first")
    policy = """\
version: "1"
tools:
  git_commit: {rules: [{name: one an hour, rate_limit: 1/hour}]}
  git_reset: {action: deny, reason: "Nothing is thrown away here."}
  git_checkout: {rules: [{name: topics only, conditions: [{path: args.branch_name, op: regex, value: "^topic/"}]}]}
"""
    chain = row.chain(options, policy, [])
    chain.server += [str(word) for word in [chain.installed / "python" / "bin" / "mcp-server-git", "--repository", repository]]
    at = {"repo_path": str(repository)}
    with chain:
        client = row.connect(chain)
        check("the tools are shown", {"git_commit", "git_status"} <= set(client.list()))
        (repository / "a.txt").write_text("a")
        client.passes("git_add", at | {"files": ["a.txt"]})
        client.passes("git_commit", at | {"message": "second"})
        (repository / "a.txt").write_text("b")
        client.passes("git_add", at | {"files": ["a.txt"]})
        client.denied("git_commit", at | {"message": "third"})
        client.denied("git_reset", at)
        client.denied("git_checkout", at | {"branch_name": "main"})
        check("the log is read", "second" in client.passes("git_log", at | {"max_count": 5}))
        on_record(chain, [("git_add", "allow"), ("git_commit", "allow"), ("git_add", "allow"), ("git_commit", "deny"),
                          ("git_reset", "deny"), ("git_checkout", "deny"), ("git_log", "allow")])  # fmt: skip
    check("there are two commits", run("log", "--format=%s").split() == ["second", "first"], run("log", "--format=%s"))
    check("what was staged is still staged", run("diff", "--cached", "--name-only").split() == ["a.txt"])
    return {}


def clock(row, options):
    policy = """\
version: "1"
default: deny
tools:
  get_current_time: {rules: [{name: at home, conditions: [{path: args.timezone, op: in, value: [UTC, Europe/Berlin]}]}]}
"""
    chain = row.chain(options, policy, [])
    chain.server.append(str(chain.installed / "python" / "bin" / "mcp-server-time"))
    with chain:
        client = row.connect(chain)
        check("only the one tool is shown", client.list() == ["get_current_time"])
        check("the time is told", "Europe/Berlin" in client.passes("get_current_time", {"timezone": "Europe/Berlin"}))
        client.denied("get_current_time", {"timezone": "America/New_York"})
        client.denied("convert_time", {"source_timezone": "UTC", "time": "10:00", "target_timezone": "UTC"})
        on_record(chain, [("get_current_time", "allow"), ("get_current_time", "deny"), ("convert_time", "deny")])
    return {}


# ---------------------------------------------------------------------------------------------------- rows and table


def python_client(chain):
    return [*chain.python(), HERE / "client.py"]


def typescript(sdk):
    return lambda chain: [chain.installed / "node" / "node", HERE / "client.mjs", "--sdk", sdk]


def client_rows():
    rows = []
    for era in (LEGACY, STATELESS):
        rows += [ClientRow(f"mcp-2.3 {era}", way, era, python_client) for way in ("run", "serve", "serve-http")]
    rows += [ClientRow("sdk-1.32 legacy", way, LEGACY, typescript("1")) for way in ("run", "serve", "serve-http")]
    for era in (LEGACY, STATELESS):
        rows += [ClientRow(f"client-2.4 {era}", way, era, typescript("2")) for way in ("run", "serve", "serve-http")]
    rows += [ClientRow(f"mcp-2.3 {era}", "run-http", era, python_client) for era in (LEGACY, STATELESS)]
    rows += [ClientRow("sdk-1.32 legacy", "run-http", LEGACY, typescript("1")), ClientRow("client-2.4 stateless", "run-http", STATELESS, typescript("2"))]
    rows += [ClientRow("mcp-2.3 legacy", "sse", LEGACY, python_client), ClientRow("sdk-1.32 legacy", "sse", LEGACY, typescript("1"))]
    rows += [ClientRow("mcp-remote legacy", "mcp-remote", LEGACY, typescript("1"))]
    # Before a server that knows no handshake: the gateway bridges.
    rows += [ClientRow("mcp-2.3 legacy", way, LEGACY, python_client) for way in ("modern-run", "modern-serve")]
    rows += [ClientRow(f"{name} legacy", "modern-serve", LEGACY, typescript(sdk)) for name, sdk in (("sdk-1.32", "1"), ("client-2.4", "2"))]
    rows += [InspectorRow("run", LEGACY), InspectorRow("serve", STATELESS)]
    return rows


def direct_rows():
    clients = [("mcp-2.3", era, python_client) for era in (LEGACY, STATELESS)]
    clients += [("sdk-1.32", LEGACY, typescript("1"))] + [("client-2.4", era, typescript("2")) for era in (LEGACY, STATELESS)]
    return [DirectRow(f"{name} {era}", way, era, driver) for name, era, driver in clients for way in ("direct-stdio", "direct-http")]


def server_rows():
    rows = []
    for way in ("run", "serve"):
        rows += [ServerRow(name, way, LEGACY, show) for name, show in
                 (("everything", everything), ("filesystem", filesystem), ("memory", memory), ("git", git), ("time", clock))]  # fmt: skip
        rows += [ServerRow(name, way, STATELESS, show) for name, show in (("git", git), ("time", clock))]
    # The one that is released with HTTP, and with the HTTP+SSE that came before.
    rows += [ServerRow("everything", way, LEGACY, everything) for way in ("run-http", "serve-http", "run-sse", "serve-sse")]
    rows += [ServerRow("everything", "serve-http", STATELESS, everything)]
    # These know the legacy era only: the gateway bridges.
    rows += [ServerRow(name, "serve", STATELESS, show) for name, show in (("everything", everything), ("filesystem", filesystem), ("memory", memory))]
    return rows


def table(rows, found):
    """The rows as a table; gives the problems."""
    problems = []
    width = max(len(row.name) for row in rows) + 2
    print(" " * width + " ".join(f"{feature:>11}" for feature in FEATURES))
    for row, said in zip(rows, found):
        cells = []
        for feature in FEATURES:
            mark = {None: "–", True: "ok"}.get(said.get(feature), "FAILED")
            cells.append(f"{mark:>11}")
        print(f"{row.name:{width}}{' '.join(cells)}")
        problems += [f"{row.name}: {feature}: {why}" for feature, why in said.items() if why is not True]
    return problems


BEGIN, END = "<!-- written by `tests/clients/drive.py --write` -->\n", "<!-- until here -->"


def page(clients, servers, results):
    """What works for whom, as docs/verification.md has it."""
    lines = ["| client, era, way | " + " | ".join(FEATURES) + " |", "|---|" + ":-:|" * len(FEATURES)]
    marks = {None: "–", True: "✓"}
    for row in clients:
        lines.append(f"| {row.name} | " + " | ".join(marks.get(results[row].get(feature), "✗") for feature in FEATURES) + " |")
    lines += ["", "| server, era | by |", "|---|---|"]
    ways = {}
    for row in servers:
        ways.setdefault(row.name.removesuffix(f" {row.way}"), []).append(row.way if not results[row] else f"not {row.way}")
    return "\n".join(lines + [f"| {name} | {', '.join(works)} |" for name, works in ways.items()]) + "\n"


def hold(text, write):
    """Holds docs/verification.md to what was found, or makes it say so; gives the problems."""
    path = ROOT / "docs" / "verification.md"
    before, rest = path.read_text().split(BEGIN)
    kept, after = rest.split(END, 1)
    if write:
        path.write_text(before + BEGIN + text + END + after)
    elif kept != text:
        return ["docs/verification.md says otherwise: tests/clients/drive.py --write"]
    return []


def play(row, options):
    began = time.monotonic()
    try:
        found = row.play(options)
    except Exception as error:  # a row that breaks does not keep the others from being shown
        found = {"": f"{type(error).__name__}: {error}"}
        if not isinstance(error, (Wrong, Broken)):
            traceback.print_exc()
    print(f"  {row.name}: {time.monotonic() - began:.1f} s", flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--callgate", default="callgate")
    parser.add_argument("--direct", action="store_true")
    parser.add_argument("--clients", default=str(ROOT / "target" / "clients"), help="where setup.sh has installed them")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/verification.md")
    parser.add_argument("rows", nargs="*")
    options = parser.parse_args()
    options.callgate = str(Path(options.callgate).resolve())
    options.clients = str(Path(options.clients).resolve())
    options.work = str(Path(options.clients) / "runs")
    Path(options.work).mkdir(parents=True, exist_ok=True)
    tools = [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]
    (Path(options.work) / "tools.json").write_text(json.dumps({"tools": tools}))

    rows = direct_rows() if options.direct else client_rows() + server_rows()
    picked = [row for row in rows if not options.rows or any(word in row.name for word in options.rows)]
    if options.list:
        return print("\n".join(row.name for row in picked))
    # As many at once as there are processors: most of the time is their starting up.
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda row: play(row, options), picked))
    results = dict(zip(picked, found))
    clients = [row for row in picked if isinstance(row, ClientRow)]
    servers = [row for row in picked if isinstance(row, ServerRow)]
    problems = table(clients, [results[row] for row in clients]) if clients else []
    for row in servers:
        print(f"{row.name:24} {'ok' if not results[row] else 'FAILED'}")
        problems += [f"{row.name}: {why}" for why in results[row].values()]
    if not problems and not options.direct and picked == rows:
        problems += hold(page(clients, servers, results), options.write)
    for problem in problems:
        print(f"FAILED {problem[:600]}")
    print(f"{len(clients)} ways of clients and {len(servers)} of servers, {len(problems)} problems; logs in {options.work}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
