"""Pictures of what is missing, of an imputation, and of the model behind it (extra ``plot``).

Every function draws into the Axes that it is given or makes its own with pyplot, returns them, and never shows them.
"""

from vsae_fast.plot.distributions import distributions
from vsae_fast.plot.missing import co_missingness, missingness
from vsae_fast.plot.model import effective_sample_size, latent, training
from vsae_fast.plot.overimputation import overimputation

__all__ = [
    "missingness",
    "co_missingness",
    "distributions",
    "overimputation",
    "training",
    "effective_sample_size",
    "latent",
]
