"""The custom resource `LlmJpModel` (serving.llmjp.dev/v1alpha1) as frozen values: the one source.

Annotations, defaults and docstrings of these dataclasses make the CustomResourceDefinition and the
reference page (`llmjp_operator.crd`), and `parse_model` reads objects by them.
"""

from __future__ import annotations

from llmjp_operator.api.codec import decode, encode, encode_given
from llmjp_operator.api.model import Model, parse_model
from llmjp_operator.api.spec import Spec
from llmjp_operator.api.status import Condition, Phase, Status

__all__ = [
    "Condition",
    "Model",
    "Phase",
    "Spec",
    "Status",
    "decode",
    "encode",
    "encode_given",
    "parse_model",
]
