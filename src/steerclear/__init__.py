"""steerclear: guidance for diffusion models that says what it changed."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("steerclear")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0.1.0"
