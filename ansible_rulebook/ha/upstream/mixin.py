"""How a class of ours comes before upstream's.

A mixin of ours has the worker as a class attribute, ``ha_worker``, which it
gets when it is combined. So it needs neither upstream nor a closure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Mixin = Any  # it has whatever the class has that it is combined with
else:
    Mixin = object


def combine(mixin: type, base: type, **attributes: Any) -> Any:
    """The class that is both; upstream shows it under its own name.

    :param mixin: overrides methods of the base, and calls them.
    :param attributes: of the new class.
    """
    return type(base.__name__, (mixin, base), attributes)
