"""Every name that the operator gives or goes by. Pure."""

from __future__ import annotations

from typing import Final

GROUP: Final = "serving.llmjp.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "LlmJpModel"
PLURAL: Final = "llmjpmodels"
SINGULAR: Final = "llmjpmodel"
SHORT_NAME: Final = "ljm"
CRD: Final = f"{PLURAL}.{GROUP}"

MODEL_LABEL: Final = f"{GROUP}/model"
"""On everything that exists for one model; the value is the model's name."""

SERVING_CONTAINER: Final = "triton"
"""The container that serves, in the pods of a model's Deployment."""

GPU: Final = "nvidia.com/gpu"
"""The extended resource of NVIDIA's device plugin."""

HEADLESS_SUFFIX: Final = "-headless"
"""Of the Service whose name resolves to every pod."""
STORE_SUFFIX: Final = "-store"
"""Of the PersistentVolumeClaim that is made for one model."""
_POD_SUFFIX: Final = "-0123456789-01234"
"""As long as what Deployment and ReplicaSet append: a hash of 10 characters, then 5 of chance."""

MAX_LABEL: Final = 63
"""Characters of a label's value, of a Service's name and of a host name."""
MAX_MODEL_NAME: Final = MAX_LABEL - max(map(len, (HEADLESS_SUFFIX, STORE_SUFFIX, _POD_SUFFIX)))
"""Of a model's name: with any suffix it is still a label's value and a host name."""
