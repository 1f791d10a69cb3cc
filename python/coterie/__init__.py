"""The building blocks of distributed systems, inside your own Python processes."""

from coterie.exceptions import CoterieError

__all__ = ["CoterieError"]
