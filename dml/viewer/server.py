"""Serve the viewer on 127.0.0.1 until interrupted."""

import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable

import uvicorn

from dml.core.errors import DmlError
from dml.viewer.app import Viewer, make_app
from dml.viewer.guard import TOKEN, Guard

HOST = "127.0.0.1"


def bind(port: int) -> socket.socket:
    """Return a socket on this machine's loopback address; port 0 is any that is free.

    Raises
    ------
    DmlError
        If the port is taken.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()  # who comes before the server is up waits for it
    except OSError as error:
        listener.close()
        raise DmlError(f"port {port} cannot be used ({error}). Try another: dml view --port <number>") from None
    return listener


def serve(viewer: Viewer, listener: socket.socket, announce: Callable[[str], None], open_browser: bool = True) -> None:
    """Serve until interrupted.

    Parameters
    ----------
    announce : callable
        Gets the address with the token, once the server answers.
    open_browser : bool
        Open the address in the user's browser.
    """
    port = listener.getsockname()[1]
    token = secrets.token_urlsafe(32)
    guard = Guard(make_app(viewer), port, token)
    config = uvicorn.Config(
        guard, log_level="warning", access_log=False, server_header=False, lifespan="off", ws="none"
    )
    announce(f"http://{HOST}:{port}/?{TOKEN}={token}")
    if open_browser:
        address = f"http://{HOST}:{port}/?{TOKEN}={guard.issue_ticket()}"
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        return
    finally:
        viewer.close()
