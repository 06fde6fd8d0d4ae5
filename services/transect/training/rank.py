"""One rank of a training on several GPUs: python -m transect.training.rank FOLDER [DESCRIPTOR].

`transect.training.trainer.ranks` starts it, with the job in FOLDER; rank 0 reports through the socket DESCRIPTOR.
"""

import json
import logging
import os
import pickle
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

from transect.training.trainer.environment import logged_to, prepare_ultralytics
from transect.training.trainer.ranks import GO, JOB, MEETING, Job, write_error

# As Ultralytics gives it: rank 0 validates and saves while the others wait.
_LONGEST_WAIT = timedelta(hours=3)


class _Line:
    """The way from rank 0 to the process that keeps the run's log."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)

    def report(self, name: str, data: Mapping[str, Any]) -> None:
        """Report, and wait until it is kept; this process ends where nobody keeps it any more."""
        self._socket.sendall(json.dumps({"report": name, "data": data}, default=str).encode() + b"\n")
        if self._socket.recv(len(GO)) != GO:
            raise ConnectionError("the process that keeps the run's log has ended")


def main() -> None:
    """Train, as this process's rank."""
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        # Our own parent wrote it, into a folder that is its alone.
        job: Job = pickle.loads((folder / JOB).read_bytes())  # noqa: S301
        prepare_ultralytics(job.home)
        _train(job, folder / MEETING, _Line(int(sys.argv[2])) if rank == 0 else None)
    except Exception as error:  # noqa: BLE001 - whatever ends a rank is told by the process that started it
        write_error(folder, rank, error)
        # Into the file of the ranks' output, also rank 0's.
        traceback.print_exc(file=sys.stdout)
        sys.exit(1)


def _end_with_parent() -> None:
    """End when the process that started this one does: its end of standard input is closed then."""
    while os.read(0, 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _train(job: Job, meeting: Path, line: _Line | None) -> None:
    import torch
    from torch import distributed
    from ultralytics.utils import LOCAL_RANK, RANK, WORLD_SIZE
    from ultralytics.utils.torch_utils import get_torch_device_backend

    from transect.training.trainer.resumable import ResumableTrainer
    from transect.training.trainer.trainer import TrainingCallbacks, attach_callbacks

    class RankTrainer(ResumableTrainer):
        """The trainer of one rank, which leaves the last evaluation to the training's own process."""

        def __init__(self) -> None:
            super().__init__(job.dataset, dict(job.overrides), job.checkpoint)
            # Ultralytics counts GPUs alone.
            self.world_size = WORLD_SIZE

        def _setup_ddp(self) -> None:
            """Take this rank's device, and meet the others in a file; as Ultralytics does it through a port."""
            if self.device.type == "cuda":
                index = int(self.args.device.split(",")[LOCAL_RANK])
                self.device = torch.device("cuda", index)
                self.accelerator = get_torch_device_backend(self.device)
                self.accelerator.set_device(index)
            backend = "nccl" if self.device.type == "cuda" and distributed.is_nccl_available() else "gloo"
            distributed.init_process_group(
                backend, init_method=meeting.as_uri(), timeout=_LONGEST_WAIT, rank=RANK, world_size=WORLD_SIZE
            )

        def final_eval(self) -> None:
            """Keep the complete checkpoints; nothing else is left to do here."""
            if RANK == 0:
                self.keep_complete()

    if job.overrides["device"] == "cpu":
        _allow_cpu_ranks()
    with ExitStack() as stack:
        trainer: Any = RankTrainer()
        if line is not None:
            stack.enter_context(logged_to(job.folder / "ultralytics.log"))
            callbacks = TrainingCallbacks(
                started=lambda arguments: line.report("started", {"arguments": arguments}),
                epoch=lambda number, values: line.report("epoch", {"number": number, "values": values}),
                # Ultralytics halves the batch on one GPU alone.
                reduced=lambda *_: None,
            )
            attach_callbacks(trainer, callbacks, stack, job.arguments)
        trainer.train()
    distributed.destroy_process_group()


def _allow_cpu_ranks() -> None:
    """Let ranks train on the CPU, as tests without GPUs do: Ultralytics gives each of them the index of a GPU."""
    from torch import nn

    class _OnCpu(nn.parallel.DistributedDataParallel):
        def __init__(self, module: nn.Module, device_ids: object = None, **options: Any) -> None:
            del device_ids
            super().__init__(module, **options)

    vars(nn.parallel)["DistributedDataParallel"] = _OnCpu


if __name__ == "__main__":
    main()
