"""
The compiled half of Coterie. Import `coterie` instead: the names here may change in any release.
"""

__all__ = ["provoke_panic", "version"]

def provoke_panic() -> None:
    """
    Panics, so that a test can see what becomes of a panic.
    """

def version() -> str:
    """
    The version of the crate and of the package: they are one.
    """
