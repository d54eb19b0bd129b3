"""A gallery is a dictionary with search: two handles on one folder against a model of it, in any order."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ppcls.metric.ranking import top_k
from ppcls.retrieval import gallery_store
from ppcls.retrieval.gallery import Gallery
from ppcls.utils.errors import UserError

DIM = 4
labels = st.text(st.characters(exclude_categories=()), max_size=5)
vectors = st.lists(st.integers(-3, 3), min_size=DIM, max_size=DIM)
# Along an axis every product is exact, so equal cosines are equal numbers, however a library adds them up.
axes = st.tuples(st.integers(0, DIM - 1), st.sampled_from([-2, 1])).map(
    lambda item: [item[1] * (place == item[0]) for place in range(DIM)]
)


class GalleryMachine(RuleBasedStateMachine):
    """Two handles on one folder against a dictionary."""

    @initialize()
    def begin(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self.scratch.name) / "g"
        self.handles = [Gallery.create(self.folder, DIM, "m"), Gallery.open(self.folder, "m")]
        self.known: dict[int, tuple[str, list[int]]] = {}
        self.highest = -1

    def teardown(self):
        if hasattr(self, "scratch"):
            self.scratch.cleanup()

    @rule(which=st.integers(0, 1), items=st.lists(st.tuples(labels, vectors), max_size=6))
    def add(self, which, items):
        data = np.array([vector for _, vector in items], np.float32).reshape(len(items), DIM)
        ids = self.handles[which].add(data, [label for label, _ in items])
        assert ids == list(range(self.highest + 1, self.highest + 1 + len(items)))
        self.highest += len(items)
        self.known |= dict(zip(ids, items, strict=True))

    @precondition(lambda self: self.known)
    @rule(which=st.integers(0, 1), data=st.data())
    def remove(self, which, data):
        ids = data.draw(st.lists(st.sampled_from(sorted(self.known)), max_size=6))
        self.handles[which].remove(ids)
        for index in set(ids):
            del self.known[index]

    @rule(which=st.integers(0, 1), index=st.integers(-3, 40))
    def remove_unknown(self, which, index):
        if index in self.known:
            return
        with pytest.raises(UserError, match="holds no image with id"):
            self.handles[which].remove([*sorted(self.known)[:1], index])

    @rule(which=st.integers(0, 1), query=axes, k=st.integers(1, 9))
    def search(self, which, query, k):
        ids, found_labels, scores = self.handles[which].search(np.array([query], np.float32), k)
        assert ids.shape == scores.shape == (1, min(k, len(self.known)))
        if not self.known:
            return
        order = sorted(self.known)
        stored = np.array([self.known[index][1] for index in order], np.float32)
        expected, expected_scores = top_k(np.array([query], np.float32), stored, k)
        np.testing.assert_array_equal(ids[0], np.array(order)[expected[0]])
        np.testing.assert_array_equal(scores, expected_scores)
        assert found_labels == [[self.known[index][0] for index in ids[0].tolist()]]

    @rule()
    def a_writer_dies_before_its_commit(self):
        for path in self.folder.glob("*-*.*"):
            with path.open("ab") as stream:
                stream.write(b'{"add": [999], "labels": ["half')

    @rule(which=st.integers(0, 1))
    def reopen(self, which):
        self.handles[which] = Gallery.open(self.folder)

    @invariant()
    def same_contents(self):
        for gallery in getattr(self, "handles", []):
            entries = list(gallery.entries())
            assert len(gallery) == len(self.known)
            assert {entry.id: entry.label for entry in entries} == {i: label for i, (label, _) in self.known.items()}
            assert [entry.id for entry in entries] == sorted(self.known)


@pytest.mark.slow
def test_a_gallery_is_a_dictionary_with_search(monkeypatch):
    monkeypatch.setattr(gallery_store, "COMPACT_MINIMUM", 3)
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # the disk's own doing, and slow
    effort = settings(max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(GalleryMachine, settings=effort)
