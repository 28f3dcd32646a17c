"""An SMTP server that says what a test wants, one client after the other."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping


class SmtpServer:
    """Keeps every line of the conversation; `answers` replaces the answer to lines that begin with a word."""

    def __init__(self, answers: Mapping[str, str] | None = None, *, silent: bool = False) -> None:
        self._answers = answers or {}
        self._silent = silent
        self.lines: list[str] = []
        self.letters: list[str] = []
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Nobody listens any more when this returns."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._sock.accept()
            except OSError:
                return
            with client, client.makefile("rw", newline="\r\n") as talk:
                if self._silent:
                    talk.read()
                    continue
                self._talk(talk)

    def _talk(self, talk) -> None:
        def say(text: str) -> None:
            talk.write(text + "\n")
            talk.flush()

        say("220 test")
        for raw in talk:
            line = raw.rstrip("\r\n")
            self.lines.append(line)
            special = next((text for word, text in self._answers.items() if line.startswith(word)), "")
            if special:
                say(special)
            elif line.upper() == "DATA":
                say("354 go on")
                letter = []
                for part in talk:
                    if part.rstrip("\r\n") == ".":
                        break
                    letter.append(part.replace("\r\n", "\n"))
                self.letters.append("".join(letter))
                say("250 taken")
            elif line.upper() == "QUIT":
                say("221 bye")
                return
            else:
                say("250 fine")
