"""Untrusted prepared folders, and disks that fill up while one is written."""

import contextlib
import json
import os
import resource
import sys

import numpy as np
import pytest

from data_pipelines import cache, open_source
from data_pipelines import prepare as writing
from data_pipelines.cache import Cached
from data_pipelines.errors import DataError
from data_pipelines.prepare import prepare
from data_pipelines.records import MANIFEST, recognise
from rein_jax.cli.main import main
from tests.data.miniatures import build


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return build("gtav", tmp_path_factory.mktemp("raw")).root


@pytest.fixture
def prepared(made, tmp_path):
    out = tmp_path / "records"
    prepare("gtav", made, out, say=lambda line: None)
    return out


def edit(prepared, change):
    """Changes the manifest as anybody could."""
    manifest = json.loads((prepared / MANIFEST).read_text())
    change(manifest)
    (prepared / MANIFEST).write_text(json.dumps(manifest))


@pytest.fixture
def planted(prepared, tmp_path, monkeypatch):
    """A prepared folder whose features.json names a class of a module that leaves a trace when it is imported."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code/evil_features.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w').close()\nclass Evil: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    monkeypatch.chdir(tmp_path / "code")
    for features in prepared.rglob("features.json"):
        content = json.loads(features.read_text())
        content["pythonClassName"] = "evil_features.Evil"
        for feature in content["featuresDict"]["features"].values():
            feature["pythonClassName"] = "evil_features.Evil"
        features.write_text(json.dumps(content))
        for info in features.parent.glob("dataset_info.json"):
            info.write_text(info.read_text().replace('"rein_gtav"', '"evil_features"', 1))

    def measure(manifest):
        for part in manifest["splits"]["train"]["parts"]:
            for name, expected in part["files"].items():
                expected["bytes"] = (prepared / part["folder"] / name).stat().st_size

    edit(prepared, measure)
    yield prepared
    assert "evil_features" not in sys.modules and not (tmp_path / "trace").exists()


def test_a_class_name_in_features_json_is_never_imported(planted, made):
    source = open_source("gtav", source=planted)
    assert [element["name"] for element in source] == [element["name"] for element in open_source("gtav", source=made)]


def test_data_check_imports_no_class_name(planted, tmp_path, capsys):
    assert main(["data", "check", "gtav", "--source", str(planted), "--out", str(tmp_path / "out"), "--partial"]) == 0
    assert "5 images" in capsys.readouterr().out


def test_evaluation_and_training_batches_import_no_class_name(planted, tmp_path):
    from data_pipelines.mixture import train_batches
    from rein_jax.evaluation.evaluator import evaluate_files
    from rein_jax.evaluation.predictions import write_prediction

    source = open_source("gtav", source=planted)
    assert next(iter(train_batches([source], batch=2)))["image"].shape[0] == 2
    for element in source:
        write_prediction(tmp_path / "predictions", element["name"], np.where(element["label"] == 255, 0, element["label"]))
    found = evaluate_files(tmp_path / "predictions", [source], progress=False)
    assert found.domains["gtav"]["mIoU"] == 100


def test_preparing_again_over_a_planted_folder_imports_nothing(planted, made):
    (planted / MANIFEST).unlink()
    prepare("gtav", made, planted, say=lambda line: None)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda m: m["splits"]["train"]["parts"][0].update(folder="../../elsewhere"), "lies outside the folder"),
        (lambda m: m["splits"]["train"]["parts"][0].update(folder="/etc"), "lies outside the folder"),
        (lambda m: m["splits"]["train"]["parts"][0]["files"].update({"../x": {"bytes": 1, "sha256": ""}}), "lies outside the folder"),
        (lambda m: m["splits"]["train"]["parts"][0].update(elements="many"), "a part of 'many' elements"),
        (lambda m: m["splits"]["train"].pop("parts"), "'parts'"),
        (lambda m: m["splits"]["train"].update(parts=[]), "'elements'"),
        (lambda m: m["splits"]["train"]["decode"].update(kind="evil.Kind"), "'evil.Kind'"),
        (lambda m: m["splits"].update(train=None), "NoneType"),
        (lambda m: m.update(splits=["train"]), "list"),
        (lambda m: m.pop("dataset"), "'dataset'"),
    ],
)
def test_a_manifest_of_another_form_is_one_sentence(change, words, prepared):
    edit(prepared, change)
    with pytest.raises(DataError, match=f"manifest.json is not what `rein prepare` writes .*{words}"):
        open_source("gtav", source=prepared)


@pytest.mark.parametrize("text", ['{"format": "rein-records-1"', '["rein-records-1"]', '"rein-records-1"', '{"format": "rein-records-12"}'])
def test_half_a_manifest_is_one_sentence(text, prepared):
    (prepared / MANIFEST).write_text(text)
    with pytest.raises(DataError, match="manifest.json (cannot be read|has another format)"):
        open_source("gtav", source=prepared)


def test_records_without_our_features_are_refused(prepared):
    from array_record.python.array_record_module import ArrayRecordWriter

    shard = next(prepared.rglob("*.array_record*"))
    writer = ArrayRecordWriter(str(shard), "group_size:1")
    for content in (b"", b"\x0a\x00", b"\xff" * 9, b"x", b"\x0a\x05\x0a\x03\x0a\x01x"):
        writer.write(content)
    writer.close()
    edit(prepared, lambda m: m["splits"]["train"]["parts"][0]["files"][shard.name].update(bytes=shard.stat().st_size))
    source = open_source("gtav", source=prepared)
    for index in range(5):
        with pytest.raises(DataError, match="cannot be read"):
            source[index]


@contextlib.contextmanager
def files_end_at(size):
    """No file of this process may grow beyond so many bytes: writing more fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_full_disk_ends_prepare_in_one_sentence_and_it_goes_on_later(size, made, tmp_path):
    out = tmp_path / "records"
    with files_end_at(size), pytest.raises(DataError, match="records cannot be written .File too large.; free space or choose"):
        prepare("gtav", made, out, say=lambda line: None)
    assert not (out / MANIFEST).exists() and not list(out.rglob("checksums.json"))
    with pytest.raises(DataError, match="has not finished"):
        recognise(out)
    prepare("gtav", made, out, say=lambda line: None)
    assert len(open_source("gtav", source=out)) == 5


def test_a_disk_that_fills_up_before_the_manifest_leaves_none(made, tmp_path, monkeypatch, capsys):
    out = tmp_path / "records"
    real = writing._replace

    def full(path, content):
        if path.name == MANIFEST:
            raise OSError(28, os.strerror(28))
        real(path, content)

    monkeypatch.setattr(writing, "_replace", full)
    assert main(["prepare", "gtav", "--source", str(made), "--out", str(out), "--jobs", "1"]) == 2
    said = capsys.readouterr().err
    assert "No space left on device" in said and "finished are kept" in said and said.count("\n") == 1
    assert not list(out.glob("*manifest*"))
    monkeypatch.undo()
    said = []
    prepare("gtav", made, out, say=said.append)
    assert "1 already there" in said[0]


def test_records_that_were_cut_by_the_system_are_never_finished(made, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "array_records", lambda shards: range(4))  # one of five is missing
    with pytest.raises(DataError, match="cannot be written .Input/output error."):
        prepare("gtav", made, tmp_path / "records", say=lambda line: None)
    assert not list(tmp_path.rglob("checksums.json"))


def test_a_killed_process_of_prepare_is_one_sentence(made, tmp_path, monkeypatch):
    from concurrent.futures.process import BrokenProcessPool

    def killed(*arguments):
        raise BrokenProcessPool("A process in the process pool was terminated abruptly")

    monkeypatch.setattr(writing, "_write_all", killed)
    with pytest.raises(DataError, match="a process that wrote was killed, perhaps for want of memory: use fewer --jobs"):
        prepare("gtav", made, tmp_path / "records", say=lambda line: None)


def test_a_full_disk_ends_a_decoded_cache_in_one_sentence(made, tmp_path):
    with files_end_at(5000), pytest.raises(DataError, match="decoded cache .* cannot be written .File too large.: free space"):
        Cached(open_source("gtav", source=made), tmp_path / "cache", threads=1)
    assert not list((tmp_path / "cache").iterdir())


def test_a_read_only_cache_that_holds_the_data_is_used(made, tmp_path, monkeypatch):
    first = Cached(open_source("gtav", source=made), tmp_path / "cache", threads=1)

    def refuse(*arguments, **options):
        raise OSError(30, os.strerror(30))

    for name in ("makedirs", "mkdir", "rename", "replace"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr(cache.tempfile, "mkdtemp", refuse)
    again = Cached(open_source("gtav", source=made), tmp_path / "cache", threads=1)
    assert (again[2]["image"] == first[2]["image"]).all() and len(again) == 5
    with pytest.raises(DataError, match="cannot be written .Read-only file system.: free space, choose another folder"):
        Cached(open_source("gtav", source=made, subset="1/2"), tmp_path / "cache", threads=1)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"names": []}'])
def test_a_cache_with_half_an_index_is_named(text, made, tmp_path):
    where = Cached(open_source("gtav", source=made), tmp_path, threads=1).where
    (where / cache.INDEX).write_text(text)
    with pytest.raises(DataError, match="index.json cannot be read .*: remove .* and start again"):
        Cached(open_source("gtav", source=made), tmp_path)


def test_a_cache_below_no_home_folder_is_said(made, monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: (_ for _ in ()).throw(KeyError(uid)))
    with pytest.raises(DataError, match="~/cache: this user has no home folder"):
        Cached(open_source("gtav", source=made), "~/cache")
