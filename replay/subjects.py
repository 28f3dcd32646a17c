"""What a question can be about, and finding it by what an operator types."""

from __future__ import annotations

import difflib
from enum import Enum

from hafsm.core.settings import Address, Settings, Value
from hafsm.errors import HafsmError


class Topic(Enum):
    """A kind of subject."""

    NODE = "director"
    VIP = "VIP"
    REAL = "real server"
    PING = "ping node"
    LINK = "link"


class Subject(Value, frozen=True):
    """One thing that changes."""

    topic: Topic
    name: str
    """director-a, 192.0.2.1/24 (eth0), 10.0.0.1:80, a ping node's or link's name."""
    service: str = ""
    """Of a real server: key of the virtual service that it is in."""

    def __str__(self) -> str:
        return f"{self.topic.value} {self.name}" + (f" of {self.service}" if self.service else "")


class UnknownSubject(HafsmError):
    """Nothing in the recorded configuration has this name."""

    def __init__(self, text: str, known: tuple[str, ...]) -> None:
        super().__init__(text, known)
        self.text = text
        self.known = known

    def __str__(self) -> str:
        near = difflib.get_close_matches(self.text, self.known, n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(self.known)}"
        return f"{self.text!r} is no VIP, real server or director of this journal; {hint}"


def vip(address: Address) -> Subject:
    return Subject(topic=Topic.VIP, name=str(address))


def node(name: str) -> Subject:
    return Subject(topic=Topic.NODE, name=name)


def real(settings: Settings, service: int, index: int) -> Subject:
    virtual = settings.services[service]
    return Subject(topic=Topic.REAL, name=virtual.reals[index].key, service=virtual.key)


def vips_of(settings: Settings, group: int) -> tuple[Subject, ...]:
    """The VIPs of a resource group."""
    return tuple(vip(r.address) for r in settings.groups[group].resources if r.address is not None)


def all_of(settings: Settings) -> dict[str, tuple[Subject, ...]]:
    """Every name that may be asked for; a real server's address alone stands for it in every service."""
    found: dict[str, list[Subject]] = {}

    def add(name: str, subject: Subject) -> None:
        subjects = found.setdefault(name.lower(), [])
        if subject not in subjects:
            subjects.append(subject)

    for director in settings.nodes:
        add(director, node(director))
    for group in settings.groups:
        for resource in group.resources:
            if resource.address is not None:
                for name in (
                    resource.address.ip,
                    str(resource.address),
                    f"{resource.address.ip}/{resource.address.prefix}",
                ):
                    add(name, vip(resource.address))
    for index, service in enumerate(settings.services):
        for position, server in enumerate(service.reals):
            subject = real(settings, index, position)
            add(server.key, subject)
            add(server.address, subject)
        if service.fallback is not None:
            fallback = Subject(topic=Topic.REAL, name=service.fallback.key, service=service.key)
            add(fallback.name, fallback)
            add(service.fallback.address, fallback)
    for ping in settings.pings:
        add(ping.name, Subject(topic=Topic.PING, name=ping.name))
    for link in settings.links:
        add(link, Subject(topic=Topic.LINK, name=link))
    return {name: tuple(subjects) for name, subjects in found.items()}


def find(settings: Settings, text: str) -> tuple[Subject, ...]:
    """Raises `UnknownSubject`."""
    known = all_of(settings)
    subjects = known.get(text.lower())
    if subjects is None:
        raise UnknownSubject(text, tuple(known))
    return subjects
