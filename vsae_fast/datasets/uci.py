"""The UCI sets, read from their official files or from a CSV with a header."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vsae_fast.datasets.local import Folder, Remote, data_folder, find, obtain

if TYPE_CHECKING:
    import pandas as pd

ARCHIVE = "https://archive.ics.uci.edu/static/public"
LARGEST_MEMBER = 1 << 26  # bytes; the sets take less than one in sixty-four of it
WINE = (
    "fixed_acidity", "volatile_acidity", "citric_acid", "residual_sugar", "chlorides", "free_sulfur_dioxide",
    "total_sulfur_dioxide", "density", "pH", "sulphates", "alcohol", "quality",
)  # fmt: skip
YEAST = ("mcg", "gvh", "alm", "mit", "erl", "pox", "vac", "nuc", "class")
HEART = (
    "age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak", "slope", "ca", "thal",
)  # fmt: skip
HEART_NUMBERS = ("age", "trestbps", "chol", "thalach", "oldpeak", "ca")
MUSHROOM = (
    "class", "cap-shape", "cap-surface", "cap-color", "bruises", "odor", "gill-attachment", "gill-spacing",
    "gill-size", "gill-color", "stalk-shape", "stalk-root", "stalk-surface-above-ring", "stalk-surface-below-ring",
    "stalk-color-above-ring", "stalk-color-below-ring", "veil-type", "veil-color", "ring-number", "ring-type",
    "spore-print-color", "population", "habitat",
)  # fmt: skip


def _whitespace(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip()]


def _commas(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split(",")] for line in text.splitlines() if line.strip()]


def _yeast(text: str) -> list[list[str]]:
    return [cells[1:] for cells in _whitespace(text)]  # the first is a name


def _wine(text: str) -> list[list[str]]:
    return _commas(text.replace(";", ","))[1:]


def _arff(text: str) -> list[list[str]]:
    _, _, data = text.lower().partition("@data")
    return _commas(text[len(text) - len(data) :])


class Description(NamedTuple):
    """One set.

    Attributes
    ----------
    columns : tuple of str
        Empty where an ARFF header names them.
    numbers : tuple of str
        Of the columns; the others hold levels.
    member : str
        Official file, in the archive.
    archive : str
        Path of the archive on the UCI's server.
    read : callable
        Official text to cells.
    shape : tuple of int
    digest : str
        SHA-256 of the content, whatever the file's format.
    """

    columns: tuple[str, ...]
    numbers: tuple[str, ...]
    member: str
    archive: str
    read: Callable[[str], list[list[str]]]
    shape: tuple[int, int]
    digest: str


DESCRIPTIONS = {
    "heart_cleveland": Description(
        (*HEART, "num"),
        HEART_NUMBERS,
        "processed.cleveland.data",
        "45/heart+disease.zip",
        _commas,
        (303, 14),
        "6aa5d23ed10583fcef3b224d70edaa7711554604079e244ad90f5d7556cdc01a",
    ),
    "heart_statlog": Description(
        (*HEART, "class"),
        HEART_NUMBERS,
        "heart.dat",
        "145/statlog+heart.zip",
        _whitespace,
        (270, 14),
        "aa2d0c2d1fafa58e4a914b586e5c7e4ccf7bb9e7f1f4cc559e49516551b7b529",
    ),
    "mushroom": Description(
        MUSHROOM,
        (),
        "agaricus-lepiota.data",
        "73/mushroom.zip",
        _commas,
        (8124, 23),
        "66b5126251b9f4728cbf4c0f4f5fb05102498c3d7ae9c42ef23bd279187d7cc0",
    ),
    "phishing": Description(
        (),
        (),
        "PhishingData.arff",
        "379/website+phishing.zip",
        _arff,
        (1353, 10),
        "59935fc64b9e02de0b51c36c803b4428e3882d6deda668346fbdf591ca707844",
    ),
    "phishing_websites": Description(
        (),
        (),
        "Training Dataset.arff",
        "327/phishing+websites.zip",
        _arff,
        (11055, 31),
        "76ac18facb8f0f5c6af1b3b3fec07f8db98c38095831340aebe629a2454ea182",
    ),
    "white_wine": Description(
        WINE,
        WINE,
        "winequality-white.csv",
        "186/wine+quality.zip",
        _wine,
        (4898, 12),
        "7a6284ba4ff957b7cf39f6bbc1a203b1c3e1077bb55eee067d825b8d2ebcb4f6",
    ),
    "yeast": Description(
        YEAST,
        YEAST[:-1],
        "yeast.data",
        "110/yeast.zip",
        _yeast,
        (1484, 9),
        "8d88e90a9b845f3dc3dbc113bc907e626b0277e5e7fbb90cb9ddb8bf4a4e8796",
    ),
}
UCI = tuple(DESCRIPTIONS)


def fetch_uci(name: str, *, folder: Folder = None) -> pd.DataFrame:
    """One of the paper's UCI sets.

    Parameters
    ----------
    name : str
        One of ``vsae_fast.datasets.UCI``. The paper does not say which of UCI's two phishing sets or which heart
        disease data it means; both are here.
    folder : path, optional
        See :mod:`vsae_fast.datasets`. ``folder/NAME`` holds the official file or ``NAME.csv`` with a header.

    Returns
    -------
    pandas.DataFrame
        Numbers as float64, levels as text, missing cells as NaN or None.

    Raises
    ------
    ValueError
        Unknown name; a file whose content is not that of the set.
    FileNotFoundError
        Neither found nor downloaded.
    """
    if name not in DESCRIPTIONS:
        raise ValueError(f"unknown set {name!r}; use one of {', '.join(UCI)}")
    description = DESCRIPTIONS[name]
    own = data_folder(folder, name)
    source = find(own, [f"{name}.csv", description.member])
    if source is None:
        archive = Path(description.archive).name
        source = obtain(own, archive, Remote(f"{ARCHIVE}/{description.archive}"), name)
    columns, cells = _read(source, description)
    table = _table(columns, cells, description, source)
    digest = content_digest(table)
    if table.shape != description.shape or digest != description.digest:
        raise ValueError(
            f"{source} does not hold the {description.shape[0]} rows and {description.shape[1]} columns of {name} as "
            "published; fetch it again"
        )
    return table


def content_digest(table: pd.DataFrame) -> str:
    """SHA-256 of column names and cells, free of how a file writes them."""
    digest = hashlib.sha256("\t".join(table.columns).encode())
    for column in table:
        values = table[column]
        text = ["" if gone else str(value) for value, gone in zip(values.tolist(), values.isna().tolist(), strict=True)]
        digest.update("\n".join(text).encode())
    return digest.hexdigest()


def _read(source: Path, description: Description) -> tuple[tuple[str, ...], list[list[str]]]:
    if source.suffix == ".zip":
        with zipfile.ZipFile(source) as archive:
            if description.member not in archive.namelist():
                raise ValueError(f"{source} does not hold {description.member}; fetch it again")
            if archive.getinfo(description.member).file_size > LARGEST_MEMBER:
                raise ValueError(f"{description.member} in {source} is far larger than published; fetch it again")
            text = archive.read(description.member).decode("utf-8", "replace")
    else:
        text = source.read_text(encoding="utf-8", errors="replace")
    if source.name == f"{source.parent.name}.csv":
        header, *cells = _commas(text)
        return tuple(header), cells
    columns = description.columns
    if not columns:
        lines = [line.split() for line in text.splitlines() if line.lower().startswith("@attribute")]
        columns = tuple(words[1] for words in lines)
    return columns, description.read(text)


def _table(columns: tuple[str, ...], cells: list[list[str]], description: Description, source: Path) -> pd.DataFrame:
    import pandas as pd

    if not cells:
        raise ValueError(f"{source} is empty; fetch it again")
    for number, row in enumerate(cells):
        if len(row) != len(columns):
            raise ValueError(f"{source}: row {number + 1} has {len(row)} cells in place of {len(columns)}")
    data: dict[str, object] = {}
    for name, values in zip(columns, zip(*cells, strict=True), strict=True):
        known = [None if value in ("", "?") else value for value in values]
        if name in description.numbers:
            data[name] = pd.array([float("nan") if value is None else float(value) for value in known], dtype="float64")
        else:
            data[name] = pd.Series([_level(value) for value in known], dtype=object)
    table: pd.DataFrame = pd.DataFrame(data)
    return table


def _level(value: str | None) -> str | None:
    """Level as text; whole numbers that a file writes as ``1.0`` lose their point."""
    if value is not None and value.endswith(".0") and value[:-2].lstrip("-").isdigit():
        return value[:-2]
    return value
