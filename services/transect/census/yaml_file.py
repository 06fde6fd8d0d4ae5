"""YAML files that people write: what cannot be read, or says one thing twice, is named with its line."""

from pathlib import Path
from typing import Any

import yaml

from transect.errors import InputError


class _Loader(yaml.SafeLoader):
    """YAML takes the last of two equal keys, and the first is silently lost; here they are refused."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in lines:
                problem = f"{key.value!r} stands in line {lines[key.value]} already"
                raise yaml.composer.ComposerError(None, None, problem, key.start_mark)
            lines[key.value] = key.start_mark.line + 1
        return node


def read_yaml_mapping(path: Path, failure: type[InputError]) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; an empty one is an empty mapping. Raises `failure`."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise failure(f"{path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise failure(f"{path} is not UTF-8 text.") from error
    except RecursionError as error:
        raise failure(f"{path} is nested too deeply to be read.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise failure(f"{path} is not valid YAML{place}: {problem}.") from error
    except ValueError as error:
        # A date such as 2026-02-30, or a number of thousands of digits.
        raise failure(f"{path} holds a value that cannot be read: {error}.") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise failure(f"{path} must hold `key: value` lines, not a {type(content).__name__}.")
    return content
