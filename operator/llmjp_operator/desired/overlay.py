"""Lays spec.serving.podTemplate over the pods, as Kubernetes merges objects. Pure.

Lists that Kubernetes merges by a key are merged by it, rules of affinity join the operator's, other
lists are replaced; what the operator sets for security stays as it is. Merge keys: `patchMergeKey`
in k8s.io/api/core/v1/types.go.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

from llmjp_operator.api import encode
from llmjp_operator.desired.pods import container_security
from llmjp_operator.desired.spelling import spelled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmjp_operator.api.pod_template import PodTemplate

Object = dict[str, Any]

MERGE_KEYS: Final[Mapping[str, str]] = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
"""Fields whose lists are merged, by the field that tells their items apart."""
_APPENDED: Final = frozenset(
    {
        "requiredDuringSchedulingIgnoredDuringExecution",
        "preferredDuringSchedulingIgnoredDuringExecution",
    }
)
"""Of pod affinity: all must hold, so both sides' do."""
_OURS: Final = frozenset({"serving.llmjp.dev", "app.kubernetes.io"})
"""Prefixes of labels and annotations that are the operator's."""


def overlaid(template: Object, overlay: PodTemplate) -> Object:
    """The pod template with the overlay."""
    over: Object = encode(overlay)
    if not over:
        return template
    merged = _merged(template, over)
    for container in (*merged["spec"].get("initContainers", ()), *merged["spec"]["containers"]):
        container.setdefault("securityContext", container_security())
    for kind in ("labels", "annotations"):
        ours = template["metadata"].get(kind, {})
        given = merged["metadata"].get(kind, {})
        given.update({k: v for k, v in ours.items() if k.partition("/")[0] in _OURS})
    return {**merged, "spec": spelled(merged["spec"])}


def _merged(base: Object, over: Object) -> Object:
    result = copy.deepcopy(base)
    for name, value in over.items():
        before = result.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            result[name] = _merged(before, value)
        elif isinstance(before, list) and isinstance(value, list):
            result[name] = _merged_lists(name, before, value)
        else:
            result[name] = copy.deepcopy(value)
    return result


def _merged_lists(name: str, base: list[Any], over: list[Any]) -> list[Any]:
    if name in _APPENDED:
        return [*base, *copy.deepcopy(over)]
    key = MERGE_KEYS.get(name)
    if key is None:
        return copy.deepcopy(over)
    places = {item.get(key): i for i, item in enumerate(base)}
    result = list(base)
    for item in over:
        if item.get(key) in places:
            place = places[item.get(key)]
            result[place] = _merged(result[place], item)
        else:
            result.append(copy.deepcopy(item))
    return result
