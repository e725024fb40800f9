"""``python -m vsae_fast`` is ``vsae-fast``."""

from vsae_fast.cli import main

if __name__ == "__main__":
    main()
