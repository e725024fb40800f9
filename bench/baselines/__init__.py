"""Deep imputers of others, in plain PyTorch, as opponents."""
