"""The settings of the program."""

import re
import unicodedata
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

# Limited by MLflow's column (256 characters) and the name of the model cache's folder (255 bytes).
_LONGEST_NAME = 200
_SHORTEST_TOKEN = 16
_PEER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):\d{1,5}", re.ASCII)


def listed(value: str) -> tuple[str, ...]:
    """Split a comma-separated text; ignores surrounding blanks and empty items."""
    return tuple(item.strip() for item in value.split(",") if item.strip())


SourceDiff = Literal["own", "always", "never"]


class Settings(BaseModel):
    """The settings of the program. The alias of a field is its environment variable."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    home: Path = Field(
        Path("runs"),
        alias="TRANSECT_HOME",
        description="Folder for everything a run leaves behind: training output, the embedded store, the model cache.",
    )
    tracking_uri: str = Field(
        "",
        alias="MLFLOW_TRACKING_URI",
        description="Where MLflow is. Empty: an SQLite store at TRANSECT_HOME/mlflow.db.",
    )
    tracking_username: str = Field(
        "", alias="MLFLOW_TRACKING_USERNAME", description="User for an MLflow server that asks for one."
    )
    tracking_password: str = Field(
        "", alias="MLFLOW_TRACKING_PASSWORD", description="Password of MLFLOW_TRACKING_USERNAME.", repr=False
    )
    tracking_wait: float = Field(
        120.0,
        alias="TRANSECT_TRACKING_WAIT",
        ge=0,
        description="Longest that the end of a training waits for an MLflow that takes nothing, in seconds; what is "
        "left then, `transect runs sync` delivers.",
    )
    census_log: Literal["full", "summary", "none"] = Field(
        "full",
        alias="TRANSECT_CENSUS_LOG",
        description="What MLflow gets of a census: full, a summary without positions of animals, or none. In the "
        "stack, where others read it too, a summary by default.",
    )
    sweep_store: str = Field(
        "",
        alias="TRANSECT_SWEEP_STORE",
        description="Where the trials of sweeps are kept: postgresql://USER:PASSWORD@HOST/DATABASE, in a schema of "
        "their own. Empty: a file for each sweep under TRANSECT_HOME.",
        repr=False,
    )
    sweep_stale_seconds: float = Field(
        60.0,
        alias="TRANSECT_SWEEP_STALE_SECONDS",
        gt=0,
        description="Longest that the worker of a trial on another machine may be silent, in seconds, before a worker "
        "of the same sweep takes its trial over; it sends six heartbeats in that time. The coordinator's value holds.",
    )
    review_database: str = Field(
        "",
        alias="TRANSECT_REVIEW_DATABASE",
        description="Where the decisions of reviews are kept: postgresql://USER:PASSWORD@HOST/DATABASE, with tables "
        "that `transect review migrate` makes. Empty: an SQLite file in the folder of each review.",
        repr=False,
    )
    model_name: str = Field(
        "detector", alias="TRANSECT_MODEL_NAME", description="Registered model that is trained, promoted and served."
    )
    model_alias: str = Field(
        "production", alias="TRANSECT_MODEL_ALIAS", description="Alias that the service follows and a census uses."
    )
    pretrained: str = Field(
        "auto",
        alias="TRANSECT_PRETRAINED",
        description="What training starts from: auto (Ultralytics', else ours, else none), starter, none, or a path.",
    )
    device: str = Field(
        "auto",
        alias="TRANSECT_DEVICE",
        pattern=r"^(auto|cpu|cuda|all|(cuda:)?\d+(,\d+)*)$",
        description="Where training runs: auto (one GPU, else the CPU), cpu, cuda, cuda:N, several GPUs of this "
        "machine as cuda:0,1, or all of them.",
    )
    backend: Literal["auto", "openvino", "onnxruntime", "cuda", "tensorrt"] = Field(
        "auto",
        alias="TRANSECT_BACKEND",
        description="Inference engine: auto (cuda where it works, else openvino), openvino, onnxruntime, cuda, "
        "tensorrt.",
    )
    precision: Literal["auto", "fp32", "bf16", "int8", "fp16", "tf32"] = Field(
        "auto",
        alias="TRANSECT_PRECISION",
        description="Numbers that inference uses: auto (the fastest that passed its test in training), fp32, "
        "bf16 or int8 (CPU), fp16 or tf32 (NVIDIA).",
    )
    max_batch: int = Field(
        16, alias="TRANSECT_MAX_BATCH", gt=0, description="Most tiles in one inference on a GPU; a CPU takes one each."
    )
    batch_wait_ms: float = Field(
        2.0,
        alias="TRANSECT_BATCH_WAIT_MS",
        ge=0,
        description="Longest that a GPU waits for more tiles before it starts a batch, in milliseconds.",
    )
    threads: int = Field(0, alias="TRANSECT_THREADS", ge=0, description="CPU threads for inference; 0 takes all cores.")
    conf: float | None = Field(
        None,
        alias="TRANSECT_CONF",
        ge=0,
        le=1,
        description="Least score of a detection. Empty: what the model package recommends.",
    )
    iou: float | None = Field(
        None,
        alias="TRANSECT_IOU",
        ge=0,
        le=1,
        description="IoU above which the lower-scored of two boxes is dropped. Empty: what the package recommends.",
    )
    tile: Literal["auto", "off"] | int = Field(
        "auto",
        alias="TRANSECT_TILE",
        description="Tile side in pixels; auto tiles large images at the model's own size, off never tiles.",
    )
    tile_overlap: int | None = Field(
        None,
        alias="TRANSECT_TILE_OVERLAP",
        ge=0,
        description="Overlap of tiles in pixels, at least the largest animal. Empty: a fifth of the tile.",
    )
    source_diff: SourceDiff = Field(
        "own",
        alias="TRANSECT_SOURCE_DIFF",
        description="Whether a training logs what was changed since the commit: own (in Transect's own repository), "
        "always (in whichever it is started in), never. Files and hunks that look like secrets are left out.",
    )
    dem_path: Path | None = Field(
        None,
        alias="TRANSECT_DEM_PATH",
        description="Folder in which a survey's elevation model may lie too; any other place outside of the survey "
        "folder is refused.",
    )
    host: str = Field("127.0.0.1", alias="TRANSECT_HOST", description="Address that the detection service listens on.")
    port: int = Field(
        8000, alias="TRANSECT_PORT", ge=0, le=65535, description="Port that the detection service listens on."
    )
    tokens: str = Field(
        "",
        alias="TRANSECT_TOKENS",
        description="Tokens, with commas between, of which /metrics and /v1/model/refresh of the service need one as "
        "Authorization: Bearer. Needed where TRANSECT_HOST is reached from other machines. Empty: they need none.",
        repr=False,
    )
    allowed_hosts: str = Field(
        "",
        alias="TRANSECT_ALLOWED_HOSTS",
        description="Names, with commas between, by which the service is reached, beside localhost and IP addresses; a "
        "request with another Host is refused.",
    )
    poll_seconds: float = Field(
        5.0, alias="TRANSECT_POLL_SECONDS", gt=0, description="How often the service asks where the alias points."
    )
    max_upload_mb: int = Field(
        64, alias="TRANSECT_MAX_UPLOAD_MB", gt=0, description="Largest request body in MiB; over it: 413."
    )
    max_pixels: int = Field(
        250_000_000,
        alias="TRANSECT_MAX_PIXELS",
        gt=0,
        description="Largest image in pixels, against decompression bombs; over it the image is refused.",
    )
    max_images: int = Field(
        16, alias="TRANSECT_MAX_IMAGES", gt=0, description="Most images in one request; over it: 413."
    )
    max_queue: int = Field(
        16, alias="TRANSECT_MAX_QUEUE", gt=0, description="Requests that may wait; over it: 503 with Retry-After."
    )
    max_tiles: int = Field(
        5000, alias="TRANSECT_MAX_TILES", gt=0, description="Most tiles of one image in the service; over it: 422."
    )
    decode_mb: int = Field(
        0,
        alias="TRANSECT_DECODE_MB",
        ge=0,
        description="MiB that the service holds at one time for decoding, of all images; more images wait, one that "
        "needs more is refused. 0: a quarter of the memory that the process may use, 4096 at most.",
    )
    max_connections: int = Field(
        512, alias="TRANSECT_MAX_CONNECTIONS", gt=0, description="Most connections to the service; over it: 503."
    )
    max_client_connections: int = Field(
        256,
        alias="TRANSECT_MAX_CLIENT_CONNECTIONS",
        gt=0,
        description="Most connections to the service from one address; over it: 429.",
    )
    deadline_seconds: float = Field(
        60.0,
        alias="TRANSECT_DEADLINE_SECONDS",
        gt=0,
        description="Longest that a request may take in the service; after it: 504. A request may ask for less.",
    )
    webhook_secret: str = Field(
        "",
        alias="TRANSECT_WEBHOOK_SECRET",
        description="Signs MLflow's message to the service that an alias moved. Empty: polling alone.",
        repr=False,
    )
    detector_peers: str = Field(
        "",
        alias="TRANSECT_DETECTOR_PEERS",
        description="Where the replicas of the service are, as HOST:PORT with commas between; a name stands for all of "
        "its addresses. The one that gets MLflow's message passes it on to them. Empty: to nobody, they poll.",
    )
    cache_versions: int = Field(
        5, alias="TRANSECT_CACHE_VERSIONS", gt=1, description="Model versions that stay in the local cache."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", alias="TRANSECT_LOG_LEVEL", description="Least severity that is logged."
    )

    @field_validator("model_name")
    @classmethod
    def _model_name_is_one(cls, value: str) -> str:
        # MLflow rejects / and :; the others are ambiguous in references such as models:/NAME@ALIAS.
        if (
            len(value.encode()) > _LONGEST_NAME
            or value.startswith(".")
            or not all(c in "_-." or unicodedata.category(c)[0] in "LMN" for c in value)
        ):
            raise ValueError(
                "the name of a model has letters, digits and _-. alone (no / : @ or space), "
                f"does not begin with a full stop and has {_LONGEST_NAME} bytes at most"
            )
        return value

    @field_validator("model_alias")
    @classmethod
    def _model_alias_is_one(cls, value: str) -> str:
        # MLflow reserves `latest` and v1, v2, ...; a plain number is a version.
        if not re.fullmatch(r"(?!\d+$)(?!v\d+$)(?!latest$)[A-Za-z0-9_-]{1,200}", value, re.IGNORECASE):
            raise ValueError(
                "an alias has letters, digits and _- alone, and is no number, no version such as v3 and not latest"
            )
        return value

    aws_access_key_id: str = Field(
        "", alias="AWS_ACCESS_KEY_ID", description="Access key for photos and parts of a census in S3."
    )
    aws_secret_access_key: str = Field(
        "", alias="AWS_SECRET_ACCESS_KEY", repr=False, description="Secret key of AWS_ACCESS_KEY_ID."
    )
    aws_session_token: str = Field(
        "", alias="AWS_SESSION_TOKEN", repr=False, description="Token of temporary keys for S3."
    )
    aws_region: str = Field("", alias="AWS_REGION", description="Region of the buckets of photos and parts.")
    aws_endpoint_url: str = Field(
        "",
        alias="AWS_ENDPOINT_URL",
        description="Address of an S3 server other than Amazon's, such as http://minio:9000.",
    )
    aws_skip_signature: bool = Field(
        False, alias="AWS_SKIP_SIGNATURE", description="Whether S3 is asked without keys, for public buckets."
    )
    google_service_account: str = Field(
        "", alias="GOOGLE_SERVICE_ACCOUNT", description="File of the account that reads photos in Google Cloud Storage."
    )
    azure_storage_account_name: str = Field(
        "", alias="AZURE_STORAGE_ACCOUNT_NAME", description="Account of the Azure containers of photos and parts."
    )
    azure_storage_account_key: str = Field(
        "", alias="AZURE_STORAGE_ACCOUNT_KEY", repr=False, description="Key of AZURE_STORAGE_ACCOUNT_NAME."
    )
    azure_storage_sas_token: str = Field(
        "", alias="AZURE_STORAGE_SAS_TOKEN", repr=False, description="Shared access signature, in place of the key."
    )

    @field_validator("tokens")
    @classmethod
    def _tokens_are_long(cls, value: str) -> str:
        if any(len(token) < _SHORTEST_TOKEN or not token.isascii() or " " in token for token in listed(value)):
            raise ValueError(f"each token has {_SHORTEST_TOKEN} ASCII characters or more, without blanks")
        return value

    @field_validator("detector_peers")
    @classmethod
    def _peers_are_addresses(cls, value: str) -> str:
        for item in listed(value):
            if not _PEER.fullmatch(item) or not 0 < int(item.rpartition(":")[2]) < 1 << 16:
                raise ValueError(
                    f"{item[:80]!r} is no HOST:PORT, such as detector:8000, 10.0.0.7:8000 or [fd00::7]:8000"
                )
        return value

    @field_validator("tile")
    @classmethod
    def _tile_is_sensible(cls, value: str | int) -> str | int:
        if isinstance(value, int) and value < 64:
            raise ValueError("must be auto, off or at least 64")
        return value

    @property
    def token_list(self) -> tuple[str, ...]:
        """The tokens of TRANSECT_TOKENS."""
        return listed(self.tokens)

    @property
    def allowed_host_names(self) -> tuple[str, ...]:
        """The names of TRANSECT_ALLOWED_HOSTS."""
        return listed(self.allowed_hosts)

    @property
    def s3_options(self) -> dict[str, str]:
        """What an S3 client needs, by obstore's names; empty where the environment's own roles decide."""
        return {
            "access_key_id": self.aws_access_key_id,
            "secret_access_key": self.aws_secret_access_key,
            "session_token": self.aws_session_token,
            # Servers other than Amazon's mostly ignore it, and a request is signed for one.
            "region": self.aws_region or ("us-east-1" if self.aws_endpoint_url else ""),
            "endpoint": self.aws_endpoint_url,
            "skip_signature": "true" if self.aws_skip_signature else "",
        }

    @property
    def gcs_options(self) -> dict[str, str]:
        """What a client of Google Cloud Storage needs, by obstore's names."""
        return {"service_account": self.google_service_account}

    @property
    def azure_options(self) -> dict[str, str]:
        """What a client of Azure's storage needs, by obstore's names."""
        return {
            "account_name": self.azure_storage_account_name,
            "account_key": self.azure_storage_account_key,
            "sas_key": self.azure_storage_sas_token,
        }

    @property
    def peer_addresses(self) -> tuple[tuple[str, int], ...]:
        """The host and the port of each item of TRANSECT_DETECTOR_PEERS."""
        pairs = (item.rpartition(":") for item in listed(self.detector_peers))
        return tuple((host.strip("[]"), int(port)) for host, _, port in pairs)

    @property
    def store_uri(self) -> str:
        """The MLflow tracking URI in use."""
        return self.tracking_uri or f"sqlite:///{(self.home / 'mlflow.db').absolute()}"

    @property
    def cache_dir(self) -> Path:
        """Verified local copies of model packages."""
        return self.home / "cache"

    @property
    def artifacts_dir(self) -> Path:
        """Artifacts of the embedded store."""
        return self.home / "artifacts"
