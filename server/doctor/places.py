"""Checks of directories and of the port."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from server.bind_address import BindError, bind
from server.doctor.finding import Finding
from server.health_check import check_health, url_for
from server.keys.key_store import FILE_NAME as KEYS
from server.settings import Settings

_LITTLE_DISK_BYTES = 2 << 30
_SECRETS = (f"{KEYS}*", "*token*")
"""Files of the data directory that hold what lets in."""


def check_disk(settings: Settings, free: int | None = None) -> Finding:
    """Room for models."""
    place = _nearest(settings.models_path)
    try:
        free = shutil.disk_usage(place).free if free is None else free
    except OSError as error:
        return Finding(
            check="disk",
            status="fail",
            text=f"{place} cannot be looked at ({error.strerror})",
            mend="name another directory with --models-dir",
        )
    text = f"{free / 1e9:.1f} GB are free for {settings.models_path}"
    if free < _LITTLE_DISK_BYTES:
        return Finding(
            check="disk",
            status="warn",
            text=text,
            mend="make room ('nibble prune' removes leftovers), or name another directory with --models-dir",
        )
    return Finding(check="disk", status="ok", text=text)


def check_data_directory(settings: Settings) -> Finding:
    """Whether it can be written, and whether only its owner can read what lets in."""
    directory = settings.data_dir
    place = _nearest(directory)
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding(
            check="data directory",
            status="fail",
            text=f"{directory} cannot be written",
            mend=f"give the user that runs nibble the right to write to {place}, or choose another with --data-dir",
        )
    if directory.is_dir() and directory.stat().st_mode & stat.S_IWOTH:
        return Finding(
            check="data directory",
            status="warn",
            text=f"everybody may write to {directory}",
            mend=f"chmod o-w {directory}",
        )
    open_to_others = [
        path
        for path in _secrets(directory, settings.api_key_file)
        if stat.S_IMODE(path.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO)
    ]
    if open_to_others:
        names = ", ".join(str(path) for path in open_to_others)
        return Finding(
            check="data directory",
            status="warn",
            text=f"others may read {names}",
            mend=f"chmod 600 {' '.join(str(path) for path in open_to_others)}",
        )
    return Finding(check="data directory", status="ok", text=f"{directory} is the user's own")


def check_port(settings: Settings) -> Finding:
    """Whether it is free, or a nibble's already."""
    try:
        bind(settings.host, settings.port).close()
    except BindError as error:
        url = url_for(settings.host, settings.port)
        is_nibble, _ = check_health(url, ready=False, timeout_s=5.0)
        if is_nibble:
            return Finding(check="port", status="ok", text=f"a server answers at {url} already")
        text, _, mend = str(error).partition(": ")
        return Finding(check="port", status="fail", text=text, mend=mend)
    return Finding(check="port", status="ok", text=f"port {settings.port} on {settings.host} is free")


def _secrets(directory: Path, key_file: Path | None) -> list[Path]:
    paths = [path for pattern in _SECRETS for path in sorted(directory.glob(pattern))]
    return [path for path in (*paths, *([key_file] if key_file else [])) if path.is_file()]


def _nearest(path: Path) -> Path:
    """The directory that is there, of ``path`` and those above it."""
    path = path.absolute()
    return next(each for each in (path, *path.parents) if each.is_dir())
