"""evaluate(): domains, conditions, damaged images, resuming, processes' shares, predictions in files, corruptions."""

import json
import os

import cv2
import numpy as np
import pytest
from fakes import NAMES, PALETTE, FakeModel, FakeSource
from sklearn.metrics import confusion_matrix

from data_pipelines import open_source
from data_pipelines.errors import DataError
from rein_jax.errors import UserError
from rein_jax.evaluation.evaluator import evaluate, evaluate_files
from rein_jax.metrics.accumulator import MetricAccumulator
from rein_jax.reporting import load_results
from rein_jax.reporting.gallery import Gallery, panels
from rein_jax.reporting.results import Results

HOW = {"crop": 32, "stride": 21, "batch": 2, "progress": False}


def matrix(found, domain):
    return np.array(found.domains[domain]["confusion"])


def test_numbers_are_sklearns_over_the_written_predictions(tmp_path):
    source = FakeSource(5)
    found = evaluate(FakeModel(), [source], out=tmp_path, save_predictions=True, **HOW)
    labels = np.concatenate([source[i]["label"].ravel() for i in range(5)])
    files = [tmp_path / "predictions" / "town" / ("fog", "night")[i % 2] / f"{i:03d}.png" for i in range(5)]
    predictions = np.concatenate([cv2.imread(str(f), cv2.IMREAD_UNCHANGED).ravel() for f in files])
    known = labels != 255
    assert (matrix(found, "town") == confusion_matrix(labels[known], predictions[known], labels=range(4))).all()
    again = evaluate_files(tmp_path / "predictions" / "town", [source], progress=False)
    assert (matrix(again, "town") == matrix(found, "town")).all()
    assert again.data["protocol"]["mode"] == "files"


def test_results_say_how_they_were_measured_and_come_back_from_disk(tmp_path):
    sources = {"town": FakeSource(4), "city": FakeSource(3, seed=1)}
    found = evaluate(FakeModel(), sources, out=tmp_path, boundary=True, facts={"name": "tiny"}, **HOW)
    data = json.loads((tmp_path / "results.json").read_text())
    assert data["protocol"] == {"name": "full", "mode": "slide", "crop": [32, 32], "stride": [21, 21], "scales": [1.0], "flip": False,
                                "text": "full, slide 32 stride 21, single scale, no flip"}
    assert data["model"]["name"] == "tiny" and len(data["model"]["identity"]) == 16
    assert data["mean"]["mIoU"] == pytest.approx(np.mean([data["domains"][d]["mIoU"] for d in sources]))
    assert set(data["domains"]["town"]["conditions"]) == {"fog", "night"}
    parts = [np.array(data["domains"]["town"]["conditions"][c]["confusion"]) for c in ("fog", "night")]
    assert (sum(parts) == matrix(found, "town")).all()
    assert 0 <= data["domains"]["town"]["calibration"]["ece"] <= 1 and data["domains"]["town"]["boundary"]["mIoU"] <= 100
    again = load_results(tmp_path)
    assert again.metrics() == found.metrics() and (again.accumulators["town"].matrices == found.accumulators["town"].matrices).all()
    for style in ("text", "markdown", "csv", "latex"):
        table = found.table(style)
        assert "town" in table and "bicycle" not in table and all(name in table for name in NAMES)
    assert len(list((tmp_path / "panels" / "town").glob("*.image.jpg"))) == 4


def test_damaged_images_are_named_counted_and_left_out(tmp_path):
    whole = evaluate(FakeModel(), [FakeSource(5)], **HOW)
    found = evaluate(FakeModel(), [FakeSource(5, broken=[1, 3])], out=tmp_path, **HOW)
    entry = found.domains["town"]
    assert entry["images"] == 3 and entry["of"] == 5 and [s["image"] for s in entry["skipped"]] == [1, 3]
    assert "image 1 is truncated" in entry["skipped"][0]["why"]
    assert "3 of 5" in found.table() and "not in these numbers: 2" in found.table("latex")
    kept = [0, 2, 4]
    assert (matrix(found, "town") == whole.accumulators["town"].matrices[kept].sum(0)).all()
    mended = evaluate(FakeModel(), [FakeSource(5)], out=tmp_path, **HOW)
    assert (matrix(mended, "town") == matrix(whole, "town")).all() and mended.domains["town"]["skipped"] == []


def test_an_interrupted_evaluation_goes_on_where_it_stopped(tmp_path):
    whole = evaluate(FakeModel(), [FakeSource(12)], **HOW)

    class Stops(FakeSource):
        def __getitem__(self, i):
            if i >= 9:
                raise KeyboardInterrupt
            return super().__getitem__(i)

    with pytest.raises(KeyboardInterrupt):
        evaluate(FakeModel(), [Stops(12)], out=tmp_path, save_every=2, threads=1, **HOW)
    assert list((tmp_path / "images").glob("town.part0.npz")) and not (tmp_path / "results.json").exists()
    source = FakeSource(12)
    found = evaluate(FakeModel(), [source], out=tmp_path, save_every=2, **HOW)
    assert 0 < source.reads < 12 and (matrix(found, "town") == matrix(whole, "town")).all()
    assert not list((tmp_path / "images").glob("*.part*"))
    source = FakeSource(12)
    assert evaluate(FakeModel(), [source], out=tmp_path, **HOW).metrics() == whole.metrics() and source.reads == 0
    source = FakeSource(12)
    evaluate(FakeModel(seed=1), [source], out=tmp_path, **HOW)
    assert source.reads == 12  # another model: nothing is taken over


def test_counts_of_another_precision_are_not_taken_over(tmp_path):
    source = FakeSource(3)
    for precision, reads in (("fp32", 3), ("bf16", 6), ("bf16", 6)):
        found = evaluate(FakeModel(), [source], out=tmp_path, precision=precision, **HOW)
        assert source.reads == reads and found.data["model"]["computes_in"] == {"fp32": "float32", "bf16": "bfloat16"}[precision]


def test_a_damaged_element_that_cannot_even_tell_its_name_is_left_out():
    class Records(FakeSource):
        def entry_name(self, i):
            if i in self.broken:
                raise DataError(f"record {i} cannot be read; prepare it again.")
            return super().entry_name(i)

    entry = evaluate(FakeModel(), [Records(4, broken=[2])], **HOW).domains["town"]
    assert entry["images"] == 3 and entry["skipped"] == [{"image": 2, "why": "element 2: image 2 is truncated; replace it."}]


def test_processes_keep_each_others_panels_and_in_the_end_the_best_and_worst_of_all(tmp_path):
    scores = {i: (7 * i % 12) / 12 for i in range(12)}
    image, label = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)

    def offer(gallery, indices):
        for i in indices:
            gallery.offer(i, scores[i], image, label, label)

    one, several = Gallery(tmp_path / "one", 2, PALETTE), [Gallery(tmp_path / "two", 2, PALETTE) for _ in range(2)]
    offer(one, range(12))
    offer(several[0], range(0, 12, 2))
    several[1].restore({}, 1, 2)  # a process that starts when another has begun
    assert panels(tmp_path / "two") == sorted({i for _, i in several[0].best + several[0].worst}) and len(panels(tmp_path / "two")) == 4
    offer(several[1], range(1, 12, 2))
    assert len(panels(tmp_path / "two")) == 8
    again = Gallery(tmp_path / "two", 2, PALETTE)  # interrupted: process 0 has lost its counts
    again.restore({}, 0, 2)
    assert panels(tmp_path / "two") == sorted({i for _, i in several[1].best + several[1].worst})
    offer(again, range(0, 12, 2))
    again.merge(scores)
    assert panels(tmp_path / "two") == panels(tmp_path / "one") and len(panels(tmp_path / "one")) == 4


def test_tallies_of_shares_merge_to_the_whole():
    found = evaluate(FakeModel(), [FakeSource(7)], boundary=True, **HOW).accumulators["town"]
    shares = []
    for p in range(3):
        share = MetricAccumulator(found.key, 7, 4, found.measures)
        share.merge(found, range(p, 7, 3))
        shares.append(MetricAccumulator.from_bytes(share.to_bytes()))
    assert [int(s.done.sum()) for s in shares] == [3, 2, 2]
    for other in shares[1:]:
        shares[0].merge(other)
    for name in ("matrices", "boundary", "calibration", "names", "conditions", "done"):
        assert (getattr(shares[0], name) == getattr(found, name)).all()


def test_corruptions_are_measured_and_scored_against_a_reference(tmp_path):
    how = {**HOW, "corruptions": ["noise", "contrast"], "severities": [1, 5]}
    sources = {"town": FakeSource(2)}
    reference = evaluate(FakeModel(seed=3), sources, out=tmp_path / "reference", **how)
    found = evaluate(FakeModel(), sources, reference=tmp_path / "reference", **how).data["robustness"]["town"]
    assert set(found["families"]) == {"noise", "digital"} and set(found["corruptions"]["contrast"]["mIoU"]) == {"1", "5"}
    values = [v for c in found["corruptions"].values() for v in c["mIoU"].values()]
    assert found["mean"] == pytest.approx(np.mean(values)) and found["retained"] == pytest.approx(100 * found["mean"] / found["clean"])
    other = reference.data["robustness"]["town"]["corruptions"]["contrast"]["mIoU"]
    ours = found["corruptions"]["contrast"]["mIoU"]
    cd = 100 * sum(100 - v for v in ours.values()) / sum(100 - v for v in other.values())
    assert found["reference"]["corruptions"]["contrast"]["CD"] == pytest.approx(cd)
    assert "gaussian noise" in reference.table() and "| contrast |" in reference.table("markdown")


def test_wrong_inputs_are_refused_in_one_sentence(tmp_path):
    model = FakeModel()
    with pytest.raises(UserError, match="class 3 is 'tree' for the model but 'grass' in the data set"):
        evaluate(model, [FakeSource(names=("road", "car", "sky", "grass"))], **HOW)
    with pytest.raises(UserError, match="the model knows 4 classes, the data set 2"):
        evaluate(model, [FakeSource(names=("road", "car"))], **HOW)
    with pytest.raises(UserError, match="no domain"):
        evaluate(model, [], **HOW)
    with pytest.raises(UserError, match="none of the 2 images could be measured"):
        evaluate(model, [FakeSource(2, broken=[0, 1])], **HOW)
    with pytest.raises(UserError, match="does not exist"):
        evaluate(tmp_path / "nothing", [FakeSource()], **HOW)

    class Odd(FakeSource):
        def __getitem__(self, i):
            return {**super().__getitem__(i), "label": np.zeros((5, 5), np.uint8)}

    with pytest.raises(UserError, match="the label is 5x5 but the image is 80x48"):
        evaluate(model, [Odd()], **HOW)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "town.npz").write_bytes(b"not a zip file")
    with pytest.raises(UserError, match="is damaged"):
        evaluate(model, [FakeSource()], out=tmp_path, **HOW)


def test_prediction_files_that_do_not_fit_are_refused(tmp_path):
    source = FakeSource(2)
    (tmp_path / "fog").mkdir()
    (tmp_path / "night").mkdir()
    cv2.imwrite(str(tmp_path / "fog" / "000.png"), np.zeros((48, 80), np.uint8))
    with pytest.raises(UserError, match="001.png is missing"):
        evaluate_files(tmp_path, [source], progress=False)
    cv2.imwrite(str(tmp_path / "night" / "001.png"), np.zeros((20, 80), np.uint8))
    with pytest.raises(UserError, match="the prediction is 80x20 but the label is 80x48"):
        evaluate_files(tmp_path, [source], progress=False)
    cv2.imwrite(str(tmp_path / "night" / "001.png"), np.zeros((48, 80, 3), np.uint8))
    with pytest.raises(UserError, match="is a RGB image"):
        evaluate_files(tmp_path, [source], progress=False)


def test_slips_in_corruptions_come_before_the_hours(monkeypatch):
    monkeypatch.setattr("rein_jax.evaluation.evaluator._measure", lambda *a, **k: pytest.fail("measured first"))
    plain = Results({"robustness": {}}, {})
    for slip, error, words in (({"corruptions": ["fogg"]}, DataError, "Unknown corruption 'fogg'"),
                               ({"corruptions": ["fog"], "severities": [9]}, DataError, "from 1 to 5"),
                               ({"corruptions": ["fog"], "reference": plain}, UserError, "holds no corruptions of 'town'")):
        with pytest.raises(error, match=words):
            evaluate(FakeModel(), {"town": FakeSource(2)}, **HOW, **slip)


def test_masks_corrected_in_place_are_measured_anew_and_a_reused_result_says_so(tmp_path, capsys):
    class Files(FakeSource):
        changed = 0

        def __getitem__(self, i):
            element = super().__getitem__(i)
            return {**element, "label": (element["label"] + self.changed) % 4 if self.changed else element["label"]}

        def version(self):
            return f"{self.fingerprint()} of {self.changed}"

    first = evaluate(FakeModel(), [Files(4)], out=tmp_path, **HOW)
    assert "reused" not in capsys.readouterr().err
    again = evaluate(FakeModel(), [Files(4)], out=tmp_path, **HOW)
    assert "town: 4 of 4 images were measured before" in capsys.readouterr().err
    assert (matrix(again, "town") == matrix(first, "town")).all()
    corrected = Files(4)
    corrected.changed = 1
    found = evaluate(FakeModel(), [corrected], out=tmp_path, **HOW)
    assert "reused" not in capsys.readouterr().err and corrected.reads >= 4
    assert found.domains["town"]["mIoU"] != first.domains["town"]["mIoU"]


def test_a_corrected_mask_file_of_as_many_bytes_changes_the_table(tmp_path, capsys):
    for number in range(3):
        for folder in ("images", "masks"):
            (tmp_path / "mine" / folder).mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number)
        cv2.imwrite(str(tmp_path / f"mine/images/{number}.png"), rng.integers(0, 256, (48, 64, 3), np.uint8))
        cv2.imwrite(str(tmp_path / f"mine/masks/{number}.bmp"), np.full((48, 64), number, np.uint8))
    measured = lambda: evaluate(FakeModel(), [open_source("folder", split="all", source=tmp_path / "mine", classes=list(NAMES))],
                                out=tmp_path / "out", **HOW)  # fmt: skip
    first = measured()
    mask = tmp_path / "mine/masks/1.bmp"
    before = mask.stat()
    cv2.imwrite(str(mask), np.full((48, 64), 3, np.uint8))
    os.utime(mask, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    assert mask.stat().st_size == before.st_size
    found = measured()
    assert "reused" not in capsys.readouterr().err
    counts = [np.array(one.domains["folder"]["confusion"]).sum(1).tolist() for one in (first, found)]
    assert counts == [[48 * 64] * 3 + [0], [48 * 64, 0, 48 * 64, 48 * 64]]
    measured()
    assert "folder: 3 of 3 images were measured before" in capsys.readouterr().err
