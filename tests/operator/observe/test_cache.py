"""What the watches have shown."""

from __future__ import annotations

from typing import Any

from llmjp_operator.api import Model
from llmjp_operator.names import store_id
from llmjp_operator.observe.cache import Refused, View
from llmjp_operator.observe.snapshot import Ref
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


def seen(view: View, name: str = "a") -> Model:
    found = view.models["ns", name]
    assert isinstance(found, Model)
    return found


def refs(view: View, name: str = "a") -> list[Ref]:
    return [ref for ref, _ in view.of(seen(view, name))]


def test_a_model_is_news_once() -> None:
    view = View()
    assert view.see_model(a_model("a"))
    assert not view.see_model(a_model("a"))
    assert view.see_model(a_model("a", 2))


def test_a_model_of_the_same_name_is_another() -> None:
    view = View()
    view.see_model(a_model("a"))
    view.lose_model("ns", "a")
    assert view.models == {}
    assert view.see_model(a_model("a"))


def test_a_model_that_is_not_understood() -> None:
    view = View()
    broken = a_model("a")
    broken["spec"] = {"source": 1}
    broken["status"] = {"phase": "Serving"}
    assert view.see_model(broken)
    found = view.models["ns", "a"]
    assert isinstance(found, Refused)
    assert "spec" in found.message
    assert found.status == {"phase": "Serving"}
    assert view.lose_model("ns", "a") == []


def test_models_of_one_store() -> None:
    view = View()
    for name in ("b", "a"):
        view.see_model(a_model(name, changes=SHARED))
    view.see_model(a_model("c"))
    assert view.sharing(seen(view)) == [("ns", "a"), ("ns", "b")]
    assert view.sharing(seen(view, "c")) == [("ns", "c")]
    assert view.lose_model("ns", "a") == [("ns", "b")]


def test_whom_an_object_is_about() -> None:
    view = View()
    for name in ("a", "b"):
        view.see_model(a_model(name, changes=SHARED))
    store = {"serving.llmjp.dev/store": store_id("shared")}
    assert view.concerned("ns", store) == {("ns", "a"), ("ns", "b")}
    assert view.concerned("ns", {"serving.llmjp.dev/model": "a"}) == {("ns", "a")}
    assert view.concerned("ns", {"serving.llmjp.dev/model": "x"}) == set()
    assert view.concerned("other", store) == set()


def test_objects_of_a_model_and_of_its_store_once_each() -> None:
    view = View()
    view.see_model(a_model("a", changes=SHARED))
    view.see("Job", an_object("both", model="a", store=store_id("shared")))
    view.see("Service", an_object("own", model="a"))
    view.see("ConfigMap", an_object("record", store=store_id("shared")))
    view.see("Service", an_object("other", model="b"))
    assert refs(view) == [Ref("ConfigMap", "record"), Ref("Job", "both"), Ref("Service", "own")]


def test_an_object_whose_labels_changed_is_anothers() -> None:
    view = View()
    view.see_model(a_model("a"))
    view.see("Service", an_object(model="a"))
    view.see("Service", an_object(version=2, model="b"))
    assert refs(view) == []


def test_older_sights_are_passed_over() -> None:
    view = View()
    view.see_model(a_model("a"))
    view.see("Service", an_object(version=5, model="a"))
    view.see("Service", an_object(version=4))
    assert refs(view) == [Ref("Service", "o")]
    view.see("Service", an_object(version=4, uid="another"))
    assert refs(view) == [], "another object counts its versions anew"


def test_a_list_that_shows_what_is_known_is_no_news() -> None:
    view = View()
    assert view.see("Service", an_object(), shown=True)
    assert not view.see("Service", an_object(), shown=True)
    assert view.see("Service", an_object(version=2), shown=True)


def test_what_only_our_own_call_has_answered_is_still_news() -> None:
    view = View()
    view.see("Service", an_object())
    assert view.see("Service", an_object(), shown=True)
    assert not view.see("Service", an_object(), shown=True)


def test_an_object_is_lost_by_its_uid() -> None:
    view = View()
    view.see_model(a_model("a"))
    view.see("Service", an_object(model="a"))
    view.lose("Service", "ns", "o", "another")
    assert refs(view) == [Ref("Service", "o")]
    view.lose("Service", "ns", "o", "u")
    view.lose("Service", "ns", "o", "u")
    assert refs(view) == []


def test_what_a_newer_list_does_not_have_is_gone() -> None:
    view = View()
    view.see_model(a_model("a"))
    for name, version in (("there", 1), ("gone", 2), ("replaced", 3), ("later", 9)):
        view.see("Service", an_object(name, version, f"uid-{name}", model="a"))
    view.see("Job", an_object("kept", 1, model="a"))
    listed = {("ns", "there"): "uid-there", ("ns", "replaced"): "uid-new"}
    gone = view.lost("Service", (), listed, 5)
    assert [(namespace, one.uid) for namespace, one in gone] == [
        ("ns", "uid-gone"),
        ("ns", "uid-replaced"),
    ]
    assert [ref.name for ref in refs(view)] == ["kept", "later", "there"]


def test_other_namespaces_are_not_judged() -> None:
    view = View()
    view.see("Service", an_object())
    assert view.lost("Service", ("other",), {}, 9) == []


def test_the_record_of_a_store() -> None:
    view = View()
    assert not view.record("ns", "o").artefacts
    view.see("ConfigMap", an_object() | {"data": {}})
    assert not view.record("ns", "o").artefacts


def test_digests_are_of_what_is_ours() -> None:
    view = View()
    assert view.digest("Service", "ns", "o") == ""
    body: Any = an_object()
    view.see("Service", body)
    nothing = view.digest("Service", "ns", "o")
    fields: Object = {"f:spec": {"f:type": {}}}
    entry = {"manager": "llmjp-operator", "operation": "Apply", "fieldsV1": fields}
    body = an_object(version=2)
    body["metadata"]["managedFields"] = [entry]
    body["spec"]["type"] = "ClusterIP"
    view.see("Service", body)
    assert view.digest("Service", "ns", "o") not in {"", nothing}
    view.see("Pod", body)
    assert view.digest("Pod", "ns", "o") == "", "nobody applies pods"
