"""HTML report of a verdict: the metrics of both models, and the gain or loss of each class."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from transect.engine import COUNT_ERROR, MAP50_95, RECALL, Gain, PairedComparison
from transect.pages.svg import Markup, element
from transect.pages.templates import load_template
from transect.registry.promotion.gate import Evidence, GateConfig, Measured

_SHOWN = {MAP50_95: "mAP50-95", RECALL: "recall", COUNT_ERROR: "count error"}
_WIDTH, _HEIGHT = 220, 18


def verdict_page(
    title: str, refusals: Iterable[str], evidence: Evidence | None, gate: GateConfig, *, remarks: Iterable[str] = ()
) -> str:
    """Render the page; all external text is escaped. Raises InputError without Jinja2."""
    measured = {} if evidence is None else {"candidate": evidence.candidate, "production": evidence.production}
    models = {name: one for name, one in measured.items() if one is not None}
    template = load_template("transect.registry.promotion", "verdict.html.j2", filters={"figure": _figure})
    page = template.render(
        title=title,
        refusals=list(refusals),
        remarks=list(remarks),
        evidence=evidence,
        gate=gate,
        models=list(models),
        metrics=_metrics(list(models.values())),
        rows=list(_rows(evidence.paired, gate)) if evidence is not None and evidence.paired is not None else [],
    )
    return page + "\n"


def _figure(value: float | str | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.3f}"


def _metrics(models: list[Measured]) -> list[tuple[str, list[float | str | None]]]:
    """Each metric with its value for every model."""
    return [
        ("mAP50", [one.map50 for one in models]),
        ("mAP50-95", [one.map50_95 for one in models]),
        ("precision", [one.precision for one in models]),
        ("recall", [one.recall for one in models]),
        ("count error", [one.count_error for one in models]),
        ("runs in", [one.precision_used for one in models]),
    ]


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One quantity of one class, or of all of them; `may_lose` is the gate's limit for it, if there is one."""

    name: str
    labelled: int
    quantity: str
    gain: Gain
    limits: str
    interval: Markup
    may_lose: float | None
    bad: bool


def _rows(paired: PairedComparison, gate: GateConfig) -> Iterator[_Row]:
    no_limits: dict[str, float] = {}
    groups = [("all", sum(paired.instances.values()), paired.overall, no_limits)]
    groups += [(name, paired.instances[name], gains, gate.class_limits(name)) for name, gains in paired.classes.items()]
    edges = (abs(edge) for *_, gains, _ in groups for gain in gains.values() for edge in (gain.low, gain.high))
    reach = max((edge for edge in edges if math.isfinite(edge)), default=0.0)
    for name, labelled, gains, limits in groups:
        for quantity, gain in gains.items():
            limit = limits.get(quantity)
            yield _Row(
                name=name,
                labelled=labelled,
                quantity=_SHOWN[quantity],
                gain=gain,
                limits=f"{gain.low:+.3f} to {gain.high:+.3f}" if math.isfinite(gain.low) else "unknown",
                interval=_interval(gain, reach),
                may_lose=limit,
                bad=limit is not None and not -gain.gain <= limit + 1e-9,
            )


def _interval(gain: Gain, reach: float) -> Markup:
    """SVG with the limits as a line, the gain as a dot, zero in the middle; empty if the limits are unknown."""
    if not math.isfinite(gain.low):
        return Markup()
    scale = (_WIDTH / 2 - 6) / (reach or 1)
    low, high, dot = (_WIDTH / 2 + scale * value for value in (gain.low, gain.high, gain.gain))
    zero, middle = _WIDTH / 2, _HEIGHT / 2
    return element(
        "svg",
        element("line", x1=zero, x2=zero, y1=0, y2=_HEIGHT, stroke="#999"),
        element("line", x1=low, x2=high, y1=middle, y2=middle, stroke="currentColor", stroke_width=2),
        element("circle", cx=dot, cy=middle, r=4, fill="currentColor"),
        width=_WIDTH,
        height=_HEIGHT,
        aria_hidden="true",
    )
