"""Rules of the Linux kernel that both implementations keep, so that the embedded one behaves like the real one."""

from __future__ import annotations

import errno
import ipaddress

from msgspec.structs import replace

from hafsm.core.ipvs import DestinationEntry, Operation, ServiceEntry, Verb, kept_flags
from hafsm.core.settings import Address, Forwarding

FULL_MASKS = ("", "255.255.255.255", "128")
"""Persistence netmasks that mean one client address; the kernel does not tell them apart."""

WEIGHT_MAX = 2**31 - 1
"""A weight is a signed 32-bit number in the kernel (ip_vs_ctl.c)."""

PERSISTENCE_MAX_S = 31 * 86_400
"""ipvsadm's limit. The kernel counts in ticks of 32 bits and would keep something else from 49 days on (HZ=1000)."""

FLAG_BITS = {
    "flag-1": 0x08,
    "flag-2": 0x10,
    "flag-3": 0x20,
    "sh-fallback": 0x08,
    "sh-port": 0x10,
    "mh-fallback": 0x08,
    "mh-port": 0x10,
}
"""IP_VS_SVC_F_SCHED1 to 3 and their names for sh and mh (include/uapi/linux/ip_vs.h)."""

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


def as_kept(service: ServiceEntry) -> ServiceEntry:
    """A service as `read_table` shows it after it was asked for."""
    flags = kept_flags(service.scheduler, service.scheduler_flags)
    netmask = kept_netmask(service)
    if (flags, netmask) == (service.scheduler_flags, service.netmask):
        return service
    return replace(service, scheduler_flags=flags, netmask=netmask)


def service_error(service: ServiceEntry) -> int:
    """EINVAL for a service that the kernel would take for another one, 0 for any other.

    Firewall mark 0 would be a tcp service of 0.0.0.0, an unknown flag none, too long a persistence a short one.
    """
    if service.protocol == "fwm" and not 0 < service.mark < 2**32:
        return errno.EINVAL
    if not set(service.scheduler_flags) <= FLAG_BITS.keys():
        return errno.EINVAL
    if not 0 <= service.persistent_s <= PERSISTENCE_MAX_S:
        return errno.EINVAL
    mask = kept_netmask(service)
    if not mask:
        return 0
    if is_v6(service.address):
        return 0 if mask.isdecimal() and 1 <= int(mask) <= 128 else errno.EINVAL
    try:
        ipaddress.IPv4Address(mask)
    except ValueError:
        return errno.EINVAL
    return 0


def destination_error(service: ServiceEntry, destination: DestinationEntry, *, synchronising: bool) -> int:
    """The errno with which the kernel answers an add or edit of `destination`; 0 if it takes it.

    ERANGE: weight negative (in its 32 bits), lower threshold above the upper, a number too large for its field. EINVAL:
    the other family than the service's without a tunnel, or with one while a sync daemon runs; an address that no
    single host has (ip_vs_genl_set_cmd, ip_vs_add_dest, ip_vs_new_dest of Linux 6.1).
    """
    if not 0 <= destination.port < 2**16 or destination.upper_threshold >= 2**32:
        return errno.ERANGE
    if not 0 <= destination.weight <= WEIGHT_MAX:
        return errno.ERANGE
    if not 0 <= destination.lower_threshold <= destination.upper_threshold:
        return errno.ERANGE
    try:
        address = ipaddress.ip_address(destination.address)
    except ValueError:
        return errno.EINVAL
    if mixed(service, destination) and (synchronising or destination.forwarding is not Forwarding.IPIP):
        return errno.EINVAL
    nobody = address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255"
    return errno.EINVAL if nobody or (address.version == 6 and address.is_link_local) else 0


def mixed(service: ServiceEntry, destination: DestinationEntry) -> bool:
    """Whether a real server has another address family than its service."""
    return is_v6(service.address) is not is_v6(destination.address)


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
