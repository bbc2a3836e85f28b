from __future__ import annotations

import socket

import pytest

from server.bind_address import BindError, bind, is_loopback, url_of


def test_a_free_port_is_taken_and_named() -> None:
    with bind("127.0.0.1", 0) as bound:
        assert url_of(bound) == f"http://127.0.0.1:{bound.getsockname()[1]}"


def test_the_url_of_every_address_is_one_that_can_be_typed() -> None:
    with bind("0.0.0.0", 0) as bound:
        assert url_of(bound).startswith("http://127.0.0.1:")


@pytest.mark.skipif(not socket.has_ipv6, reason="this Python was built without IPv6")
def test_ipv6_addresses_stand_in_brackets() -> None:
    try:
        bound = bind("[::1]", 0)
    except BindError:
        pytest.skip("this machine has no IPv6 loopback")
    with bound:
        assert url_of(bound).startswith("http://[::1]:")


def test_a_port_in_use_names_the_mend() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BindError, match=f"port {port} on 127.0.0.1 is in use.*--port"):
            bind("127.0.0.1", port)


def test_addresses_of_others_and_unknown_names_are_told() -> None:
    with pytest.raises(BindError, match="does not have the address"):
        bind("192.0.2.1", 0)
    with pytest.raises(BindError, match="unknown here"):
        bind("no.such.name.invalid", 0)


def test_what_only_this_machine_can_reach() -> None:
    assert all(map(is_loopback, ("localhost", "LOCALHOST", "127.0.0.1", "::1", "[::1]")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.com", "")))
