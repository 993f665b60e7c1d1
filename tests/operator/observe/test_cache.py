"""What the watches have shown."""

from __future__ import annotations

from typing import Any

from llmjp_operator.api import Model
from llmjp_operator.names import store_id
from llmjp_operator.observe.cache import InvalidResource, ObjectCache
from llmjp_operator.observe.snapshot import ObjectRef
from tests.operator.objects import Object, model

SHARED = {"storage": {"size": None, "existingClaim": "shared"}}


def a_model(name: str, version: int = 1, changes: Object | None = None) -> Object:
    body = model(changes, name)
    body["metadata"] |= {"namespace": "ns", "uid": f"uid-{name}", "resourceVersion": str(version)}
    return body


def an_object(name: str = "o", version: int = 1, uid: str = "u", **labels: str) -> Object:
    found = {f"serving.llmjp.dev/{label}": value for label, value in labels.items()}
    metadata = {
        "name": name,
        "namespace": "ns",
        "uid": uid,
        "resourceVersion": str(version),
        "labels": found,
    }
    return {"metadata": metadata, "spec": {}}


def seen(cache: ObjectCache, name: str = "a") -> Model:
    found = cache.models["ns", name]
    assert isinstance(found, Model)
    return found


def refs(cache: ObjectCache, name: str = "a") -> list[ObjectRef]:
    return [ref for ref, _ in cache.of(seen(cache, name))]


def test_a_model_is_news_once() -> None:
    cache = ObjectCache()
    assert cache.see_model(a_model("a"))
    assert not cache.see_model(a_model("a"))
    assert cache.see_model(a_model("a", 2))


def test_a_model_of_the_same_name_is_another() -> None:
    cache = ObjectCache()
    cache.see_model(a_model("a"))
    cache.lose_model("ns", "a")
    assert cache.models == {}
    assert cache.see_model(a_model("a"))


def test_a_model_that_is_not_understood() -> None:
    cache = ObjectCache()
    broken = a_model("a")
    broken["spec"] = {"source": 1}
    broken["status"] = {"phase": "Serving"}
    assert cache.see_model(broken)
    found = cache.models["ns", "a"]
    assert isinstance(found, InvalidResource)
    assert "spec" in found.message
    assert found.status == {"phase": "Serving"}
    assert cache.lose_model("ns", "a") == []


def test_models_of_one_store() -> None:
    cache = ObjectCache()
    for name in ("b", "a"):
        cache.see_model(a_model(name, changes=SHARED))
    cache.see_model(a_model("c"))
    assert cache.sharing(seen(cache)) == [("ns", "a"), ("ns", "b")]
    assert cache.sharing(seen(cache, "c")) == [("ns", "c")]
    assert cache.lose_model("ns", "a") == [("ns", "b")]


def test_whom_an_object_is_about() -> None:
    cache = ObjectCache()
    for name in ("a", "b"):
        cache.see_model(a_model(name, changes=SHARED))
    store = {"serving.llmjp.dev/store": store_id("shared")}
    assert cache.concerned("ns", store) == {("ns", "a"), ("ns", "b")}
    assert cache.concerned("ns", {"serving.llmjp.dev/model": "a"}) == {("ns", "a")}
    assert cache.concerned("ns", {"serving.llmjp.dev/model": "x"}) == set()
    assert cache.concerned("other", store) == set()


def test_objects_of_a_model_and_of_its_store_once_each() -> None:
    cache = ObjectCache()
    cache.see_model(a_model("a", changes=SHARED))
    cache.see("Job", an_object("both", model="a", store=store_id("shared")))
    cache.see("Service", an_object("own", model="a"))
    cache.see("ConfigMap", an_object("record", store=store_id("shared")))
    cache.see("Service", an_object("other", model="b"))
    assert refs(cache) == [
        ObjectRef("ConfigMap", "record"),
        ObjectRef("Job", "both"),
        ObjectRef("Service", "own"),
    ]


def test_an_object_whose_labels_changed_is_anothers() -> None:
    cache = ObjectCache()
    cache.see_model(a_model("a"))
    cache.see("Service", an_object(model="a"))
    cache.see("Service", an_object(version=2, model="b"))
    assert refs(cache) == []


def test_older_sights_are_passed_over() -> None:
    cache = ObjectCache()
    cache.see_model(a_model("a"))
    cache.see("Service", an_object(version=5, model="a"))
    cache.see("Service", an_object(version=4))
    assert refs(cache) == [ObjectRef("Service", "o")]
    cache.see("Service", an_object(version=4, uid="another"))
    assert refs(cache) == [], "another object counts its versions anew"


def test_a_list_that_shows_what_is_known_is_no_news() -> None:
    cache = ObjectCache()
    assert cache.see("Service", an_object(), shown=True)
    assert not cache.see("Service", an_object(), shown=True)
    assert cache.see("Service", an_object(version=2), shown=True)


def test_what_only_our_own_call_has_answered_is_still_news() -> None:
    cache = ObjectCache()
    cache.see("Service", an_object())
    assert cache.see("Service", an_object(), shown=True)
    assert not cache.see("Service", an_object(), shown=True)


def test_an_object_is_lost_by_its_uid() -> None:
    cache = ObjectCache()
    cache.see_model(a_model("a"))
    cache.see("Service", an_object(model="a"))
    cache.lose("Service", "ns", "o", "another")
    assert refs(cache) == [ObjectRef("Service", "o")]
    cache.lose("Service", "ns", "o", "u")
    cache.lose("Service", "ns", "o", "u")
    assert refs(cache) == []


def test_what_a_newer_list_does_not_have_is_gone() -> None:
    cache = ObjectCache()
    cache.see_model(a_model("a"))
    for name, version in (("there", 1), ("gone", 2), ("replaced", 3), ("later", 9)):
        cache.see("Service", an_object(name, version, f"uid-{name}", model="a"))
    cache.see("Job", an_object("kept", 1, model="a"))
    listed = {("ns", "there"): "uid-there", ("ns", "replaced"): "uid-new"}
    gone = cache.lost("Service", (), listed, 5)
    assert [(namespace, one.uid) for namespace, one in gone] == [
        ("ns", "uid-gone"),
        ("ns", "uid-replaced"),
    ]
    assert [ref.name for ref in refs(cache)] == ["kept", "later", "there"]


def test_other_namespaces_are_not_judged() -> None:
    cache = ObjectCache()
    cache.see("Service", an_object())
    assert cache.lost("Service", ("other",), {}, 9) == []


def test_the_record_of_a_store() -> None:
    cache = ObjectCache()
    assert not cache.record("ns", "o").artefacts
    cache.see("ConfigMap", an_object() | {"data": {}})
    assert not cache.record("ns", "o").artefacts


def test_digests_are_of_what_is_ours() -> None:
    cache = ObjectCache()
    assert cache.digest("Service", "ns", "o") == ""
    body: Any = an_object()
    cache.see("Service", body)
    nothing = cache.digest("Service", "ns", "o")
    fields: Object = {"f:spec": {"f:type": {}}}
    entry = {"manager": "llmjp-operator", "operation": "Apply", "fieldsV1": fields}
    body = an_object(version=2)
    body["metadata"]["managedFields"] = [entry]
    body["spec"]["type"] = "ClusterIP"
    cache.see("Service", body)
    assert cache.digest("Service", "ns", "o") not in {"", nothing}
    cache.see("Pod", body)
    assert cache.digest("Pod", "ns", "o") == "", "nobody applies pods"
