import pytest

from transect.serving.http.disclosure import redact_locations


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("MLflow at http://mlflow:5000 does not answer.", "MLflow at (in the log) does not answer."),
        ("sqlite:////srv/a b/mlflow.db: locked", "(in the log) b/mlflow.db: locked"),
        ("Nothing at postgresql://u@db/x; start it.", "Nothing at (in the log); start it."),
        ("/var/lib/transect/cache/1/model.onnx is damaged.", "(in the log) is damaged."),
        ("Cannot read '/home/anna/übung/package.json'.", "Cannot read '(in the log)'."),
        ("Ask GET /v1/model, see /docs.", "Ask GET /v1/model, see /docs."),
        ("models:/detector@production has no version; runs:/run-7/model.", None),
        ("Promote one: make promote.", None),
    ],
)
def test_paths_and_addresses_are_redacted_and_nothing_else(text: str, redacted: str | None) -> None:
    assert redact_locations(text) == (text if redacted is None else redacted)
