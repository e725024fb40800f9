"""The figures that the paper prints (Gong et al. 2021, appendix E)."""

from __future__ import annotations

from typing import NamedTuple

SMALL = 0.0005  # what the paper prints as a triangle: a spread below this


class Figure(NamedTuple):
    """A printed mean over three trials, and its spread."""

    mean: float
    spread: float


class Column(NamedTuple):
    """One column of a table.

    Attributes
    ----------
    title : str
    data : str
        Name of the set in ``bench.paper.sets``.
    mechanism : {"MCAR", "MAR", "MNAR"}
    missing : float
        Share of missing cells.
    metric : str
        Name among a run's scores.
    """

    title: str
    data: str
    mechanism: str
    missing: float
    metric: str


class Table(NamedTuple):
    """One table: its title, its columns, and what is printed for each method, column by column."""

    title: str
    columns: tuple[Column, ...]
    rows: dict[str, tuple[Figure, ...]]


def _figures(*numbers: float) -> tuple[Figure, ...]:
    return tuple(Figure(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True))


S = SMALL
TABLES: dict[str, Table] = {
    "table5": Table(
        "Yeast and white wine, not missing completely at random (NRMSE)",
        (
            Column("Yeast, MAR", "yeast", "MAR", 0.5, "NRMSE"),
            Column("Yeast, NMAR", "yeast", "MNAR", 0.5, "NRMSE"),
            Column("White wine, MAR", "white_wine", "MAR", 0.5, "NRMSE"),
            Column("White wine, NMAR", "white_wine", "MNAR", 0.5, "NRMSE"),
        ),
        {
            "VAE": _figures(0.485, 0.004, 0.462, S, 0.3845, S, 0.3727, S),
            "CVAE": _figures(0.483, 0.001, 0.443, S, 0.3841, S, 0.3726, S),
            "HI-VAE": _figures(0.479, 0.002, 0.434, S, 0.3840, S, 0.3724, S),
            "MIWAE": _figures(0.475, 0.005, 0.456, 0.036, 0.3834, S, 0.3723, S),
            "VSAE": _figures(0.472, 0.006, 0.425, 0.007, 0.3825, S, 0.3717, S),
        },
    ),
    "table6": Table(
        "UCI sets, missing completely at random (PFC of levels, NRMSE of numbers)",
        (
            Column("Phishing, PFC", "phishing_websites", "MCAR", 0.5, "PFC"),
            Column("Mushroom, PFC", "mushroom", "MCAR", 0.5, "PFC"),
            Column("Yeast, NRMSE", "yeast", "MCAR", 0.5, "NRMSE"),
            Column("White wine, NRMSE", "white_wine", "MCAR", 0.5, "NRMSE"),
            Column("Heart, PFC", "heart_cleveland", "MCAR", 0.5, "PFC"),
            Column("Heart, NRMSE", "heart_cleveland", "MCAR", 0.5, "NRMSE"),
        ),
        {
            "MissForest": _figures(0.478, S, 0.419, S, 0.424, S, 0.3762, S, 0.487, 0.026, 0.634, 0.005),
            "MICE": _figures(0.396, S, 0.574, S, 0.521, S, 0.4280, S, 0.616, 0.026, 0.749, 0.005),
            "GAIN": _figures(0.301, 0.001, 0.541, 0.006, 0.583, 0.008, 0.3730, S, 0.708, 0.021, 0.661, S),
            "MisGAN": _figures(0.321, 0.005, 0.533, 0.009, 0.483, 0.007, 0.3725, S, 0.538, 0.017, 0.643, 0.019),
            "VSAE": _figures(0.237, S, 0.416, 0.009, 0.419, 0.008, 0.3719, S, 0.482, 0.014, 0.579, 0.015),
        },
    ),
    "table7": Table(
        "MNIST+MNIST under three missing ratios (sum over both images of the squared error per pixel)",
        tuple(Column(f"{p:g} missing", "mnist_pairs", "MCAR", p, "sum of MSE") for p in (0.3, 0.5, 0.7)),
        {
            "AE": _figures(0.2124, 0.0012, 0.2147, 0.0008, 0.2180, 0.0008),
            "VAE": _figures(0.1396, 0.0002, 0.1416, 0.0001, 0.1435, 0.0006),
            "CVAE": _figures(0.1393, 0.0002, 0.1412, 0.0006, 0.1425, 0.0012),
            "MVAE": _figures(0.1547, 0.0012, 0.1562, 0.0003, 0.1579, 0.0006),
            "HI-VAE": _figures(0.1464, 0.0024, 0.1482, 0.0013, 0.1497, 0.0016),
            "VSAE": _figures(0.1371, 0.0001, 0.1376, 0.0002, 0.1379, 0.0001),
        },
    ),
    "table8": Table(
        "MNIST+SVHN (squared error per pixel)",
        (
            Column("MNIST", "mnist_svhn", "MCAR", 0.5, "MSE of mnist"),
            Column("SVHN", "mnist_svhn", "MCAR", 0.5, "MSE of svhn"),
            Column("sum", "mnist_svhn", "MCAR", 0.5, "sum of MSE"),
        ),
        {
            "AE": _figures(0.0867, 0.0001, 0.1475, 0.0006, 0.2342, 0.0007),
            "VAE": _figures(0.0714, 0.0001, 0.0559, 0.0002, 0.1273, 0.0003),
            "CVAE": _figures(0.0692, 0.0001, 0.0558, 0.0003, 0.1251, 0.0005),
            "MVAE": _figures(0.0707, 0.0003, 0.0602, 0.0001, 0.1309, 0.0005),
            "HI-VAE": _figures(0.0733, 0.0013, 0.0611, 0.0001, 0.1344, 0.0015),
            "VSAE": _figures(0.0682, 0.0001, 0.0516, 0.0001, 0.1198, 0.0001),
        },
    ),
    "table9": Table(
        "MNIST+SVHN under three missing ratios (sum over both images of the squared error per pixel)",
        tuple(Column(f"{p:g} missing", "mnist_svhn", "MCAR", p, "sum of MSE") for p in (0.3, 0.5, 0.7)),
        {
            "AE": _figures(0.1941, 0.0006, 0.2342, 0.0007, 0.2678, 0.0012),
            "VAE": _figures(0.1264, 0.0001, 0.1273, 0.0003, 0.1322, 0.0005),
            "CVAE": _figures(0.1255, 0.0002, 0.1251, 0.0005, 0.1295, 0.0006),
            "MVAE": _figures(0.1227, 0.0019, 0.1202, 0.0006, 0.1213, 0.0003),
            "HI-VAE": _figures(0.1267, 0.0018, 0.1279, 0.0003, 0.1233, 0.0004),
            "VSAE": _figures(0.1217, 0.0002, 0.1198, 0.0001, 0.1202, 0.0002),
        },
    ),
    "table10": Table(
        "Images with labels (squared error per pixel, PFC of labels)",
        (
            Column("FashionMNIST, image", "fashion_label", "MCAR", 0.5, "MSE of image"),
            Column("FashionMNIST, label", "fashion_label", "MCAR", 0.5, "PFC"),
            Column("MNIST, image", "mnist_label", "MCAR", 0.5, "MSE of image"),
            Column("MNIST, label", "mnist_label", "MCAR", 0.5, "PFC"),
        ),
        {
            "AE": _figures(0.1104, 0.001, 0.366, 0.01, 0.0700, 0.01, 0.406, 0.01),
            "VAE": _figures(0.0885, 0.01, 0.411, 0.01, 0.0686, 0.01, 0.406, 0.01),
            "CVAE": _figures(0.0887, 0.01, 0.412, 0.01, 0.0686, 0.01, 0.419, 0.01),
            "MVAE": _figures(0.1402, 0.002, 0.374, 0.07, 0.2276, 0.002, 0.448, 0.01),
            "HI-VAE": _figures(0.0875, 0.01, 0.365, 0.01, 0.0788, 0.004, 0.409, 0.01),
            "VSAE": _figures(0.0874, 0.01, 0.356, 0.01, 0.0681, 0.01, 0.397, 0.01),
        },
    ),
    "table11": Table(
        "ICT-MMMO (squared error of each modality's features)",
        (
            Column("acoustic", "ict_mmmo", "MCAR", 0.5, "MSE of audio"),
            Column("visual", "ict_mmmo", "MCAR", 0.5, "MSE of video"),
            Column("textual", "ict_mmmo", "MCAR", 0.5, "MSE of text"),
        ),
        {
            "AE": _figures(0.1211, 0.0013, 0.00502, 0.0001, 0.366, 0.001),
            "VAE": _figures(0.0407, 0.0005, 0.00500, 0.0001, 0.293, 0.001),
            "CVAE": _figures(0.0396, 0.0042, 0.00492, 0.0001, 0.295, 0.001),
            "MVAE": _figures(0.0836, 0.0357, 0.00485, 0.0001, 0.405, 0.002),
            "HI-VAE": _figures(0.0644, 0.0024, 0.00571, 0.0001, 0.385, 0.005),
            "VSAE": _figures(0.0381, 0.0027, 0.00485, 0.0001, 0.243, 0.0001),
        },
    ),
}
