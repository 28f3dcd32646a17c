"""ldirectord's log lines for what the kernel was made to do: people search their logs for them, and have filters.

Source: the lines of ldirectord 4.12; the virtual service is named as there, by address and port or by its mark alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hafsm.core.ipvs import Operation, ServiceEntry, Verb
from hafsm.core.settings import host_port


def lines_of(operations: Sequence[Operation], *, reload: bool) -> Iterator[str]:
    """One line for each operation that succeeded. `reload`: this director goes on holding the services, so one that
    goes away is no longer configured."""
    for operation in operations:
        service, destination = _place(operation.service), operation.destination
        if destination is None:
            match operation.verb:
                case Verb.ADD_SERVICE:
                    yield f"Added virtual server: {service}"
                case Verb.EDIT_SERVICE:
                    yield f"Changed virtual server: {service}"
                case _:
                    yield f"Purged virtual server ({'start' if reload else 'stop'}): {service}"
            continue
        place = f"{destination.key} ({service})"
        if operation.verb is Verb.DELETE_DESTINATION:
            yield f"Deleted real server: {place}"
        elif destination.weight == 0:
            yield f"Quiescent real server: {place} (Weight set to 0)"
        else:
            word = "Added" if operation.verb is Verb.ADD_DESTINATION else "Restored"
            yield f"{word} real server: {place} (Weight set to {destination.weight})"


def _place(service: ServiceEntry) -> str:
    return str(service.mark) if service.protocol == "fwm" else host_port(service.address, service.port)
