"""What the backends must not do behind our back."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from transect.engine.backends import open_backend

QUIET = """
import socket, sys
from pathlib import Path

def refuse(*_):
    raise SystemExit("somebody opened a connection")

socket.socket.connect = refuse
socket.getaddrinfo = refuse
from transect.engine import Detector
Detector.open(Path(sys.argv[1]), backend="openvino").close()
assert sys.modules["openvino_telemetry"] is None
"""


def test_opening_a_model_sends_no_telemetry_and_prints_nothing(dot_package: Path) -> None:
    done = subprocess.run([sys.executable, "-c", QUIET, dot_package], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


SIGNALS = """
import signal, sys, threading
from pathlib import Path
from transect.engine import Detector
from transect.engine.backends import native_precisions

def opened():
    return Detector.open(Path(sys.argv[1]), backend="openvino")

came = []
signal.signal(signal.SIGTERM, lambda *_: came.append("SIGTERM"))
native_precisions("openvino")
first = opened()
second = opened()
first.close()
del first
third = []
thread = threading.Thread(target=lambda: third.append(opened()))
thread.start()
thread.join()
second.close()
del second
third.pop().close()
signal.raise_signal(signal.SIGTERM)
assert came == ["SIGTERM"]
"""


def test_signals_are_handled_after_detectors_came_and_went(dot_package: Path) -> None:
    """A stack for signals that went with a core of OpenVINO would make this a segmentation fault."""
    done = subprocess.run([sys.executable, "-c", SIGNALS, dot_package], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


TOGETHER = """
import faulthandler, sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
from transect.engine.backends import open_backend

faulthandler.dump_traceback_later(60, exit=True)
network = open_backend(Path(sys.argv[1]) / "model.onnx", 64, backend="openvino")
sys.setswitchinterval(1e-6)
barrier = threading.Barrier(16)

def infer(_):
    barrier.wait()
    network.infer(np.zeros((64, 64, 3), np.uint8))

with ThreadPoolExecutor(16) as pool:
    list(pool.map(infer, range(16)))
faulthandler.cancel_dump_traceback_later()
"""


def test_the_first_images_of_a_process_may_come_from_many_threads(dot_package: Path) -> None:
    """OpenVINO's bindings deadlocked in one of three such processes, so several of them try."""
    command = [sys.executable, "-c", TOGETHER, str(dot_package)]
    tries = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    done = [(one.communicate()[1], one.returncode) for one in tries]
    assert done == [("", 0)] * 6


def test_openvino_keeps_full_precision(dot_package: Path) -> None:
    network = open_backend(dot_package / "model.onnx", 64, backend="openvino")
    # 173/255 has no short binary fraction; bfloat16 would be off by 0.002.
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, :, 0] = 173
    assert abs(float(network.infer(image)[0, 4].max()) - 173 / 255) < 1e-6
