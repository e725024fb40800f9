"""Complete a matrix with HyperImpute; runs in the Python that has it, and imports nothing of ours.

python -I hyper_impute_worker.py given.npy found.npy MOST_LEVELS

Columns of at most MOST_LEVELS different values count as categories (HyperImpute's own default is 5).
"""

import sys
import warnings

import numpy as np
import pandas as pd

DEFAULT_THRESHOLD = 5


def main() -> None:
    """Read, complete, write."""
    warnings.simplefilter("ignore")
    from hyperimpute.plugins.imputers import Imputers

    given, found, most_levels = sys.argv[1:]
    table = pd.DataFrame(np.load(given))
    table.columns = [str(name) for name in table.columns]
    threshold = max(int(most_levels), DEFAULT_THRESHOLD)
    plugin = Imputers().get("hyperimpute", class_threshold=threshold, random_state=0)
    np.save(found, np.asarray(plugin.fit_transform(table), dtype=float))


if __name__ == "__main__":
    main()
