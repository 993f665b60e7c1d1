"""Parts of pods as the API server gives them back, where people may spell them otherwise. Pure.

What is spelled differently is written once more after every start of the operator. Nothing else
comes of it, so these are the parts that people do write.
Defaults: k8s.io/kubernetes/pkg/apis/core/v1/defaults.go; `omitempty`: k8s.io/api/core/v1/types.go.
"""

from __future__ import annotations

from typing import Any, Final

from llmjp_operator.render.quantities import normalize_if_valid

Object = dict[str, Any]

_MAPS: Final = frozenset({"matchLabels", "labels", "annotations", "limits", "requests"})
"""Fields that are maps: empty values in them say something, an empty map does not."""
_VERBATIM: Final = frozenset({"httpHeaders"})
"""Fields in which empty values are kept."""
_ZEROS: Final = frozenset(
    {
        "failureThreshold",
        "hostPort",
        "initialDelaySeconds",
        "periodSeconds",
        "successThreshold",
        "timeoutSeconds",
    }
)
"""Fields where 0 is the same as nothing. Elsewhere it is not: `defaultMode`, `fsGroup`."""


def drop_empty_values(value: Any) -> Any:
    """What a person wrote, without what says nothing and is not stored: `readOnly: false`.

    An empty object says something: `emptyDir: {}`.
    """
    if isinstance(value, list):
        return [drop_empty_values(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: item if name in _MAPS | _VERBATIM else drop_empty_values(item)
        for name, item in value.items()
        if not _is_dropped(name, item)
    }


def _is_dropped(name: str, value: Any) -> bool:
    if value is None or value is False or value in ("", []):  # a set would want hashable values
        return True
    return (name in _MAPS and value == {}) or (name in _ZEROS and value == 0)


def normalize_pod_spec(spec: Object) -> Object:
    """The spec of a pod."""
    containers: Object = {
        kind: [_normalize_container(container) for container in spec[kind]]
        for kind in ("containers", "initContainers")
        if kind in spec
    }
    volumes = [_normalize_volume(volume) for volume in spec.get("volumes", ())]
    return {**spec, **containers, **({"volumes": volumes} if volumes else {})}


def _normalize_container(container: Object) -> Object:
    lists = {"env": _normalize_variable, "volumeMounts": _normalize_mount}
    found: Object = {
        name: [spell(item) for item in container[name]]
        for name, spell in lists.items()
        if name in container
    }
    if "resources" in container:
        found["resources"] = {
            kind: _normalize_quantities(values) if kind in {"limits", "requests"} else values
            for kind, values in container["resources"].items()
        }
    return {**container, **found}


def _normalize_variable(variable: Object) -> Object:
    """An empty value is none; references have defaults of their own."""
    found = {name: value for name, value in variable.items() if name != "value" or value != ""}
    source = dict(found.get("valueFrom") or {})
    if "fieldRef" in source:
        source["fieldRef"] = {"apiVersion": "v1", **source["fieldRef"]}
    if "resourceFieldRef" in source:
        divisor = normalize_if_valid(source["resourceFieldRef"].get("divisor", "0"))
        source["resourceFieldRef"] = {**source["resourceFieldRef"], "divisor": divisor}
    return {**found, "valueFrom": source} if source else found


def _normalize_mount(mount: Object) -> Object:
    return {name: value for name, value in mount.items() if name != "readOnly" or value}


def _normalize_volume(volume: Object) -> Object:
    folder = volume.get("emptyDir")
    if not isinstance(folder, dict) or "sizeLimit" not in folder:
        return volume
    return {**volume, "emptyDir": {**folder, "sizeLimit": normalize_if_valid(folder["sizeLimit"])}}


def _normalize_quantities(values: Object) -> Object:
    return {name: normalize_if_valid(value) for name, value in values.items()}
