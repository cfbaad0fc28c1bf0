"""Comparisons of the tiny task, in this process and without a display."""

from contextlib import contextmanager

import pytest

from largebatch.lab.compare import compare, question_for


@pytest.fixture
def ask(tiny):
    """A question of two rates, two alphas and two seeds; what is given replaces that."""

    def of(task=tiny, **given):
        small = {"methods": ("gnc",), "rates": 2, "alphas": 2, "seeds": 2, "widenings": 0}
        return question_for(task, **(small | {"epochs": 2, "worker_size": 8} | given))

    return of


@pytest.fixture
def answer(tmp_path):
    """Runs a comparison in a folder below tmp_path; rows of results.json."""

    def run(question, name="out", processes=1, stages=None):
        @contextmanager
        def stage(title, jobs):
            noted = []
            yield noted.append
            if stages is not None:
                stages.append((title, len(jobs), len(noted)))

        return compare(question, tmp_path / name, None, processes, stage)

    return run
