"""The installed version of kvblend."""

from importlib.metadata import PackageNotFoundError, version


def kvblend_version() -> str:
    """Version of the distribution, or `unknown` in a source tree that was never installed."""
    try:
        return version("kvblend")
    except PackageNotFoundError:
        return "unknown"
