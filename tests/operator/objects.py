"""LlmJpModels to test with."""

from __future__ import annotations

import copy
from typing import Any

from llmjp_operator.names import API_VERSION, KIND

Object = dict[str, Any]

SPEC: Object = {
    "source": {"huggingFace": {"repository": "example/llama"}},
    "hardware": {"gpuProduct": "NVIDIA-H100-80GB-HBM3"},
    "storage": {"size": "100Gi"},
}
"""The least that a model needs."""


def model(changes: Object | None = None, name: str = "a") -> Object:
    """The smallest model with changes to its spec; None removes a field."""
    spec = merged(SPEC, changes or {})
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}


def merged(base: Object, changes: Object) -> Object:
    """As a JSON merge patch has it."""
    result = copy.deepcopy(base)
    for name, value in changes.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = merged(result[name], value)
        else:
            result[name] = copy.deepcopy(value)
    return result
