#!/usr/bin/env bash
# Installs the real clients and servers of drive.py: one Python environment, one directory of npm packages with a Node of its
# own (the inspector needs 22; Debian's is older).
#
#     setup.sh [DIRECTORY]      default: $CALLGATE_CLIENTS, else target/clients
#
# Versions are pinned by package-lock.json and constraints.txt. What is complete has a `.ready` file that names what was asked
# for, so a second run does nothing, and an interrupted one starts again. Needs python3 with venv, npm, git, PyPI and npmjs.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=${1:-${CALLGATE_CLIENTS:-$here/../../target/clients}}
mkdir -p "$work"
work=$(cd "$work" && pwd)

is_ready() { # DIRECTORY WANTED
    [ "$(cat "$1/.ready" 2>/dev/null)" = "$2" ] && echo "  $(basename "$1"): already there"
}

packages=(mcp==2.3.0 mcp-server-git==2026.10.19 mcp-server-time==2026.10.19)
wanted="${packages[*]} $(cksum <"$here/constraints.txt")"
if ! is_ready "$work/python" "$wanted"; then
    began=$SECONDS
    python3 -m venv --clear "$work/python"
    "$work/python/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --retries 10 \
        --constraint "$here/constraints.txt" "${packages[@]}"
    echo "$wanted" >"$work/python/.ready"
    echo "  python: ${packages[*]} ($((SECONDS - began)) s)"
fi

wanted=$(cksum <"$here/package-lock.json")
if ! is_ready "$work/node" "$wanted"; then
    began=$SECONDS
    rm -rf "$work/node"
    mkdir -p "$work/node"
    cp "$here/package.json" "$here/package-lock.json" "$work/node"
    # No script of any package is run; npm says on stderr which ones would have been, and that npm's own Node is old.
    npm ci --prefix "$work/node" --ignore-scripts --no-audit --no-fund --loglevel error
    (cd "$work/node" && ln -sf node_modules/node-linux-*/bin/node node)
    "$work/node/node" --version >/dev/null
    echo "$wanted" >"$work/node/.ready"
    echo "  node: $(grep -c '"node_modules/' "$work/node/package-lock.json") packages ($((SECONDS - began)) s)"
fi
