"""HTML report of a verdict: the metrics of both models, and the gain or loss of each class."""

import math
from collections.abc import Iterable, Mapping
from html import escape

from transect.engine import COUNT_ERROR, MAP50_95, RECALL, Gain, PairedComparison
from transect.registry.promotion.gate import Evidence, GateConfig

_SHOWN = {MAP50_95: "mAP50-95", RECALL: "recall", COUNT_ERROR: "count error"}
_WIDTH, _HEIGHT = 220, 18
# Name, number of labelled objects, gains, and limits by quantity.
_Group = tuple[str, int, dict[str, Gain], dict[str, float]]
_STYLE = (
    "body{font:14px system-ui,sans-serif;margin:2rem;max-width:70rem;color:#222}table{border-collapse:collapse}"
    "td,th{padding:.25rem .6rem;border-bottom:1px solid #ddd;text-align:right}td:first-child,th:first-child"
    "{text-align:left}td:not(:first-child),th{white-space:nowrap}.bad{color:#b00020;font-weight:600}svg{vertical-align:middle}"
)


def verdict_page(
    title: str, refusals: Iterable[str], evidence: Evidence | None, gate: GateConfig, *, remarks: Iterable[str] = ()
) -> str:
    """Render the page; all external text is escaped."""
    parts = [f"<h1>{escape(title)}</h1>", *(f"<p>{escape(remark)}</p>" for remark in remarks)]
    if items := "".join(f"<li>{escape(reason)}</li>" for reason in refusals):
        parts.append(f"<p>The gate refuses:</p><ul>{items}</ul>")
    if evidence is not None:
        parts.append(_models(evidence))
        if evidence.paired is not None:
            parts.append(_classes(evidence.paired, gate))
    style = f"<meta charset='utf-8'><title>{escape(title)}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{style}</head><body>{''.join(parts)}</body></html>\n"


def _models(evidence: Evidence) -> str:
    columns = [("candidate", evidence.candidate), ("production", evidence.production)]
    known = [(name, measured) for name, measured in columns if measured is not None]
    rows: list[Mapping[str, float | str | None]] = [
        {
            "mAP50": measured.map50,
            "mAP50-95": measured.map50_95,
            "precision": measured.precision,
            "recall": measured.recall,
            "count error": measured.count_error,
            "runs in": measured.precision_used,
        }
        for _, measured in known
    ]
    head = "".join(f"<th>{name}</th>" for name, _ in known)
    body = "".join(
        f"<tr><td>{key}</td>{''.join(f'<td>{_text(row[key])}</td>' for row in rows)}</tr>" for key in rows[0]
    )
    latency = evidence.latency
    timing = (
        f"<p>One image takes the candidate {latency.candidate_ms:.1f} ms and production "
        f"{latency.production_ms:.1f} ms: {latency.ratio:.2f} times as long ({latency.ratio_low:.2f} at the least).</p>"
        if latency
        else ""
    )
    return f"<h2>On the test split</h2><table><tr><th></th>{head}</tr>{body}</table>{timing}"


def _classes(paired: PairedComparison, gate: GateConfig) -> str:
    groups: list[_Group] = [("all", sum(paired.instances.values()), paired.overall, {})]
    groups += [(name, paired.instances[name], gains, gate.class_limits(name)) for name, gains in paired.classes.items()]
    edges = (abs(edge) for *_, gains, _ in groups for gain in gains.values() for edge in (gain.low, gain.high))
    reach = max((edge for edge in edges if math.isfinite(edge)), default=0.0)
    rows = "".join(
        f"<tr{_bad(gain, limits.get(quantity))}><td>{escape(name)}</td><td>{labelled}</td><td>{_SHOWN[quantity]}</td>"
        f"<td>{gain.candidate:.3f}</td><td>{gain.reference:.3f}</td><td>{gain.gain:+.3f}</td>"
        f"<td>{_limits(gain)}</td><td>{_interval(gain, reach)}</td>"
        f"<td>{_text(limits.get(quantity))}</td></tr>"
        for name, labelled, gains, limits in groups
        for quantity, gain in gains.items()
    )
    titles = (
        "class",
        "labelled",
        "",
        "candidate",
        "production",
        "gain",
        f"{paired.confidence:.0%} limits",
        "",
        "may lose",
    )
    head = "".join(f"<th>{title}</th>" for title in titles)
    chance = f", on at least {gate.least_images} images and more than chance" if gate.significant_gain else ""
    return (
        f"<h2>Gains, with limits over {paired.images} images</h2><p>Right of the line is better; a count error gains "
        f"by coming nearer to zero. Needed of all classes together: {gate.min_gain:+g} of mAP50-95{chance}.</p>"
        f"<table><tr>{head}</tr>{rows}</table>"
    )


def _limits(gain: Gain) -> str:
    return f"{gain.low:+.3f} to {gain.high:+.3f}" if math.isfinite(gain.low) else "unknown"


def _interval(gain: Gain, reach: float) -> str:
    """SVG with the limits as a line, the gain as a dot, zero in the middle; empty if the limits are unknown."""
    if not math.isfinite(gain.low):
        return ""
    scale = (_WIDTH / 2 - 6) / (reach or 1)
    low, high, dot = (_WIDTH / 2 + scale * value for value in (gain.low, gain.high, gain.gain))
    middle = _HEIGHT / 2
    return (
        f"<svg width='{_WIDTH}' height='{_HEIGHT}' aria-hidden='true'><line x1='{_WIDTH / 2}' x2='{_WIDTH / 2}' y1='0' "
        f"y2='{_HEIGHT}' stroke='#999'/><line x1='{low:.1f}' x2='{high:.1f}' y1='{middle}' y2='{middle}' "
        f"stroke='currentColor' stroke-width='2'/><circle cx='{dot:.1f}' cy='{middle}' r='4' "
        "fill='currentColor'/></svg>"
    )


def _bad(gain: Gain, limit: float | None) -> str:
    return " class='bad'" if limit is not None and not -gain.gain <= limit + 1e-9 else ""


def _text(value: float | str | None) -> str:
    if value is None:
        return "-"
    return escape(value) if isinstance(value, str) else f"{value:.3f}"
