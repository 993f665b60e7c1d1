"""Normalization of what people write in pods to the form that the API server stores. Pure.

An object that is stored in another form than it was applied in is applied once more after every
start of the operator. That is harmless, so only fields that people commonly write are covered.
Defaults: k8s.io/kubernetes/pkg/apis/core/v1/defaults.go; `omitempty`: k8s.io/api/core/v1/types.go.
"""

from __future__ import annotations

from typing import Any, Final

from llmjp_operator.render.quantities import normalize_if_valid

Object = dict[str, Any]

_MAPS: Final = frozenset({"matchLabels", "labels", "annotations", "limits", "requests"})
"""Map fields: an empty value in one has a meaning, an empty map does not."""
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
"""Fields where 0 means the same as absent, unlike `defaultMode` or `fsGroup`."""


def drop_empty_values(value: Any, kept: frozenset[str] = frozenset()) -> Any:
    """Return a value without empty members that are not stored, such as `readOnly: false`.

    Empty objects are kept: `emptyDir: {}` has a meaning. So is what is false in fields of `kept`.
    """
    if isinstance(value, list):
        return [drop_empty_values(item, kept) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: item if name in _MAPS | _VERBATIM else drop_empty_values(item, kept)
        for name, item in value.items()
        if not _is_dropped(name, item) or (name in kept and item is False)
    }


def _is_dropped(name: str, value: Any) -> bool:
    if value is None or value is False or value in ("", []):  # a set would want hashable values
        return True
    return (name in _MAPS and value == {}) or (name in _ZEROS and value == 0)


def normalize_pod_spec(spec: Object) -> Object:
    """Return the spec of a pod in stored form."""
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
    """Return an environment variable without an empty value, and with defaults of references."""
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
    if isinstance(items := volume.get("downwardAPI"), dict):
        return {**volume, "downwardAPI": _normalize_downward(items)}
    if isinstance(projected := volume.get("projected"), dict):
        sources = [
            {**source, "downwardAPI": _normalize_downward(source["downwardAPI"])}
            if isinstance(source.get("downwardAPI"), dict)
            else source
            for source in projected.get("sources", ())
        ]
        return {**volume, "projected": {**projected, "sources": sources}}
    folder = volume.get("emptyDir")
    if not isinstance(folder, dict) or "sizeLimit" not in folder:
        return volume
    return {**volume, "emptyDir": {**folder, "sizeLimit": normalize_if_valid(folder["sizeLimit"])}}


def _normalize_downward(source: Object) -> Object:
    """Return the files of a downwardAPI volume with the default of their references."""
    items = [
        {**item, "fieldRef": {"apiVersion": "v1", **item["fieldRef"]}}
        if isinstance(item.get("fieldRef"), dict)
        else item
        for item in source.get("items", ())
    ]
    return {**source, "items": items}


def _normalize_quantities(values: Object) -> Object:
    return {name: normalize_if_valid(value) for name, value in values.items()}
