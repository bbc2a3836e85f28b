"""Which addresses are ours alone, and the socket that listens on one."""

from __future__ import annotations

import errno
import ipaddress
import socket

_BACKLOG = 2048


class BindError(Exception):
    """The address cannot be listened on; the message names the mend."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``. A name other than localhost counts as reachable."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises BindError.

    Before anything slow happens: a port in use is known at once, and whoever reads the address in the first line
    that is printed can connect, and waits for the answer instead of being refused.
    """
    host = host.strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror:
        raise BindError(f"the address {host} is unknown here: use --host 127.0.0.1") from None
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        raise BindError(_explain(error, host, port)) from None
    return bound


def url_of(bound: socket.socket) -> str:
    """The address as somebody on this machine would type it: 127.0.0.1 for 0.0.0.0."""
    host, port = bound.getsockname()[:2]
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _explain(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is in use: stop the program that holds it, or choose another with --port"
        )
    if error.errno == errno.EACCES:
        return f"port {port} needs privileges: choose one above 1023 with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"this machine does not have the address {host}: use --host 127.0.0.1"
    return f"cannot listen on {host}, port {port}: {error.strerror}"
