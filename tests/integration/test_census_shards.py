"""A survey searched in shards, from a folder and from a real S3 server, gives what one machine gives, byte for byte."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from integration.servers import S3Server
from kept_parts import digests, kept_photos
from painted_surveys import CONFIG, paint_survey
from transect import __version__
from transect.census import CensusResult, Shard, count_parts, open_survey, run_census, search_shard
from transect.engine import Detector
from transect.errors import InputError, StoreError, SurveyError
from transect.settings import Settings, load_settings
from transect.stores import FolderStore, open_store

PHOTOS = 20


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a blank and an umlaut; the files' names too have what addresses escape."""
    folder = paint_survey(tmp_path_factory.mktemp("surveys") / "Flug ü").folder
    first = min((folder / "images").rglob("*.png"))
    (folder / "images" / "broken 50% #1.png").write_bytes(first.read_bytes()[:300])
    return folder


@pytest.fixture(scope="module")
def detector(dot_package: Path) -> Iterator[Detector]:
    with Detector.open(dot_package, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def settings(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load_settings(environment(s3_server, tmp_path_factory.mktemp("home")), None)


def environment(server: S3Server, home: Path) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_ENDPOINT_URL": server.endpoint,
        "TRANSECT_HOME": str(home),
    }


@pytest.fixture(scope="module")
def address(s3_server: S3Server, survey: Path) -> str:
    """The survey in a bucket."""
    store = S3Store(
        s3_server.bucket,
        config={
            "access_key_id": s3_server.access_key,
            "secret_access_key": s3_server.secret_key,
            "endpoint": s3_server.endpoint,
            "region": "us-east-1",
        },
        client_options={"allow_http": True},
    )
    for path in survey.rglob("*"):
        if path.is_file():
            obstore.put(store, f"surveys/{survey.name}/{path.relative_to(survey).as_posix()}", path)
    return f"s3://{s3_server.bucket}/surveys/{survey.name}"


@pytest.fixture(scope="module")
def whole(
    survey: Path, detector: Detector, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> CensusResult:
    """The census of one machine."""
    return run_census(
        open_survey(survey, settings),
        out=tmp_path_factory.mktemp("whole"),
        detector=detector,
        config=CONFIG,
        settings=settings,
    )


Search = Callable[[str, str], object]
Count = Callable[[str], CensusResult]


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, survey: Path, address: str) -> str:
    return str(survey) if request.param == "folder" else address


@pytest.fixture
def search(place: str, detector: Detector, settings: Settings) -> Search:
    def one(shard: str, parts: str) -> object:
        return search_shard(
            open_survey(place, settings),
            Shard.parse(shard),
            parts=open_store(parts, settings),
            detector=detector,
            config=CONFIG,
            settings=settings,
        )

    return one


@pytest.fixture
def count(place: str, detector: Detector, settings: Settings, tmp_path: Path) -> Count:
    def one(parts: str) -> CensusResult:
        return count_parts(
            open_survey(place, settings),
            out=tmp_path / "out",
            detector=detector,
            config=CONFIG,
            settings=settings,
            parts=open_store(parts, settings),
        )

    return one


@pytest.mark.parametrize("shards", [1, 3, 7])
def test_shards_in_any_order_give_the_bytes_of_one_machine(
    whole: CensusResult, search: Search, count: Count, shards: int, tmp_path: Path, s3_server: S3Server, place: str
) -> None:
    parts = str(tmp_path / "parts") if shards == 3 else f"s3://{s3_server.bucket}/parts-{shards}-{place[:2].strip('/')}"
    for number in sorted(range(1, shards + 1), key=lambda one: one * 5 % 7):
        search(f"{number}/{shards}", parts)
    # A shard that runs twice finds all of it there.
    search(f"1/{shards}", parts)
    result = count(parts)
    assert result.folder.name == whole.folder.name
    assert digests(result.folder) == digests(whole.folder)
    assert [issue.file for issue in result.issues] == ["broken 50% #1.png"]


def test_a_whole_run_from_a_bucket_gives_the_same_and_reads_nothing_twice(
    whole: CensusResult, address: str, detector: Detector, settings: Settings, tmp_path: Path
) -> None:
    def run() -> CensusResult:
        return run_census(
            open_survey(address, settings),
            out=tmp_path / "out",
            detector=detector,
            config=CONFIG,
            settings=settings,
        )

    first = run()
    assert digests(first.folder) == digests(whole.folder)
    kept = kept_photos(tmp_path / "out" / "work")
    assert len(kept) == PHOTOS
    assert digests(run().folder) == digests(whole.folder)
    assert kept_photos(tmp_path / "out" / "work") == kept


def test_photos_that_nobody_searched_are_named(search: Search, count: Count, tmp_path: Path) -> None:
    search("2/3", str(tmp_path / "parts"))
    with pytest.raises(
        SurveyError, match=r"^\d+ photos of 21 of survey \S+ not searched yet, the first T1/T1_0\d\d.png"
    ):
        count(str(tmp_path / "parts"))
    assert not list((tmp_path / "out").glob("*/manifest.json"))


def test_another_cut_or_search_is_refused_before_it_begins(
    survey: Path, detector: Detector, settings: Settings, tmp_path: Path
) -> None:
    parts = FolderStore(tmp_path / "parts")

    def search(shard: str, **config: object) -> None:
        search_shard(
            open_survey(survey, settings),
            Shard.parse(shard),
            parts=parts,
            detector=detector,
            config=CONFIG.model_copy(update=config),
            settings=settings,
        )

    search("1/3")
    with pytest.raises(
        InputError, match=r"is searched in 3 shards, and this is one of 4: .*give --shard I/3, or another"
    ):
        search("1/4")
    with pytest.raises(InputError, match=r'another result than this machine would find: search options .*"conf": 0.4'):
        search("2/3", conf=0.4)
    agreed = json.loads((tmp_path / "parts" / "search.json").read_text())
    assert agreed["search"]["transect"] == __version__
    agreed["search"] |= {"instructions": "AVX2", "package": "0" * 64}
    (tmp_path / "parts" / "search.json").write_text(json.dumps(agreed))
    with pytest.raises(InputError, match=r"instruction set AVX2, not .*ONEDNN_MAX_CPU_ISA"):
        search("2/3")
    for wrong, said in (("3", "as in 3/7"), ("0/3", "numbered from 1 to 3; add 1"), ("4/3", "from 1 to 3")):
        with pytest.raises(InputError, match=said):
            Shard.parse(wrong)


def test_what_cannot_be_used_is_said_at_once(s3_server: S3Server, survey: Path, address: str, tmp_path: Path) -> None:
    keys = environment(s3_server, tmp_path)
    with pytest.raises(SurveyError, match=r"survey\.yaml cannot be read: the store refuses it \(\w+\); check the keys"):
        open_survey(address, load_settings(keys | {"AWS_SECRET_ACCESS_KEY": "wrong"}, None))
    settings = load_settings(keys, None)
    with pytest.raises(SurveyError, match=r"nowhere/survey\.yaml is missing"):
        open_survey(f"s3://{s3_server.bucket}/nowhere", settings)
    with pytest.raises(StoreError, match="there is no such bucket"):
        open_survey(survey, settings, images="s3://no-such-bucket/images")
    with pytest.raises(InputError, match="must not hold credentials"):
        open_survey("s3://key:secret@bucket/survey", settings)
    with pytest.raises(InputError, match="an address of an unknown kind"):
        open_survey("ftp://host/survey", settings)


def test_a_killed_shard_goes_on_on_another_machine(
    survey: Path, address: str, dot_package: Path, detector: Detector, settings: Settings, whole: CensusResult,
    s3_server: S3Server, tmp_path: Path,
) -> None:  # fmt: skip
    config = tmp_path / "census.yaml"
    config.write_text("\n".join(f"{name}: {json.dumps(value)}" for name, value in CONFIG.model_dump().items()))
    parts = tmp_path / "parts"
    command = [
        *(sys.executable, "-m", "transect", "census", "search", address, "--shard", "1/1", "--parts", str(parts)),
        *("--model", str(dot_package), "--config", str(config)),
    ]
    process = subprocess.Popen(
        command, env=os.environ | environment(s3_server, tmp_path / "home"), stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and len(kept_photos(parts)) < 3:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    _, log = process.communicate()
    assert "Traceback" not in log
    assert len(kept_photos(parts)) >= 3, log
    search_shard(
        open_survey(survey, settings),
        Shard(1, 1),
        parts=FolderStore(parts),
        detector=detector,
        config=CONFIG,
        settings=settings,
    )
    result = count_parts(
        open_survey(address, settings),
        out=tmp_path / "out",
        detector=detector,
        config=CONFIG,
        settings=settings,
        parts=FolderStore(parts),
    )
    assert digests(result.folder) == digests(whole.folder)
