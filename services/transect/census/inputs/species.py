"""The species that a census reports, and the correction of each count."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transect.census.estimates.correction import Correction, correct_species
from transect.census.inputs.survey import Survey
from transect.engine import DetectOptions, PackageManifest
from transect.errors import SurveyError


@dataclass(frozen=True)
class ReportedSpecies:
    """The species to report, in order, and the species number of each reported class of the model."""

    names: tuple[str, ...]
    of_class: Mapping[str, int]


def reported_species(survey: Survey, classes: Sequence[str]) -> ReportedSpecies:
    """The species of a survey; classes that survey.yaml maps to null are excluded.

    Raises SurveyError where survey.yaml maps a class that the model does not have.
    """
    given = survey.spec.species
    unknown = [name for name in given if name not in classes]
    if unknown:
        raise SurveyError(
            f"{survey.folder / 'survey.yaml'} maps species {unknown[0]!r}, which the model does not know; "
            f"its classes are {', '.join(classes)}."
        )
    reported = {name: given.get(name, name) for name in classes}
    names = tuple(dict.fromkeys(name for name in reported.values() if name is not None))
    if not names:
        raise SurveyError(f"{survey.folder / 'survey.yaml'} maps every class of the model to null: nothing to count.")
    return ReportedSpecies(
        names, {name: names.index(species) for name, species in reported.items() if species is not None}
    )


def species_corrections(
    survey: Survey, species: ReportedSpecies, package: PackageManifest, options: DetectOptions
) -> dict[str, Correction]:
    """The correction of each species' count: for the detector's errors, and by survey.yaml's factors.

    Raises SurveyError where survey.yaml has factors for a species that is not reported.
    """
    given = survey.spec.corrections
    unknown = [name for name in given if name not in species.names]
    if unknown:
        raise SurveyError(
            f"{survey.folder / 'survey.yaml'} corrects {unknown[0]!r}, which is not reported; "
            f"the species are {', '.join(species.names)}."
        )
    conf, iou = package.thresholds(options)
    return {
        name: correct_species(
            name,
            [one for one, reported in species.of_class.items() if reported == number],
            package.validation_counts,
            conf=conf,
            iou=iou,
            factors=given.get(name),
            background=package.background_counts,
        )
        for number, name in enumerate(species.names)
    }
