"""mus keeps a self-hosted music library in step with the disk."""

__version__ = "0.1.0"
