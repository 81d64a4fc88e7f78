"""
A transaction pooler, as small as can be: each transaction gets any server connection.

Only what PgBouncer's `pool_mode = transaction` would do to a client that relies on a session
is here: connections are shuffled and wiped (DISCARD ALL) between transactions, and only the
simple protocol works, so a prepared statement would be noticed at once.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
from contextlib import suppress

_SSL = 80877103


class Pooler:
    """Forwards to a server at *host* and *port* that trusts *user*; has *size* connections to it."""

    def __init__(self, host: str, port: int, user: str, database: str, size: int = 3) -> None:
        self._hello = b""
        self._free = [self._server(host, port, user, database) for _ in range(size)]
        self._returned = threading.Condition()
        self._chance = random.Random(3)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.used: list[int] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()
        for server in self._free:
            server.close()

    def _server(self, host: str, port: int, user: str, database: str) -> socket.socket:
        server = socket.create_connection((host, port))
        said = b"user\0%s\0database\0%s\0\0" % (user.encode(), database.encode())
        server.sendall(struct.pack("!ii", 8 + len(said), 196608) + said)
        self._hello = b"".join(
            kind + struct.pack("!i", len(body) + 4) + body for kind, body in _until_ready(server)
        )
        return server

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, EOFError), client:
            (length, code) = struct.unpack("!ii", _exactly(client, 8))
            if code == _SSL:
                client.sendall(b"N")
                (length, _) = struct.unpack("!ii", _exactly(client, 8))
            _exactly(client, length - 8)
            client.sendall(self._hello)
            while self._transaction(client):
                pass

    def _transaction(self, client: socket.socket) -> bool:
        server: socket.socket | None = None
        try:
            while True:
                kind, body = _message(client)
                if kind == b"X":
                    return False
                assert kind == b"Q", f"{kind!r} needs a session"
                server = server or self._take()
                server.sendall(kind + struct.pack("!i", len(body) + 4) + body)
                for kind, body in _until_ready(server):
                    client.sendall(kind + struct.pack("!i", len(body) + 4) + body)
                if body == b"I":
                    return True
        finally:
            if server is not None:
                self._give_back(server)

    def _take(self) -> socket.socket:
        with self._returned:
            self._returned.wait_for(lambda: self._free)
            server = self._free.pop(self._chance.randrange(len(self._free)))
            self.used.append(server.fileno())
            return server

    def _give_back(self, server: socket.socket) -> None:
        for wiping in (b"ROLLBACK\0", b"DISCARD ALL\0"):
            server.sendall(b"Q" + struct.pack("!i", len(wiping) + 4) + wiping)
            _until_ready(server)
        with self._returned:
            self._free.append(server)
            self._returned.notify()


def _exactly(source: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = source.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _message(source: socket.socket) -> tuple[bytes, bytes]:
    kind = _exactly(source, 1)
    (length,) = struct.unpack("!i", _exactly(source, 4))
    return kind, _exactly(source, length - 4)


def _until_ready(server: socket.socket) -> list[tuple[bytes, bytes]]:
    messages = []
    while not messages or messages[-1][0] != b"Z":
        messages.append(_message(server))
    return messages
