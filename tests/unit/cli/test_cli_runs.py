import json
from collections.abc import Callable
from functools import partial

import pytest

from transect.registry import Registry

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def runs(transect: Run, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `transect runs` on a store with two runs."""
    for name, loss in (("first", 0.9), ("second", 0.25)):
        run_id = registry.client.create_run(registry.experiment("configs_a"), run_name=name).info.run_id
        registry.client.log_metric(run_id, "val/loss", loss)
        registry.client.log_param(run_id, "lr0", str(loss / 100))
        registry.client.set_terminated(run_id)
    monkeypatch.setenv("TRANSECT_HOME", str(registry.settings.home))
    return partial(transect, "runs")


def test_runs_in_the_terminal(runs: Run) -> None:
    code, out, _ = runs("list", "--search", "metrics.`val/loss` < 0.5")
    assert code == 0
    assert "second" in out
    assert "first" not in out
    assert "0.2500" in out
    lines = runs("list", "--json", "--order", "metrics.`val/loss` ASC")[1].splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["second", "first"]
    _, shown, _ = runs("show", "first")
    assert "val/loss" in shown
    assert "FINISHED" in shown
    _, compared, _ = runs("compare", "first", "second")
    assert "0.009" in compared
    assert "0.0025" in compared
    assert "0.9000" in compared
    code, _, err = runs("show", "third")
    assert (code, err.count("\n")) == (4, 1)
    code, _, err = runs("list", "--search", "loss <")
    assert (code, err.count("\n")) == (2, 1)


def test_clean_lists_runs_and_removes_them_only_with_yes(runs: Run) -> None:
    code, out, _ = runs("clean")
    assert (code, out) == (0, "Nothing to remove.\n")
    code, out, _ = runs("clean", "--status", "finished", "--older-than", "0d", "--keep", "1")
    assert code == 0
    assert "first" in out
    assert "second" not in out
    assert "Nothing was removed; --yes removes 1 run (0 B)." in out
    code, out, _ = runs("clean", "--status", "finished", "--older-than", "0d", "--keep", "1", "--yes")
    assert code == 0
    assert "Removed 1 run; each can be restored: mlflow runs restore --run-id ID" in out
    assert "mlflow gc --run-ids " in out
    _, out, _ = runs("list", "--json")
    assert [json.loads(line)["name"] for line in out.splitlines()] == ["second"]
    code, out, _ = runs("clean", "--local")
    assert (code, out) == (0, "Nothing to remove.\n")
    code, _, err = runs("clean", "--status", "runing")
    assert (code, err.count("\n")) == (2, 1)
