"""Every PromQL expression of this repository: those of the dashboard and those of the alert rules."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
DASHBOARD = ROOT / "docker" / "grafana" / "dashboards" / "transect.json"
ALERTS = ROOT / "docker" / "prometheus" / "alerts.yaml"

# What Grafana puts in the place of its variables.
_GRAFANA = {"$instance": ".*", "$__rate_interval": "1m"}
_SELECTOR = re.compile(r"\b((?:transect|process|python)_[a-z0-9_]+)(?:\{([^}]*)\})?")
_LABEL = re.compile(r"([a-z_]+)\s*(?:=~|!~|!=|=)")


@dataclass(frozen=True)
class Expression:
    """One expression and its location."""

    place: str
    text: str

    def selectors(self) -> list[tuple[str, set[str]]]:
        """The metrics that it reads, each with the labels of its selectors."""
        return [(name, set(_LABEL.findall(inside))) for name, inside in _SELECTOR.findall(self.text)]


def dashboard() -> dict[str, Any]:
    """The dashboard as it is provisioned."""
    return dict(json.loads(DASHBOARD.read_text(encoding="utf-8")))


def alerts() -> list[dict[str, Any]]:
    """The alert rules of every group."""
    return [rule for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]


def expressions() -> list[Expression]:
    """Every expression, with Grafana's variables filled in."""
    board = dashboard()
    found = [
        (f"panel {panel['title']}", target["expr"]) for panel in board["panels"] for target in panel.get("targets", [])
    ]
    found += [(f"annotation {note['name']}", note["expr"]) for note in board["annotations"]["list"]]
    found += [(f"alert {rule['alert']}", rule["expr"]) for rule in alerts()]
    return [Expression(place, _filled(text)) for place, text in found]


def _filled(text: str) -> str:
    for name, value in _GRAFANA.items():
        text = text.replace(name, value)
    return text
