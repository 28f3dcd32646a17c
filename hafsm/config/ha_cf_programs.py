"""The lines of ha.cf about programs: respawn, env, apiauth, stonith, stonith_host."""

from __future__ import annotations

import re

from hafsm.config.findings import quote
from hafsm.config.model import ApiAuth, FenceDevice, Respawn, Secret
from hafsm.config.names import Misread

API_CLIENTS = ("attrd", "ccm", "cib", "crmd", "dopd", "hbagent", "lrmd", "mgmtd", "pingd", "stonithd")
"""Programs of heartbeat's own that speak its local API."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_AGENT_OPTION = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*=.*")


def respawn(values: list[str]) -> Respawn:
    """The words behind `respawn`. Raises Misread."""
    if len(values) < 2 or not values[1].startswith("/"):
        raise Misread("respawn USER COMMAND with an absolute command")
    return Respawn(user=values[0], command=" ".join(values[1:]))


def environment(word: str) -> tuple[str, str]:
    """NAME=VALUE of an `env` line. Raises Misread, which does not repeat the value."""
    name, equals, value = word.partition("=")
    if not equals or not _NAME.fullmatch(name):
        raise Misread("env NAME=VALUE with a NAME of letters, digits and underscores", found="env with another word")
    return name, value


def api_auth(values: list[str]) -> ApiAuth:
    """The words behind `apiauth`. Raises Misread."""
    name, *pairs = values
    ids: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        key, _, names = pair.partition("=")
        if key not in ("uid", "gid") or key in ids or not names.strip(","):
            break
        ids[key] = tuple(word for word in names.split(",") if word)
    if not pairs or len(ids) != len(pairs):
        raise Misread("apiauth NAME uid=USER[,USER…] gid=GROUP[,GROUP…], at least one of the two")
    return ApiAuth(name=name, uids=ids.get("uid", ()), gids=ids.get("gid", ()))


def stonith(values: list[str]) -> FenceDevice:
    """The words behind `stonith`. Raises Misread."""
    if len(values) != 2 or not values[1].startswith("/"):
        # The words are not repeated: parameters written here by mistake may hold a password.
        raise Misread("stonith TYPE FILE with an absolute file", found="stonith with other words")
    return FenceDevice(host="*", kind=values[0], file=values[1])


def stonith_host(values: list[str]) -> FenceDevice:
    """The words behind `stonith_host`. Raises Misread, which repeats no parameter."""
    if len(values) < 2:
        raise Misread("stonith_host HOST TYPE PARAMETERS …", found="stonith_host with fewer words")
    host, kind, *parameters = values
    device = FenceDevice(host=host.lower(), kind=kind, parameters=Secret(" ".join(parameters).encode()))
    if device.is_agent and not all(_AGENT_OPTION.fullmatch(word) for word in parameters):
        raise Misread(
            f"stonith_host HOST {kind} NAME=VALUE …, as the agent reads them from its standard input",
            found=f"a parameter of {quote(kind)} that is no NAME=VALUE",
        )
    return device
