#!/usr/bin/env bash
# Installs what drive.mjs and sarif.mjs need besides Debian's chromium and node: playwright-core, axe-core, ajv and the schema of
# SARIF, pinned by package-lock.json.
#
#     setup.sh DIRECTORY
#
# What is complete has a `.ready` file that names what was asked for, so a second run does nothing.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$1
wanted=$(cksum <"$here/package-lock.json")
[ "$(cat "$work/.ready" 2>/dev/null)" = "$wanted" ] && exit 0
rm -rf "$work"
mkdir -p "$work"
cp "$here/package.json" "$here/package-lock.json" "$work"
npm ci --prefix "$work" --ignore-scripts --no-audit --no-fund --loglevel error
echo "$wanted" >"$work/.ready"
