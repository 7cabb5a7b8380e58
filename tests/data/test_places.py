"""Folders and archives as people have them, and as nobody should: links, pipes, hostile names and sizes."""

import os
import random
import socket
import stat
import tarfile
import zipfile

import pytest

from data_pipelines import files, open_source, zips
from data_pipelines.errors import DataError
from data_pipelines.files import Folder, read_file, shown
from data_pipelines.places import locate, open_files
from data_pipelines.zips import Zip
from tests.data.miniatures import build, png, scene


def zipped(path, members, **options):
    """A .zip of {name: bytes}, names exactly as given."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo()
            info.filename, info.compress_type = name, zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return path


def linked(path, members, links):
    """A .zip with symbolic links {name: target}, as `zip -y` packs them."""
    with zipfile.ZipFile(zipped(path, members), "a") as archive:
        for name, target in links.items():
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, target)
    return path


@pytest.mark.parametrize("given", [r"mine\images\a.png", "/images/a.png", r"C:\data\images\a.png", "./images//a.png", "d:/images/a.png"])
def test_zip_names_of_other_systems_become_relative(given, tmp_path):
    found = Zip(zipped(tmp_path / "x.zip", {given: b"pixels"}))
    assert len(found.names()) == 1 and found.names()[0].endswith("images/a.png") and not found.names()[0].startswith(("/", "C:", "d:"))
    assert found.read(found.names()[0]) == b"pixels"


def test_a_zip_with_backslashes_is_a_data_set(tmp_path):
    members = {"mine\\names.txt": b"a\nb\nc\n"}
    for number in range(4):
        image, label = scene(number, classes=3)
        members |= {f"mine\\images\\{number}.png": png(image), f"mine\\masks\\{number}.png": png(label)}
    source = open_source("folder", split="all", source=zipped(tmp_path / "mine.zip", members))
    assert len(source) == 4 and source.classes.names == ("a", "b", "c")


def test_a_folder_that_holds_nothing_but_a_zip_is_a_data_set(tmp_path):
    build("folder", tmp_path / "data").pack("")
    assert len(open_source("folder", split="all", source=tmp_path / "data")) == 10


def test_images_and_masks_in_two_zips_are_a_data_set(tmp_path):
    build("folder", tmp_path / "data").pack("images/", "masks/")
    source = open_source("folder", split="all", source=tmp_path / "data")
    assert len(source) == 10 and source.classes.names == open_source("folder", source=build("folder", tmp_path / "raw").root).classes.names


@pytest.mark.parametrize("name", ["../evil.png", "images/../../evil.png", r"..\evil.png", "/../evil.png"])
def test_zip_names_that_lead_out_are_refused(name, tmp_path):
    with pytest.raises(DataError, match="x.zip holds .* which leads out of the archive"):
        Zip(zipped(tmp_path / "x.zip", {"images/a.png": b"x", name: b"x"}))


def test_links_inside_a_zip_are_followed(tmp_path):
    found = Zip(linked(tmp_path / "x.zip", {"train/a.png": b"1", "train/b.png": b"2"}, {"val": "train", "first.png": "train/a.png"}))
    assert found.names() == ["first.png", "train/a.png", "train/b.png", "val", "val/a.png", "val/b.png"]
    assert found.read("val/b.png") == b"2" and found.read("first.png") == b"1" and found.real("first.png") == found.real("train/a.png")


@pytest.mark.parametrize("target", ["/etc/passwd", "../../etc/passwd", "nothing.png", "a.png/..", "x" * 5000])
def test_links_that_lead_out_of_a_zip_are_refused_when_read(target, tmp_path):
    found = Zip(linked(tmp_path / "x.zip", {"images/b.png": b"1"}, {"images/a.png": target}))
    assert found.read("images/b.png") == b"1"
    with pytest.raises(DataError, match="images/a.png is a link to what is not in the .zip"):
        found.read("images/a.png")


def test_a_circle_of_links_in_a_zip_ends(tmp_path):
    found = Zip(linked(tmp_path / "x.zip", {"a/x.png": b"1"}, {"a/b": "../a", "a/c": "b", "d": "d"}))
    assert "a/x.png" in found.names() and len(found.names()) < 9


def test_what_inflates_beyond_measure_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(zips, "_ALWAYS_ALLOWED", 1 << 20)
    bomb = Zip(zipped(tmp_path / "x.zip", {"images/a.png": bytes(4 << 20), "images/b.png": bytes(1 << 20)}))
    monkeypatch.setattr(Zip, "_at", None)  # nothing may be read
    with pytest.raises(DataError, match="images/a.png would inflate from 0.0 MiB to 0.0 GiB, as no picture does"):
        bomb.read("images/a.png")
    monkeypatch.undo()
    assert len(bomb.read("images/b.png")) == 1 << 20
    monkeypatch.setattr(zips, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match="images/b.png would inflate"):
        bomb.read("images/b.png")


def test_a_member_that_states_less_than_it_holds_is_never_inflated_whole(tmp_path):
    path = zipped(tmp_path / "x.zip", {"a.png": bytes(8 << 20)})
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\1\2") + 24  # the size in the table of contents
    data[at : at + 4] = (100).to_bytes(4, "little")
    path.write_bytes(data)
    sizes = []
    real = zips.zlib.crc32

    def counted(inflated):
        sizes.append(len(inflated))
        return real(inflated)

    found = Zip(path)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(DataError, match="a.png is damaged inside the .zip"):
        patch.setattr(zips.zlib, "crc32", counted)
        found.read("a.png")
    assert all(size <= 101 for size in sizes)


@pytest.mark.parametrize("cut", [10, 100, 400])
def test_half_a_zip_is_said(cut, tmp_path):
    path = zipped(tmp_path / "x.zip", {f"{k}.png": random.Random(k).randbytes(50) for k in range(5)})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match="x.zip is not a whole .zip"):
        open_files(path)


def test_a_zip_whose_middle_is_missing_is_said(tmp_path):
    path = zipped(tmp_path / "x.zip", {f"{k}.png": random.Random(k).randbytes(500) for k in range(5)})
    data = path.read_bytes()
    at = data.index(b"PK\1\2")
    path.write_bytes(data[at:])
    with pytest.raises(DataError, match="x.zip is (not a whole .zip|damaged)|cannot be read from the .zip|damaged inside"):
        found = open_files(path)
        [found.read(name) for name in found.names()]


@pytest.mark.parametrize(
    "begin, words",
    [
        (b"Rar!\x1a\x07\x01\0", r"a \.rar archive"),
        (b"7z\xbc\xaf\x27\x1c", r"a \.7z archive"),
        (b"\x1f\x8b\x08", "packed by gzip"),
        (b"BZh9", "packed by bzip2"),
        (b"\xfd7zXZ\0", "packed by xz"),
        (b"\x28\xb5\x2f\xfd", "packed by zstd"),
    ],
)
@pytest.mark.parametrize("name", ["data.zip", "data"])
def test_other_archives_are_named(name, begin, words, tmp_path):
    path = tmp_path / name
    path.write_bytes(begin + bytes(100))
    with pytest.raises(DataError, match=f"{name} is {words}.*; unpack it and point at the folder"):
        open_files(path)


@pytest.mark.parametrize(
    "begin, words",
    [
        (b"<!DOCTYPE html><html>", "a web page, not a .zip; the download failed"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS and not the file itself, not a .zip; run `git lfs pull`"),
        (b"", "not a whole .zip"),
    ],
)
def test_what_people_have_in_place_of_a_zip_is_named(begin, words, tmp_path):
    (tmp_path / "data.zip").write_bytes(begin)
    with pytest.raises(DataError, match=f"data.zip is {words}"):
        open_source("folder", source=tmp_path / "data.zip")


def test_flat_zips_are_folders_of_their_names(tmp_path):
    for folder, which in (("images", 0), ("masks", 1)):
        zipped(tmp_path / f"{folder}.zip", {f"{k}.png": png(scene(k, classes=2)[which] % 250) for k in range(3)})
    source = open_source("folder", split="all", source=tmp_path, classes=["a", "b", "c 1 2 3"][:2], ignore=5)
    assert [element["name"] for element in source] == ["images/0.png", "images/1.png", "images/2.png"]
    assert source.version() == open_source("folder", split="all", source=tmp_path, classes=["a", "b"], ignore=5).version()


@pytest.mark.parametrize("name", ["inner.zip", "notes.txt"])
def test_what_a_place_without_images_holds_is_said(name, tmp_path):
    with pytest.raises(DataError, match=f"x.zip holds no folders images/ and masks/ .*it holds no pictures: {name}"):
        open_source("folder", source=zipped(tmp_path / "x.zip", {name: b"x"}))


def test_a_picture_is_no_data_set(tmp_path):
    (tmp_path / "a.png").write_bytes(png(scene(1)[0]))
    with pytest.raises(DataError, match="a.png is a single picture; point at the folder that holds the images and masks"):
        open_source("folder", source=tmp_path / "a.png")


def test_tar_archives_are_named(tmp_path):
    build("folder", tmp_path / "data")
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        archive.add(tmp_path / "data", "data")
    with pytest.raises(DataError, match=r"data.tar is a .tar archive; unpack it"):
        open_source("folder", source=tmp_path / "data.tar")


def test_archives_are_told_by_their_whole_signature(tmp_path):
    good = zipped(tmp_path / "good", {"a.png": b"1"})  # no suffix
    assert open_files(good).names() == ["a.png"]
    behind = tmp_path / "model.safetensors"
    behind.write_bytes(b"PKxx" + bytes(100) + good.read_bytes())  # begins as no .zip does, although one stands at its end
    with pytest.raises(DataError, match="model.safetensors is neither a folder nor a .zip"):
        open_files(behind)


def test_locked_and_rarely_packed_zips_are_said(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.png", b"1")
    with pytest.raises(DataError, match="packed by a rare method"):
        Zip(path)
    data = bytearray(zipped(path, {"a.png": b"1"}).read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="locked by a password"):
        Zip(path)


def test_pipes_sockets_and_devices_are_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket.png"))
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    for name, what in (("pipe", "a named pipe"), ("socket", "a socket"), ("device", "a device"), ("folder", "a folder")):
        with pytest.raises(DataError, match=f"{name}.png is {what}, not a file; remove it"):
            read_file(tmp_path / f"{name}.png")


def test_a_pipe_among_images_is_named_or_skipped(tmp_path):
    build("folder", tmp_path)
    (tmp_path / "images/photo_2.jpg").unlink()
    os.mkfifo(tmp_path / "images/photo_2.jpg")
    source = open_source("folder", split="all", source=tmp_path)
    with pytest.raises(DataError, match="images/photo_2.jpg is a named pipe, not a file"):
        [element["name"] for element in source]
    lenient = open_source("folder", split="all", source=tmp_path, policy="skip")
    assert len([element for element in lenient]) == 10 and len(lenient.problems) == 1


def test_a_pipe_in_place_of_the_source_or_the_class_list(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe is neither a folder nor a file"):
        open_source("folder", source=tmp_path / "pipe")
    build("folder", tmp_path)
    with pytest.raises(DataError, match="pipe is a named pipe, not a file"):
        open_source("folder", source=tmp_path, classes=str(tmp_path / "pipe"))


def test_a_file_larger_than_any_picture_is_not_read(tmp_path):
    with open(tmp_path / "a.png", "wb") as file:
        file.truncate(3 << 30)  # takes no space
    with pytest.raises(DataError, match="a.png has 3.0 GiB; at most 2 GiB of a file are read"):
        read_file(tmp_path / "a.png")


def test_a_link_from_one_split_to_another_is_a_split(tmp_path):
    for part in ("images", "masks"):
        (tmp_path / part / "train").mkdir(parents=True)
        (tmp_path / part / "val").symlink_to("train")
    for number in range(3):
        image, label = scene(number, classes=2)
        (tmp_path / f"images/train/{number}.png").write_bytes(png(image))
        (tmp_path / f"masks/train/{number}.png").write_bytes(png(label % 2))
    assert [len(open_source("folder", split=split, source=tmp_path)) for split in ("train", "val", "all")] == [3, 3, 6]


def test_links_that_multiply_folders_end(tmp_path):
    for k in range(12):
        (tmp_path / f"d{k}").mkdir()
        for other in range(12):
            (tmp_path / f"d{k}" / f"to{other}").symlink_to(tmp_path / f"d{other}")
    with pytest.raises(DataError, match="in a loop; remove them"):
        Folder(tmp_path).names()


def test_broken_links_and_links_out_are_told_when_read(tmp_path):
    (tmp_path / "a.png").symlink_to("nothing")
    (tmp_path / "b.png").symlink_to("b.png")
    (tmp_path / "c.png").symlink_to("/etc/hostname")
    found = Folder(tmp_path)
    assert found.names() == ["a.png", "b.png", "c.png"]
    with pytest.raises(DataError, match="a.png has vanished"):
        found.read("a.png")
    with pytest.raises(DataError, match="b.png cannot be read"):
        found.read("b.png")
    assert found.read("c.png")  # the user's own link; what it leads to is decoded as a picture or refused


def test_a_folder_that_cannot_be_listed_is_said(tmp_path, monkeypatch):
    build("folder", tmp_path)
    real = os.scandir

    def failing(path):
        if str(path).rstrip("/").endswith("masks"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(files.os, "scandir", failing)
    with pytest.raises(DataError, match="masks/ cannot be listed .Permission denied.; check the disk and the permissions"):
        open_source("folder", split="all", source=tmp_path)


def test_what_systems_leave_behind_is_left_out(tmp_path):
    for name in ("lost+found/a.png", "$RECYCLE.BIN/a.png", "System Volume Information/a.png", "__MACOSX/a.png", ".git/a.png", "kept/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert Folder(tmp_path).names() == ["kept/a.png"]


@pytest.mark.parametrize(
    "name, printed",
    [
        ("plain ünï 東 .png", "plain ünï 東 .png"),
        ("\x1b[31mred\x07.png", r"\x1b[31mred\x07.png"),
        ("new\nline\r.png", r"new\nline\r.png"),
        ("\x9b2J\u202egnp.exe\u2028", r"\x9b2J\u202egnp.exe\u2028"),
        ("not\udcffutf8", r"not\xffutf8"),
        ("wide\u3000space\u00a0", "wide\u3000space\u00a0"),
    ],
)
def test_names_cannot_steer_a_terminal(name, printed):
    assert shown(name) == printed


def test_no_home_folder_is_said(monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: (_ for _ in ()).throw(KeyError(uid)))
    with pytest.raises(DataError, match="~/data: this user has no home folder; write the whole path or set HOME"):
        locate("folder", "~/data")
