from pathlib import Path

import cv2
import numpy as np

from transect.training.validation_plots import collect_plots


def test_labels_and_predictions_stand_side_by_side(tmp_path: Path) -> None:
    for name, height, shade in (("labels", 20, 50), ("pred", 30, 200)):
        cv2.imwrite(str(tmp_path / f"val_batch0_{name}.jpg"), np.full((height, 40, 3), shade, np.uint8))
    cv2.imwrite(str(tmp_path / "val_batch1_labels.jpg"), np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "val_batch2_labels.jpg").write_bytes(b"half")
    (tmp_path / "val_batch2_pred.jpg").write_bytes(b"half")
    (tmp_path / "curve.png").touch()
    (tmp_path / "results.csv").touch()
    names = [path.name for path in collect_plots(tmp_path)]
    assert [name for name in names if "compare" in name] == ["val_batch0_compare.jpg"]
    assert {"curve.png", "val_batch0_labels.jpg", "val_batch1_labels.jpg"} <= set(names)
    assert "results.csv" not in names
    both = cv2.imread(str(tmp_path / "val_batch0_compare.jpg"))
    assert both is not None
    title = both.shape[0] - 30
    assert (both[:title, :40] < 100).any()
    assert (both[:title, -40:] < 100).any()
    assert abs(int(both[title + 10, 10, 0]) - 50) < 5
    assert abs(int(both[title + 10, -10, 0]) - 200) < 5
