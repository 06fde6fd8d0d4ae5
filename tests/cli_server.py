"""The server behind cli_process.py: imports heavy libraries once, and forks a child for each command.

    python cli_server.py SOCKET

A request on the Unix socket is a JSON object, with the child's standard input, output and error as descriptors. The
answers are two lines: `started` with the child's process number, and `ended` with its exit status as
`os.waitstatus_to_exitcode` has it. The server ends when its standard input ends, and removes the socket and its folder.
"""

import contextlib
import importlib
import json
import os
import resource
import runpy
import selectors
import signal
import socket
import sys
import time
import warnings
from pathlib import Path
from typing import Any

# Each is needed by some command, and starts no Python thread: a forked child has the thread that forked alone. Neither
# `ultralytics` nor `transect` is here, since both read the environment, and not `openvino`, which starts a thread.
PRELOADED = (
    "numpy", "scipy.stats", "scipy.optimize", "scipy.spatial", "torch", "torchvision", "cv2", "PIL.Image", "yaml",
    "requests", "psutil", "polars", "mlflow", "mlflow.pyfunc", "mlflow.tracking", "onnx", "onnxruntime", "shapely",
    "rasterio", "pyproj", "pyogrio", "fastapi", "uvicorn", "httpx", "prometheus_client", "boto3", "sqlalchemy",
    "pydantic", "typer", "rich", "jinja2",
)  # fmt: skip
_REQUEST_BYTES = 1 << 20

Request = dict[str, Any]


def become(request: Request) -> None:
    """Give this process the environment, folder, group and limits of the request."""
    if request["new_session"]:
        os.setsid()
    os.chdir(request["cwd"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    if (limit := request["file_size_limit"]) is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv[:] = request["arguments"]
    sys.path[0] = ""

    import numpy as np
    import torch

    # The state of before the fork would be that of every child.
    np.random.seed(None)  # noqa: NPY002
    if threads := os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))


def serve(listener: socket.socket) -> Request | None:
    """Fork a child for each request; returns the request in the child, and None in the server when it has to end."""
    wake_read, wake_write = socket.socketpair()
    wake_read.setblocking(False)
    wake_write.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write.fileno())
    running: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        for source in (listener, wake_read, sys.stdin):
            selector.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:
                    return None
                if key.fileobj is wake_read:
                    wake_read.recv(4096)
                    _report_ended(running)
                    continue
                connection, _ = listener.accept()
                content, descriptors, _, _ = socket.recv_fds(connection, _REQUEST_BYTES, 3)
                if not content:
                    # It asked whether the server is ready.
                    connection.close()
                    continue
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    for mine in (listener, wake_read, wake_write, *running.values()):
                        mine.close()
                    for number, descriptor in enumerate(descriptors):
                        os.dup2(descriptor, number)
                        os.close(descriptor)
                    request: Request = json.loads(content)
                    become(request)
                    # From now on it is what was asked for: its group may be killed.
                    connection.sendall(f"started {os.getpid()}\n".encode())
                    connection.close()
                    return request
                for descriptor in descriptors:
                    os.close(descriptor)
                running[pid] = connection


def _report_ended(running: dict[int, socket.socket]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        # Whoever asked may be gone.
        with running.pop(pid) as connection, contextlib.suppress(OSError):
            connection.sendall(f"ended {os.waitstatus_to_exitcode(status)}\n".encode())


def main() -> None:
    """Serve until standard input ends; in a child, run what was asked."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        for name in PRELOADED:
            importlib.import_module(name)
        listener.listen()
        with warnings.catch_warnings():
            # Python 3.12 warns of a fork beside the idle threads of native libraries.
            warnings.simplefilter("ignore", DeprecationWarning)
            request = serve(listener)
    if request is None:
        path = Path(sys.argv[1])
        path.unlink()
        path.parent.rmdir()
    else:
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
