import copy
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from toy_model import COLOURS, write_toy_dataset
from transect.datasets import dataset_digest, load_dataset
from transect.engine import COUNT_ERROR, MAP50_95, RECALL, Gain, PairedComparison
from transect.errors import InputError, PackageError, PromotionRefusedError, RegistryError, UnreachableError
from transect.registry import GateConfig, Measured, Registry, ResolvedVersion, promote, rollback
from transect.registry.promotion.comparison import latency_of
from transect.registry.promotion.gate import Evidence, judge
from transect.registry.promotion.record import Case, log_verdict

_GOOD, _WORSE = 0.0, 4.0
_GATE = GateConfig(max_latency_ratio=None)
QUANTITIES = (MAP50_95, RECALL, COUNT_ERROR)
Register = Callable[..., str]


def _aliases(registry: Registry) -> dict[str, str]:
    return {alias: row.version for row in registry.list_versions() for alias in row.aliases}


def _tags(registry: Registry, version: str) -> dict[str, str]:
    return registry.resolve(version).tags


def test_force_serves_nothing_that_does_not_run(registry: Registry, register: Register) -> None:
    version = register(_GOOD, tags={"transect.data": "/nowhere/data.yaml"})
    with pytest.raises(PromotionRefusedError, match="not on this machine"):
        promote(registry, actor="ada")
    resolved = registry.resolve(version)
    shutil.rmtree(registry.fetch(resolved))
    (Path(resolved.source.removeprefix("file://")) / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(PackageError):
        promote(registry, actor="ada", force=True, reason="no time")
    assert _aliases(registry) == {"candidate": version}


def test_an_mlflow_that_is_away_is_no_reason_against_production(
    registry: Registry, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = register(_WORSE)
    promote(registry, actor="ada")
    register(_GOOD)
    fetch = registry.fetch

    def fetch_but_not_production(resolved: ResolvedVersion) -> Path:
        if resolved.version == first:
            raise UnreachableError("MLflow cannot be reached.")
        return fetch(resolved)

    monkeypatch.setattr(registry, "fetch", fetch_but_not_production)
    with pytest.raises(UnreachableError):
        promote(registry, actor="ada", force=True, reason="no time")
    assert _aliases(registry)["production"] == first


def test_a_page_that_could_not_be_written_stops_the_promotion_before_the_evaluation(
    registry: Registry, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = register(_GOOD)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setattr(registry, "open", lambda _: pytest.fail("a model was opened"))
    with pytest.raises(InputError, match="Jinja2"):
        promote(registry, actor="ada")
    assert _aliases(registry) == {"candidate": version}


def test_what_the_figures_do_not_show_is_said(registry: Registry, register: Register, tmp_path: Path) -> None:
    register(_WORSE)
    promote(registry, actor="ada")
    names = (*COLOURS, "purple")
    data = write_toy_dataset(tmp_path / "more", names=names)
    digest = dataset_digest(load_dataset(data))
    register(_GOOD, tags={"transect.data": str(data), "transect.dataset_digest": digest})
    verdict = promote(registry, gate=_GATE, actor="ada")
    run = registry.client.get_run(verdict.run_id)
    for said in ("nothing known, of: purple.", "Production was trained on other data"):
        assert said in verdict.sentence
        assert said in run.data.tags["mlflow.note.content"]


def test_figures_of_the_validation_split_are_called_so(registry: Registry, register: Register, tmp_path: Path) -> None:
    data = write_toy_dataset(tmp_path / "untested")
    written = yaml.safe_load(data.read_text())
    data.write_text(yaml.safe_dump({**written, "val": written["test"], "test": None}))
    digest = dataset_digest(load_dataset(data))
    register(_GOOD, tags={"transect.data": str(data), "transect.dataset_digest": digest})
    verdict = promote(registry, actor="ada")
    assert "on the validation split" in verdict.sentence
    assert "There is no test split" in verdict.sentence
    assert registry.client.get_run(verdict.run_id).data.params["split"] == "val"


class _Flaky:
    """MLflow's client, whose answers about an alias are lost: `after` it was moved, or before."""

    def __init__(self, client: Any, alias: str, *, after: bool, away: bool = False) -> None:
        self.client, self.alias, self.after, self.away, self.lost = client, alias, after, away, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        if alias != self.alias:
            self.client.set_registered_model_alias(name, alias, version)
            return
        if self.after:
            self.client.set_registered_model_alias(name, alias, version)
        self.lost = True
        raise MlflowException("the answer was lost")

    def get_model_version_by_alias(self, name: str, alias: str) -> Any:
        if self.lost and self.away:
            raise MlflowException("no answer at all")
        return self.client.get_model_version_by_alias(name, alias)


def _with_lost_answers(registry: Registry, alias: str, *, after: bool, away: bool = False) -> Registry:
    flaky, client = copy.copy(registry), registry.client
    flaky.client = cast(MlflowClient, _Flaky(client, alias, after=after, away=away))
    return flaky


def test_a_move_whose_answer_was_lost_is_made(registry: Registry, register: Register) -> None:
    version = register(_GOOD)
    assert promote(_with_lost_answers(registry, "production", after=True), actor="ada").promoted
    assert _aliases(registry)["production"] == version
    assert _tags(registry, version)["transect.verdict"] == "promoted"


@pytest.mark.parametrize("away", [False, True])
def test_a_failed_move_is_reported(registry: Registry, register: Register, away: bool) -> None:
    version = register(_GOOD)
    flaky = _with_lost_answers(registry, "production", after=False, away=away)
    with pytest.raises(RegistryError, match="is not known; transect models list shows it" if away else "was lost"):
        promote(flaky, actor="ada")
    assert _aliases(registry) == {"candidate": version}
    assert _tags(registry, version)["transect.verdict"] == "failed"


def test_a_rollback_stands_though_previous_could_not_be_named(
    registry: Registry, register: Register, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = register(_GOOD), register(_GOOD, weights=b"other")
    for alias, version in (("production", second), ("previous", first)):
        registry.client.set_registered_model_alias("detector", alias, version)
    assert rollback(_with_lost_answers(registry, "previous", after=False), actor="bob").version == first
    assert _aliases(registry)["production"] == first
    assert f"the alias previous does not name detector version {second}" in caplog.text
    assert _tags(registry, second)["transect.rolled_back_by"] == "bob"


def test_a_promotion_stands_though_its_outcome_could_not_be_recorded(
    registry: Registry, register: Register, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = register(_GOOD)

    def lose(*_: object) -> None:
        raise MlflowException("no answer at all")

    monkeypatch.setattr(registry.client, "set_tag", lose)
    verdict = promote(registry, actor="ada")
    assert _aliases(registry)["production"] == version
    (warning,) = caplog.records
    assert warning.getMessage().startswith(
        f"The run {verdict.run_id} does not record that detector version {version} was promoted: "
    )
    assert "no answer at all" in warning.getMessage()


def test_a_rollback_stands_though_it_could_not_be_recorded(
    registry: Registry, register: Register, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = register(_GOOD), register(_GOOD, weights=b"other")
    for alias, version in (("production", second), ("previous", first)):
        registry.client.set_registered_model_alias("detector", alias, version)

    def lose(*_: object) -> None:
        raise MlflowException("no answer at all")

    monkeypatch.setattr(registry.client, "set_model_version_tag", lose)
    rollback(registry, actor="bob")
    assert _aliases(registry) == {"candidate": second, "production": first, "previous": second}
    (warning,) = caplog.records
    assert warning.getMessage().startswith(
        f"The rollback to detector version {first} is done but not in the experiment promotion: "
    )
    assert "no answer at all" in warning.getMessage()


def test_previous_is_what_was_served_before_through_promotions_and_rollbacks(
    registry: Registry, register: Register
) -> None:
    versions = [register(_GOOD, weights=b"%d" % number) for number in range(3)]

    def served() -> tuple[str, str | None]:
        aliases = _aliases(registry)
        return aliases["production"], aliases.get("previous")

    def force(version: str) -> None:
        gate = GateConfig(min_gain=0.0, significant_gain=False, max_latency_ratio=None)
        promote(registry, candidate=version, gate=gate, actor="ada")

    first, second, third = versions
    force(first)
    force(second)
    assert served() == (second, first)
    rollback(registry, actor="bob")
    assert served() == (first, second)
    assert "a second rollback would bring it back" in rollback(registry, actor="bob").sentence
    assert served() == (second, first)
    force(third)
    assert served() == (third, second)


def test_a_verdict_on_hundreds_of_classes_fits_into_mlflow(registry: Registry, register: Register) -> None:
    resolved = registry.resolve(register(_GOOD))
    loss = Gain(0.1234567890123, 0.9876543210987, -0.8641975320864, -0.9, -0.8)
    classes = {f"a species with number {number}": dict.fromkeys(QUANTITIES, loss) for number in range(300)}
    paired = PairedComparison(
        images=50,
        confidence=0.95,
        instances=dict.fromkeys(classes, 7),
        overall=dict.fromkeys(QUANTITIES, loss),
        classes=classes,
    )
    measured = Measured(
        map50=0.5,
        map50_95=0.5,
        precision=0.5,
        recall=0.5,
        classes={name: {"mAP50": 0.1234567890123} for name in classes},
    )
    evidence = Evidence(measured, measured, paired)
    case = Case(
        challenger=resolved,
        holder=resolved,
        gate=GateConfig(),
        actor="ada",
        reason="",
        evidence=evidence,
        refusals=tuple(judge(evidence, GateConfig())),
    )
    run_id = log_verdict(registry, case)
    reasons = registry.client.get_run(run_id).data.tags["transect.verdict_reasons"]
    assert len(reasons) == 8000
    assert reasons.endswith("…")
    assert json.loads(_tags(registry, resolved.version)["transect.gate"])["paired"]["overall"]["recall"]["low"] == -0.9
    table = json.loads(Path(registry.client.download_artifacts(run_id, "verdict.json")).read_text())
    assert len(table["paired"]["classes"]) == 300


def test_a_candidate_of_the_same_speed_is_not_slow_on_a_busy_machine() -> None:
    calm = [0.010] * 7
    busy = [0.010, 0.050, 0.010, 0.040, 0.030, 0.060, 0.050]
    latency = latency_of(busy, calm, 8)
    assert (latency.ratio, latency.ratio_low) == (4.0, 1.0)
    assert latency_of([3 * seconds for seconds in busy], busy, 8).ratio_low == pytest.approx(3)
