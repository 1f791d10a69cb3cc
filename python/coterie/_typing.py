"""Types that several modules share, and the checks of what they cannot say."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import SupportsFloat, SupportsIndex, TypeAlias, TypeVar

from coterie.exceptions import ConfigError

__all__ = ["Key", "Weights", "checked_weight", "paired"]

# Far more than anybody means, and far from where sums and ratios of weights would lose their meaning.
WEIGHT_MIN, WEIGHT_MAX = 1e-9, 1e9

Item = TypeVar("Item", bound=Hashable)

#: What is placed: text (its UTF-8 stands for it), bytes, or an integer of any kind.
Key: TypeAlias = str | bytes | SupportsIndex
#: Weights by item, or in the order of the items.
Weights: TypeAlias = Mapping[Item, SupportsFloat] | Sequence[SupportsFloat]


def checked_weight(item: object, weight: SupportsFloat) -> float:
    """`weight` as a float, if it is a number that can be one."""
    try:
        # A text that spells a number is more likely a column that was read wrong than a weight.
        number = float("nan") if isinstance(weight, (str, bytes)) else float(weight)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if WEIGHT_MIN <= number <= WEIGHT_MAX:
        return number
    shown = repr(weight)
    shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
    raise ConfigError(
        f"the weight of {item!r} is {shown}; it must be a number from {WEIGHT_MIN:g} to {WEIGHT_MAX:g}"
    )


def paired(
    items: Sequence[Item], weights: Sequence[SupportsFloat], kind: str
) -> list[tuple[Item, SupportsFloat]]:
    """Each of `items`, which are called `kind`, with its weight."""
    if not hasattr(weights, "__len__"):
        raise ConfigError(
            f"weights is {weights!r}; it must be a mapping, or a sequence as long as the {kind}"
        )
    if len(weights) != len(items):
        raise ConfigError(f"{len(weights)} weights for {len(items)} {kind}")
    return list(zip(items, weights, strict=True))
