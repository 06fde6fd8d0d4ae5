"""The stack's database of reviews: initialiser, migration and Compose file name the same things."""

import re
from pathlib import Path

import yaml

from transect.review.decisions.schema import ROLE

ROOT = Path(__file__).resolve().parents[3]
# Read and not imported: it imports MLflow's server, which warns.
INITIALISER = (ROOT / "docker" / "mlflow" / "initialise.py").read_text(encoding="utf-8")


def test_one_role_and_one_database() -> None:
    named = dict(re.findall(r'(?m)^(REVIEW_\w+) = "(\w+)"$', INITIALISER))
    assert named == {"REVIEW_ROLE": ROLE, "REVIEW_DATABASE": "transect"}
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    for name in ("census", "review-init"):
        assert services[name]["environment"]["TRANSECT_REVIEW_DATABASE"] == "postgresql://postgres/transect"
    assert services["census"]["environment"]["PGUSER"] == ROLE
    assert services["census"]["depends_on"]["review-init"] == {"condition": "service_completed_successfully"}


def test_the_backup_holds_both_databases() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    backup = page.partition("## Backup")[2].partition("\n## ")[0]
    assert re.findall(r'pg_dump -U "\$POSTGRES_USER" -Fc ("?\$?\w+"?)', backup) == ['"$POSTGRES_DB"', "transect"]
