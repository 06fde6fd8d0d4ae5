"""Count a survey from Python: python examples/count_a_survey.py SURVEY MODEL OUT

SURVEY is a folder with survey.yaml and images, MODEL a package folder or a registered version, OUT where results go.
"""

import sys

import transect


def main(survey: str, model: str, out: str) -> None:
    """Count, and print what the report says for each species."""
    result = transect.run_census(survey, model=model, out=out)
    for row in result.rows:
        limits = "no limits" if row.ci95 is None else f"95% limits {row.ci95[0]:.0f} to {row.ci95[1]:.0f}"
        print(f"{row.species}: {row.unique} seen, detector {row.detector}, {limits}")
    print(f"{len(result.issues)} files were not counted as they should be; the report is {result.report}")


if __name__ == "__main__":
    main(*sys.argv[1:4])
