"""One question to the daemon over its admin socket, with the standard library alone: a monitor asks often."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any

ANSWER_LIMIT_S = 5.0
"""heartbeat's cl_status waits as long."""


class NoAnswer(Exception):
    """The daemon does not run, may not be reached, or is silent; says which."""


class NotRunning(NoAnswer):
    """Nothing listens on the socket."""


class Silent(NoAnswer):
    """No answer within the limit."""


class NotObeyed(Exception):
    """The daemon answered with an error; says its sentence."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("hafsm", timeout=ANSWER_LIMIT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(path: Path, question: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """`GET question`, or `POST` with a body. Raises NoAnswer or NotObeyed, each with a sentence for the operator."""
    connection = _UnixConnection(path)
    try:
        connection.request(
            "GET" if body is None else "POST", question, None if body is None else json.dumps(body).encode()
        )
        answer = connection.getresponse()
        content: dict[str, Any] = json.loads(answer.read())
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NotRunning(f"hafsm is not running: nothing listens at {path}") from error
    except PermissionError as error:
        raise NoAnswer(f"not permitted to connect to {path}: see [api] group and apiauth of ha.cf") from error
    except TimeoutError as error:
        raise Silent(f"no answer at {path} within {ANSWER_LIMIT_S:g} s") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NoAnswer(f"no usable answer at {path}: {error or type(error).__name__}") from error
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise NotObeyed(content.get("error", f"answered {answer.status}"))
    return content
