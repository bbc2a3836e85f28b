"""A seccomp filter that leaves a process without network and without a hand on other processes. Linux alone has it.

Not a sandbox: files and signals of the same user stay within reach. It needs no privilege, is inherited by every thread
and child, and cannot be taken off again. Source: linux/seccomp.h, linux/filter.h and the tables of system calls;
https://docs.kernel.org/userspace-api/seccomp_filter.html.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from dataclasses import dataclass
from typing import Final

_PR_SET_NO_NEW_PRIVS: Final = 38
_SET_MODE_FILTER, _TO_ALL_THREADS = 1, 1
_RETURN_ALLOW: Final = 0x7FFF0000
_RETURN_ERROR: Final = 0x00050000
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16  # offsets in struct seccomp_data, little-endian
_LOCAL_FAMILIES: Final = (1, 16)
"""AF_UNIX and AF_NETLINK: drivers of GPUs talk so with daemons and the kernel of this machine."""


@dataclass(frozen=True, slots=True)
class _Machine:
    """Numbers that differ between processors."""

    audit_architecture: int
    seccomp: int
    socket: int
    refused: tuple[int, ...]
    """io_uring_setup, which makes sockets too; ptrace, process_vm_readv, process_vm_writev, pidfd_getfd."""
    foreign_from: int | None = None
    """System calls of another calling convention begin here, where there is one: x32 on x86-64."""


_MACHINES: Final = {
    "x86_64": _Machine(0xC000003E, 317, 41, (425, 101, 310, 311, 438), 0x40000000),
    "aarch64": _Machine(0xC00000B7, 277, 198, (425, 117, 270, 271, 438)),
}


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction)))


class SystemCallFilter:
    """The filter for this machine. Raises OSError where there is none."""

    def __init__(self, *, allows_local_sockets: bool = False) -> None:
        machine = _MACHINES.get(platform.machine()) if sys.platform == "linux" else None
        if machine is None:
            raise OSError(errno.ENOSYS, f"no filter is written for {sys.platform} on {platform.machine()}")
        self._machine = machine
        self._allows_local_sockets = allows_local_sockets

    def install(self) -> None:
        """Put it on every thread of this process, for good. Raises OSError."""
        library = ctypes.CDLL(None, use_errno=True)
        if library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "new privileges cannot be given up")
        written = self._instructions()
        program = _Program(
            len(written), (_Instruction * len(written))(*(_Instruction(*fields) for fields in written))
        )
        failed = library.syscall(
            self._machine.seccomp, _SET_MODE_FILTER, _TO_ALL_THREADS, ctypes.byref(program)
        )
        if failed > 0:
            raise OSError(errno.EBUSY, f"thread {failed} has a filter of its own")
        if failed:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def _instructions(self) -> list[tuple[int, int, int, int]]:
        """Code, jump if true, jump if false, value. Jumps count the instructions that they skip."""
        machine = self._machine
        refuse = (_RETURN, 0, 0, _RETURN_ERROR | errno.EACCES)
        allow = (_RETURN, 0, 0, _RETURN_ALLOW)
        lines = [
            (_LOAD, 0, 0, _ARCHITECTURE_AT),
            (_JUMP_IF_EQUAL, 1, 0, machine.audit_architecture),
            refuse,
            (_LOAD, 0, 0, _NUMBER_AT),
        ]
        if machine.foreign_from is not None:
            lines += [(_JUMP_IF_AT_LEAST, 0, 1, machine.foreign_from), refuse]
        for number in machine.refused:
            lines += [(_JUMP_IF_EQUAL, 0, 1, number), refuse]
        families = _LOCAL_FAMILIES if self._allows_local_sockets else ()
        # From here on nothing but socket() matters, whose first argument is the family of addresses.
        lines += [(_JUMP_IF_EQUAL, 1, 0, machine.socket), allow, (_LOAD, 0, 0, _FIRST_ARGUMENT_AT)]
        for family in families:
            lines += [(_JUMP_IF_EQUAL, 0, 1, family), allow]
        return [*lines, refuse]
