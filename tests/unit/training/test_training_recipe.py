from pathlib import Path

import pytest

from transect.errors import InputError
from transect.training.config.recipe import PrecisionRecipe, load_recipe

_SHIPPED = sorted(Path("configs/train").glob("*.yaml"))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text("model: yolov8n\niou: 0.4\ntrain: {epochs: 3, imgsz: 64}\ntags: {season: 2026}\n")
    return path


def test_overrides_win_and_are_typed(recipe: Path) -> None:
    read = load_recipe(recipe, ["epochs=7", "lr0=1e-3", "cos_lr=true", "train.imgsz=96", "scale=[0.5, 1.5]", "iou=0.6"])
    assert read.train == {"epochs": 7, "imgsz": 96, "lr0": 0.001, "cos_lr": True, "scale": [0.5, 1.5]}
    assert read.iou == 0.6
    assert read.model == "yolov8n"
    assert read.tags == {"season": "2026"}
    assert load_recipe(recipe).train == {"epochs": 3, "imgsz": 64}


def test_tags_come_from_the_file_and_the_command(recipe: Path) -> None:
    read = load_recipe(
        recipe, ["+tags.experiment=ablation_study", "tags.season=2027", "+tags.note=a=b [c", "+epochs=4"]
    )
    assert read.tags == {"experiment": "ablation_study", "season": "2027", "note": "a=b [c"}
    assert read.train["epochs"] == 4


@pytest.mark.parametrize(
    "name", ["", "a:b", "a//b", "../up", "a/", "n" * 251, "mlflow.user", "transect.host", "version.torch"]
)
def test_a_tag_that_cannot_be_is_named(name: str, recipe: Path) -> None:
    with pytest.raises(InputError, match="is not usable"):
        load_recipe(recipe, [f"+tags.{name}=x"])


def test_the_recipe_that_was_used_can_be_used_again(recipe: Path, tmp_path: Path) -> None:
    used = load_recipe(recipe, ["epochs=9", "head=end-to-end", "training_gsd_m=0.05", "pretrained=none"])
    again = tmp_path / "again.yaml"
    again.write_text(used.as_yaml())
    read = load_recipe(again)
    assert (read.train, read.tags, read.head, read.iou) == (used.train, used.tags, used.head, used.iou)
    assert (read.model, read.pretrained, read.training_gsd_m) == ("yolov8n", "none", 0.05)


def test_empty_ground_is_a_folder_or_several(recipe: Path, tmp_path: Path) -> None:
    assert load_recipe(recipe).background == ()
    assert load_recipe(recipe, ["background=images/background"]).background == ("images/background",)
    used = load_recipe(recipe, ["background=[one, two]"])
    assert used.background == ("one", "two")
    again = tmp_path / "again.yaml"
    again.write_text(used.as_yaml())
    assert load_recipe(again).background == used.background


@pytest.mark.parametrize("value", ["3", "[one, 2]", "''", "{one: two}"])
def test_empty_ground_that_is_no_folder_is_refused(value: str, recipe: Path) -> None:
    with pytest.raises(InputError, match=r"background=.* is not usable: give a folder of pictures without any animal"):
        load_recipe(recipe, [f"background={value}"])


def test_precision_is_a_section_of_its_own(recipe: Path, tmp_path: Path) -> None:
    assert load_recipe(recipe).precision == PrecisionRecipe()
    recipe.write_text(recipe.read_text() + "precision: {bf16: false, calibration_images: 50}\n")
    used = load_recipe(recipe, ["precision.int8=false", "precision.max_map_loss=0.01"])
    assert used.precision == PrecisionRecipe(bf16=False, int8=False, calibration_images=50, max_map_loss=0.01)
    assert used.precision.limits.map50_95_loss == 0.01
    again = tmp_path / "again.yaml"
    again.write_text(used.as_yaml())
    assert load_recipe(again).precision == used.precision


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("precision.int4=true", "not a key of a training recipe"),
        ("precision.int8=perhaps", "precision.int8='perhaps' is not usable"),
        ("precision.max_count_error=2", "precision.max_count_error=2 is not usable"),
        ("precision.calibration_images=0", "precision.calibration_images=0 is not usable"),
        ("precision=int8", "not a key of a training recipe"),
        ("epoch=3", "did you mean epochs?"),
        ("device=cpu", "not a key of a training recipe"),
        ("tags=x", "not a key of a training recipe"),
        ("epochs", "not KEY=VALUE"),
        ("=3", "not KEY=VALUE"),
        ("epochs=[", "not valid YAML at line 1, column 2"),
        ("imgsz=100", "multiple of 32"),
        ("imgsz=true", "multiple of 32"),
        ("head=wrong", "input should be 'anchor-free' or 'end-to-end'"),
        ("iou=1.5", "iou=1.5 is not usable: input should be less than or equal to 1"),
        ("training_gsd_m=-1", "greater than 0"),
        ("training_gsd_m=.inf", "a finite number"),
        ("iou=yes", "iou=True is not usable"),
    ],
)
def test_a_wrong_override_is_refused(recipe: Path, override: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe(recipe, [override])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("train: {epoch: 3}", "did you mean epochs?"),
        ("epochs: 3", "not a key of a training recipe"),
        ("train: 3", "must be a mapping"),
        ("- 1", "must be a mapping"),
        ("train: [", "not valid YAML at line 1, column 9"),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.yaml cannot be read"):
        load_recipe(tmp_path / "gone.yaml")


def test_an_empty_recipe_is_ultralytics_own(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("")
    assert load_recipe(path).train == {}


def test_the_experiment_is_named_after_the_path(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "configs" / "train"
    folder.mkdir(parents=True)
    (folder / "wildlife.yaml").write_text("")
    assert load_recipe(Path("configs/train/wildlife.yaml")).experiment == "configs_train_wildlife"
    assert load_recipe(folder / "wildlife.yaml").experiment == "configs_train_wildlife"
    monkeypatch.chdir(folder)
    assert load_recipe(recipe).experiment == "_".join(recipe.with_suffix("").parts[1:])


@pytest.mark.parametrize("path", _SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_are_what_ultralytics_takes(path: Path) -> None:
    from transect.training.trainer.trainer import check_arguments

    read = load_recipe(path)
    assert read.train["epochs"] > 0
    check_arguments(read.train)


def test_a_value_that_ultralytics_refuses_is_our_error() -> None:
    from transect.training.trainer.trainer import check_arguments

    with pytest.raises(InputError, match="epochs"):
        check_arguments({"epochs": "many"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("train:\n  epochs: 3\n  epochs: 4\n", "line 3, column 3: 'epochs' stands in line 2 already"),
        ("train: {epochs: 3}\ntrain: {lr0: 1}\n", "line 2, column 1: 'train' stands in line 1 already"),
        ("train:\n  lr0: 1e-7\n  epoch: 3\n", "did you mean epochs? (line 3, column 3)."),
        ("precision:\n  int: true\n", "did you mean int8? (line 2, column 3)."),
        ("precision:\n  max_map_loss: 7\n", "r.yaml, line 2, column 3)."),
        ("train:\n  imgsz: 100\n", "multiple of 32, such as 640 ("),
        ("iou: 2\n", "r.yaml, line 1, column 1)."),
        ("\nhead: both\n", "r.yaml, line 2, column 1)."),
        ("tags:\n  a:b: x\n", "r.yaml, line 2, column 3)."),
        ("tags: {a: [1]}\n", "tags.a is a list: give text"),
        ("tags:\n  a:\n", "tags.a is nothing: give text"),
    ],
)
def test_a_wrong_recipe_has_line_and_column(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    assert message in str(caught.value)


def test_numbers_and_tags_are_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("train: {lr0: 1e-7}\ntags: {version: 1.10, commit: 12e4567, day: 2026-01-02, 7: yes}\n")
    read = load_recipe(path)
    assert read.train == {"lr0": 1e-7}
    assert read.tags == {"version": "1.10", "commit": "12e4567", "day": "2026-01-02", "7": "yes"}


@pytest.mark.parametrize("again", ["epochs=6", "+epochs=5", "train.epochs=6"])
def test_a_key_twice_on_the_command_line_is_refused(recipe: Path, again: str) -> None:
    with pytest.raises(InputError, match="epochs is given twice, as 'epochs=5' and as"):
        load_recipe(recipe, ["epochs=5", again])


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from transect.training.trainer.trainer import check_arguments

    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    check_arguments({"compile": False})
    with pytest.raises(InputError, match="compile makes PyTorch call a C compiler, and there is none here"):
        check_arguments({"compile": True})
    (tmp_path / "gcc").touch(mode=0o755)
    check_arguments({"compile": True})
