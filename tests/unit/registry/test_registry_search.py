import json
import math

import pytest

from transect.errors import InputError, NotRegisteredError
from transect.registry import Registry, compare_runs, find_run, list_runs


def _log(registry: Registry, name: str, experiment: str = "configs_a", **values: float) -> str:
    run_id = str(registry.client.create_run(registry.experiment(experiment), run_name=name).info.run_id)
    for key, value in values.items():
        registry.client.log_metric(run_id, key.replace("__", "/"), value)
    registry.client.log_param(run_id, "name", name)
    registry.client.log_param(run_id, "imgsz", "640")
    registry.client.set_terminated(run_id)
    return run_id


def test_runs_are_listed_searched_and_ordered(registry: Registry) -> None:
    assert list_runs(registry) == []
    for name, loss in (("first", 0.9), ("second", 0.2), ("third", 0.4)):
        _log(registry, name, val__loss=loss)
    _log(registry, "elsewhere", "configs_b", val__loss=0.1)
    assert [row.name for row in list_runs(registry, experiment="configs_a")] == ["third", "second", "first"]
    assert len(list_runs(registry, limit=0)) == 4
    assert len(list_runs(registry, limit=2)) == 2
    found = list_runs(
        registry, experiment="configs_a", search="metrics.`val/loss` < 0.5", order="metrics.`val/loss` ASC"
    )
    assert [(row.name, row.metrics["val/loss"]) for row in found] == [("second", 0.2), ("third", 0.4)]
    assert (found[0].experiment, found[0].status, found[0].params["imgsz"]) == ("configs_a", "FINISHED", "640")
    assert found[0].minutes is not None


def test_a_search_that_cannot_be_read_is_one_sentence(registry: Registry) -> None:
    _log(registry, "one")
    with pytest.raises(InputError, match=r"cannot read the search 'metrics\.x <'"):
        list_runs(registry, search="metrics.x <")
    with pytest.raises(InputError, match="ordered by 'loss DOWN'"):
        list_runs(registry, order="loss DOWN")
    with pytest.raises(NotRegisteredError, match="no experiment 'gone'; it has Default, configs_a"):
        list_runs(registry, experiment="gone")


def test_a_run_is_found_by_id_beginning_and_name(registry: Registry) -> None:
    run_id = _log(registry, "first")
    _log(registry, "twice")
    _log(registry, "twice")
    for reference in (run_id, run_id[:12], "first"):
        assert find_run(registry, reference).run_id == run_id
    with pytest.raises(InputError, match="2 runs fit 'twice'"):
        find_run(registry, "twice")
    for wrong in ("0000", "third", "it's", "abc", ""):
        with pytest.raises(NotRegisteredError, match="transect runs list"):
            find_run(registry, wrong)


def test_a_deleted_run_is_said_to_be(registry: Registry) -> None:
    run_id = _log(registry, "gone")
    registry.client.delete_run(run_id)
    for reference in (run_id, run_id[:12], "gone"):
        with pytest.raises(NotRegisteredError, match=f"was deleted in MLflow.*mlflow runs restore --run-id {run_id}"):
            find_run(registry, reference)
    kept = _log(registry, "gone")
    assert find_run(registry, "gone").run_id == kept


def test_a_comparison_shows_what_differs(registry: Registry) -> None:
    one, two = (find_run(registry, _log(registry, *given)) for given in (("a",), ("b",)))
    three = find_run(registry, _log(registry, "c", loss=0.5))
    compared = compare_runs([one, two, three])
    assert compared.params == {"name": ("a", "b", "c")}
    assert compared.metrics == {"loss": (None, None, 0.5)}
    with pytest.raises(InputError, match="two"):
        compare_runs([one])


def test_json_has_null_for_a_metric_that_is_not_finite(registry: Registry) -> None:
    row = find_run(registry, _log(registry, "a", loss=math.nan, recall=0.5))
    read = json.loads(row.as_json())
    assert read["metrics"] == {"loss": None, "recall": 0.5}
    assert read["run_id"] == row.run_id
