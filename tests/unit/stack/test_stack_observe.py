"""Dashboard and alerts: they read what the service really exports, and Grafana can load them."""

from itertools import combinations
from pathlib import Path

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

import promql
from transect.serving.metrics import Metrics

ROOT = Path(__file__).resolve().parents[3]
INSTRUMENTS = [item for item in vars(Metrics()).values() if isinstance(item, MetricWrapperBase)]
# Labels that Prometheus itself gives to what it reads.
_ITS_OWN = {"job", "instance", "le"}


def exported() -> dict[str, set[str]]:
    """The names in the answer of /metrics, each with its labels."""
    names: dict[str, set[str]] = {}
    for family in Metrics().registry.collect():
        # The collectors of the process and of Python have no instrument of their own.
        names |= {sample.name: set(sample.labels) for sample in family.samples}
    for item in INSTRUMENTS:
        (family,) = item.describe()
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        names |= {f"{family.name}{suffix}": set(item._labelnames) for suffix in suffixes}
    return names


EXPORTED = exported()


@pytest.mark.parametrize("expression", promql.expressions(), ids=lambda found: found.place)
def test_it_reads_metrics_and_labels_that_the_service_exports(expression: promql.Expression) -> None:
    for name, labels in expression.selectors():
        assert name in EXPORTED
        assert labels <= EXPORTED[name] | _ITS_OWN


@pytest.mark.parametrize("name", sorted(family.name for item in INSTRUMENTS for family in item.describe()))
def test_every_metric_of_the_service_is_on_the_dashboard_or_in_an_alert(name: str) -> None:
    read = {metric for found in promql.expressions() for metric, _ in found.selectors()}
    assert any(metric in (name, f"{name}_total", f"{name}_bucket", f"{name}_sum") for metric in read)


def test_panels_have_their_own_id_and_their_own_place() -> None:
    panels = promql.dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        apart_in_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_in_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_in_x or apart_in_y


def test_every_panel_has_a_description() -> None:
    for panel in promql.dashboard()["panels"]:
        assert panel["title"]
        if panel["type"] != "row":
            assert panel["description"].endswith(".")
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_the_dashboard_asks_the_data_source_that_is_provisioned() -> None:
    (source,) = yaml.safe_load((ROOT / "docker/grafana/datasources.yaml").read_text(encoding="utf-8"))["datasources"]
    board = promql.dashboard()
    asked = [panel["datasource"] for panel in board["panels"] if panel["type"] != "row"]
    asked += [target["datasource"] for panel in board["panels"] for target in panel.get("targets", [])]
    asked += [item["datasource"] for item in board["annotations"]["list"] + board["templating"]["list"]]
    assert {(item["type"], item["uid"]) for item in asked} == {(source["type"], source["uid"])}


def test_provisioning_names_folders_that_compose_mounts() -> None:
    grafana = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]["grafana"]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in grafana["volumes"]}
    (provider,) = yaml.safe_load((ROOT / "docker/grafana/dashboards.yaml").read_text(encoding="utf-8"))["providers"]
    folder = ROOT / mounted[provider["options"]["path"]]
    assert (folder / Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]).name).is_file()
    assert all((ROOT / source).exists() for source in mounted.values() if source.startswith("./"))


@pytest.mark.parametrize("rule", promql.alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_says_in_one_sentence_each_what_is_wrong_and_what_to_do(rule: dict[str, dict[str, str]]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    for text in (rule["annotations"]["summary"], rule["annotations"]["action"]):
        assert text.endswith(".")
        assert ". " not in text


def test_the_names_of_the_alerts_differ() -> None:
    names = [rule["alert"] for rule in promql.alerts()]
    assert len(set(names)) == len(names)
