#!/bin/sh
# Fetches programs that only tests need, as Debian packages, and unpacks them into the cache directory: no root, and
# nothing installed. Does nothing where they are there. Where there is no apt-get, the tests that want them skip.
set -eu
packages="prometheus docker-compose"
# The libraries are those that small images lack.
command -v systemd-analyze >/dev/null 2>&1 || packages="$packages systemd libsystemd-shared libip4tc2 libkmod2 \
libapparmor1 libseccomp2"
place=${XDG_CACHE_HOME:-$HOME/.cache}/nibble/tools

missing=""
for package in $packages; do
    [ -d "$place/$package" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-deb >/dev/null 2>&1; then
    echo "test tools: no apt-get here, so the tests that need$missing will skip" >&2
    exit 1
fi

mkdir -p "$place"
scratch=$(mktemp -d "$place/.fetch-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
# shellcheck disable=SC2086  # a list of names
download() { apt-get "$@" download $missing >log 2>&1; }
# Package lists of one's own, where those of the system are missing or old: they need no root.
own="-o Dir::State::lists=$scratch/lists -o Dir::Cache=$scratch/cache"
if ! download; then
    mkdir -p lists/partial cache/archives/partial
    # shellcheck disable=SC2086
    if ! { apt-get $own update >>log 2>&1 && download $own; }; then
        echo "test tools: could not fetch$missing: $(tail -n 1 log)" >&2
        exit 1
    fi
fi
for package in $missing; do
    dpkg-deb --extract "$package"_*.deb "$package"
    [ -d "$place/$package" ] || mv "$package" "$place/$package"
done
echo "test tools:$missing unpacked into $place"
