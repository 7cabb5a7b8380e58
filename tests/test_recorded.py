"""The recorded weights are made again from their seeds to the last bit, and the recorded cases stay small."""

import hashlib
import json

import pytest

from tests.recorded import FIXTURES, weights

CASES = sorted(str(file.parent.relative_to(FIXTURES)) for file in FIXTURES.rglob("meta.json") if "weights_sha256" in file.read_text())


@pytest.mark.parametrize("case", CASES)
def test_weights_from_the_seed_are_those_of_the_official_run(case):
    """The sums are those of the files that the official code read."""
    meta = json.loads((FIXTURES / case / "meta.json").read_text())
    made, digest = weights(case), hashlib.sha256()
    for name in sorted(meta["weights_shapes"]):
        digest.update(name.encode())
        if not name.startswith("buffer:"):
            digest.update(made[name].tobytes())
    assert len(made) == len(meta["weights_shapes"]) and digest.hexdigest() == meta["weights_sha256"]


def test_every_case_with_an_official_model_is_there_and_none_is_large():
    assert len(CASES) == 9
    assert sum(file.stat().st_size for file in FIXTURES.rglob("*") if file.is_file()) < 12e6
