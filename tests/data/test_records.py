"""rein prepare: bytes are copied, interrupted runs go on, damage and other sources are noticed, no tensorflow."""

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from data_pipelines import open_source
from data_pipelines import prepare as writing
from data_pipelines.errors import DataError
from data_pipelines.prepare import prepare, prepare_with_beam
from data_pipelines.records import verify
from rein_jax.cli import prepare as command
from tests.data.miniatures import build, wide_png


def quiet(*args, **options):
    return prepare(*args, say=lambda line: None, **options)


def test_empty_files_stop_the_writing(tmp_path):
    made, out = build("gtav", tmp_path / "raw"), tmp_path / "records"
    (made.root / "images/00005.png").write_bytes(b"")
    with pytest.raises(DataError, match="00005.png is empty"):
        quiet("gtav", made.root, out)
    quiet("gtav", made.root, out, policy="skip")
    assert len(open_source("gtav", source=out)) == 4


def same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x["name"] == y["name"]
        np.testing.assert_array_equal(x["image"], y["image"])
        np.testing.assert_array_equal(x["label"], y["label"])


@pytest.mark.parametrize("style", ["gtav", "synthia", "mapillary", "folder:colours", "cityscapes"])
def test_prepared_equals_source_byte_for_byte(style, tmp_path):
    made, out = build(style, tmp_path / "raw"), tmp_path / "records"
    name = style.partition(":")[0]
    manifest = quiet(name, made.root, out, splits=("all",) if name == "folder" else ())
    for split in manifest["splits"]:
        raw, packed = open_source(name, split=split, source=made.root), open_source(name, split=split, source=out)
        same(raw, packed)
        same(packed, pickle.loads(pickle.dumps(packed)))
        assert packed.classes == raw.classes and packed.has_labels == raw.has_labels and packed.domain == raw.domain
        for index in range(len(raw)):
            assert packed.encoded(index).image == raw.encoded(index).image
            assert packed.encoded(index).label == raw.encoded(index).label
    verify(out)


def test_parts_do_not_depend_on_jobs_and_finished_ones_are_kept(tmp_path):
    made = build("gtav", tmp_path / "raw")
    first = quiet("gtav", made.root, tmp_path / "a", part_bytes=20_000)
    assert len(first["splits"]["train"]["parts"]) > 1
    second = quiet("gtav", made.root, tmp_path / "b", part_bytes=20_000, jobs=2)
    assert [p["fingerprint"] for p in first["splits"]["train"]["parts"]] == [
        p["fingerprint"] for p in second["splits"]["train"]["parts"]
    ]
    said = []
    prepare("gtav", made.root, tmp_path / "a", part_bytes=20_000, say=said.append)
    parts = len(first["splits"]["train"]["parts"])
    assert said == [f"gtav: {parts} parts of 5 pairs, {parts} already there."]
    same(open_source("gtav", source=tmp_path / "a", subset="1/2"), open_source("gtav", source=made.root, subset="1/2"))


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    made, out = build("gtav", tmp_path / "raw"), tmp_path / "records"
    write = writing.write_part

    def stop_at_the_second(out, name, source, part):
        if part.start:
            raise KeyboardInterrupt
        return write(out, name, source, part)

    monkeypatch.setattr(writing, "write_part", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        quiet("gtav", made.root, out, part_bytes=20_000)
    monkeypatch.undo()
    assert not (out / "manifest.json").exists()
    scrap = next(out.glob("rein_gtav/train_0000*")) / "incomplete.X_1.0.0"
    scrap.mkdir()
    said = []
    prepare("gtav", made.root, out, part_bytes=20_000, say=said.append)
    assert "pairs, 1 already there" in said[0] and not scrap.exists()
    same(open_source("gtav", source=out), open_source("gtav", source=made.root))


def test_killed_in_the_middle(tmp_path):
    made, out = build("gtav", tmp_path / "raw"), tmp_path / "records"
    code = (
        "import os, sys, data_pipelines.prepare as p\n"
        "def die(*a): os._exit(9)\n"
        "p._describe = die\n"  # dies after TFDS has written the first part, before its checksums
        f"p.prepare('gtav', {str(made.root)!r}, {str(out)!r}, part_bytes=20_000)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=os.getcwd(), capture_output=True).returncode == 9
    with pytest.raises(DataError, match="has not finished"):
        open_source("gtav", source=out)  # nothing half finished is taken for a data set
    quiet("gtav", made.root, out, part_bytes=20_000)
    same(open_source("gtav", source=out), open_source("gtav", source=made.root))


def test_a_changed_source_is_written_anew(tmp_path):
    made, out = build("gtav", tmp_path / "raw"), tmp_path / "records"
    quiet("gtav", made.root, out)
    before = open_source("gtav", source=out).fingerprint()
    (made.root / "images/00009.png").write_bytes((made.root / "images/00004.png").read_bytes())
    (made.root / "labels/00009.png").write_bytes((made.root / "labels/00004.png").read_bytes())
    quiet("gtav", made.root, out)
    assert len(open_source("gtav", source=out)) == 6 and open_source("gtav", source=out).fingerprint() != before


def test_damage_is_found(tmp_path):
    made, out = build("gtav", tmp_path / "raw"), tmp_path / "records"
    quiet("gtav", made.root, out)
    shard = next(out.rglob("*.array_record*"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(DataError, match="checksum"):
        verify(out)
    shard.write_bytes(bytes(data[:-1]))
    with pytest.raises(DataError, match="another size than the manifest says"):
        open_source("gtav", source=out)
    quiet("gtav", made.root, out)
    verify(out)


def test_a_damaged_record_is_skipped_by_its_number(tmp_path):
    made, out = build("gtav", tmp_path / "raw"), tmp_path / "records"
    quiet("gtav", made.root, out)
    shard, image = next(out.rglob("*.array_record*")), open_source("gtav", source=out).encoded(1).image
    shard.write_bytes(shard.read_bytes().replace(image, bytes(len(image))))
    source = open_source("gtav", source=out, policy="skip")
    assert [element["name"] for element in source] == [source.entry_name(i) for i in (0, 2, 2, 3, 4)]
    assert list(source.problems) == ["element 1"] and "cannot be read" in source.problems["element 1"]
    with pytest.raises(DataError, match="cannot be read"):
        open_source("gtav", source=out)[1]


def test_wrong_uses_are_one_sentence(tmp_path):
    made, out = build("acdc", tmp_path / "raw"), tmp_path / "records"
    quiet("acdc", made.root, out, splits=("val",), condition="fog")
    with pytest.raises(DataError, match="prepared from data set 'acdc', not 'gtav'"):
        open_source("gtav", source=out)
    with pytest.raises(DataError, match="no split 'train' .*--split train"):
        open_source("acdc", split="train", source=out)
    with pytest.raises(DataError, match="prepared with condition='fog', not 'all'"):
        open_source("acdc", split="val", source=out)
    with pytest.raises(DataError, match="choose another --out"):
        quiet("gtav", build("gtav", tmp_path / "g").root, out)
    with pytest.raises(DataError, match="nothing to prepare"):
        quiet("streets", None, out / "s")


def test_tensorflow_is_never_imported_and_plain_tfds_reads_it(tmp_path):
    made, out = build("synthia", tmp_path / "raw"), tmp_path / "records"
    quiet("synthia", made.root, out)
    import tensorflow_datasets as tfds

    folder = next(out.glob("rein_synthia/train_*/1.0.0"))
    record = tfds.builder_from_directory(str(folder)).as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})[0]
    assert record["label"] == open_source("synthia", source=made.root).encoded(0).label
    assert record["label"][:4] == wide_png(np.zeros((8, 8, 3), np.uint16))[:4]
    assert "tensorflow" not in sys.modules


def test_builder_alone_writes_every_split(tmp_path):
    import tensorflow_datasets as tfds

    from data_pipelines import builders

    made, out = build("camvid", tmp_path / "raw"), tmp_path / "records"
    builder = builders.BUILDERS["camvid"](data_dir=str(out), config="whole", file_format="array_record")
    where = tfds.download.DownloadConfig(manual_dir=str(made.root))
    builder.download_and_prepare(download_config=where, file_format="array_record", download_dir=str(tmp_path))
    assert {split: info.num_examples for split, info in builder.info.splits.items()} == {"train": 6, "val": 2, "test": 4}


def test_beam(tmp_path):
    made, out = build("camvid", tmp_path / "raw"), tmp_path / "records"
    try:
        import apache_beam  # noqa: F401
    except ImportError:
        with pytest.raises(DataError, match="pip install apache-beam"):
            prepare_with_beam("camvid", made.root, out, "")
        return
    manifest = prepare_with_beam("camvid", made.root, out, "--runner=DirectRunner")
    assert {split: kept["elements"] for split, kept in manifest["splits"].items()} == {"train": 6, "val": 2, "test": 4}
    raw, packed = (open_source("camvid", split="test", source=source) for source in (made.root, out))
    truth = {element["name"]: element["label"] for element in raw}
    assert {element["name"] for element in packed} == set(truth)  # Beam has its own order
    for element in packed:
        np.testing.assert_array_equal(element["label"], truth[element["name"]])


def test_command(tmp_path, capsys):
    made, out = build("gtav", tmp_path / "raw"), tmp_path / "records"
    assert command.main(["gtav", "--source", str(made.root), "--out", str(out), "--jobs", "1"]) == 0
    assert "holds train 5" in capsys.readouterr().out
    assert command.main(["gtav", "--out", str(out), "--verify"]) == 0
    assert json.loads((out / "manifest.json").read_text())["dataset"] == "gtav"
