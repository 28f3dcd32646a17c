"""Rules of the Linux kernel that both implementations keep, so that the embedded one behaves like the real one."""

from __future__ import annotations

import errno
import ipaddress

from hafsm.core.ipvs import DestinationEntry, Operation, ServiceEntry, Verb
from hafsm.core.settings import Address

FULL_MASKS = ("", "255.255.255.255", "128")
"""Persistence netmasks that mean one client address; the kernel does not tell them apart."""

WEIGHT_MAX = 2**31 - 1
"""A weight is a signed 32-bit number in the kernel (ip_vs_ctl.c)."""

SERVICE_VERBS = frozenset({Verb.ADD_SERVICE, Verb.EDIT_SERVICE, Verb.DELETE_SERVICE})

INSTEAD: dict[tuple[Verb, int], Verb | None] = {
    (Verb.ADD_SERVICE, errno.EEXIST): Verb.EDIT_SERVICE,
    (Verb.EDIT_SERVICE, errno.ESRCH): Verb.ADD_SERVICE,
    (Verb.DELETE_SERVICE, errno.ESRCH): None,
    (Verb.ADD_DESTINATION, errno.EEXIST): Verb.EDIT_DESTINATION,
    (Verb.EDIT_DESTINATION, errno.ENOENT): Verb.ADD_DESTINATION,
    (Verb.DELETE_DESTINATION, errno.ENOENT): None,
    (Verb.DELETE_DESTINATION, errno.ESRCH): None,
}
"""What makes operations idempotent: a verb answered with that errno is replaced by this one; None: it is so already."""


def kept_netmask(service: ServiceEntry) -> str:
    """The netmask as `read_table` shows it: empty without persistence and for a full mask (as in ipvsadm's listing)."""
    return "" if not service.persistent_s or service.netmask in FULL_MASKS else service.netmask


def refused_weight_or_thresholds(destination: DestinationEntry) -> bool:
    """The kernel answers ERANGE: weight negative (in its 32 bits), or lower threshold above the upper."""
    return not 0 <= destination.weight <= WEIGHT_MAX or destination.lower_threshold > destination.upper_threshold


def instead_of(operation: Operation, error: int) -> Verb | None:
    """The verb to try after `error`; None if there is nothing more to do.

    Raises:
        KeyError: the error is final.
    """
    return INSTEAD[operation.verb, error]


def is_v6(ip: str) -> bool:
    """Whether canonical address text is IPv6."""
    return ":" in ip


def same_place(address: Address, ip: str, prefix: int, interface: str) -> bool:
    """Whether an address found on `interface` is the one that `address` asks for; both texts are canonical."""
    return address.ip == ip and address.prefix in (0, prefix) and address.interface in ("", interface)


def broadcast_of(address: Address) -> str:
    """Broadcast address to set: as written, else computed from the prefix; empty for /31, /32 and IPv6."""
    if address.broadcast or is_v6(address.ip) or address.prefix > 30:
        return address.broadcast
    network = ipaddress.ip_network(f"{address.ip}/{address.prefix}", strict=False)
    return str(network.broadcast_address)
