"""Networks: the VSAE, and the models that the paper compares it with."""

from vsae_fast.models.autoencoder import Autoencoder
from vsae_fast.models.config import NetworkConfig
from vsae_fast.models.hivae import HIVAE
from vsae_fast.models.latent_model import LatentModel, Proposal
from vsae_fast.models.mvae import MVAE
from vsae_fast.models.vae import CVAE, MIWAE, VAE
from vsae_fast.models.vsae import VSAE

__all__ = ["CVAE", "HIVAE", "MIWAE", "MVAE", "VAE", "VSAE", "Autoencoder", "LatentModel", "NetworkConfig", "Proposal"]
