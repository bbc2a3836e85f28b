#!/bin/sh
# Prints the Python that set-up runs with: $PYTHON if it is set, else the one of an existing environment, else
# the newest that the locks are made for, else whatever python3 is.
set -u

if [ -n "${PYTHON:-}" ]; then
    set -- "$PYTHON"
else
    set -- .venv/bin/python python3.13 python3.12 python3.11 python3
fi

# ensurepip is a package of its own on Debian; a Python without it cannot make an environment.
able='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'

for python in "$@"; do
    if command -v "$python" >/dev/null 2>&1 && "$python" -c "$able" >/dev/null 2>&1; then
        echo "$python"
        exit
    fi
done

if [ -n "${PYTHON:-}" ]; then
    echo "set-up: PYTHON=$PYTHON is not a Python 3.11 or newer with the venv module" >&2
elif command -v apt-get >/dev/null 2>&1; then
    echo "set-up: no Python 3.11 or newer with the venv module: sudo apt install python3-venv" >&2
else
    echo "set-up: no Python 3.11 or newer: install one, or name it: make setup PYTHON=/path/to/python3" >&2
fi
exit 1
