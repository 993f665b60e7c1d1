"""Merge of spec.pods, spec.build.pods and spec.serving.podTemplate into pods. Pure.

It is done as Kubernetes merges objects, and the later of them wins: what is said for one kind of
pods over what is said for all.

Lists with a merge key are merged by it, affinity terms are appended to the operator's, other lists
are replaced. The operator's security settings win, and fields that would raise privileges are
dropped, even where the namespace does not enforce PodSecurity. Merge keys:
`patchMergeKey` and `listMapKey` in k8s.io/api/core/v1/types.go.
"""

from __future__ import annotations

import copy
from posixpath import normpath
from typing import TYPE_CHECKING, Any, Final

from llmjp_operator.api import encode
from llmjp_operator.names import ARTEFACT_FOLDER
from llmjp_operator.render.pods import STORE_VOLUME, render_container_security
from llmjp_operator.render.stored_form import drop_empty_values, normalize_pod_spec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmjp_operator.api.pod_template import PodSettings, PodTemplate

Object = dict[str, Any]

MERGE_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("containerPort", "protocol"),
    "imagePullSecrets": ("name",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
"""Merge keys of lists, by field."""
_KEY_DEFAULTS: Final = {"protocol": "TCP"}
"""Defaults of fields that are merge keys."""
_REPLACED: Final = frozenset({"env", "volumes"})
"""Lists whose items are unions: an item replaces the one with the same key as a whole."""
_FIXED: Final = {
    "volumes": frozenset({(STORE_VOLUME,)}),
    "volumeMounts": frozenset({(ARTEFACT_FOLDER,)}),
}
"""The artefact, which an overlay may neither make writable nor replace."""
_APPENDED: Final = frozenset(
    {
        "requiredDuringSchedulingIgnoredDuringExecution",
        "preferredDuringSchedulingIgnoredDuringExecution",
    }
)
"""Affinity terms, which must all hold: both sides' are kept."""
_MEANT: Final = frozenset({"readOnlyRootFilesystem"})
"""Fields whose `false` says something, unlike that of most."""
_NEVER: Final = frozenset({"privileged", "procMount", "runAsNonRoot"})
"""Fields of a container's security context that say what the pod's says, or what it forbids."""
_OURS: Final = frozenset({"serving.llmjp.dev", "app.kubernetes.io"})
"""Prefixes of labels and annotations that are the operator's."""
_PRIVILEGED: Final = ("container.apparmor.security.beta.kubernetes.io",)
"""Prefixes of annotations that disable a container's confinement (PodSecurity baseline)."""
_HOOKS: Final = ("livenessProbe", "readinessProbe", "startupProbe", "lifecycle")
"""Calls of the kubelet: to the pod only, never from the node to a host of the author's choice
(PodSecurity baseline)."""


def apply_settings(template: Object, container: str, *settings: PodSettings) -> Object:
    """Return the pod template with the settings, each over those before it.

    Args:
        template: the pods.
        container: name of the container that takes the environment.
        settings: what is said for all pods, then for these.
    """
    for each in settings:
        over: Object = drop_empty_values(encode(each))
        metadata = {name: over.pop(name) for name in ("labels", "annotations") if name in over}
        env: Object = {name: over.pop(name) for name in ("env", "envFrom") if name in over}
        containers: list[Object] = [{"name": container, **env}] if env else []
        whole: Object = {"metadata": metadata, "spec": {**over, "containers": containers}}
        template = _overlay(template, drop_empty_values(whole))
    return template


def apply_overlay(template: Object, overlay: PodTemplate) -> Object:
    """Return the pod template with the overlay."""
    return _overlay(template, drop_empty_values(encode(overlay), _MEANT))


def protect_store(template: Object, claim: str) -> Object:
    """Return the pod template with every further volume of the store's claim read-only."""
    spec = template["spec"]
    volumes = [
        {**volume, "persistentVolumeClaim": {**source, "readOnly": True}}
        if (source := volume.get("persistentVolumeClaim") or {}).get("claimName") == claim
        else volume
        for volume in spec.get("volumes", ())
    ]
    return {**template, "spec": {**spec, "volumes": volumes}}


def _overlay(template: Object, over: Object) -> Object:
    if not over or over == {"metadata": {}, "spec": {}}:
        return template
    merged = _merge(template, over)
    for kind in ("initContainers", "containers"):
        if kind in merged["spec"]:
            merged["spec"][kind] = [_confine(container) for container in merged["spec"][kind]]
    for kind in ("labels", "annotations"):
        merged["metadata"][kind] = _filter_metadata(
            template["metadata"].get(kind, {}), merged["metadata"].get(kind, {})
        )
    return {**merged, "spec": normalize_pod_spec(merged["spec"])}


def _filter_metadata(ours: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Return labels or annotations that raise no privileges, with the operator's own unchanged."""
    kept = {name: value for name, value in given.items() if _get_prefix(name) not in _PRIVILEGED}
    return kept | {name: value for name, value in ours.items() if _get_prefix(name) in _OURS}


def _get_prefix(name: str) -> str:
    return name.partition("/")[0]


def _confine(container: Object) -> Object:
    """Return a container with our security context, and without ports of the node."""
    found = {
        **container,
        "securityContext": _restrict(container.get("securityContext") or {}),
    }
    if "ports" in found:
        node = {"hostPort", "hostIP"}
        found["ports"] = [{k: v for k, v in p.items() if k not in node} for p in found["ports"]]
    return found | {hook: _drop_hosts(found[hook]) for hook in _HOOKS if hook in found}


def _restrict(given: Object) -> Object:
    """Return a container's security context with what PodSecurity `restricted` asks for."""
    ours = render_container_security()
    fixed = {name: value for name, value in ours.items() if name != "readOnlyRootFilesystem"}
    added: Object = given.get("capabilities") or {}
    if added.get("add"):
        fixed["capabilities"] = {**fixed["capabilities"], "add": added["add"]}
    allowed = {name: value for name, value in given.items() if name not in _NEVER}
    return {**ours, **allowed, **fixed}


def _drop_hosts(hook: Any) -> Any:
    """Return a probe or lifecycle hook without `host` in httpGet and tcpSocket."""
    if not isinstance(hook, dict):
        return hook
    return {
        name: {k: v for k, v in value.items() if k != "host"}
        if name in {"httpGet", "tcpSocket"} and isinstance(value, dict)
        else _drop_hosts(value)
        for name, value in hook.items()
    }


def _merge(base: Object, over: Object) -> Object:
    result = copy.deepcopy(base)
    for name, value in over.items():
        before = result.get(name)
        if isinstance(value, dict):
            result[name] = _merge(before if isinstance(before, dict) else {}, value)
        elif isinstance(value, list):
            result[name] = _merge_lists(name, before if isinstance(before, list) else [], value)
        else:
            result[name] = value
    return result


def _merge_lists(name: str, base: list[Any], over: list[Any]) -> list[Any]:
    if name in _APPENDED:
        return [*base, *copy.deepcopy(over)]
    keys = MERGE_KEYS.get(name)
    if keys is None or not all(isinstance(item, dict) for item in over):
        return copy.deepcopy(over)
    result = list(base)
    places = {_get_key(item, keys): place for place, item in enumerate(base)}
    fixed = _FIXED.get(name, frozenset()) & places.keys()
    for item in over:
        key = _get_key(item, keys)
        if key in fixed:
            continue
        if key not in places:
            places[key] = len(result)
            result.append({})
        before = {} if name in _REPLACED else result[places[key]]
        result[places[key]] = _merge(before, item)
    return result


def _get_key(item: Object, names: tuple[str, ...]) -> tuple[Any, ...]:
    """Return the merge key of an item, as text, since its type is unchecked."""
    texts = {name: str(item.get(name, _KEY_DEFAULTS.get(name))) for name in names}
    if "mountPath" in texts:
        texts["mountPath"] = normpath("/" + texts["mountPath"].lstrip("/"))
    return tuple(texts.values())
