#!/usr/bin/env python3
"""Drives a real MCP client through Callgate to the real HealthOmics server and a stand-in for AWS, and judges by its record.

    client (PyPI mcp) ──► callgate ──► awslabs.aws-healthomics-mcp-server ──► omics_stub.py

    setup.sh                                     once: the Python environments
    drive.py --callgate target/debug/callgate    every scenario
    drive.py --callgate … run-yaml serve-0.1.5   the named ones (--list names them)
    drive.py --direct                            the same calls without Callgate

`--direct` is how the checks are checked: those marked as guards must FAIL there. A guard that holds without Callgate
proves nothing about it, and makes the direct drive fail.

Standard library only; the SDKs run in their own environments, in client.py.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from chain import HERE, Broken, Chain, Client, Stub, bare_environment

DECISION = "dev.callgate/decision"
PREFIX = "[POLICY DENIED] "
MINUTE_MS = 60_000
# A window's length and one sixtieth of it: the longest wait a limit may ask for.
LONGEST_RETRY_MS = MINUTE_MS + MINUTE_MS // 60

# What each tool does to the account, as the stand-in writes it down.
OPERATION = {
    "StartAHORun": "StartRun",
    "StartAHORunBatch": "StartRunBatch",
    "CreateAHORunGroup": "CreateRunGroup",
    "UpdateAHORunGroup": "UpdateRunGroup",
    "DeleteAHOConfiguration": "DeleteConfiguration",
    "ListAHORuns": "ListRuns",
    "ListAHORunGroups": "ListRunGroups",
    "GetAHORun": "GetRun",
}

ROLE = "arn:aws:iam::123456789012:role/OmicsRole"


def start_run(name, **changed):
    base = {
        "workflow_id": "1234567",
        "role_arn": ROLE,
        "name": name,
        "output_uri": "s3://lab-results/runs",
        "parameters": {"sample": name},
        "aws_profile": "lab",
    }
    return without_none(base | changed)


def start_batch(name, **changed):
    base = {
        "workflow_id": "1234567",
        "role_arn": ROLE,
        "output_uri": "s3://lab-results/batches",
        "batch_run_settings": {"inlineSettings": [{"runSettingId": "one", "name": name}]},
        "request_id": name,  # 0.0.37 sends a batch_name as `name`, which today's botocore refuses
        "aws_profile": "lab",
    }
    return without_none(base | changed)


def create_group(name, **changed):
    return without_none({"name": name, "max_runs": 5, "aws_profile": "lab"} | changed)


def without_none(arguments):
    return {key: value for key, value in arguments.items() if value is not None}


# ---------------------------------------------------------------------------------------------------- one scenario


@dataclass
class Call:
    """One call as the client saw it."""

    tool: str
    arguments: dict
    reply: dict
    reached: list  # what the stand-in received because of it
    millis: float

    @property
    def result(self):
        return self.reply.get("result") or {}

    @property
    def text(self):
        return " ".join(part.get("text", "") for part in self.result.get("content", []))

    @property
    def decision(self):
        return (self.result.get("_meta") or {}).get(DECISION)

    @property
    def passed(self):
        return "result" in self.reply and self.decision is None


@dataclass
class Drive:
    """A chain under one policy, the calls made through it, and what was found."""

    name: str
    direct: bool
    stub: Stub
    state: str
    callgate: str
    env: dict
    connect: object = None  # () -> Client
    client: Client = None
    made: list = field(default_factory=list)
    failures: list = field(default_factory=list)
    checks: int = 0
    at_once: bool = False  # the calls were not made one after the other

    def check(self, says, holds, found="", guard=False):
        """One statement. A guard is one that only Callgate makes true."""
        self.checks += 1
        wanted = not (guard and self.direct)
        if bool(holds) == wanted:
            return
        problem = f"{says}: {found}" if wanted else f"a guard holds without Callgate: {says}"
        self.failures.append(problem)
        print(f"    FAILED {problem}", flush=True)

    def list(self):
        answer = self.client.ask({"list": True})
        if "tools" not in answer:
            raise Broken(f"tools/list: {answer['error']}")
        return answer["tools"]

    def call(self, tool, arguments):
        before, began = len(self.stub.calls()), time.monotonic()
        reply = self.client.ask({"call": tool, "arguments": arguments})
        millis = (time.monotonic() - began) * 1000
        call = Call(tool, arguments, reply, self.stub.calls()[before:], millis)
        self.made.append(call)
        return call

    def allowed(self, tool, arguments):
        """The call reaches AWS exactly once, and the client gets the server's own reply."""
        call = self.call(tool, arguments)
        operations = [request["op"] for request in call.reached]
        self.check(f"{tool} reaches AWS once", operations == [OPERATION[tool]], f"{operations}; {call.reply}")
        self.check(f"{tool} is answered by the server", call.passed, call.reply)
        return call

    def denied(self, why, tool, arguments, reason, server_refuses=False):
        """The call does not reach AWS, and its reply says so to the model and to machines.

        `server_refuses`: the server would not have run it either, so that its absence upstream is no proof by itself.
        """
        call = self.call(tool, arguments)
        says = f"{why} ({tool})"
        self.check(f"{says} does not reach AWS", not call.reached, call.reached, guard=not server_refuses)
        refused = call.result.get("isError") is True and call.text.startswith(PREFIX)
        self.check(f"{says} is answered `{PREFIX.strip()} …` with isError", refused, call.reply, guard=True)
        decision = call.decision or {}
        self.check(f"{says} carries its decision", decision.get("outcome") == "deny" and decision.get("id"), call.reply, guard=True)
        self.check(f"{says} has the reason {reason}", decision.get("reason") == reason, decision, guard=True)
        return call

    def exhausted(self, tool, arguments, why="the eleventh call within a minute"):
        call = self.denied(why, tool, arguments, "limit-reached")
        wait = (call.decision or {}).get("retryAfterMs")
        in_range = isinstance(wait, int) and 1 <= wait <= LONGEST_RETRY_MS
        self.check("the denial says when to try again", in_range, f"retryAfterMs {wait!r}", guard=True)
        self.check("the denial names its rule", (call.decision or {}).get("rule"), call.decision, guard=True)

    def reconnect(self):
        self.disconnect()
        self.client = self.connect()

    def disconnect(self):
        if self.client:
            self.check("the chain ends when the client hangs up", self.client.close(), "had to be killed")
        self.client = None

    # ------------------------------------------------------------------------------------------ the audit log

    def ask_callgate(self, *arguments):
        done = subprocess.run([self.callgate, *arguments, "--state", self.state, "--json"], env=self.env, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise Broken(f"callgate {' '.join(arguments)} exited {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
        return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]

    def stories(self):
        """The records of each call in the log, in the order in which the calls were decided."""
        verified = self.ask_callgate("audit", "verify")[0]
        records = self.ask_callgate("audit", "list")
        self.check("the audit chain verifies", verified.get("valid") is True, verified)
        self.check("every record was verified", verified.get("records") == len(records), f"{verified.get('records')} of {len(records)}")
        by_id = {}
        for record in records:
            if record["method"] == "tools/call":
                by_id.setdefault(record["id"], []).append(record)
        return list(by_id.values())

    def audit_agrees(self):
        """The audit log, the client and the stand-in tell one story, call by call."""
        stories = self.stories()
        if self.at_once:
            # Calls made at once have no order to compare; their ids pair them where they were denied.
            self.made.sort(key=lambda call: (call.decision or {}).get("id", ""))
            stories.sort(key=lambda story: story[0]["id"] if story[0]["outcome"] == "deny" else "")
        self.check("the log has every call, and no other", len(stories) == len(self.made), f"{len(stories)} logged, {len(self.made)} made")
        upstream = []
        for number, (call, story) in enumerate(zip(self.made, stories), 1):
            self.audited(f"record of call {number} ({call.tool})", call, story)
            if story[0]["outcome"] == "allow" and call.tool in OPERATION:
                upstream.append(OPERATION[call.tool])
        received = [request["op"] for request in self.stub.calls()]
        self.check("what the log calls allowed is what AWS received", upstream == received, f"log {upstream}, AWS {received}")

    def audited(self, says, call, story):
        first = story[0]
        phases = [record["phase"] for record in story]
        self.check(f"{says}: the tool", first["tool"] == call.tool, first)
        if call.passed:
            self.check(f"{says}: decided, then finished", phases == ["decided", "finished"], phases)
            self.check(f"{says}: allowed", first["outcome"] == "allow", first)
            self.check(f"{says}: how it ended", story[-1]["reply"], story[-1])
            return
        decision = call.decision or {}
        for key in ("id", "outcome", "reason", "rule"):
            self.check(f"{says}: the same {key} as the reply", first[key] == decision.get(key), f"{first[key]!r}, {decision.get(key)!r}")
        self.check(f"{says}: never finished upstream", "completed" not in [record["reply"] for record in story], story)


# ---------------------------------------------------------------------------------------------------- what is shown


def ten_and_no_more(drive, tool, arguments, throttled=None):
    """Ten reach AWS and the eleventh does not. AWS's own refusal of one of them gives nothing back."""
    names = [f"sample-{number}" for number in range(1, 11)]
    for name in names:
        if name == throttled:
            drive.stub.ask("/__fail", {"op": OPERATION[tool], "status": 429, "type": "ThrottlingException", "times": 1})
        drive.allowed(tool, arguments(name))
    drive.exhausted(tool, arguments("sample-11"))
    sent = [request["body"] for request in drive.stub.calls() if request["op"] == OPERATION[tool]]
    got = [body.get("name") or body.get("requestId") for body in sent]
    drive.check("exactly the ten are in AWS's record, in order", got == names, got, guard=True)


def published(drive, tool, arguments, default_deny, required=None):
    """A policy as published: ten a minute of one tool; `required` is an argument whose absence it must refuse.

    The counter is in the state file: hanging up and coming back gives nothing.
    """
    other = "CreateAHORunGroup" if tool != "CreateAHORunGroup" else "ListAHORuns"
    tools = drive.list()
    drive.check(f"{tool} is listed", tool in tools, tools)
    if default_deny:
        drive.check("nothing else is listed", tools == [tool], f"{len(tools)} tools", guard=True)
        drive.denied("an unlisted tool", other, {}, "default-deny")
        drive.denied("a tool that does not exist", "NoSuchTool", {}, "default-deny", server_refuses=True)
    else:
        drive.check("the policy hides nothing", len(tools) > 70, f"{len(tools)} tools")
        drive.allowed(other, {})
    if required:
        drive.denied(f"{required} left out", tool, arguments("incomplete", **{required: None}), "invalid-arguments", server_refuses=True)
    ten_and_no_more(drive, tool, arguments)
    drive.reconnect()
    drive.exhausted(tool, arguments("sample-12"), "the first call of a client that came back within the minute")


def genomics(drive):
    """Our own policy: every way in which a call is refused, and that refusals cost nothing of the ten."""
    tools = drive.list()
    drive.check("the listed tools are shown", {"StartAHORun", "StartAHORunBatch", "UpdateAHORunGroup", "ListAHORuns", "GetAHORun"} <= set(tools), tools)
    drive.check("the hidden tool is not shown", "DeleteAHOConfiguration" not in tools, tools, guard=True)
    drive.check("an unlisted tool is not shown", "CreateAHORunGroup" not in tools, tools, guard=True)
    strangers = [tool for tool in tools if not re.match(r"(ListAHO|GetAHO)|(StartAHORun|StartAHORunBatch|UpdateAHORunGroup)$", tool)]
    drive.check("nothing else is shown", not strangers, strangers, guard=True)

    drive.denied("a hidden tool", "DeleteAHOConfiguration", {"name": "vpc"}, "hidden")
    drive.denied("an unlisted tool", "CreateAHORunGroup", create_group("other"), "default-deny")
    drive.denied("a tool that does not exist", "NoSuchTool", {}, "default-deny", server_refuses=True)
    raised = {"run_group_id": "1", "max_runs": 100000, "aws_profile": "lab"}
    drive.denied("a tool that a rule denies", "UpdateAHORunGroup", raised, "denied-by-rule")

    drive.denied("a required argument left out", "StartAHORun", start_run("x", workflow_id=None), "invalid-arguments", server_refuses=True)
    drive.denied("all required arguments left out", "StartAHORun", {"aws_profile": "lab"}, "invalid-arguments", server_refuses=True)
    drive.denied("an argument of the wrong type", "StartAHORun", start_run("x", storage_capacity="plenty"), "invalid-arguments", server_refuses=True)
    drive.denied("an argument that the tool does not have", "StartAHORun", start_run("x", run_group="77"), "invalid-arguments")
    drive.denied("an aws_profile outside the allowlist", "StartAHORun", start_run("x", aws_profile="production"), "condition-failed")
    drive.denied("an aws_profile in other case", "StartAHORun", start_run("x", aws_profile="LAB"), "condition-failed", server_refuses=True)
    drive.denied("no aws_profile at all", "StartAHORun", start_run("x", aws_profile=None), "condition-failed")
    drive.denied("results outside the bucket", "StartAHORun", start_run("x", output_uri="s3://elsewhere/runs"), "condition-failed")
    drive.denied("reading with another profile", "ListAHORuns", {"aws_profile": "production"}, "condition-failed")

    ten_and_no_more(drive, "StartAHORun", start_run, throttled="sample-5")
    drive.allowed("ListAHORuns", {"aws_profile": "lab"})
    keys = {request["access_key"] for request in drive.stub.calls()}
    drive.check("every request was signed with the lab's key", keys == {"AKIALAB"}, keys, guard=True)
    held_for_approval(drive)


def held_for_approval(drive):
    """A batch waits for a person: nothing is sent until they agree, and their word holds for this one call, once."""
    arguments = start_batch("cohort")
    call = drive.call("StartAHORunBatch", arguments)
    drive.check("a batch is held", not call.reached, call.reached, guard=True)
    drive.check("the agent is told that it is held", (call.decision or {}).get("outcome") == "ask", call.reply, guard=True)
    if drive.direct:
        return
    pending = [entry for entry in drive.ask_callgate("approvals", "list") if entry.get("state") == "pending"]
    drive.check("one approval is pending", len(pending) == 1, pending)
    if len(pending) != 1:
        return
    drive.ask_callgate("approvals", "approve", pending[0]["id"])
    other = drive.call("StartAHORunBatch", start_batch("another-cohort"))
    drive.check("the approval is not for another batch", not other.reached, other.reply)
    drive.allowed("StartAHORunBatch", arguments)
    again = drive.call("StartAHORunBatch", arguments)
    drive.check("the approval is spent", not again.reached and (again.decision or {}).get("outcome") == "ask", again.reply)


def crowd(drive):
    """Two clients, each with its own way through, call all at once: together they get ten."""
    second = drive.connect()
    sessions = [drive.client, second]
    replies, drive.at_once = [], True
    with ThreadPoolExecutor() as pool:
        for number, session in enumerate(sessions):
            names = [f"crowd-{number}-{call}" for call in range(12)]
            order = [{"call": "StartAHORun", "arguments": start_run(name)} for name in names]
            replies.append(pool.submit(session.ask, order))
    for reply in (reply for answered in replies for reply in answered.result()):
        drive.made.append(Call("StartAHORun", {}, reply, [], 0))
    passed = [call for call in drive.made if call.passed]
    drive.check("ten of twenty-four are answered by the server", len(passed) == 10, len(passed), guard=True)
    reasons = {(call.decision or {}).get("reason") for call in drive.made if not call.passed}
    drive.check("the others reached the limit", reasons == {"limit-reached"}, reasons, guard=True)
    sent = [request["op"] for request in drive.stub.calls()]
    drive.check("ten are in AWS's record", sent == ["StartRun"] * 10, sent, guard=True)
    drive.check("the second client's chain ends", second.close(), "had to be killed")


def ten(drive):
    """The ten and the eleventh, and one refusal of each kind: for the ways in that share everything behind them."""
    tools = drive.list()
    drive.check("StartAHORun is listed", "StartAHORun" in tools, tools)
    drive.check("the hidden tool is not shown", "DeleteAHOConfiguration" not in tools, tools, guard=True)
    drive.check("an unlisted tool is not shown", "CreateAHORunGroup" not in tools, tools, guard=True)
    drive.denied("a hidden tool", "DeleteAHOConfiguration", {"name": "vpc"}, "hidden")
    drive.denied("an unlisted tool", "CreateAHORunGroup", create_group("other"), "default-deny")
    drive.denied("a required argument left out", "StartAHORun", start_run("x", workflow_id=None), "invalid-arguments", server_refuses=True)
    drive.denied("an aws_profile outside the allowlist", "StartAHORun", start_run("x", aws_profile="production"), "condition-failed")
    ten_and_no_more(drive, "StartAHORun", start_run)


@dataclass
class Scenario:
    """A way in, a version of the server (and with it the era), a policy, and what to show."""

    name: str
    way: str  # run | bridge | serve
    server: str
    policy: str
    show: object

    @property
    def stateless(self):
        return self.server == "0.1.5"


def scenarios():
    def single(tool, arguments, default_deny, required=None):
        return lambda drive: published(drive, tool, arguments, default_deny, required)

    old, new = "0.0.37", "0.1.5"
    run_yaml, run_json = single("StartAHORun", start_run, False, "workflow_id"), single("StartAHORun", start_run, True)
    return [
        Scenario("run-yaml", "run", old, "StartAHORun.intercept.yaml", run_yaml),
        Scenario("run-json", "run", old, "StartAHORun.policy.json", run_json),
        Scenario("batch-yaml", "run", old, "StartAHORunBatch.intercept.yaml", single("StartAHORunBatch", start_batch, False, "role_arn")),
        Scenario("batch-json", "run", old, "StartAHORunBatch.policy.json", single("StartAHORunBatch", start_batch, True)),
        Scenario("group-json", "run", old, "CreateAHORunGroup.policy.json", single("CreateAHORunGroup", create_group, True)),
        Scenario("run-genomics", "run", old, "genomics.yaml", genomics),
        Scenario("bridge", "bridge", old, "genomics.yaml", ten),
        Scenario("serve", "serve", old, "genomics.yaml", ten),
        Scenario("crowd", "run", old, "StartAHORun.policy.json", crowd),
        Scenario("run-yaml-0.1.5", "run", new, "StartAHORun.intercept.yaml", run_yaml),
        Scenario("run-json-0.1.5", "run", new, "StartAHORun.policy.json", run_json),
        Scenario("run-genomics-0.1.5", "run", new, "genomics.yaml", genomics),
        Scenario("bridge-0.1.5", "bridge", new, "genomics.yaml", ten),
        Scenario("serve-0.1.5", "serve", new, "genomics.yaml", ten),
        Scenario("crowd-0.1.5", "serve", new, "StartAHORun.policy.json", crowd),
    ]


def play(scenario, options):
    work = Path(options.work) / "runs" / (f"direct-{scenario.name}" if options.direct else scenario.name)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    env = bare_environment(work)
    with open(work / "log.txt", "w") as log:
        stub = Stub(env, log)
        drive = Drive(scenario.name, options.direct, stub, "", options.callgate, env)
        try:
            with Chain(scenario, options, work, stub, env, log) as chain:
                drive.state, drive.connect = chain.state, chain.connect
                drive.reconnect()
                scenario.show(drive)
                drive.disconnect()
            if not options.direct:
                drive.audit_agrees()
        except Broken as broken:
            drive.failures.append(str(broken))
            print(f"    BROKEN {broken}\n    log: {work / 'log.txt'}", flush=True)
        finally:
            if drive.client:
                drive.client.close()
            stub.process.close()
    return drive


def main():
    arguments = argparse.ArgumentParser(description="drive a real client through Callgate to the real HealthOmics server")
    arguments.add_argument("--callgate", metavar="PATH", help="the binary")
    arguments.add_argument("--direct", action="store_true", help="without Callgate: every guard must fail")
    arguments.add_argument("--work", default=os.environ.get("CALLGATE_WORK") or HERE.parents[1] / "target" / "healthomics")
    arguments.add_argument("--list", action="store_true", help="name the scenarios")
    arguments.add_argument("scenario", nargs="*")
    options = arguments.parse_args()
    options.work = Path(options.work).resolve()
    known = scenarios()
    if options.list:
        print("\n".join(f"{scenario.name:20} {scenario.way:7} {scenario.server:7} {scenario.policy}" for scenario in known))
        return 0
    if bool(options.callgate) == options.direct:
        arguments.error("give --callgate PATH or --direct")
    if options.callgate:
        options.callgate = str(Path(options.callgate).resolve())
    if unknown := set(options.scenario) - {scenario.name for scenario in known}:
        arguments.error(f"no scenario {', '.join(sorted(unknown))}; --list names them")
    chosen = [scenario for scenario in known if not options.scenario or scenario.name in options.scenario]

    began, failed = time.monotonic(), []
    for scenario in chosen:
        start = time.monotonic()
        print(f"  {scenario.name}: {scenario.way}, server {scenario.server}, {scenario.policy}", flush=True)
        drive = play(scenario, options)
        times = sorted(call.millis for call in drive.made) or [0]
        verdict = "ok" if not drive.failures else f"{len(drive.failures)} FAILED"
        print(f"    {verdict}: {drive.checks} checks, {len(drive.made)} calls, median {times[len(times) // 2]:.0f} ms, {time.monotonic() - start:.1f} s", flush=True)
        failed += [scenario.name] * bool(drive.failures)
    how = "without Callgate, guards failing as they must" if options.direct else "through Callgate"
    print(f"HealthOmics {how}: {len(chosen) - len(failed)} of {len(chosen)} scenarios in {time.monotonic() - began:.0f} s")
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
