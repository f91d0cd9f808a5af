"""A description of a WebSocket API, of whichever kind, and what is written of it."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from freshet.cli import cloudformation, serverless
from freshet.cli.described import Described
from freshet.errors import ConfigError


def read(path: Path) -> Described:
    """Raises ConfigError for what is no description of a WebSocket API."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    tree = _json(text, str(path)) if text.lstrip().startswith("{") else _yaml(text, str(path))
    if not isinstance(tree, dict):
        raise ConfigError(str(path), "expected a template of SAM or CloudFormation, or serverless.yml")
    described = Described(str(path.parent))
    if "Resources" in tree:
        cloudformation.describe(tree, described)
    elif "functions" in tree or "provider" in tree:
        serverless.describe(tree, described)
    if not described.routes:
        raise ConfigError(str(path), "there is no WebSocket API in it")
    return described


def _json(text: str, path: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(path, f"not JSON: {error}") from None


def _yaml(text: str, path: str) -> Any:
    """With the functions of CloudFormation as they are in JSON: `!Ref x` is `{"Ref": "x"}`."""
    if find_spec("yaml") is None:
        raise ConfigError(path, "this needs a package: pip install pyyaml")
    import yaml

    class Loader(yaml.SafeLoader):
        """Knows the tags of CloudFormation."""

    def function(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> Any:
        value: Any
        if isinstance(node, yaml.ScalarNode):
            value = loader.construct_scalar(node)
        elif isinstance(node, yaml.SequenceNode):
            value = loader.construct_sequence(node, deep=True)
        elif isinstance(node, yaml.MappingNode):
            value = loader.construct_mapping(node, deep=True)
        else:
            value = None
        return {tag if tag in ("Ref", "Condition") else f"Fn::{tag}": value}

    Loader.add_multi_constructor("!", function)
    try:
        return yaml.load(text, Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(path, f"not YAML: {error}") from None
