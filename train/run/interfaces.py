"""The network interface by which ranks on several machines meet over gloo.

gloo offers the others the address of the host name. Where that is no address of the machine, or
127.0.1.1 as Debian writes it into /etc/hosts, the others would look for it on themselves, and this
rank would wait for half an hour.
"""

import contextlib
import os
import socket
from collections.abc import Iterator

import psutil

VARIABLE = "GLOO_SOCKET_IFNAME"
NOBODY = "192.0.2.1"  # set aside for documentation (RFC 5737): asks for the default route


def choose_interface() -> None:
    """Name an interface for gloo, where its own choice would not be reached from elsewhere.

    Nothing is sent, and nothing is chosen for who names one, or for ranks of one machine.
    """
    num_ranks = os.environ.get("WORLD_SIZE", "1")
    if VARIABLE in os.environ or num_ranks == os.environ.get("LOCAL_WORLD_SIZE", num_ranks):
        return
    interfaces = dict(_reachable())
    if set(_addresses_of(socket.gethostname())) & interfaces.keys():
        return
    for target in (os.environ.get("MASTER_ADDR", ""), NOBODY):
        if (name := interfaces.get(_source_towards(target))) is not None:
            os.environ[VARIABLE] = name
            return
    if len(names := set(interfaces.values())) == 1:
        os.environ[VARIABLE] = names.pop()


def _reachable() -> Iterator[tuple[str, str]]:
    """List the addresses by which others may reach this machine, and their interfaces."""
    is_up = {name: state.isup for name, state in psutil.net_if_stats().items()}
    for name, addresses in psutil.net_if_addrs().items():
        for each in addresses:
            if each.family not in (socket.AF_INET, socket.AF_INET6) or not is_up.get(name):
                continue
            if not each.address.startswith(("127.", "::1", "fe80:")):  # loopback, this link alone
                yield each.address, name


def _addresses_of(host: str) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
            yield str(found[4][0])


def _source_towards(host: str) -> str:
    """Find the address of this machine from which a host would be reached; empty for none."""
    with contextlib.suppress(OSError):
        for family, kind, _, _, address in socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM):
            with contextlib.suppress(OSError), socket.socket(family, kind) as probe:
                probe.connect(address)
                return str(probe.getsockname()[0])
    return ""
