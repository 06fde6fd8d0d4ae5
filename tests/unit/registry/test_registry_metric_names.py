"""Names that MLflow takes, one for each of ours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from transect.registry.client.metric_names import class_names, distinct_metric_names, metric_name


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("metrics/mAP50(B)", "metrics/mAP50_B_"),
        ("Zèbre de plaine", "Zèbre de plaine"),
        ("test/class/斑马/mAP50", "test/class/斑马/mAP50"),
        ("Grevy's zebra", "Grevy_s zebra"),
        ("e\u0301", "é"),
        ("../up", "__/up"),
        ("a//b", "a/_/b"),
        ("/a", "_/a"),
        ("a/", "a/_"),
        ("", "_"),
        (".", "_"),
        ("a\n", "a_"),
        ("a:b", "a_b"),
    ],
)
def test_names_lose_what_mlflow_refuses(name: str, taken: str) -> None:
    assert metric_name(name) == taken


def test_colliding_names_get_distinct_hashes() -> None:
    one, other = class_names(["a:b", "a;b"]).values()
    assert one != other
    assert class_names(["a;b", "other", "a:b"])["a:b"] == one
    assert class_names(["a_b", "a:b"])["a_b"] == "a_b"
    assert class_names(["a:b"]) == {"a:b": "a_b"}


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), unique=True, max_size=8))
def test_any_names_are_different_ones_that_mlflow_takes(names: list[str]) -> None:
    told = class_names(names)
    assert len(set(told.values())) == len(names)
    for part in told.values():
        metric = f"production/class/{part}/recall_at_conf_high"
        _validate_metric_name(metric)
        assert len(metric) <= 250
    whole = distinct_metric_names(names)
    assert len(set(whole.values())) == len(names)
    assert all(len(name) <= 250 for name in whole.values())
