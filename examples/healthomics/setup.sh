#!/usr/bin/env bash
# Makes the Python environments of the HealthOmics drive: two versions of the real server, and a real client for each era.
#
#     setup.sh [DIRECTORY]      default: $CALLGATE_WORK, else target/healthomics
#
# Versions are pinned by constraints.txt. An environment is complete when its `.ready` file names what was asked for, so a
# second run does nothing, and an interrupted one starts that environment again. Needs python3 with venv, and PyPI.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=${1:-${CALLGATE_WORK:-$here/../../target/healthomics}}
mkdir -p "$work"
work=$(cd "$work" && pwd)

environment() { # NAME REQUIREMENT…
    local venv=$work/$1 wanted
    shift
    wanted="$* $(cksum <"$here/constraints.txt")"
    if [ -x "$venv/bin/python" ] && [ "$(cat "$venv/.ready" 2>/dev/null)" = "$wanted" ]; then
        echo "  $(basename "$venv"): already there"
        return
    fi
    local began=$SECONDS
    python3 -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --retries 10 \
        --constraint "$here/constraints.txt" "$@"
    echo "$wanted" >"$venv/.ready"
    echo "  $(basename "$venv"): $* ($((SECONDS - began)) s)"
}

echo "environments in $work"
# The last release on SDK 1.x. Without `mcp<2` it does not start: FastMCP was renamed in 2.0.
environment server-0.0.37 'awslabs.aws-healthomics-mcp-server==0.0.37' 'mcp<2'
environment server-0.1.5 'awslabs.aws-healthomics-mcp-server==0.1.5'
environment client-handshake 'mcp==1.30.*'
environment client-stateless 'mcp==2.3.*'
