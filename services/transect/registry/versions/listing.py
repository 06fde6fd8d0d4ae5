"""Rows and details of versions for `transect models list` and `show`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow.entities.model_registry import ModelVersion

from transect.engine import PackageManifest
from transect.registry.client.names import TAG_ARCHITECTURE, TAG_CENSUS_BASIS, TAG_MAP50, TAG_MAP50_95, TAG_PRECISIONS
from transect.registry.versions.cache import ResolvedVersion
from transect.registry.versions.census_basis import CensusBasis


@dataclass(frozen=True, kw_only=True)
class VersionRow:
    """One line of the list; `created` is in UTC, metrics are None if the version has no such tag.

    `precisions` lists the precisions of inference for users; `census_basis` describes its validation data for a
    census ("not known" if it was registered before that tag existed).
    """

    version: str
    aliases: tuple[str, ...]
    created: datetime
    architecture: str
    map50: float | None
    map50_95: float | None
    run_id: str
    precisions: str = "fp32"
    census_basis: str = "not known"


def rows_of(aliases: Mapping[str, str], versions: Iterable[ModelVersion]) -> list[VersionRow]:
    """Rows of `versions`, newest first; `aliases` maps each alias of the model to its version."""
    rows = [
        VersionRow(
            version=str(version.version),
            aliases=tuple(sorted(alias for alias, target in aliases.items() if str(target) == str(version.version))),
            created=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
            architecture=version.tags.get(TAG_ARCHITECTURE, ""),
            map50=_number(version.tags.get(TAG_MAP50)),
            map50_95=_number(version.tags.get(TAG_MAP50_95)),
            run_id=version.run_id or "",
            precisions=version.tags.get(TAG_PRECISIONS, "fp32"),
            census_basis=version.tags.get(TAG_CENSUS_BASIS, "not known"),
        )
        for version in versions
    ]
    return sorted(rows, key=lambda row: int(row.version), reverse=True)


def describe(resolved: ResolvedVersion, manifest: PackageManifest) -> dict[str, str]:
    """One version as names and printable values: registry entry, manifest, tags."""
    basis = CensusBasis.of(manifest)
    return {
        "model": resolved.name,
        "version": resolved.version,
        "aliases": ", ".join(resolved.aliases) or "-",
        "run": resolved.run_id or "-",
        "files": resolved.source,
        "architecture": manifest.architecture,
        "head": manifest.head_kind,
        "classes": ", ".join(manifest.names),
        "image size": f"{manifest.image_size} px",
        "training GSD": "-" if manifest.training_gsd_m is None else f"{manifest.training_gsd_m} m/px",
        "recommended conf": f"{manifest.conf:g}",
        "recommended IoU": f"{manifest.iou:g}",
        "for a census": str(basis),
        **({"census warning": " ".join(warnings)} if (warnings := basis.warnings()) else {}),
        "dataset": f"{manifest.dataset_name} ({manifest.dataset_digest})",
        "git": f"{manifest.git_commit or 'unknown'}{' with local changes' if manifest.git_dirty else ''}",
        "created": f"{manifest.created_at:%Y-%m-%d %H:%M:%S %Z}",
        **{f"metric {name}": f"{value:.4f}" for name, value in sorted(manifest.metrics.items())},
        **{
            f"class {name}": ", ".join(f"{metric} {value:.3f}" for metric, value in metrics.items())
            for name, metrics in manifest.class_metrics.items()
        },
        **{f"variant {variant.precision}": variant.summary for variant in manifest.variants},
        **dict(sorted(resolved.tags.items())),
    }


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
