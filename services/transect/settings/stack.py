"""Variables that only Compose and the images read: databases, passwords, ports on the host."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StackVariable:
    """A variable that only Compose and the images read."""

    name: str
    default: str
    help: str
    secret: bool = False


STACK_VARIABLES: tuple[StackVariable, ...] = (
    StackVariable("POSTGRES_USER", "mlflow", "Owner of MLflow's database; the server itself has another role."),
    StackVariable("POSTGRES_DB", "mlflow", "MLflow's database."),
    StackVariable("POSTGRES_PASSWORD", "", "Password of POSTGRES_USER.", secret=True),
    StackVariable(
        "TRANSECT_DATABASE_PASSWORD", "", "Password of mlflow_server, MLflow's role in the database.", secret=True
    ),
    StackVariable(
        "TRANSECT_REVIEW_PASSWORD",
        "",
        "Password of transect_review, which reads and adds people's decisions in the database transect.",
        secret=True,
    ),
    StackVariable("MINIO_ROOT_USER", "", "Access key of the object store's owner.", secret=True),
    StackVariable("MINIO_ROOT_PASSWORD", "", "Secret key of MINIO_ROOT_USER.", secret=True),
    StackVariable("TRANSECT_S3_ACCESS_KEY", "", "Access key of MLflow, for the one bucket.", secret=True),
    StackVariable("TRANSECT_S3_SECRET_KEY", "", "Secret key of TRANSECT_S3_ACCESS_KEY.", secret=True),
    StackVariable("MINIO_IMAGE", "transect-minio:local", "Object store image; name a maintained successor to swap it."),
    StackVariable("MLFLOW_AUTH_ADMIN_USERNAME", "admin", "Administrator of the MLflow server."),
    StackVariable("MLFLOW_AUTH_ADMIN_PASSWORD", "", "Password of the administrator.", secret=True),
    StackVariable("MLFLOW_FLASK_SERVER_SECRET_KEY", "", "Signs the MLflow server's sessions.", secret=True),
    StackVariable("TRANSECT_TRAINER_PASSWORD", "", "MLflow password of the user trainer.", secret=True),
    StackVariable("TRANSECT_DETECTOR_PASSWORD", "", "MLflow password of the user detector (reads only).", secret=True),
    StackVariable("TRANSECT_CENSUS_PASSWORD", "", "MLflow password of the user census.", secret=True),
    StackVariable(
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY", "", "Encrypts webhook secrets in MLflow's database.", secret=True
    ),
    StackVariable("GRAFANA_ADMIN_PASSWORD", "", "Password of Grafana's administrator.", secret=True),
    StackVariable("TRANSECT_BUCKET", "mlflow", "S3 bucket that holds the artifacts."),
    StackVariable("TRANSECT_MLFLOW_PORT", "5000", "Port of the MLflow server on this machine (127.0.0.1 only)."),
    StackVariable(
        "TRANSECT_DETECTOR_PORT", "8000", "Port of the detector on this machine (127.0.0.1 only); 8000-8003 for more."
    ),
    StackVariable(
        "TRANSECT_STORE_MEMORY",
        "2g",
        "Most memory of each of PostgreSQL, the object store, MLflow, Prometheus and Grafana.",
    ),
    StackVariable("TRANSECT_DETECTOR_MEMORY", "4g", "Most memory of each detector; a quarter of it is for decoding."),
    StackVariable("TRANSECT_TRAINER_MEMORY", "64g", "Most memory of a training's container, its /dev/shm included."),
    StackVariable("TRANSECT_CENSUS_MEMORY", "32g", "Most memory of a census' container."),
    StackVariable("TRANSECT_PROMETHEUS_PORT", "9090", "Port of Prometheus on this machine, with `make observe`."),
    StackVariable("TRANSECT_GRAFANA_PORT", "3000", "Port of Grafana on this machine, with `make observe`."),
    StackVariable("ACCELERATOR", "cpu", "What detector and census run on: cpu or cuda (with compose.gpu.yaml)."),
    StackVariable(
        "TRANSECT_GPUS",
        "",
        "GPUs that the containers see with GPU=1: indices or UUIDs as nvidia-smi -L lists them, with commas between. "
        "Detector and census use CUDA's first of them. Empty: all.",
    ),
    StackVariable(
        "CUDA_VISIBLE_DEVICES",
        "",
        "CUDA's own choice among the GPUs, with GPU=1 and instead of TRANSECT_GPUS. Empty: all.",
    ),
)

# Variables that `make up` fills with random text: the stack's own secrets, and those that the service reads itself.
STACK_SECRETS = (
    *(variable.name for variable in STACK_VARIABLES if variable.secret),
    "TRANSECT_WEBHOOK_SECRET",
    "TRANSECT_TOKENS",
)
