"""Fashion-MNIST: the real images if they are here, and files of the same make if not."""

from __future__ import annotations

import gzip
import hashlib
import struct
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import mnist

from fact.data import fashion_mnist
from fact.data.fashion_mnist import CLASSES, FILES, GROUPS, PUBLISHED, FashionMNIST, read_idx
from fact.data.images import Geometry, ImageDataError, ImageDataset
from registry.plan.contents import IdentityError

COUNTS = {"train": 30, "test": 10}


def idx(array):
    head = struct.pack(f">{array.ndim + 1}I", 0x0800 + array.ndim, *array.shape)
    return head + array.tobytes()


def packed(content, cut=None):
    """What a file holds, without the time at which it was packed."""
    return gzip.compress(content, mtime=0)[:cut]


def small_files(seed=0):
    """Four files of a few random images, by name."""
    draw = np.random.default_rng(seed)
    contents = {}
    for prefix, count in (("train", 30), ("t10k", 10)):
        images = draw.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = draw.integers(0, 10, count, dtype=np.uint8)
        contents[f"{prefix}-images-idx3-ubyte.gz"] = packed(idx(images))
        contents[f"{prefix}-labels-idx1-ubyte.gz"] = packed(idx(labels))
    return contents


def read(folder, **limits):
    return FashionMNIST(str(folder), **limits).load()


@pytest.fixture
def small(monkeypatch):
    """Files are taken for whole with as many images as `small_files` have."""
    monkeypatch.setattr(fashion_mnist, "COUNTS", COUNTS)


@pytest.fixture
def folder(tmp_path, small):
    folder = tmp_path / "data" / "fashion-mnist"
    folder.mkdir(parents=True)
    for name, content in small_files().items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No data on this machine: $FACTBOOK_DATA and Debian's folder are empty."""
    monkeypatch.setenv("FACTBOOK_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "debian")
    return tmp_path / "data" / "fashion-mnist"


# -- reading ---------------------------------------------------------------------------------


def test_images_and_labels_are_those_that_torchvision_reads(folder, tmp_path):
    dataset = read(folder)
    assert isinstance(dataset, ImageDataset)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        raw = {}
        for part in ("images-idx3", "labels-idx1"):
            raw[part] = tmp_path / f"{prefix}-{part}"
            raw[part].write_bytes(
                gzip.decompress((folder / f"{raw[part].name}-ubyte.gz").read_bytes())
            )
        images = mnist.read_image_file(str(raw["images-idx3"])).numpy()
        labels = mnist.read_label_file(str(raw["labels-idx1"])).numpy()
        np.testing.assert_array_equal(dataset.labels(split), labels)
        got = dataset.read(dataset.ids(split))
        np.testing.assert_array_equal(got, np.stack([images] * 3, axis=-1))


def test_ids_order_and_geometry(folder):
    dataset = read(folder)
    assert dataset.splits == ("train", "test")
    assert dataset.ids("test")[[0, -1]].tolist() == ["test/00000", "test/00009"]
    pair = ["train/00029", "test/00003"]
    got = dataset.read(pair, Geometry(32, 24))
    assert got.shape == (2, 24, 24, 3)
    for image, one in zip(pair, got, strict=True):
        np.testing.assert_array_equal(one, Geometry(32, 24).apply(dataset.read([image])[0]))
    assert dataset.masks(pair) is None
    with pytest.raises(KeyError, match="no image 'test/00010'"):
        dataset.read(["test/00010"])


def test_the_first_images_can_be_taken(folder):
    every = read(folder)
    some = read(folder, n_train=7)
    assert len(some.ids("train")) == 7
    assert len(some.ids("test")) == 10
    for split in some.splits:
        ids = some.ids(split)
        np.testing.assert_array_equal(some.read(ids), every.read(ids))
        np.testing.assert_array_equal(some.labels(split), every.labels(split)[: len(ids)])


def test_concepts_are_classes_and_groups(folder):
    dataset = read(folder)
    concepts = dataset.concepts("test")
    for image, label in zip(dataset.ids("test"), dataset.labels("test"), strict=True):
        true = set(concepts["label"].values[concepts.sel(image=image).values])
        groups = {f"group:{name}" for name, members in GROUPS.items() if CLASSES[label] in members}
        assert true == {f"class:{CLASSES[label]}"} | groups
    assert all(2 <= len(members) < 10 for members in GROUPS.values())
    assert {name for members in GROUPS.values() for name in members} <= set(CLASSES)


@pytest.mark.skipif(not (fashion_mnist.DEBIAN / FILES[0]).is_file(), reason="not on this machine")
@pytest.mark.slow
def test_the_real_images():
    dataset = read(fashion_mnist.DEBIAN)
    assert np.bincount(dataset.labels("train")).tolist() == [6000] * 10
    assert np.bincount(dataset.labels("test")).tolist() == [1000] * 10
    assert CLASSES[dataset.labels("train")[0]] == "Ankle boot"
    mean = np.mean([dataset.read(dataset.ids("train")[k::6])[..., 0].mean() for k in range(6)])
    assert mean / 255 == pytest.approx(0.2860, abs=5e-4)  # published mean of the training images
    assert FashionMNIST(str(fashion_mnist.DEBIAN)).identity() == PUBLISHED


# -- damage ----------------------------------------------------------------------------------


def test_every_damaged_file_is_named_at_once(folder):
    train, labels, test, test_labels = (folder / name for name in FILES)
    train.write_bytes(train.read_bytes()[:1000])
    labels.write_bytes(packed(idx(np.full(30, 11, np.uint8))))
    test.unlink()
    test_labels.write_bytes(packed(idx(np.zeros((10, 1), np.uint8))))
    with pytest.raises(ImageDataError) as caught:
        read(folder)
    faults = "\n".join(caught.value.faults)
    assert str(folder) in str(caught.value)
    assert len(caught.value.faults) == 3
    assert f"{train.name} is damaged" in faults
    assert f"{test.name} is missing" in faults
    assert f"{test_labels.name} begins with [2050, 10]; expected [2049, 10]" in faults


def test_labels_beyond_the_classes_are_refused(folder):
    (folder / FILES[1]).write_bytes(packed(idx(np.full(30, 11, np.uint8))))
    with pytest.raises(ImageDataError, match="labels of train reach 11; expected 0 to 9"):
        read(folder)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"plain text", "damaged"),
        (packed(b""), r"begins with \[\]"),
        (packed(idx(np.zeros(5, np.uint8))[:-1]), "holds 4 bytes of data; expected 5"),
        (packed(idx(np.zeros(5, np.uint8)) + b"0"), "holds 6 bytes of data; expected 5"),
        (
            packed(idx(np.zeros(6, np.uint8))),
            r"begins with \[2049, 6\]; expected \[2049, 5\]",
        ),
        (packed(idx(np.zeros(5, np.uint8)), -9) + b"000000000", "damaged"),
    ],
)
def test_idx_files_are_held_against_their_shape(tmp_path, content, reason):
    path = tmp_path / "x.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        read_idx(path, (5,))


# -- where the files are ---------------------------------------------------------------------


def test_a_named_folder_comes_first_then_the_variable_then_debian(nowhere, monkeypatch, tmp_path):
    debian = tmp_path / "debian"
    assert fashion_mnist.find_folder() is None
    debian.mkdir()
    (debian / FILES[2]).touch()
    assert fashion_mnist.find_folder() == debian
    nowhere.mkdir(parents=True)
    (nowhere / FILES[0]).touch()
    assert fashion_mnist.find_folder() == nowhere
    assert fashion_mnist.find_folder("~/mine") == Path("~/mine").expanduser()
    monkeypatch.delenv("FACTBOOK_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert fashion_mnist.download_folder() == tmp_path / "cache" / "factbook" / "fashion-mnist"


def test_the_identity_is_of_the_data_and_not_of_its_packing(folder, monkeypatch, nowhere):
    other = FashionMNIST(str(folder)).identity()
    assert len(other) == 64
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}
    known = {name: ("0" * 64, value) for name, value in hashes.items()}
    monkeypatch.setattr(fashion_mnist, "_SHA256", known)
    assert FashionMNIST(str(folder)).identity() == PUBLISHED
    (folder / FILES[1]).write_bytes(packed(idx(np.ones(30, np.uint8))))
    assert FashionMNIST(str(folder)).identity() not in (other, PUBLISHED)
    (folder / FILES[1]).unlink()
    with pytest.raises(IdentityError, match=FILES[1]):
        FashionMNIST(str(folder)).identity()


def test_what_is_not_here_yet_has_the_identity_of_what_will_be(nowhere):
    assert FashionMNIST().identity() == PUBLISHED


@pytest.fixture
def server(tmp_path):
    """URL of a server of four small files, and its folder."""
    site = tmp_path / "site"
    site.mkdir()
    for name, content in small_files(seed=5).items():
        (site / name).write_bytes(content)

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(site))

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", site
    server.shutdown()
    server.server_close()
    thread.join()


def publish(site, monkeypatch):
    hashes = {name: (hashlib.sha256((site / name).read_bytes()).hexdigest(),) for name in FILES}
    monkeypatch.setattr(fashion_mnist, "_SHA256", hashes)


def test_missing_files_are_downloaded(server, monkeypatch, tmp_path, small):
    url, site = server
    publish(site, monkeypatch)
    target = tmp_path / "new" / "fashion-mnist"
    target.mkdir(parents=True)
    (target / FILES[3]).write_bytes((site / FILES[3]).read_bytes())
    (site / FILES[3]).unlink()  # what is here is not asked for
    fashion_mnist.download(target, url)
    assert sorted(path.name for path in target.iterdir()) == sorted(FILES)
    assert len(read(target).ids("train")) == 30


def test_a_download_of_something_else_is_refused_and_leaves_nothing(server, monkeypatch, tmp_path):
    url, site = server
    publish(site, monkeypatch)
    (site / FILES[0]).write_bytes(b"something else")
    with pytest.raises(ImageDataError, match=r"SHA-256 [0-9a-f]{64}; expected"):
        fashion_mnist.download(tmp_path / "new", url)
    assert list((tmp_path / "new").iterdir()) == []


def test_offline_the_error_names_the_other_ways(nowhere, tmp_path):
    with pytest.raises(ImageDataError) as caught:
        fashion_mnist.download(nowhere, "http://127.0.0.1:9/")
    message = str(caught.value)
    for words in (
        "cannot be downloaded",
        "refused",
        "$FACTBOOK_DATA",
        "`path`",
        "Debian's package",
    ):
        assert words in message
    assert list(nowhere.iterdir()) == []
