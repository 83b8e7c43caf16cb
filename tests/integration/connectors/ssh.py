"""A real SSH server with SFTP in a thread: own host key, an account with a password and one with a key."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncssh

USER, PASSWORD = "source", "canary-ssh-4c7a"


class Server:
    """What a test can ask of the running server."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.client_key = asyncssh.generate_private_key("ssh-ed25519")
        self.connections: list[asyncssh.SSHServerConnection] = []
        self.passwords: list[str] = []
        self.logins = 0
        self.names: list[asyncssh.SFTPName] | None = None
        self.reads = 0
        self.drop_at: set[int] = set()
        self.on_read = lambda: None
        self.loop = asyncio.new_event_loop()
        self.port = 0

    @property
    def fingerprint(self) -> str:
        return self.key.get_fingerprint()

    def drop(self) -> None:
        """Break every connection, as a failing line does."""
        for connection in self.connections:
            connection.abort()
        self.connections.clear()


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    state = Server(folder)

    class Account(asyncssh.SSHServer):
        def connection_made(self, conn):
            self.conn = conn
            state.connections.append(conn)

        def password_auth_supported(self):
            return True

        def validate_password(self, username, password):
            state.passwords.append(password)
            state.logins += 1
            return (username, password) == (USER, PASSWORD)

        def public_key_auth_supported(self):
            return True

        def validate_public_key(self, username, key):
            state.logins += 1
            return username == USER and key == state.client_key.convert_to_public()

    class Files(asyncssh.SFTPServer):
        def __init__(self, chan):
            super().__init__(chan, chroot=str(folder).encode())

        async def scandir(self, path):
            if state.names is not None:
                for name in state.names:
                    yield name
                return
            async for name in super().scandir(path):
                yield name

        def read(self, file_obj, offset, size):
            state.reads += 1
            state.on_read()
            if state.reads in state.drop_at:
                state.drop()
            return super().read(file_obj, offset, size)

    async def serve():
        server = await asyncssh.create_server(
            Account, "127.0.0.1", 0, server_host_keys=[state.key], sftp_factory=Files, allow_scp=False
        )
        state.port = server.get_port()
        return server

    thread = threading.Thread(target=state.loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(serve(), state.loop).result(30)
    try:
        yield state
    finally:

        async def stop():
            state.drop()
            server.close()
            await server.wait_closed()
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(stop(), state.loop).result(30)
        state.loop.call_soon_threadsafe(state.loop.stop)
        thread.join()
        state.loop.close()
