from tiny_datasets import MakeDataset, write_image
from transect.datasets import dataset_summary, load_dataset


def test_counts_images_boxes_and_sizes(make_dataset: MakeDataset) -> None:
    data = make_dataset(
        labels={
            "train": "0 0.5 0.5 0.2 0.4\n0 0.2 0.2 0.4 0.8\n1 0.5 0.5 0.1 0.2\n",
            **dict.fromkeys(("val", "test"), "1 0.5 0.5 0.1 0.2\n"),
        }
    )
    write_image(data.parent / "images" / "train" / "empty.jpg")
    rows = {(row["split"], row["class"]): row for row in dataset_summary(load_dataset(data))}
    assert len(rows) == 9
    everything = rows["train", "all"]
    assert (everything["images"], everything["empty_images"], everything["boxes"]) == (2, 1, 3)
    sheep = rows["train", "sheep"]
    assert (sheep["images"], sheep["empty_images"], sheep["boxes"]) == (1, 1, 2)
    # The picture is 40 x 20 pixels: boxes of 8 x 8 and, clipped at its edges, 16 x 12.
    assert sheep["box_px_05"] >= 8
    assert sheep["box_px_95"] <= (16 * 12) ** 0.5
    zebra = rows["train", "zebra"]
    assert (zebra["box_px_05"], zebra["box_px_50"], zebra["box_px_95"]) == (4.0, 4.0, 4.0)
    assert rows["val", "all"]["boxes"] == 1
    assert rows["val", "sheep"]["box_px_50"] == ""
