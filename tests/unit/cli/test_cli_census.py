import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from transect.census.estimates.estimate import METHODS
from transect.cli.census import commands as census

Run = Callable[..., tuple[int, str, str]]

COUNTS = "stratum,transect,species,area_km2,count\n" + "".join(
    f"plain,{number},zebra,{area},{count}\n"
    for number, (area, count) in enumerate([(4, 12), (3, 5), (2.5, 0), (5, 22), (3.5, 8)])
)


@pytest.fixture
def run(transect: Run) -> Run:
    """Run `transect census` in a folder with the oracle's table."""
    Path("transects.csv").write_text(COUNTS)
    Path("strata.csv").write_text("stratum,area_km2\nplain,180\n")
    return partial(transect, "census")


def test_estimate_prints_the_oracle_unrounded(run: Run) -> None:
    code, out, err = run("estimate", "transects.csv", "--strata", "strata.csv", "--json", "--method", "jolly2")
    assert (code, err) == (0, "")
    (record,) = json.loads(out)["estimates"]
    assert {"stratum", "species", "method", "n", "seen", "area_km2", "density"} <= record.keys()
    assert {"estimate", "variance", "se", "ci95"} <= record.keys()
    assert (record["stratum"], record["species"], record["method"]) == ("plain", "zebra", "jolly2")
    assert (record["n"], record["seen"], record["area_km2"]) == (5, 47, 18)
    assert record["estimate"] == pytest.approx(470, abs=1e-9)
    assert record["variance"] == pytest.approx(15115.451, abs=5e-4)
    assert record["ci95"] == pytest.approx([128.650, 811.350], abs=5e-4)


def test_estimate_prints_a_table_and_its_notes(run: Run) -> None:
    Path("strata.csv").write_text("stratum,area_km2\nplain,180\nhill,30\n")
    Path("transects.csv").write_text(COUNTS + "hill,1,,2,\n")
    code, out, _ = run("estimate", "transects.csv", "--strata", "strata.csv")
    assert code == 0
    assert "470" in out
    assert "zebra in hill: One transect gives no interval" in out


def test_the_default_is_the_recommended_method(run: Run) -> None:
    plain = run("estimate", "transects.csv", "--strata", "strata.csv", "--json")
    assert plain == run("estimate", "transects.csv", "--strata", "strata.csv", "--json", "--method", "bootstrap")


def test_every_method_can_be_asked_for() -> None:
    assert set(get_args(get_type_hints(census.estimate)["method"])) == set(METHODS)


def test_a_bad_table_is_one_line(run: Run) -> None:
    Path("transects.csv").write_text(COUNTS + "plain,9,zebra,3,-4\n")
    code, out, err = run("estimate", "transects.csv", "--strata", "strata.csv")
    assert (code, out) == (2, "")
    assert err == "transect: transects.csv line 7, column count: -4 animals are fewer than none.\n"


def test_compare_tells_the_difference(run: Run) -> None:
    _, before, _ = run("estimate", "transects.csv", "--strata", "strata.csv", "--json")
    Path("a.json").write_text(before)
    Path("transects.csv").write_text(COUNTS.replace(",12\n", ",48\n").replace(",5\n", ",40\n"))
    _, after, _ = run("estimate", "transects.csv", "--strata", "strata.csv", "--json")
    Path("b.json").write_text(after)
    code, out, _ = run("compare", "a.json", "b.json", "--json")
    assert code == 0
    (found,) = json.loads(out)["differences"]
    assert found["difference"] == pytest.approx(10 * (36 + 35))
    assert 0 < found["p"] < 1
    code, out, _ = run("compare", "a.json", "b.json")
    assert code == 0
    assert "710" in out


def test_compare_refuses_what_is_no_census(run: Run) -> None:
    code, _, err = run("compare", "strata.csv", "strata.csv")
    assert code == 2
    assert err == "transect: strata.csv is not valid JSON; run the census again.\n"
