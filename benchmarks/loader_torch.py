"""The PyTorch side of `rein bench loader`: a DataLoader doing the same OpenCV work on the same files.

`--style usual` writes the transforms as PyTorch projects usually do (np.unique for the crop rule, float32 arithmetic on the
image for the photometric distortion); `--style ours` runs `data_pipelines` inside the DataLoader, which leaves the loaders
alone to compare. Prints one JSON line. Only this script needs torch; nothing in rein_jax imports it.
"""

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def pairs(folder: Path) -> list[tuple[str, str]]:
    """(image, label) files of either layout of `rein bench loader`."""
    images = sorted(folder.rglob("*_leftImg8bit.png")) or sorted((folder / "images").rglob("*.jpg"))
    found = []
    for image in images:
        label = str(image).replace("leftImg8bit", "gtFine", 1).replace("_leftImg8bit.png", "_gtFine_labelTrainIds.png")
        label = label.replace("/images/10k/", "/labels/sem_seg/masks/").replace(".jpg", ".png")
        found.append((str(image), label))
    return found


class Usual(Dataset):
    """Decode, resize, crop, flip and distort, as it is usually written."""

    def __init__(self, folder: Path, length: int, crop: int):
        self.pairs, self.length, self.crop = pairs(folder), length, crop
        self.edges = [int(crop * k * 0.1) for k in range(5, 21)]

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        image_file, label_file = self.pairs[index % len(self.pairs)]
        image, label = cv2.imread(image_file), cv2.imread(label_file, cv2.IMREAD_UNCHANGED)
        scale = rng.choice(self.edges) / min(label.shape)
        scale = min(scale, 4 * self.crop / max(label.shape))
        size = tuple(int(side * scale + 0.5) for side in label.shape[::-1])
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)
        image, label = self.cut(image, label, rng)
        if rng.random() < 0.5:
            image, label = cv2.flip(image, 1), cv2.flip(label, 1)
        image = distort(image, rng)
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        bottom, right = self.crop - label.shape[0], self.crop - label.shape[1]
        if bottom or right:
            image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=0)
            label = cv2.copyMakeBorder(label, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=255)
        return torch.from_numpy(np.ascontiguousarray(image)), torch.from_numpy(np.ascontiguousarray(label))

    def cut(self, image, label, rng):
        for _ in range(11):
            top = rng.integers(0, max(label.shape[0] - self.crop, 0) + 1)
            left = rng.integers(0, max(label.shape[1] - self.crop, 0) + 1)
            box = label[top : top + self.crop, left : left + self.crop]
            values, counts = np.unique(box, return_counts=True)
            counts = counts[values != 255]
            if len(counts) > 1 and counts.max() / counts.sum() < 0.75:
                break
        return image[top : top + self.crop, left : left + self.crop], box


def distort(image, rng):
    """Brightness, contrast, saturation and hue in float32, each with probability one half."""
    scaled = lambda values, a, b: np.clip(values.astype(np.float32) * a + b, 0, 255).astype(np.uint8)
    if rng.integers(2):
        image = scaled(image, 1, rng.uniform(-32, 32))
    first = rng.integers(2)
    if first and rng.integers(2):
        image = scaled(image, rng.uniform(0.5, 1.5), 0)
    if rng.integers(2):
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        hsv[..., 1] = scaled(hsv[..., 1], rng.uniform(0.5, 1.5), 0)
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if rng.integers(2):
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + rng.integers(-18, 18)) % 180
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if not first and rng.integers(2):
        image = scaled(image, rng.uniform(0.5, 1.5), 0)
    return image


class Ours(Dataset):
    """The sources and transforms of data_pipelines."""

    def __init__(self, folder: Path, length: int, crop: int):
        from data_pipelines import open_source
        from data_pipelines.transforms import TrainTransform

        name = "cityscapes" if (folder / "leftImg8bit").exists() else "bdd100k"
        self.source, self.transform = open_source(name, split="train", source=folder), TrainTransform(crop)
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        element = self.source[index % len(self.source)]
        out = self.transform(element["image"], element["label"], np.random.default_rng(index))
        return torch.from_numpy(np.ascontiguousarray(out["image"])), torch.from_numpy(np.ascontiguousarray(out["label"]))


def cpu_seconds() -> float:
    """CPU time of this process and of its finished children."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in usage)


def start_worker(_):
    cv2.setNumThreads(0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--style", choices=("usual", "ours"), default="usual")
    for name, value in (("workers", os.cpu_count()), ("images", 64), ("batch", 4), ("crop", 512)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    few = args.workers * args.batch
    _, short, long = (epoch(args, count) for count in (few, few, few + args.images))  # the first one pays for imports
    count, cpu, wall = (after - before for before, after in zip(short, long, strict=True))
    print(json.dumps({"images_per_core_s": count / cpu, "images_per_s": count / wall}))


def epoch(args, images):
    """(images, CPU seconds, seconds) of one epoch; the difference of two epochs leaves out starting and ending workers."""
    dataset = {"usual": Usual, "ours": Ours}[args.style](args.folder, images // args.batch * args.batch, args.crop)
    options = {"num_workers": args.workers, "worker_init_fn": start_worker, "multiprocessing_context": "fork"}
    cpu, wall = cpu_seconds(), time.perf_counter()
    batches = iter(DataLoader(dataset, args.batch, shuffle=True, drop_last=True, **options))
    for image, label in batches:
        assert image.shape[1:] == (args.crop, args.crop, 3) and label.shape[1:] == (args.crop, args.crop)
    del batches  # joins the workers, whose CPU time counts from then on
    return len(dataset), cpu_seconds() - cpu, time.perf_counter() - wall


if __name__ == "__main__":
    main()
