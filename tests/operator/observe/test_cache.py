"""The cache: what is news, what is found, what is dropped."""

from __future__ import annotations

from typing import Any

from llmjp_operator.api import Model
from llmjp_operator.names import KIND, make_record_name, make_store_id
from llmjp_operator.observe.cache import InvalidResource, ObjectCache
from llmjp_operator.observe.snapshot import ObjectRef
from tests.operator.model_bodies import Object, make_model_body

SHARED = {"storage": {"size": None, "existingClaim": "shared"}}


def a_model(name: str, version: int = 1, changes: Object | None = None) -> Object:
    body = make_model_body(changes, name)
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
        "ownerReferences": [{"kind": KIND, "name": "a", "uid": "uid-a"}],
    }
    return {"metadata": metadata, "spec": {}}


def seen(cache: ObjectCache, name: str = "a") -> Model:
    found = cache.models["ns", name]
    assert isinstance(found, Model)
    return found


def refs(cache: ObjectCache, name: str = "a") -> list[ObjectRef]:
    return [ref for ref, _ in cache.list_objects(seen(cache, name))]


def test_a_model_seen_twice_is_news_once() -> None:
    cache = ObjectCache()
    assert cache.put_model(a_model("a"))
    assert not cache.put_model(a_model("a"))
    assert cache.put_model(a_model("a", 2))


def test_a_model_of_the_same_name_is_another() -> None:
    cache = ObjectCache()
    cache.put_model(a_model("a"))
    cache.remove_model("ns", "a")
    assert cache.models == {}
    assert cache.put_model(a_model("a"))


def test_a_model_that_is_not_understood() -> None:
    cache = ObjectCache()
    broken = a_model("a")
    broken["spec"] = {"source": 1}
    broken["status"] = {"phase": "Serving"}
    assert cache.put_model(broken)
    found = cache.models["ns", "a"]
    assert isinstance(found, InvalidResource)
    assert "spec" in found.message
    assert found.status == {"phase": "Serving"}
    assert cache.remove_model("ns", "a") == []


def test_models_of_one_store_are_found_together() -> None:
    cache = ObjectCache()
    for name in ("b", "a"):
        cache.put_model(a_model(name, changes=SHARED))
    cache.put_model(a_model("c"))
    assert cache.list_models_of_store(seen(cache)) == [("ns", "a"), ("ns", "b")]
    assert cache.list_models_of_store(seen(cache, "c")) == [("ns", "c")]
    assert cache.remove_model("ns", "a") == [("ns", "b")]


def test_an_object_concerns_the_models_of_its_labels() -> None:
    cache = ObjectCache()
    for name in ("a", "b"):
        cache.put_model(a_model(name, changes=SHARED))
    store = {"serving.llmjp.dev/store": make_store_id("shared")}
    assert cache.find_models("ns", store) == {("ns", "a"), ("ns", "b")}
    assert cache.find_models("ns", {"serving.llmjp.dev/model": "a"}) == {("ns", "a")}
    assert cache.find_models("ns", {"serving.llmjp.dev/model": "x"}) == set()
    assert cache.find_models("other", store) == set()


def test_objects_of_a_model_and_of_its_store_once_each() -> None:
    cache = ObjectCache()
    cache.put_model(a_model("a", changes=SHARED))
    cache.put("Job", an_object("both", model="a", store=make_store_id("shared")))
    cache.put("Service", an_object("own", model="a"))
    cache.put("ConfigMap", an_object("record", store=make_store_id("shared")))
    cache.put("Service", an_object("other", model="b"))
    assert refs(cache) == [
        ObjectRef("ConfigMap", "record"),
        ObjectRef("Job", "both"),
        ObjectRef("Service", "own"),
    ]


def test_an_object_whose_labels_changed_is_anothers() -> None:
    cache = ObjectCache()
    cache.put_model(a_model("a"))
    cache.put("Service", an_object(model="a"))
    cache.put("Service", an_object(version=2, model="b"))
    assert refs(cache) == []


def test_older_versions_are_ignored() -> None:
    cache = ObjectCache()
    cache.put_model(a_model("a"))
    cache.put("Service", an_object(version=5, model="a"))
    cache.put("Service", an_object(version=4))
    assert refs(cache) == [ObjectRef("Service", "o")]
    cache.put("Service", an_object(version=4, uid="another"))
    assert refs(cache) == [], "another object counts its versions anew"


def test_a_list_that_shows_what_is_known_is_no_news() -> None:
    cache = ObjectCache()
    assert cache.put("Service", an_object(), from_watch=True)
    assert not cache.put("Service", an_object(), from_watch=True)
    assert cache.put("Service", an_object(version=2), from_watch=True)


def test_what_only_our_own_call_has_answered_is_still_news() -> None:
    cache = ObjectCache()
    cache.put("Service", an_object())
    assert cache.put("Service", an_object(), from_watch=True)
    assert not cache.put("Service", an_object(), from_watch=True)


def test_an_object_is_lost_by_its_uid() -> None:
    cache = ObjectCache()
    cache.put_model(a_model("a"))
    cache.put("Service", an_object(model="a"))
    cache.remove("Service", "ns", "o", "another")
    assert refs(cache) == [ObjectRef("Service", "o")]
    cache.remove("Service", "ns", "o", "u")
    cache.remove("Service", "ns", "o", "u")
    assert refs(cache) == []


def test_objects_missing_from_a_newer_list_are_dropped() -> None:
    cache = ObjectCache()
    cache.put_model(a_model("a"))
    for name, version in (("there", 1), ("gone", 2), ("replaced", 3), ("later", 9)):
        cache.put("Service", an_object(name, version, f"uid-{name}", model="a"))
    cache.put("Job", an_object("kept", 1, model="a"))
    listed = {("ns", "there"): "uid-there", ("ns", "replaced"): "uid-new"}
    gone = cache.remove_missing("Service", (), listed, 5)
    assert [(namespace, one.uid) for namespace, one in gone] == [
        ("ns", "uid-gone"),
        ("ns", "uid-replaced"),
    ]
    assert [ref.name for ref in refs(cache)] == ["kept", "later", "there"]


def test_a_list_of_one_namespace_drops_nothing_of_others() -> None:
    cache = ObjectCache()
    cache.put("Service", an_object())
    assert cache.remove_missing("Service", ("other",), {}, 9) == []


def test_a_store_without_a_record_has_an_empty_one() -> None:
    cache = ObjectCache()
    cache.put_model(a_model("a"))
    [model] = cache.models.values()
    assert isinstance(model, Model)
    assert not cache.get_record(model).artefacts
    cache.put("ConfigMap", an_object(make_record_name(model.store_claim)) | {"data": {}})
    assert not cache.get_record(model).artefacts


def test_digests_cover_owned_fields_only() -> None:
    cache = ObjectCache()
    assert cache.get_digest("Service", "ns", "o") == ""
    body: Any = an_object()
    cache.put("Service", body)
    nothing = cache.get_digest("Service", "ns", "o")
    fields: Object = {"f:spec": {"f:type": {}}}
    entry = {"manager": "llmjp-operator", "operation": "Apply", "fieldsV1": fields}
    body = an_object(version=2)
    body["metadata"]["managedFields"] = [entry]
    body["spec"]["type"] = "ClusterIP"
    cache.put("Service", body)
    assert cache.get_digest("Service", "ns", "o") not in {"", nothing}
    cache.put("Pod", body)
    assert cache.get_digest("Pod", "ns", "o") == "", "nobody applies pods"
