"""LlmJpModels as JSON, as users write them."""

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
"""The smallest spec."""


def make_model_body(changes: Object | None = None, name: str = "a") -> Object:
    """Return the smallest model with changes to its spec; None removes a field."""
    spec = merge_patch(SPEC, changes or {})
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}


def merge_patch(base: Object, changes: Object) -> Object:
    """Return a copy with changes, merged as a JSON merge patch."""
    result = copy.deepcopy(base)
    for name, value in changes.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = merge_patch(result[name], value)
        else:
            result[name] = copy.deepcopy(value)
    return result
