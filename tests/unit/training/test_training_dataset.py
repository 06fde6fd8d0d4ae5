from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from ultralytics.cfg import get_cfg

from transect.training.trainer.dataset import DRAWN_CONF, ValidatedDatasetTrainer


def test_the_confusion_matrix_counts_what_the_pictures_show(tmp_path: Path) -> None:
    trainer: Any = SimpleNamespace(test_loader=[], save_dir=tmp_path, args=get_cfg(), callbacks={})
    validator: Any = ValidatedDatasetTrainer.get_validator(trainer)
    validator.data, validator.training = {"val": ""}, True
    validator.init_metrics(SimpleNamespace(names={0: "sheep", 1: "zebra"}))
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0], [80.0, 80.0, 90.0, 90.0]])
    scores = torch.tensor([0.9, DRAWN_CONF + 0.01, DRAWN_CONF - 0.01])
    found = {"bboxes": boxes, "conf": scores, "cls": torch.tensor([0.0, 1.0, 1.0])}
    labels = {"bboxes": boxes[[0]], "cls": torch.tensor([0.0])}
    # As validation asks, whose least score is that of the precision-recall curve.
    validator.confusion_matrix.process_batch(found, labels, conf=0.001)
    assert validator.confusion_matrix.matrix.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
