"""Third-party clients against the real service: Triton's for Open Inference, MLflow's for scoring.

Triton's client has its own network library and runs in its own process.
"""

import base64
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from integration.detector_process import DetectorProcess, open_shop, running_detector
from serving_app import dots, png

with warnings.catch_warnings():
    # MLflow warns about its own type hints when this part of it is imported.
    warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType", category=UserWarning)
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

PAGE = Path(__file__).parents[2] / "docs" / "protocols.md"
LIMITS = {"TRANSECT_MAX_IMAGES": "4", "TRANSECT_MAX_UPLOAD_MB": "2", "TRANSECT_MAX_PIXELS": "100000"}
SHEEP, COW = [8.0, 16.0, 16.0, 24.0], [40.0, 48.0, 48.0, 56.0]


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory, dot_package: Path) -> Iterator[DetectorProcess]:
    folder = tmp_path_factory.mktemp("protocols")
    shop = open_shop(folder, {"TRANSECT_HOME": str(folder)})
    shop.point(shop.register(dot_package))
    environment = {"MLFLOW_TRACKING_URI": shop.registry.uri, "TRANSECT_PRECISION": "fp32", **LIMITS}
    with running_detector(folder / "home", environment) as detector:
        detector.wait_for_version("1")
        yield detector


TRITON = """
import json, sys
import numpy as np
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

address, png, pixels = sys.argv[1], open(sys.argv[2], "rb").read(), np.load(sys.argv[3])
client = InferenceServerClient(address)
results = {
    "live": client.is_server_live(),
    "ready": client.is_server_ready(),
    "model_ready": client.is_model_ready("detector"),
    "version_ready": client.is_model_ready("detector", "1"),
    "other_ready": [client.is_model_ready("detector", "2"), client.is_model_ready("other")],
    "server": client.get_server_metadata(),
    "model": client.get_model_metadata("detector"),
    "version": client.get_model_metadata("detector", "1"),
}

def plain(result):
    names = [item["name"] for item in result.get_response()["outputs"]]
    def values(name):
        array = result.as_numpy(name)
        if array.dtype == object:
            return [item.decode() if isinstance(item, bytes) else item for item in array.ravel()]
        return array.tolist()
    return {"header": result.get_response(), **{name: values(name) for name in names}}

def image_tensor(*images, binary=True):
    tensor = InferInput("image", [len(images)], "BYTES")
    tensor.set_data_from_numpy(np.array(images, dtype=np.object_), binary_data=binary)
    return tensor

def pixel_tensor(array, binary=True):
    tensor = InferInput("pixels", list(array.shape), "UINT8")
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor

import base64
text = base64.b64encode(png).decode()
results["binary"] = plain(client.infer("detector", [image_tensor(png)], request_id="a-1"))
results["json"] = plain(client.infer("detector", [image_tensor(text, binary=False)], model_version="1"))
results["several"] = plain(client.infer("detector", [image_tensor(png, b"no image", png)]))
results["pixels"] = plain(client.infer("detector", [pixel_tensor(pixels)]))
results["pixels_json"] = plain(client.infer("detector", [pixel_tensor(np.stack([pixels, pixels]), binary=False)]))
outputs = [InferRequestedOutput("boxes", binary_data=False), InferRequestedOutput("class_names")]
options = {"classes": "cow", "conf": 0.5, "tile": "off"}
more = {"parameters": options, "timeout": 30_000_000}
results["subset"] = plain(client.infer("detector", [image_tensor(png)], outputs=outputs, **more))
results["accepts_gzip"] = plain(client.infer("detector", [image_tensor(png)], response_compression_algorithm="gzip"))

def error(ask):
    try:
        ask()
    except InferenceServerException as problem:
        return [problem.status(), problem.message()]

results["errors"] = {
    "version": error(lambda: client.infer("detector", [image_tensor(png)], model_version="2")),
    "name": error(lambda: client.get_model_metadata("other")),
    "gzip": error(lambda: client.infer("detector", [image_tensor(png)], request_compression_algorithm="gzip")),
    "class": error(lambda: client.infer("detector", [image_tensor(png)], parameters={"classes": "dragon"})),
    "parameter": error(lambda: client.infer("detector", [image_tensor(png)], parameters={"confidence": 1})),
    "many": error(lambda: client.infer("detector", [image_tensor(*[png] * 5)])),
    "bytes": error(lambda: client.infer("detector", [image_tensor(bytes(3 << 20))])),
    "hidden": error(lambda: client.infer("detector", [image_tensor(b"no image")], outputs=outputs)),
    "late": error(lambda: client.infer("detector", [image_tensor(png)], timeout=1)),
    "repository": error(lambda: client.get_model_repository_index()),
}
json.dump(results, sys.stdout)
"""


@pytest.fixture(scope="module")
def triton(detector: DetectorProcess, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("triton")
    (folder / "image.png").write_bytes(png(dots()))
    np.save(folder / "pixels.npy", dots())
    done = subprocess.run(
        [sys.executable, "-c", TRITON, detector.client.base_url.netloc.decode(), "image.png", "pixels.npy"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(done.stdout)
    return results


def test_triton_sees_a_server_that_is_ready_and_the_served_version_alone(triton: dict[str, Any]) -> None:
    for name in ("live", "ready", "model_ready", "version_ready"):
        assert triton[name] is True
    assert triton["other_ready"] == [False, False]
    assert triton["server"]["extensions"] == ["binary_tensor_data"]
    assert triton["model"] == triton["version"]
    assert (triton["model"]["name"], triton["model"]["versions"]) == ("detector", ["1"])
    assert {item["name"]: item["datatype"] for item in triton["model"]["inputs"]} == {
        "image": "BYTES",
        "pixels": "UINT8",
    }


@pytest.mark.parametrize("form", ["binary", "json", "pixels", "accepts_gzip"])
def test_triton_finds_the_same_in_every_form(triton: dict[str, Any], form: str) -> None:
    found = triton[form]
    assert sorted(zip(found["class_names"], found["boxes"], strict=True)) == [("cow", COW), ("sheep", SHEEP)]
    assert sorted(found["class_ids"]) == [0, 2]
    assert found["scores"] == [1.0, 1.0]
    assert found["image_index"] == [0, 0]
    assert (found["width"], found["height"], found["tiles"]) == ([64], [64], [1])
    assert (found["truncated"], found["failure"]) == ([False], [""])
    assert (found["header"]["model_name"], found["header"]["model_version"]) == ("detector", "1")
    assert found["header"]["parameters"]["precision"] == "fp32"


def test_a_request_keeps_its_id(triton: dict[str, Any]) -> None:
    assert triton["binary"]["header"]["id"] == "a-1"
    assert "id" not in triton["json"]["header"]


def test_several_images_have_their_index_and_a_bad_one_its_failure(triton: dict[str, Any]) -> None:
    found = triton["several"]
    assert sorted(found["image_index"]) == [0, 0, 2, 2]
    assert found["width"] == [64, 0, 64]
    assert [bool(failure) for failure in found["failure"]] == [False, True, False]
    assert "image 1 is not an image" in found["failure"][1]
    assert sorted(triton["pixels_json"]["image_index"]) == [0, 0, 1, 1]


def test_outputs_and_options_can_be_chosen(triton: dict[str, Any]) -> None:
    assert triton["subset"]["boxes"] == [COW]
    assert triton["subset"]["class_names"] == ["cow"]
    assert [item["name"] for item in triton["subset"]["header"]["outputs"]] == ["boxes", "class_names"]


@pytest.mark.parametrize(
    ("what", "status", "words"),
    [
        ("version", "404", "detector version 2 is not served here; the service serves detector version 1"),
        ("name", "404", "other is not served here"),
        ("gzip", "415", "compressed (gzip)"),
        ("class", "422", "'dragon'; its classes are sheep, goat, cow"),
        ("parameter", "400", "parameters.confidence"),
        ("many", "413", "TRANSECT_MAX_IMAGES"),
        ("bytes", "413", "TRANSECT_MAX_UPLOAD_MB"),
        ("hidden", "400", "Request the output failure"),
        ("late", "504", "took longer"),
        ("repository", "404", "There is nothing at /v2/repository/index"),
    ],
)
def test_triton_understands_every_error(triton: dict[str, Any], what: str, status: str, words: str) -> None:
    assert triton["errors"][what][0] == status
    assert words in triton["errors"][what][1]


@pytest.fixture(scope="module")
def scoring(detector: DetectorProcess) -> ScoringServerClient:
    client = ScoringServerClient(detector.client.base_url.host, detector.client.base_url.port)
    client.wait_server_ready(timeout=30)
    return client


TEXT = base64.b64encode(png(dots())).decode()


@pytest.mark.parametrize(
    "data",
    [
        pd.DataFrame({"image": [TEXT, TEXT]}),
        pd.DataFrame({"note": ["a", "b"], "image": [TEXT, TEXT]}, index=[7, 9]),
        [TEXT, TEXT],
        np.stack([dots(), dots()]),
        json.dumps({"instances": [{"b64": TEXT}, TEXT]}),
        json.dumps({"dataframe_records": [{"image": TEXT}, {"image": TEXT}]}),
    ],
    ids=["frame", "columns", "list", "array", "instances", "records"],
)
def test_mlflows_client_finds_the_animals(scoring: ScoringServerClient, data: Any) -> None:
    answer = scoring.invoke(data)
    frame = answer.get_predictions()
    assert list(frame["image"]) == ["image 0", "image 1"]
    for found in frame["detections"]:
        assert sorted((item["class_name"], item["box"]) for item in found) == [("cow", COW), ("sheep", SHEEP)]
    assert answer["predictions"][0]["model"] | {"run_id": ""} == {
        "name": "detector",
        "version": "1",
        "run_id": "",
        "precision": "fp32",
    }
    assert list(frame["failure"]) == [None, None]


def test_mlflows_client_gives_options_and_version(scoring: ScoringServerClient) -> None:
    (found,) = scoring.invoke([TEXT], params={"classes": ["sheep"], "conf": 0.5})["predictions"]
    assert [item["class_name"] for item in found["detections"]] == ["sheep"]
    assert scoring.get_version() == "3.17.2"
    with pytest.raises(Exception, match=r"error code 400.*confidence"):
        scoring.invoke([TEXT], params={"confidence": 0.5})


def test_a_path_of_the_service_is_never_read(scoring: ScoringServerClient, tmp_path: Path) -> None:
    path = tmp_path / "here.png"
    path.write_bytes(png(dots()))
    first, second = scoring.invoke([str(path), TEXT])["predictions"]
    assert "this service reads no files" in first["failure"]
    assert len(second["detections"]) == 2


def test_csv_is_a_table_too(detector: DetectorProcess) -> None:
    body = pd.DataFrame({"image": [TEXT]}).to_csv(index=False)
    answer = detector.client.post("/invocations", content=body, headers={"Content-Type": "text/csv"})
    assert len(answer.json()["predictions"][0]["detections"]) == 2


def test_both_protocols_are_under_the_limits_of_the_service(detector: DetectorProcess) -> None:
    large = np.zeros((400, 400, 3), np.uint8)
    (found,) = detector.client.post("/invocations", json={"inputs": large.tolist()}).json()["predictions"]
    assert "TRANSECT_MAX_PIXELS" in found["failure"]
    tensor = {"name": "pixels", "shape": [400, 400, 3], "datatype": "UINT8", "data": large.ravel().tolist()}
    answer = detector.client.post("/v2/models/detector/infer", json={"inputs": [tensor]}).json()
    outputs = {item["name"]: item["data"] for item in answer["outputs"]}
    assert "TRANSECT_MAX_PIXELS" in outputs["failure"][0]
    for path in ("/invocations", "/v2/models/detector/infer"):
        assert detector.client.post(path, content=bytes(3 << 20)).status_code in (413, 415)
        slow = detector.client.post(path, json={"inputs": [TEXT]}, headers={"X-Request-Timeout": "never"})
        assert slow.status_code == 422
    assert 'transect_images_total{outcome="failed"}' in detector.client.get("/metrics").text


BLOCKS = re.findall(r"^```\w*\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
EXAMPLES = [block for block in BLOCKS if "frame.jpg" in block]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.splitlines()[-1][:40])
def test_the_examples_of_the_page_work(detector: DetectorProcess, example: str, tmp_path: Path) -> None:
    (tmp_path / "frame.jpg").write_bytes(png(dots()))
    code = example.replace("8000", str(detector.client.base_url.port))
    command = [sys.executable, "-c", code] if "import" in code else ["sh", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "sheep" in done.stdout, done.stdout


def test_without_a_model_both_name_the_remedy(tmp_path: Path) -> None:
    with running_detector(tmp_path, {}) as empty:
        empty.wait_for(lambda: empty.state()["following"]["last_error"])
        assert empty.client.get("/v2/health/live").status_code == 200
        for path in ("/v2/health/ready", "/v2/models/detector/ready", "/v2/models/detector"):
            answer = empty.client.get(path)
            assert (answer.status_code, list(answer.json())) == (503, ["error"])
            assert "make train" in answer.json()["error"]
        assert empty.client.post("/v2/models/detector/infer", json={}).status_code == 503
        for answer in (empty.client.get("/ping"), empty.client.post("/invocations", json={})):
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:transect:problem:no-model")
