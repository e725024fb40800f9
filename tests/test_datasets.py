"""The paper's data: official formats in small, wrong files, downloads, and the printed sizes where the data is here."""

import gzip
import http.server
import threading
import zipfile

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from vsae_fast import datasets, impute
from vsae_fast.datasets import images, local, multimodal, pairs, uci
from vsae_fast.datasets.split import n_paired, split


@pytest.fixture(autouse=True)
def _no_folder_and_no_network(monkeypatch, tmp_path):
    """Neither this machine's data nor its cache nor the network."""
    monkeypatch.delenv(local.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server(tmp_path):
    """A folder that is served at a local address."""
    root = tmp_path / "served"
    root.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, directory=str(root), **options)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        yield root, f"http://127.0.0.1:{service.server_address[1]}"
        service.shutdown()


# ---- tables ---------------------------------------------------------------------------------------------------------

OFFICIAL = {  # how the UCI's files write the rows of a table
    "heart_cleveland": lambda t: "\n".join(",".join(_number(v, "?") for v in row) for row in t.itertuples(index=False)),
    "heart_statlog": lambda t: "\n".join(" ".join(_number(v, "?") for v in row) for row in t.itertuples(index=False)),
    "mushroom": lambda t: "\n".join(",".join(_text(v, "?") for v in row) for row in t.itertuples(index=False)),
    "white_wine": lambda t: "\n".join(
        [";".join(f'"{c}"' for c in t), *(";".join(map(str, row)) for row in t.itertuples(index=False))]
    ),
    "yeast": lambda t: "\n".join(
        f"NAME{i}  " + "  ".join(map(str, row)) for i, row in enumerate(t.itertuples(index=False))
    ),
}
for _name in ("phishing", "phishing_websites"):
    OFFICIAL[_name] = lambda t: (
        "@relation x\n"
        + "\n".join(f"@attribute {c} {{-1,0,1}}" for c in t)
        + "\n\n@data\n"
        + "\n".join(",".join(map(str, row)) for row in t.itertuples(index=False))
    )


def _text(value, gap):
    return gap if value is None or value != value else str(value)


def _number(value, gap):
    text = _text(value, gap)
    return text if text == gap or "." in text else f"{text}.0"


def tiny_table(name, monkeypatch):
    """Six made-up rows that a set's digest is changed to."""
    description = uci.DESCRIPTIONS[name]
    columns = description.columns or ("SFH", "URL", "Result")
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            c: random.random(6).round(2) if c in description.numbers else random.choice(["1", "0", "-1"], 6)
            for c in columns
        }
    )
    changed = description._replace(shape=table.shape, digest=uci.content_digest(table))
    monkeypatch.setitem(uci.DESCRIPTIONS, name, changed)
    return table, description


@pytest.mark.parametrize("name", datasets.UCI)
def test_official_files_are_read(name, tmp_path, monkeypatch):
    table, description = tiny_table(name, monkeypatch)
    folder = tmp_path / name
    folder.mkdir()
    (folder / description.member).write_text(OFFICIAL[name](table))
    read = datasets.fetch_uci(name, folder=tmp_path)
    pd.testing.assert_frame_equal(read.astype(object), table.astype(object))
    monkeypatch.setenv(local.VARIABLE, str(tmp_path))
    assert datasets.fetch_uci(name).equals(read)


@pytest.mark.parametrize("name", datasets.UCI)
def test_official_format_of_the_real_data_has_its_digest(name, data_dir, tmp_path):
    table = datasets.fetch_uci(name, folder=data_dir)
    assert table.shape == uci.DESCRIPTIONS[name].shape
    folder = tmp_path / name
    folder.mkdir()
    (folder / uci.DESCRIPTIONS[name].member).write_text(OFFICIAL[name](table))
    assert datasets.fetch_uci(name, folder=tmp_path).equals(table)


def test_download_is_kept_and_checked(server, monkeypatch, tmp_path):
    root, address = server
    table, description = tiny_table("yeast", monkeypatch)
    monkeypatch.setattr(uci, "ARCHIVE", address)
    target = root / description.archive
    target.parent.mkdir(parents=True)
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("yeast.data", OFFICIAL["yeast"](table))
    first = datasets.fetch_uci("yeast")
    target.unlink()
    assert datasets.fetch_uci("yeast").equals(first)  # from the cache
    changed = uci.DESCRIPTIONS["yeast"]._replace(digest="0" * 64)
    monkeypatch.setitem(uci.DESCRIPTIONS, "yeast", changed)
    with pytest.raises(ValueError, match="does not hold the 6 rows and 9 columns of yeast as published"):
        datasets.fetch_uci("yeast")


def test_offline_says_where_to_put_the_file(monkeypatch):
    monkeypatch.setattr(uci, "ARCHIVE", "http://127.0.0.1:9")
    with pytest.raises(FileNotFoundError, match=r"yeast.zip could not be downloaded.*put yeast.zip into FOLDER/yeast"):
        datasets.fetch_uci("yeast")


def test_without_pooch_it_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'vsae_fast\[datasets\]'"):
        datasets.fetch_uci("yeast")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("A 1 2 3 4 5 6 7 8 CYT\nB 1 2 3\n", "row 2 has 3 cells in place of 9"),
        ("A 1 2 3 4 5 6 7 8 CYT\n", "does not hold the 1484 rows"),
    ],
)
def test_wrong_tables_are_refused(text, message, tmp_path):
    (tmp_path / "yeast").mkdir()
    (tmp_path / "yeast" / "yeast.data").write_text(text)
    with pytest.raises(ValueError, match=message):
        datasets.fetch_uci("yeast", folder=tmp_path)


def test_unknown_names_and_folders(tmp_path):
    for call, message in (
        (lambda: datasets.fetch_uci("wine"), "unknown set 'wine'; use one of heart_cleveland"),
        (lambda: datasets.fetch_image_label("cifar"), "unknown set 'cifar'; use one of mnist"),
        (lambda: datasets.fetch_multimodal("mosei"), "unknown set 'mosei'; use one of cmu_mosi"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        datasets.fetch_uci("yeast", folder=tmp_path / "nowhere")


def test_archive_without_its_member_is_refused(tmp_path, server, monkeypatch):
    root, address = server
    monkeypatch.setattr(uci, "ARCHIVE", address)
    (root / "110").mkdir()
    with zipfile.ZipFile(root / "110" / "yeast.zip", "w") as archive:
        archive.writestr("README", "nothing")
    with pytest.raises(ValueError, match=r"does not hold yeast\.data"):
        datasets.fetch_uci("yeast")


def test_a_zip_bomb_is_not_unpacked(server, monkeypatch):
    root, address = server
    monkeypatch.setattr(uci, "ARCHIVE", address)
    (root / "110").mkdir()
    with zipfile.ZipFile(root / "110" / "yeast.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("yeast.data", bytes(uci.LARGEST_MEMBER + 1))
    with pytest.raises(ValueError, match="far larger than published"):
        datasets.fetch_uci("yeast")


# ---- images ---------------------------------------------------------------------------------------------------------


def idx(array):
    return b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def write_digits(folder, n_train=120, n_test=40, *, labels=None, compress=True):
    """Digits whose first pixel is their class and whose next two are their row."""
    folder.mkdir(exist_ok=True)
    for part, n in (("train", n_train), ("t10k", n_test)):
        label = np.arange(n, dtype=np.uint8) % 10 if labels is None else labels[:n]
        pixels = np.zeros((n, 28, 28), dtype=np.uint8)
        pixels[:, 0, 0], pixels[:, 0, 1], pixels[:, 0, 2] = label, np.arange(n) % 256, np.arange(n) // 256
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(pixels)))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(label)))


def write_house_numbers(folder, n_train=200, n_test=60):
    """Cropped house numbers as published: (32, 32, 3, N), labels 1 to 10, where 10 is the digit 0."""
    folder.mkdir()
    for part, n in (("train", n_train), ("test", n_test)):
        label = 1 + np.arange(n) % 10
        pixels = np.zeros((32, 32, 3, n), dtype=np.uint8)
        pixels[0, 0, 0] = label % 10
        pixels[0, 1, 0] = np.arange(n) % 256
        savemat(folder / f"{part}_32x32.mat", {"X": pixels, "y": label[:, None].astype(np.uint8)})


def test_pairs_match_and_no_image_is_used_twice(tmp_path):
    write_digits(tmp_path / "mnist")
    parts = datasets.fetch_mnist_pairs(folder=tmp_path, seed=3)
    assert parts.sizes == (48, 12, 20)  # half of 120 and of 40 images each
    for part in parts[:3]:
        assert (part["first"][:, 0, 0] + part["second"][:, 0, 0] == 9).all()
        assert (part["first"][:, 0, 0] < 5).all()
    used = [part[name][:, 0, 1] for part in parts[:2] for name in ("first", "second")]
    assert len(np.unique(np.concatenate(used))) == 120
    again = datasets.fetch_mnist_pairs(folder=tmp_path, seed=3)
    np.testing.assert_array_equal(parts.train["second"], again.train["second"])
    other = datasets.fetch_mnist_pairs(folder=tmp_path, seed=4)
    assert (parts.train["second"] != other.train["second"]).any()


def test_handwritten_digits_meet_the_same_house_numbers(tmp_path):
    write_digits(tmp_path / "mnist")
    write_house_numbers(tmp_path / "svhn")
    parts = datasets.fetch_mnist_svhn(folder=tmp_path)
    assert parts.sizes == (96, 24, 40)
    assert not parts.stand_in
    for part in parts[:3]:
        np.testing.assert_array_equal(part["mnist"][:, 0, 0], part["svhn"][:, 0, 0, 0])


def test_the_stand_in_says_so_and_is_paired_by_class(tmp_path, monkeypatch):
    write_digits(tmp_path / "mnist")
    monkeypatch.setattr(images, "SVHN", {k: local.Remote("http://127.0.0.1:9/x.mat") for k in ("train", "test")})
    with pytest.raises(FileNotFoundError, match=r"put train_32x32.mat into FOLDER/svhn"):
        datasets.fetch_mnist_svhn(folder=tmp_path)
    parts = datasets.fetch_mnist_svhn(folder=tmp_path, stand_in=True)
    assert parts.stand_in
    assert parts.train["svhn"].shape == (96, 32, 32, 3)
    assert parts.train["svhn"].std() > 20


def test_images_with_labels_go_through_the_front_door(tmp_path):
    write_digits(tmp_path / "fashion_mnist")
    parts = datasets.fetch_image_label("fashion_mnist", folder=tmp_path)
    assert parts.sizes == (96, 24, 40)
    np.testing.assert_array_equal(parts.test["image"][:, 0, 0].astype(str), parts.test["label"])
    mask = np.random.default_rng(0).random((96, 2)) < 0.7
    completed = impute(parts.train, mask, epochs=1, n_models=1, random_state=0, schema={"label": "categorical"})
    assert set(completed["label"]) <= set(map(str, range(10)))


def test_printed_sizes(data_dir):
    assert datasets.fetch_mnist_pairs(folder=data_dir).sizes == (23257, 5814, 4832)
    assert datasets.fetch_image_label("fashion_mnist", folder=data_dir).sizes == (48000, 12000, 10000)


def test_svhn_of_the_official_class_counts_gives_the_printed_sizes():
    """The official files cannot be had here; their published class counts can."""
    mnist = (
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    )
    svhn = (
        [4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659],
        [1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595],
    )
    random = np.random.default_rng(0)
    parts = []
    for a, b in zip(mnist, svhn, strict=True):
        labels = [np.repeat(np.arange(10), counts) for counts in (a, b)]
        first, second, _ = pairs.pair_up(*((label, label) for label in labels), [(c, c) for c in range(10)], random)
        parts.append({"mnist": first, "svhn": second})
    assert split(*parts, 0).sizes == (44854, 11214, 10000)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (
            lambda f: f.write_bytes(gzip.compress(b"\0\0\x08\x01" + np.array([50], ">u4").tobytes() + b"\0")),
            "1 bytes in place of 50",
        ),
        (lambda f: f.write_bytes(b"not a gzip file"), "cannot be read"),
        (lambda f: f.write_bytes(gzip.compress(b"text")), "is not an IDX file"),
        (lambda f: f.write_bytes(gzip.compress(idx(np.arange(7, dtype=np.uint8)))), "120 images and 7 labels"),
        (lambda f: f.write_bytes(gzip.compress(idx(np.full(120, 11, np.uint8)))), "out of range 0 to 9: 11 to 11"),
        (lambda f: f.write_bytes(f.read_bytes()[:30]), "cannot be read"),
    ],
)
def test_wrong_digit_files_are_refused(break_it, message, tmp_path):
    write_digits(tmp_path / "mnist")
    break_it(tmp_path / "mnist" / "train-labels-idx1-ubyte.gz")
    with pytest.raises(ValueError, match=message):
        datasets.fetch_mnist_pairs(folder=tmp_path)


def test_images_of_another_size_or_none_are_refused(tmp_path):
    folder = tmp_path / "mnist"
    write_digits(folder)
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros((40, 27, 28), np.uint8))))
    with pytest.raises(ValueError, match=r"test part have shape \(27, 28\) in place of \(28, 28\)"):
        datasets.fetch_mnist_pairs(folder=tmp_path)
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros((0, 28, 28), np.uint8))))
    with pytest.raises(ValueError, match="the test part has no images"):
        datasets.fetch_mnist_pairs(folder=tmp_path)


def test_a_class_without_images_is_named(tmp_path):
    write_digits(tmp_path / "mnist", labels=np.zeros(120, dtype=np.uint8))
    with pytest.raises(ValueError, match="no pair of classes 0 and 9"):
        datasets.fetch_mnist_pairs(folder=tmp_path)


def test_wrong_house_numbers_are_refused(tmp_path):
    write_digits(tmp_path / "mnist")
    write_house_numbers(tmp_path / "svhn")
    path = tmp_path / "svhn" / "train_32x32.mat"
    savemat(path, {"X": np.zeros((32, 32, 3), np.uint8), "y": np.ones((3, 1))})
    with pytest.raises(ValueError, match=r"official files have \(32, 32, 3, N\)"):
        datasets.fetch_mnist_svhn(folder=tmp_path)
    savemat(path, {"Z": np.zeros(3)})
    with pytest.raises(ValueError, match="not a file of cropped house numbers"):
        datasets.fetch_mnist_svhn(folder=tmp_path)
    write_whole = path.read_bytes()
    path.write_bytes(write_whole[: len(write_whole) // 2])
    with pytest.raises(ValueError, match="not a file of cropped house numbers"):
        datasets.fetch_mnist_svhn(folder=tmp_path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="not a file of cropped house numbers"):
        datasets.fetch_mnist_svhn(folder=tmp_path)


def test_published_digest_is_held_against_a_download(server, monkeypatch):
    root, address = server
    (root / "train-images-idx3-ubyte.gz").write_bytes(b"something else")
    monkeypatch.setitem(images.IDX, "mnist", (f"{address}/", images.IDX["mnist"][1]))
    with pytest.raises(FileNotFoundError, match=r"could not be downloaded.*hash"):
        datasets.fetch_mnist_pairs()


def test_npz_lacking_a_part_is_refused(tmp_path):
    (tmp_path / "mnist").mkdir()
    np.savez(tmp_path / "mnist" / "mnist.npz", x_train=np.zeros((1, 28, 28), np.uint8))
    with pytest.raises(ValueError, match=r"lacks x_test, y_test, y_train"):
        datasets.fetch_mnist_pairs(folder=tmp_path)


# ---- features -------------------------------------------------------------------------------------------------------


def write_features(folder, name="cmu_mosi", skip=(), n=(30, 10, 12)):
    """Feature files as published: one array each, (videos, 20, width)."""
    folder.mkdir(exist_ok=True)
    for part, rows in zip(multimodal.PARTS, n, strict=True):
        for modality, width in multimodal.WIDTHS[name].items():
            stem = f"{modality}_{part}"
            if stem in skip:
                continue
            suffix = "_emb.h5" if modality == "text" else ".h5"
            with h5py.File(folder / (stem + suffix), "w") as file:
                file["data"] = np.full((rows, 20, width), float(rows))


def test_published_feature_files_are_read(tmp_path):
    write_features(tmp_path / "cmu_mosi")
    parts = datasets.fetch_multimodal("cmu_mosi", folder=tmp_path)
    assert parts.sizes == (30, 10, 12)
    assert {name: block.shape[1] for name, block in parts.train.items()} == {"audio": 5, "video": 20, "text": 300}
    assert (parts.test["text"] == 12).all()


def test_videos_with_all_modalities_are_split_anew_where_words_are_missing(tmp_path):
    write_features(tmp_path / "cmu_mosi", skip=("text_train",))
    parts = datasets.fetch_multimodal("cmu_mosi", folder=tmp_path)
    assert sum(parts.sizes) == 22
    np.testing.assert_array_equal(parts.train["audio"][:, 0], parts.train["text"][:, 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: _rewrite(f / "audio_train.h5", np.zeros((29, 20, 5))), "attributes are not paired: 'audio' has 29"),
        (lambda f: _rewrite(f / "audio_train.h5", np.zeros((0, 20, 5))), "attribute 'audio' has 0 rows"),
        (lambda f: _rewrite(f / "audio_train.h5", np.zeros((30, 20, 6))), r"cmu_mosi has \(videos, 20, 5\)"),
        (lambda f: _rewrite(f / "audio_train.h5", np.full((30, 20, 5), np.nan)), "holds NaN or infinity"),
        (lambda f: (f / "audio_train.h5").write_bytes(b"x" * 600), "is not an HDF5 file"),
        (lambda f: _rewrite(f / "audio_train.h5", np.zeros(3), also=True), "holds 2 arrays in place of one"),
    ],
)
def test_wrong_feature_files_are_refused(change, message, tmp_path):
    write_features(tmp_path / "cmu_mosi")
    change(tmp_path / "cmu_mosi")
    with pytest.raises(ValueError, match=message):
        datasets.fetch_multimodal("cmu_mosi", folder=tmp_path)


def _rewrite(path, array, also=False):
    with h5py.File(path, "w") as file:
        file["data"] = array
        if also:
            file["more"] = array


def test_features_without_a_download_say_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="cmu_mosi has no public download"):
        datasets.fetch_multimodal("cmu_mosi", folder=tmp_path)


def test_the_part_of_ict_mmmo_that_is_here(data_dir):
    parts = datasets.fetch_multimodal("ict_mmmo", folder=data_dir)
    assert sum(parts.sizes) == 120
    assert {name: block.shape[1] for name, block in parts.train.items()} == {"audio": 74, "video": 36, "text": 300}


def test_simulated_modalities_depend_on_each_other():
    parts = datasets.multimodal_stand_in(400, seed=1)
    assert parts.stand_in
    assert parts.sizes == (320, 80, 80)
    x = np.column_stack([parts.train["text"], np.ones(320)])
    coefficients = np.linalg.lstsq(x[:, ::20], parts.train["audio"], rcond=None)[0]
    residual = parts.train["audio"] - x[:, ::20] @ coefficients
    assert residual.var() < 0.6 * parts.train["audio"].var()
    with pytest.raises(ValueError, match="n_rows must be at least 10"):
        datasets.multimodal_stand_in(5)


def test_unpaired_blocks_are_refused():
    with pytest.raises(ValueError, match="attributes are not paired: 'a' has 3, 'b' has 2 rows"):
        n_paired({"a": np.zeros(3), "b": np.zeros(2)})
