#!/bin/sh
# Makes .cache/audit: pip-audit and cyclonedx-bom, every file by hash, apart from what they look at.
set -eu
cd "$(dirname "$0")/.."

tools=.cache/audit
lock=requirements/audit.txt
if [ ! -f "$lock" ]; then
    echo "$lock is missing: run 'make lock'" >&2
    exit 1
fi
cmp -s "$lock" "$tools/lock.txt" && exit
rm -rf "$tools"
"${PYTHON:-python3}" -m venv "$tools"
"$tools/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r "$lock"
cp "$lock" "$tools/lock.txt"
