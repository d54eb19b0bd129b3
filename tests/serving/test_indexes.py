"""Indexes over HTTP and on disk: names, workers, models, limits."""

from __future__ import annotations

import numpy as np
import pytest

from ppcls.serving.indexes import Indexes
from ppcls.serving.problems import BadRequest, Conflict, NoSpace, NotFound
from ppcls.utils.errors import UserError
from tests.serving.conftest import DIM, embedding_of, picture

PEOPLE = {"ann": picture(1), "bob": picture(2), "cy": picture(3)}


def labelled(*names: str) -> list[dict]:
    return [{"image": PEOPLE[name], "label": name} for name in names]


def test_life_of_an_index(serve, tmp_path):
    first, second = serve(index_dir=str(tmp_path)), serve(index_dir=str(tmp_path), default_index="gate")
    built = first.post("/reid-index-build", {"indexKey": "gate", "imageLabelPairs": labelled("ann", "bob")}).json()
    assert built["result"] == {"indexKey": "gate", "idMap": {"0": "ann", "1": "bob"}}
    added = second.post("/reid-index-add", {"imageLabelPairs": labelled("cy")}).json()
    assert added["result"]["idMap"] == {"0": "ann", "1": "bob", "2": "cy"}

    found = first.post("/reid-infer", {"indexKey": "gate", "image": PEOPLE["cy"], "topk": 2}).json()["result"]
    best, next_one = found["recResults"]
    assert (best["label"], best["id"]) == ("cy", 2) and best["score"] == pytest.approx(1, abs=1e-6)
    a, b = (embedding_of(PEOPLE[name]) for name in ("cy", next_one["label"]))
    assert next_one["score"] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-5)

    strict = second.post("/reid-infer", {"image": PEOPLE["cy"], "recThreshold": 0.9999}).json()["result"]
    assert [row["label"] for row in strict["recResults"]] == ["cy"]
    removed = second.post("/reid-index-remove", {"ids": [2, 0]}).json()
    assert removed["result"]["idMap"] == {"1": "bob"}
    left = first.post("/reid-infer", {"indexKey": "gate", "image": PEOPLE["cy"]}).json()["result"]["recResults"]
    assert [row["label"] for row in left] == ["bob"]

    for server in (first, second):
        server.stop()
    again = serve(index_dir=str(tmp_path))
    assert len(again.post("/reid-infer", {"indexKey": "gate", "image": PEOPLE["bob"]}).json()["result"]["recResults"])


def test_a_name_is_made_up(shared):
    key = shared.post("/reid-index-build", {"imageLabelPairs": labelled("ann")}).json()["result"]["indexKey"]
    assert shared.post("/reid-infer", {"indexKey": key, "image": PEOPLE["ann"]}).status_code == 200


def status(server, route, **message):
    answer = server.post(route, message)
    assert answer.json()["errorCode"] == (0 if answer.status_code == 200 else answer.status_code)
    return answer.status_code, answer.json()["errorMsg"]


def test_what_is_not_there(shared, tmp_path):
    for route, rest in (
        ("/reid-infer", {"image": PEOPLE["ann"]}),
        ("/reid-index-add", {"imageLabelPairs": labelled("ann")}),
        ("/reid-index-remove", {"ids": [0]}),
    ):
        code, said = status(shared, route, indexKey="nobody", **rest)
        assert code == 404 and "'nobody'" in said
        code, said = status(shared, route, **rest)
        assert code == 422 and "indexKey" in said
    status(shared, "/reid-index-build", indexKey="few", imageLabelPairs=labelled("ann"))
    code, said = status(shared, "/reid-index-remove", indexKey="few", ids=[0, 99])
    assert code == 404 and "99" in said and "/" not in said
    assert status(shared, "/reid-index-remove", indexKey="few", ids=[0])[0] == 200  # the failed one removed nothing


def test_without_a_folder_there_are_no_indexes(serve):
    code, said = status(serve(), "/reid-index-build", imageLabelPairs=labelled("ann"))
    assert code == 404 and "--index-dir" in said


def test_a_name_is_given_once(shared):
    message = {"indexKey": "once", "imageLabelPairs": labelled("ann")}
    assert status(shared, "/reid-index-build", **message)[0] == 200
    code, said = status(shared, "/reid-index-build", **message)
    assert code == 409 and "'once'" in said


@pytest.mark.parametrize(
    "key",
    ["../out", "..", ".", "", "a/b", "a\\b", "/etc", "a.b", "-x", "a\n", "a\0", "ä", "x" * 65, ".building-1", "~"],
)
def test_names_cannot_leave_the_folder(shared, tmp_path, key):
    for route, rest in (
        ("/reid-index-build", {"imageLabelPairs": labelled("ann")}),
        ("/reid-infer", {"image": PEOPLE["ann"]}),
        ("/reid-index-remove", {"ids": [0]}),
    ):
        assert status(shared, route, indexKey=key, **rest)[0] == 422
    indexes = Indexes(tmp_path / "in", DIM, "m", 5, 5)
    with pytest.raises(BadRequest):
        indexes.build(key, np.ones((1, DIM), np.float32), ["a"])
    assert list(tmp_path.rglob("*")) == [tmp_path / "in"]


@pytest.mark.parametrize(
    "message",
    [
        {"imageLabelPairs": []},
        {"imageLabelPairs": [{"image": PEOPLE["ann"]}]},
        {"imageLabelPairs": [{"image": PEOPLE["ann"], "label": ""}]},
        {"imageLabelPairs": [{"image": PEOPLE["ann"], "label": "x" * 257}]},
        {"imageLabelPairs": [{"image": PEOPLE["ann"], "label": 5}]},
        {"imageLabelPairs": [{"image": "AAAA", "label": "a"}]},
    ],
)
def test_unusable_pairs(shared, message):
    assert status(shared, "/reid-index-build", indexKey="bad", **message)[0] == 422
    assert status(shared, "/reid-infer", indexKey="bad", image=PEOPLE["ann"])[0] == 404


@pytest.mark.parametrize("ids", [[], [-1], [1.5], ["1"], [True], [2**63], 3])
def test_unusable_ids(shared, ids):
    assert status(shared, "/reid-index-remove", indexKey="any", ids=ids)[0] == 422


@pytest.mark.parametrize(
    "more", [{"topk": 0}, {"topk": 101}, {"topk": "5"}, {"recThreshold": 2}, {"detThreshold": 0.5}]
)
def test_unusable_searches(shared, more):
    assert status(shared, "/reid-infer", indexKey="any", image=PEOPLE["ann"], **more)[0] == 422


def test_room(serve, tmp_path):
    server = serve(index_dir=str(tmp_path), max_indexes=2, max_index_images=2)
    for key in ("a", "b"):
        assert status(server, "/reid-index-build", indexKey=key, imageLabelPairs=labelled("ann"))[0] == 200
    code, said = status(server, "/reid-index-build", indexKey="c", imageLabelPairs=labelled("ann"))
    assert code == 507 and "2 indexes" in said
    assert status(server, "/reid-index-add", indexKey="a", imageLabelPairs=labelled("ann", "bob"))[0] == 507
    assert status(server, "/reid-index-add", indexKey="a", imageLabelPairs=labelled("bob"))[0] == 200


def test_indexes_of_another_model_are_refused(tmp_path):
    rows = np.eye(DIM, dtype=np.float32)[:2]
    Indexes(tmp_path, DIM, "old model", 5, 5).build("k", rows, ["a", "b"])
    indexes = Indexes(tmp_path, DIM, "new model", 5, 5)
    for change in (lambda: indexes.search("k", rows[0], 1), lambda: indexes.add("k", rows, ["c", "d"])):
        with pytest.raises(Conflict, match="another model") as refused:
            change()
        assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize("how", ["another model's", "gone"])
def test_an_index_that_is_spoilt_while_in_use(tmp_path, how):
    """Somebody changes its folder: the caller hears it from every route, and it can be used again when mended."""
    indexes, rows = Indexes(tmp_path, DIM, "m", 5, 5), np.eye(DIM, dtype=np.float32)[:1]
    indexes.build("k", rows, ["a"])
    manifest = tmp_path / "k" / "gallery.json"
    good = manifest.read_text()
    if how == "gone":
        manifest.unlink()
    else:
        manifest.write_text(good.replace('"m"', '"other"'))
    uses = (
        lambda: indexes.add("k", rows, ["b"]),
        lambda: indexes.remove("k", [0]),
        lambda: indexes.search("k", rows[0], 1),
    )
    for use in uses:
        with pytest.raises(Conflict) as refused:
            use()
        assert str(tmp_path) not in str(refused.value)
    manifest.write_text(good)
    assert indexes.search("k", rows[0], 1)[0][:2] == (0, "a")


def test_a_folder_that_went_away(tmp_path):
    indexes = Indexes(tmp_path / "in", DIM, "m", 5, 5)
    (tmp_path / "in").rmdir()
    with pytest.raises(NoSpace, match="gone"):
        indexes.build("k", np.ones((1, DIM), np.float32), ["a"])


def test_a_failed_build_leaves_nothing(tmp_path, monkeypatch):
    indexes = Indexes(tmp_path, DIM, "m", 5, 5)

    def full(*_arguments):
        raise UserError(f"cannot write {tmp_path}/x: No space left on device")

    monkeypatch.setattr("ppcls.retrieval.gallery.Gallery.add", full)
    with pytest.raises(NoSpace, match="No space left"):
        indexes.build("k", np.ones((1, DIM), np.float32), ["a"])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NotFound):
        indexes.search("k", np.ones(DIM, np.float32), 1)


def test_an_index_that_was_deleted_is_gone(tmp_path):
    import shutil

    indexes = Indexes(tmp_path, DIM, "m", 5, 5)
    indexes.build("k", np.ones((1, DIM), np.float32), ["a"])
    shutil.rmtree(tmp_path / "k")
    with pytest.raises(NotFound):
        indexes.search("k", np.ones(DIM, np.float32), 1)
    indexes.build("k", np.ones((1, DIM), np.float32), ["b"])
    assert indexes.search("k", np.ones(DIM, np.float32), 1)[0][:2] == (0, "b")
