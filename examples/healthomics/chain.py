"""What stands between the client and the stand-in for AWS: processes, ports, environments. No judgement."""

import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
PATIENCE = 120  # seconds; a Python server on a loaded two-core machine takes up to thirty to start


class Lines:
    """A process whose lines are read with a deadline, so that a hang is a failure and not a wait.

    One that is `asked` is written to as well, and ends when its input ends; another ends by SIGTERM.
    """

    def __init__(self, command, env, log, read="stdout", asked=False):
        self.log = log
        pipes = {"stdin": subprocess.PIPE if asked else subprocess.DEVNULL, "stdout": log, "stderr": log, read: subprocess.PIPE}
        self.process = subprocess.Popen(command, env=env, text=True, start_new_session=True, **pipes)
        self.lines = queue.Queue()
        threading.Thread(target=self._read, args=[getattr(self.process, read)], daemon=True).start()

    def _read(self, stream):
        for line in stream:
            if stream is self.process.stderr:
                self.log.write(line)
                self.log.flush()
            self.lines.put(line)
        self.lines.put(None)

    def line(self, seconds=PATIENCE):
        try:
            line = self.lines.get(timeout=seconds)
        except queue.Empty:
            raise Broken(f"no answer within {seconds} s") from None
        if line is None:
            raise Broken(f"ended with status {self.process.wait()}")
        return line

    def write(self, value):
        try:
            self.process.stdin.write(json.dumps(value) + "\n")
            self.process.stdin.flush()
        except OSError:
            pass  # the reader will say that it ended, and how

    def close(self, seconds=20):
        """Asks it to end. True if it did; if not, its whole process group is killed."""
        if self.process.stdin:
            try:
                self.process.stdin.close()
            except OSError:
                pass
        else:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(seconds)
            return True
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            return False


class Broken(Exception):
    """The chain itself failed: nothing can be said about the policy."""


class Stub:
    """The stand-in for AWS, and its record."""

    def __init__(self, env, log):
        self.process = Lines([sys.executable, str(HERE / "omics_stub.py")], env, log)
        self.url = self.process.line().split()[1]

    def ask(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data=data), timeout=10) as reply:
            return json.load(reply)

    def calls(self):
        return self.ask("/__calls")

    def reset(self):
        self.ask("/__reset", {})


class Client:
    """A session of the real SDK (client.py)."""

    def __init__(self, interpreter, target, env, log):
        self.process = Lines([str(interpreter), str(HERE / "client.py"), *target], env, log, asked=True)
        ready = json.loads(self.process.line())
        self.revision, self.sdk = ready["ready"], ready["sdk"]

    def ask(self, order):
        self.process.write(order)
        return json.loads(self.process.line())

    def close(self):
        return self.process.close()


class Chain:
    """Builds and takes down what one scenario needs between the client and the stand-in."""

    def __init__(self, scenario, options, work, stub, env, log):
        self.scenario, self.options, self.stub, self.env, self.log = scenario, options, stub, env, log
        self.environments = Path(options.work)
        self.state = f"sqlite:{work / 'callgate.db'}"
        self.started = []
        # `env` so that the server finds its environment in every mode: `serve` hands a child only the bare essentials.
        aws = aws_environment(stub.url, work)
        self.server = [shutil.which("env"), *(f"{key}={value}" for key, value in aws.items())]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.started):
            process.close()

    def connect(self):
        """A client at the near end of the chain; what lies behind it is started once."""
        interpreter = self.environments / ("client-stateless" if self.scenario.stateless else "client-handshake") / "bin" / "python"
        return Client(interpreter, self.target(), self.env, self.log)

    def target(self):
        way = self.scenario.way
        if way == "run":
            return ["--", *self.callgate("run"), *self.stdio_server()]
        if not self.started:
            self.url = self.http_server() if way == "bridge" or self.options.direct else self.gateway()
        if way == "bridge" and not self.options.direct:
            return ["--", *self.callgate("run", "--upstream", self.url)]
        return ["--url", self.url]

    def callgate(self, command, *options):
        """Callgate's own part of a command line; nothing in a direct drive."""
        if self.options.direct:
            return []
        policy = str(HERE / "policies" / self.scenario.policy)
        name = ["--server", "healthomics"] if command == "run" else []
        end = [] if "--upstream" in options else ["--"]
        return [self.options.callgate, command, "-p", policy, *name, "--state", self.state, *options, *end]

    def stdio_server(self):
        return [*self.server, str(self.environments / f"server-{self.scenario.server}" / "bin" / "awslabs.aws-healthomics-mcp-server")]

    def http_server(self):
        """The real server on streamable HTTP: by its own flags where it has them, by the SDK's settings where not."""
        port = free_port()
        if self.scenario.stateless:
            command = [*self.stdio_server(), "--transport", "streamable-http", "--host", "127.0.0.1", "--port", str(port)]
        else:
            python = str(self.environments / f"server-{self.scenario.server}" / "bin" / "python")
            program = (
                "from awslabs.aws_healthomics_mcp_server.server import mcp;"
                f"mcp.settings.host, mcp.settings.port = '127.0.0.1', {port}; mcp.run('streamable-http')"
            )
            command = [*self.server, python, "-c", program]
        process = Lines(command, self.env, self.log, read="stderr")
        self.started.append(process)
        wait_for_port(port, process)
        return f"http://127.0.0.1:{port}/mcp"

    def gateway(self):
        command = [*self.callgate("serve", "--listen", "127.0.0.1:0"), *self.stdio_server()]
        process = Lines(command, self.env, self.log, read="stderr")
        self.started.append(process)
        deadline = time.monotonic() + 20
        while True:
            if ready := re.search(r"callgate listening on (http://\S+)", process.line(max(0.1, deadline - time.monotonic()))):
                return ready[1]


def aws_environment(endpoint, work):
    """Dummy credentials in two profiles, so that the choice of a profile shows in the stand-in's record."""
    config, credentials = work / "aws-config", work / "aws-credentials"
    config.write_text("".join(f"[profile {name}]\nregion = us-east-1\n" for name in ("lab", "lab-staging", "production")))
    keys = {"default": "AKIADEFAULT", "lab": "AKIALAB", "lab-staging": "AKIASTAGING", "production": "AKIAPRODUCTION"}
    credentials.write_text("".join(f"[{name}]\naws_access_key_id = {key}\naws_secret_access_key = dummy\n" for name, key in keys.items()))
    return {
        "AWS_CONFIG_FILE": config,
        "AWS_SHARED_CREDENTIALS_FILE": credentials,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        "FASTMCP_LOG_LEVEL": "ERROR",
        "HEALTHOMICS_ENDPOINT_URL": endpoint,
        "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
    }


def bare_environment(home):
    """Nothing of ours leaks into the chain: no proxy, no credentials, no configuration of the machine's user."""
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "TMPDIR") if key in os.environ}
    return kept | {"HOME": str(home), "NO_PROXY": "127.0.0.1", "PYTHONUNBUFFERED": "1", "RUST_BACKTRACE": "1"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port, process):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.process.poll() is not None:
                raise Broken("the HTTP server ended at once; see the log") from None
            time.sleep(0.1)
    raise Broken(f"nothing listens on port {port} after {PATIENCE} s")
