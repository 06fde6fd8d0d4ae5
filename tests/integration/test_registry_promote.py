import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toy_model import COLOURS, write_toy_dataset
from transect.datasets import dataset_digest, load_dataset
from transect.errors import DatasetError, InputError, NotRegisteredError, PackageError, PromotionRefusedError
from transect.registry import GateConfig, Registry, promote, rollback, version_details
from transect.registry.promotion.comparison import compare_on_split, time_interleaved
from transect.registry.promotion.gate import Evidence

# Boxes 4 px beside the squares of 16 px overlap them by IoU 0.6: good at 0.5, bad above.
_GOOD, _WORSE, _BLIND = 0.0, 4.0, 40.0

Register = Callable[..., str]

# How long a model takes is nothing that these tests may depend on.
_GATE = GateConfig(max_latency_ratio=None)
_ANY_GAIN = GateConfig(min_gain=0.0, significant_gain=False, max_latency_ratio=None)


def _aliases(registry: Registry) -> dict[str, str]:
    return {alias: row.version for row in registry.list_versions() for alias in row.aliases}


def _tags(registry: Registry, version: str) -> dict[str, str]:
    return registry.resolve(version).tags


def test_the_first_good_candidate_is_promoted_with_its_reason(registry: Registry, register: Register) -> None:
    version = register(_GOOD)
    verdict = promote(registry, actor="ada", reason="first one")
    assert verdict.promoted
    assert verdict.candidate is not None
    assert verdict.candidate.map50 == pytest.approx(0.995, abs=0.01)
    assert verdict.production is None
    assert _aliases(registry) == {"candidate": version, "production": version}
    tags = _tags(registry, version)
    assert tags["transect.promoted_by"] == "ada"
    assert tags["transect.promotion_reason"] == "first one"
    assert "T" in tags["transect.promoted_at"]
    gate = json.loads(tags["transect.gate"])
    assert gate["candidate"]["map50"] == verdict.candidate.map50
    assert gate["production"] is None
    assert gate["forced"] is False
    # The toy is an old package: that is said, and no reason against it.
    assert "a census cannot tell whether the detector is validated" in verdict.sentence
    assert gate["census_basis"] == {"counts": False, "profile": False, "images": 0, "mpx": 0.0}
    known = "no validation counts, no validation profile, no empty ground"
    assert registry.client.get_run(verdict.run_id).data.tags["transect.census_basis"] == known
    page = Path(registry.client.download_artifacts(verdict.run_id, "verdict.html")).read_text(encoding="utf-8")
    assert f"Validation data of the candidate for a census: {known}." in page
    assert version_details(registry, version)["for a census"] == known
    assert "background:" in version_details(registry, version)["census warning"]
    assert registry.list_versions()[0].census_basis == "not known"


def test_a_first_candidate_that_learned_nothing_is_refused(registry: Registry, register: Register) -> None:
    version = register(_BLIND)
    with pytest.raises(PromotionRefusedError, match=r"mAP50 is 0\.0"):
        promote(registry, actor="ada")
    assert _aliases(registry) == {"candidate": version}
    assert "transect.promoted_at" not in _tags(registry, version)


def test_a_worse_candidate_is_refused_and_a_better_one_passes(registry: Registry, register: Register) -> None:
    first = register(_WORSE)
    promote(registry, actor="ada")
    second = register(_GOOD)
    verdict = promote(registry, gate=_GATE, actor="ada")
    assert (verdict.version, verdict.was) == (second, first)
    assert verdict.production is not None
    assert verdict.candidate is not None
    assert verdict.production.map50_95 < verdict.candidate.map50_95
    assert _aliases(registry) == {"candidate": second, "production": second, "previous": first}
    third = register(_WORSE)
    with pytest.raises(PromotionRefusedError, match="mAP50-95"):
        promote(registry, actor="ada")
    assert _aliases(registry) == {"candidate": third, "production": second, "previous": first}


def test_an_equal_candidate_is_refused_unless_the_gate_asks_for_no_gain(registry: Registry, register: Register) -> None:
    first = register(_GOOD)
    promote(registry, actor="ada")
    second = register(_GOOD, weights=b"other")
    with pytest.raises(PromotionRefusedError, match=r"a gain of 0\.000, and at least 0\.005 is needed"):
        promote(registry, gate=_GATE, actor="ada")
    assert _aliases(registry) == {"candidate": second, "production": first}
    assert promote(registry, gate=_ANY_GAIN, actor="ada").promoted


def test_one_better_overall_that_lost_a_class_is_refused(registry: Registry, register: Register) -> None:
    register(_WORSE)
    promote(registry, actor="ada")
    register(_GOOD, blind=["blue"])
    with pytest.raises(PromotionRefusedError) as caught:
        promote(registry, gate=_GATE, actor="ada")
    said = str(caught.value)
    assert "blue loses 1.000 of recall, 1.000 before and 0.000 now (95% limits 1.000 to 1.000, 8 labelled)" in said
    assert "blue loses 1.000 of count accuracy, +0.0% off before and -100.0% now" in said
    assert "gain" not in said
    limits = {"blue": {"map50_95": 1, "recall": 1, "count_error": 1}}
    lenient = GateConfig.model_validate({"classes": limits, "max_latency_ratio": None})
    assert promote(registry, gate=lenient, actor="ada").promoted


def test_limits_of_a_class_that_does_not_exist_are_an_error(registry: Registry, register: Register) -> None:
    register(_GOOD)
    gate = GateConfig.model_validate({"classes": {"bleu": {"recall": 0}}})
    with pytest.raises(InputError, match=r"limits for bleu.* it has red, green, blue"):
        promote(registry, gate=gate, actor="ada")


def test_one_that_takes_too_long_is_refused(registry: Registry, register: Register) -> None:
    register(_WORSE)
    promote(registry, actor="ada")
    register(_GOOD)
    with pytest.raises(PromotionRefusedError, match=r"at the least\), and at most 1e-06 times is allowed"):
        promote(registry, gate=GateConfig(max_latency_ratio=1e-6), actor="ada")


def test_models_are_timed_in_turns() -> None:
    calls: list[str] = []
    clock = iter(range(100))

    def call(name: str) -> float:
        calls.append(name)
        return float(next(clock))

    first, second = time_interleaved(lambda: call("a"), lambda: call("b"), rounds=3)
    assert "".join(calls) == "baabbaab"
    assert (first, second) == ([2.0, 5.0, 6.0], [3.0, 4.0, 7.0])


def test_a_training_that_ended_in_nan_is_refused(registry: Registry, register: Register) -> None:
    version = register(_GOOD)
    run_id = registry.resolve(version).run_id
    registry.client.log_metric(run_id, "val/loss", 1.0, step=0)
    registry.client.log_metric(run_id, "train/loss", math.nan, step=0)
    registry.client.log_metric(run_id, "val/loss", math.inf, step=1)
    with pytest.raises(PromotionRefusedError) as caught:
        promote(registry, actor="ada")
    assert "train/loss of its training run is not a number; val/loss of its training run is not" in str(caught.value)
    registry.client.log_metric(run_id, "val/loss", 0.5, step=2)
    registry.client.log_metric(run_id, "train/loss", 0.5, step=2)
    assert promote(registry, actor="ada").promoted


def test_every_verdict_is_a_run_and_stays_with_the_version(registry: Registry, register: Register) -> None:
    first = register(_GOOD)
    promoted = promote(registry, actor="ada")
    second = register(_WORSE, blind=["blue"])
    with pytest.raises(PromotionRefusedError) as caught:
        promote(registry, gate=_GATE, actor="bob", reason="try it")
    forced = promote(registry, gate=_GATE, actor="eve", reason="the good one crashes", force=True)
    rollback(registry, actor="ada", reason="worse")
    experiment = registry.client.get_experiment_by_name("promotion")
    assert experiment is not None
    runs = registry.client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    assert [run.data.tags["transect.verdict"] for run in runs] == ["promoted", "refused", "forced", "rolled back"]
    assert [run.data.tags["transect.actor"] for run in runs] == ["ada", "bob", "eve", "ada"]
    assert [run.info.status for run in runs] == ["FINISHED"] * 4
    refused = runs[1]
    assert promoted.run_id == runs[0].info.run_id
    assert forced.run_id == runs[2].info.run_id
    assert refused.info.run_id in str(caught.value)
    tags, metrics, params = refused.data.tags, refused.data.metrics, refused.data.params
    assert (tags["transect.candidate_version"], tags["transect.production_version"]) == (second, first)
    assert tags["transect.reason"] == "try it"
    assert "mAP50-95 is" in tags["transect.verdict_reasons"]
    assert "blue loses" in tags["transect.verdict_reasons"]
    assert f"/versions/{second}" in tags["mlflow.note.content"]
    assert params["limit.min_gain"] == "0.005"
    assert params["limit.max_class_loss.recall"] == "0.03"
    assert metrics["candidate/mAP50-95"] < metrics["production/mAP50-95"]
    assert metrics["gain/mAP50-95"] == pytest.approx(metrics["candidate/mAP50-95"] - metrics["production/mAP50-95"])
    assert metrics["gain/class/blue/recall"] == metrics["gain/class/blue/recall_low"] == -1.0
    assert metrics["candidate/class/blue/recall_at_conf"] == 0.0
    assert metrics["latency_ratio"] > 0
    page, table = (
        Path(registry.client.download_artifacts(refused.info.run_id, f"verdict.{kind}")) for kind in ("html", "json")
    )
    assert "blue" in page.read_text()
    record = json.loads(table.read_text())
    assert record["verdict"] == "refused"
    assert record["paired"]["instances"] == {"red": 8, "green": 8, "blue": 8}
    of_version = _tags(registry, second)
    assert of_version["transect.verdict"] == "forced"
    assert of_version["transect.verdict_run"] == forced.run_id
    assert (of_version["transect.forced_by"], of_version["transect.promotion_reason"]) == (
        "eve",
        "the good one crashes",
    )


def test_a_version_that_was_deleted_meanwhile_is_one_sentence(
    registry: Registry, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = register(_WORSE)
    promote(registry, actor="ada")
    version = register(_GOOD)

    def evaluate_while_somebody_deletes(*arguments: Any) -> Evidence:
        evidence = compare_on_split(*arguments)
        registry.client.delete_model_version("detector", version)
        return evidence

    monkeypatch.setattr("transect.registry.promotion.promote.compare_on_split", evaluate_while_somebody_deletes)
    with pytest.raises(NotRegisteredError, match=f"version {version} was deleted from MLflow while it was evaluated"):
        promote(registry, actor="ada")
    assert _aliases(registry) == {"production": first}


def test_a_registered_model_that_was_deleted_meanwhile_is_one_sentence(
    registry: Registry, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(_GOOD)

    def evaluate_while_somebody_deletes(*arguments: Any) -> Evidence:
        evidence = compare_on_split(*arguments)
        registry.client.delete_registered_model("detector")
        return evidence

    monkeypatch.setattr("transect.registry.promotion.promote.compare_on_split", evaluate_while_somebody_deletes)
    with pytest.raises(NotRegisteredError, match=r"was deleted from MLflow.*no model named detector") as caught:
        promote(registry, actor="ada")
    assert "\n" not in str(caught.value)


def test_an_alias_that_does_not_exist_is_one_sentence(registry: Registry, register: Register) -> None:
    register(_GOOD)
    with pytest.raises(NotRegisteredError, match="has the alias canditate; it has candidate"):
        promote(registry, candidate="canditate", actor="ada")


def test_what_is_in_production_already_is_left_alone(registry: Registry, register: Register) -> None:
    version = register(_GOOD)
    promote(registry, actor="ada")
    tags = _tags(registry, version)
    verdict = promote(registry, actor="bob")
    assert not verdict.promoted
    assert "nothing to do" in verdict.sentence
    assert _tags(registry, version) == tags
    assert "previous" not in _aliases(registry)


def test_force_promotes_a_worse_one_and_keeps_the_refusal(registry: Registry, register: Register) -> None:
    register(_GOOD)
    promote(registry, actor="ada")
    worse = register(_WORSE)
    with pytest.raises(InputError, match="--reason"):
        promote(registry, actor="ada", force=True)
    verdict = promote(registry, actor="ada", force=True, reason="the good one crashes")
    assert verdict.forced
    assert "forced although" in verdict.sentence
    assert _aliases(registry)["production"] == worse
    record = json.loads(_tags(registry, worse)["transect.gate"])
    assert record["forced"]
    assert "mAP50-95" in record["refusals"][0]


def test_a_candidate_that_lost_a_species_is_refused(registry: Registry, register: Register, tmp_path: Path) -> None:
    register(_GOOD)
    promote(registry, actor="ada")
    names = ("red", "green", "yellow")
    data = write_toy_dataset(tmp_path / "renamed", names=names)
    digest = dataset_digest(load_dataset(data))
    register(_GOOD, names=names, tags={"transect.data": str(data), "transect.dataset_digest": digest})
    with pytest.raises(PromotionRefusedError, match="production finds blue and it does not"):
        promote(registry, actor="ada")


def test_other_data_than_it_was_trained_with_is_refused(
    registry: Registry, register: Register, data: Path, tmp_path: Path
) -> None:
    register(_GOOD)
    other = write_toy_dataset(tmp_path / "other", seed=5)
    with pytest.raises(PromotionRefusedError, match="is not the data it was trained with"):
        promote(registry, data=other, actor="ada")
    assert promote(registry, data=data, actor="ada").promoted


def test_the_same_data_at_another_place_is_welcome(registry: Registry, register: Register, tmp_path: Path) -> None:
    register(_GOOD, tags={"transect.data": "/nowhere/data.yaml"})
    with pytest.raises(PromotionRefusedError, match=r"not on this machine \(/nowhere/data.yaml\).*--data"):
        promote(registry, actor="ada")
    assert promote(registry, data=write_toy_dataset(tmp_path / "copy"), actor="ada").promoted


def test_data_that_is_not_there_is_named(registry: Registry, register: Register) -> None:
    register(_GOOD)
    with pytest.raises(DatasetError, match=r"nowhere\.yaml"):
        promote(registry, data=Path("nowhere.yaml"), actor="ada")


def test_without_a_candidate_the_next_step_is_named(registry: Registry) -> None:
    with pytest.raises(NotRegisteredError, match="make train"):
        promote(registry, actor="ada")


def test_production_that_moved_meanwhile_stops_the_promotion(
    registry: Registry, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = register(_GOOD), register(_GOOD, weights=b"other")

    def evaluate_while_somebody_promotes(*arguments: Any) -> Evidence:
        registry.client.set_registered_model_alias("detector", "production", first)
        return compare_on_split(*arguments)

    monkeypatch.setattr("transect.registry.promotion.promote.compare_on_split", evaluate_while_somebody_promotes)
    with pytest.raises(PromotionRefusedError, match=f"production moved to version {first}"):
        promote(registry, candidate=second, actor="ada")
    assert _aliases(registry)["production"] == first
    tags = _tags(registry, second)
    assert "transect.promoted_at" not in tags
    assert tags["transect.verdict"] == "refused"
    assert "production moved" in tags["transect.verdict_reasons"]


def test_a_production_without_files_can_be_replaced_by_force(registry: Registry, register: Register) -> None:
    first = register(_GOOD)
    promote(registry, actor="ada")
    resolved = registry.resolve("production")
    model = Path(resolved.source.removeprefix("file://")) / "model.onnx"
    model.write_bytes(b"damaged")
    (registry.fetch(resolved) / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(PackageError):
        registry.fetch(resolved)
    second = register(_GOOD, weights=b"other")
    with pytest.raises(PromotionRefusedError, match="production cannot be evaluated"):
        promote(registry, actor="ada")
    assert promote(registry, actor="ada", force=True, reason="disk failed").forced
    assert _aliases(registry) == {"candidate": second, "production": second, "previous": first}


def test_rollback_swaps_and_swaps_back(registry: Registry, register: Register) -> None:
    first = register(_WORSE)
    promote(registry, actor="ada")
    second = register(_GOOD)
    promote(registry, gate=_GATE, actor="ada")
    back = rollback(registry, actor="bob", reason="too slow")
    assert (back.version, back.was) == (first, second)
    assert _aliases(registry) == {"candidate": second, "production": first, "previous": second}
    assert _tags(registry, second)["transect.rolled_back_by"] == "bob"
    assert _tags(registry, second)["transect.rollback_reason"] == "too slow"
    assert rollback(registry, actor="bob").version == second
    assert _aliases(registry) == {"candidate": second, "production": second, "previous": first}


def test_rollback_without_a_previous_version_is_an_error(registry: Registry, register: Register) -> None:
    with pytest.raises(NotRegisteredError, match="no model named detector"):
        rollback(registry, actor="bob")
    version = register(_GOOD)
    with pytest.raises(NotRegisteredError, match="make promote"):
        rollback(registry, actor="bob")
    promote(registry, actor="ada")
    with pytest.raises(NotRegisteredError, match="alias previous"):
        rollback(registry, actor="bob")
    registry.client.set_registered_model_alias("detector", "previous", version)
    with pytest.raises(PromotionRefusedError, match="both production and previous"):
        rollback(registry, actor="bob")


def test_the_gate_that_is_given_decides(registry: Registry, register: Register) -> None:
    register(_GOOD)
    with pytest.raises(PromotionRefusedError, match="needs 1"):
        promote(registry, gate=GateConfig(min_map50=1.0), actor="ada")
    assert set(registry.manifest(registry.resolve("candidate")).names) == set(COLOURS)
