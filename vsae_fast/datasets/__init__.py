"""The data of the paper's experiments, from official files in a folder of yours or downloaded once and checked.

``folder`` of every function holds one folder for each set (``white_wine``, ``mnist``, ``svhn``, ...); the environment
variable ``VSAE_FAST_DATA`` names it where the argument is left out. Files that are not there are downloaded into the
user's cache, which needs the extra ``datasets``; sets that have no public download say what to put where.
"""

from vsae_fast.datasets.multimodal import fetch_multimodal, multimodal_stand_in
from vsae_fast.datasets.pairs import fetch_image_label, fetch_mnist_pairs, fetch_mnist_svhn
from vsae_fast.datasets.split import Split
from vsae_fast.datasets.uci import UCI, fetch_uci

__all__ = [
    "UCI",
    "Split",
    "fetch_image_label",
    "fetch_mnist_pairs",
    "fetch_mnist_svhn",
    "fetch_multimodal",
    "fetch_uci",
    "multimodal_stand_in",
]
