"""Networks: the VSAE and its parts."""

from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.vsae import VSAE, Proposal

__all__ = ["VSAE", "NetworkConfig", "Proposal"]
