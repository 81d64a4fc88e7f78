"""A TCP proxy in front of a PostgreSQL server: it cuts connections where a test wants them cut."""

from __future__ import annotations

import select
import socket
import threading
import time
from contextlib import suppress
from typing import Literal, TypeAlias

Fault: TypeAlias = Literal[
    "", "before commit", "after commit", "late commit", "silent commit", "silent", "refuse"
]


class Proxy:
    """
    Forwards to *host* and *port* while `fault` is empty. Otherwise, once per `faults` left:

    - "before commit": the message with the COMMIT is thrown away, and the connection is cut;
    - "after commit": the server gets it and answers, and the answer is thrown away;
    - "late commit": the connection is cut, and the server gets the message when `release` is set;
    - "silent commit": the answer is thrown away, and the connection stays open;
    - "silent": nothing is forwarded any more, and nothing is cut;
    - "refuse": connections are cut as soon as they are made.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.fault: Fault = ""
        self.faults = 10**9
        self.release = threading.Event()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Cut every connection that there is."""
        for pair in list(self._pairs):
            _close(*pair)

    def close(self) -> None:
        _close(self._listening)
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                if self.fault == "refuse":
                    _close(client)
                    continue
                server = socket.create_connection(self._target)
                self._pairs.append((client, server))
                threading.Thread(target=self._forward, args=(client, server), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        deaf, open_still = False, True
        with suppress(OSError, ValueError):
            while open_still:
                readable, _, _ = select.select([client, server], [], [], 0.05)
                if self.fault == "silent":
                    time.sleep(0.05)
                    continue
                for source in readable:
                    data = source.recv(1 << 20)
                    faulty = source is client and b"\nCOMMIT" in data and self._due()
                    deaf = deaf or faulty
                    if faulty and self.fault == "late commit":
                        _close(client)
                        assert self.release.wait(20)
                    if source is client and not (faulty and self.fault == "before commit"):
                        server.sendall(data)
                    elif source is server and not deaf:
                        client.sendall(data)
                    elif self.fault != "silent commit":
                        open_still = False
                    open_still = open_still and bool(data)
        _close(client, server)

    def _due(self) -> bool:
        if not self.fault or self.faults <= 0:
            return False
        self.faults -= 1
        return True


def _close(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
