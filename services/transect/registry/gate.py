"""What better means: the numbers that a candidate is held against, and the judgement."""

from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from transect.errors import InputError


class GateConfig(BaseModel):
    """The gate's limits, as in configs/promotion.yaml; each is a share from 0 to 1.

    `min_map50` is the least mAP50 of a first promotion, when there is nothing to compare with.
    `max_loss` is how far mAP50-95 may lie below production's on the same images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_map50: float = Field(default=0.1, ge=0, le=1)
    max_loss: float = Field(default=0.005, ge=0, le=1)


@dataclass(frozen=True)
class Measured:
    """One model's numbers on the test split, each from 0 to 1; `precision_used` is what it ran in."""

    map50: float
    map50_95: float
    precision: float
    recall: float
    precision_used: str = "fp32"


def load_gate(path: Path) -> GateConfig:
    """Read the gate's limits; InputError when the file is missing, malformed or has a bad value."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        raise InputError(f"There is no gate configuration {path}; name one with --gate.") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read as YAML: {error}") from error
    try:
        return GateConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        known = ", ".join(GateConfig.model_fields)
        raise InputError(f"{path}: {where}: {first['msg']}; the gate knows {known}.") from error


def judge(candidate: Measured, production: Measured | None, gate: GateConfig) -> list[str]:
    """Why `candidate` must not be served, as clauses of a sentence; empty when it may.

    Without a `production` the candidate has to reach `gate.min_map50`; with one it may lose at most
    `gate.max_loss` of mAP50-95.
    """
    if production is None:
        if candidate.map50 >= gate.min_map50:
            return []
        return [f"its mAP50 is {candidate.map50:.3f} and a first promotion needs {gate.min_map50:g}"]
    loss = production.map50_95 - candidate.map50_95
    # A rounding error of the subtraction is no loss; NaN is refused.
    if loss <= gate.max_loss + 1e-9:
        return []
    return [
        f"its mAP50-95 is {candidate.map50_95:.3f}, production's is {production.map50_95:.3f} on the same images, "
        f"and at most {gate.max_loss:g} may be lost"
    ]
