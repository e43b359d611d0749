"""Serve a registered version until interrupted."""

import socket
from collections.abc import Callable
from pathlib import Path

import torch
import uvicorn

from dml.core.errors import DmlError
from dml.inference.file_access import FileAccess
from dml.registry.packaged_code import is_packaged_code_here, load_with_packaged_code
from dml.registry.versions import RegisteredVersion
from dml.serving.model_service import Service, ServingLimits, make_app


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 is any that is free.

    Raises
    ------
    DmlError
        If the address cannot be used.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise DmlError(f"{host}:{port} cannot be used ({error}). Try another: --port <number>") from None
    return listener


def serve(
    version: RegisteredVersion,
    listener: socket.socket,
    root: Path,
    limits: ServingLimits,
    announce: Callable[[str], None],
) -> None:
    """Load a version and answer requests until interrupted.

    Parameters
    ----------
    root : Path
        Folder below which files are read, whatever links lead out of it.
    announce : callable
        Gets the address, once the model and its encoder are loaded.
    """
    torch.set_num_threads(1)  # two queues work side by side, and each encodes with threads of its own
    name = f"{version.name}/{version.version}"
    access = FileAccess(root.resolve())
    with load_with_packaged_code(version, access, warm=True) as predict:
        service = Service.of(name, predict, limits, shared=not is_packaged_code_here(version))
        config = uvicorn.Config(
            make_app(service), log_level="warning", access_log=False, server_header=False, lifespan="off", ws="none"
        )
        host, port = listener.getsockname()[:2]
        announce(f"{name} reads files below {access.root}: http://{host}:{port}/invocations")
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            return
        finally:
            service.stop()
