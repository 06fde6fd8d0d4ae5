"""The service conforms to its OpenAPI schema: schemathesis tests the real process."""

import os
import subprocess
import sys
from pathlib import Path

from integration.detector_process import open_shop, running_detector

# A schema cannot express the model's classes, which version is served (421), or that a tensor's shape matches its data,
# so that valid requests may get these errors. 503 and 504 are documented responses, not crashes.
CONFIG = """
[parameters]
"path.name" = "detector"
"path.version" = "1"

[checks.not_a_server_error]
expected-statuses = ["2xx", "4xx", 503, 504]

[checks.positive_data_acceptance]
expected-statuses = ["2xx", 400, 401, 404, 415, 421, 422, 503, 504]
"""


def test_it_conforms_to_its_openapi_schema(tmp_path: Path, dot_package: Path) -> None:
    shop = open_shop(tmp_path, {"TRANSECT_HOME": str(tmp_path)})
    shop.point(shop.register(dot_package))
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    environment = {"MLFLOW_TRACKING_URI": shop.registry.uri, "TRANSECT_WEBHOOK_SECRET": "k2J-8fhw_Q1x9d7Z"}
    with running_detector(tmp_path / "home", {**environment, "TRANSECT_POLL_SECONDS": "600"}) as detector:
        detector.wait_for_version("1")
        command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(config), "run"]
        command += [f"{str(detector.client.base_url).rstrip('/')}/openapi.json", "--checks", "all", "--no-color"]
        command += ["--phases", "examples,coverage,fuzzing", "--max-examples", "8", "--seed", "1"]
        command += ["--continue-on-failure", "--suppress-health-check", "all"]
        hooks = Path(__file__).with_name("openapi_hooks.py")
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "SCHEMATHESIS_HOOKS": str(hooks)},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        assert detector.client.get("/readyz").status_code == 200
        assert not any("exception" in line for line in detector.lines())
