from transect.api import count_parts as count_parts
from transect.api import estimate as estimate
from transect.api import load_registry as load_registry
from transect.api import open_detector as open_detector
from transect.api import open_model as open_model
from transect.api import run_census as run_census
from transect.api import search_shard as search_shard

__version__: str
__all__: list[str]
