"""TFDS builders that keep image and label files byte for byte in ArrayRecord; written without tensorflow.

`rein prepare` runs one builder a part (a slice of one split), in as many processes as asked for. Very large sets can be written
on many machines through TFDS' own Beam option; the source must then be visible from every machine (needs `pip install
apache-beam`):

    rein prepare mapillary --source /data/mapillary --out /data/records --beam="--runner=DirectRunner --direct_num_workers=8"

An example is {"image": encoded file, "label": encoded file (b"" without label), "name"}. The label is kept as bytes and not as
a TFDS image on purpose: palette and 16-bit labels would come back as other values through TFDS' decoder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

import data_pipelines
from data_pipelines.errors import DataError
from data_pipelines.files import NothingThere
from data_pipelines.images import check_whole
from data_pipelines.records import tfds_split
from data_pipelines.source import Source

VERSION = "1.0.0"
BASIC = ("train", "val", "test")  # splits of a data set that does not say which hold every image once


@dataclasses.dataclass(eq=False, kw_only=True)
class PartConfig(tfds.core.BuilderConfig):
    """What a builder writes: `indices` of an open `source` as `split`, or every one of `splits` found at `place`.

    Without a place it is TFDS' `manual_dir`. `options` are those of the data set, `beam` hands the reading to Beam's workers.
    """

    source: Source | None = None
    split: str = ""
    indices: range = range(0)
    fingerprint: str = ""
    place: str | None = None
    splits: tuple[str, ...] = ()
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    beam: bool = False


class PairBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Writes pairs of encoded files; a subclass names the data set."""

    data_set = ""
    # TFDS 4.9.10 finds this path with importlib_resources, which it does not install; only download checksums would need it.
    code_path = None
    VERSION = tfds.core.Version(VERSION)
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Download the data set by hand and give its folder or .zip as --manual_dir."
    BUILDER_CONFIGS = [PartConfig(name="whole", description="Every split, one process.")]

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.Text(doc="Encoded label file, byte for byte."),
            "name": tfds.features.Text(doc="Path of the image inside the data set."),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=not self.builder_config.beam,  # order of the source; Beam orders by key in its own way
            metadata=tfds.core.MetadataDict(fingerprint=self.builder_config.fingerprint),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        config = self.builder_config
        if config.source is not None:
            return {tfds_split(config.split): self._generate_examples(config.source, config.indices)}
        sources = open_splits(self.data_set, config.place or dl_manager.manual_dir, config.splits, **config.options)
        return {tfds_split(split): self._generate_examples(source, range(len(source))) for split, source in sources.items()}

    def _generate_examples(self, source: Source, indices: range) -> Any:
        if self.builder_config.beam:
            beam = tfds.core.lazy_imports.apache_beam
            return beam.Create(list(indices)) | beam.Map(_Example(source))
        return _examples(source, indices)


@dataclasses.dataclass
class _Example:
    """Index -> (key, example), as a picklable callable for Beam's workers."""

    source: Source

    def __call__(self, index: int) -> tuple[int, dict[str, bytes]]:
        return index, example(self.source, index)


def example(source: Source, index: int) -> dict[str, bytes]:
    """Element `index` of a source as encoded bytes; raises DataError if a file is empty or cut short."""
    element = source.encoded(index)
    check_whole(element.image, element.image_file)
    if element.label is not None:
        check_whole(element.label, element.label_file)
    return {"image": element.image, "label": element.label or b"", "name": element.name}


def _examples(source: Source, indices: range) -> Iterator[tuple[int, dict[str, bytes]]]:
    for index in indices:
        try:
            yield index, example(source, index)
        except DataError:
            if source.policy == "raise":
                raise


def open_splits(name: str, source: Any, splits: tuple[str, ...] = (), **options: Any) -> dict[str, Source]:
    """Sources by split; without `splits`, every basic split whose images are there."""
    spec = data_pipelines.dataset(name)
    found: dict[str, Source] = {}
    missing: DataError | None = None
    for split in splits or getattr(spec, "basic", BASIC):
        try:
            found[split] = data_pipelines.open_source(name, split=split, source=source, **options)
        except NothingThere as error:
            if splits:
                raise
            missing = error
    if not found:
        raise missing or DataError(f"{source} holds no split of data set {name!r}.")
    return found


class ReinGtav(PairBuilder):
    data_set = "gtav"


class ReinSynthia(PairBuilder):
    data_set = "synthia"


class ReinUrbansyn(PairBuilder):
    data_set = "urbansyn"


class ReinCityscapes(PairBuilder):
    data_set = "cityscapes"


class ReinBdd100k(PairBuilder):
    data_set = "bdd100k"


class ReinMapillary(PairBuilder):
    data_set = "mapillary"


class ReinAcdc(PairBuilder):
    data_set = "acdc"


class ReinCamvid(PairBuilder):
    data_set = "camvid"


class ReinFolder(PairBuilder):
    data_set = "folder"


BUILDERS = {cls.data_set: cls for cls in PairBuilder.__subclasses__()}
