"""What drools_jpy keeps private, reached through Java's reflection.

Reflection asks who calls, and Python is nobody; Jackson, which Drools brings
along, asks on our behalf.
"""

from __future__ import annotations

from typing import Any

from .errors import StateRefused

ACCESS = "com.fasterxml.jackson.databind.util.ClassUtil"
OBJECT = "java.lang.Object"
WRAPPED = "InvocationTargetException"
CAUSE = "caused by "

_methods: dict[tuple[str, str], Any] = {}


def peek(target: Any, name: str) -> Any:
    """The value of an object's private field.

    :raises StateRefused: if there is none of that name.
    """
    return field(target, name).get(target)


def field(target: Any, name: str) -> Any:
    """A private field of an object's class.

    :raises StateRefused: if there is none of that name.
    """
    holder = target.getClass()
    while holder is not None:
        try:
            return _accessible(holder.getDeclaredField(name))
        except RuntimeError:
            holder = holder.getSuperclass()
    raise _is_gone(name)


def call(target: Any, name: str, *values: Any) -> Any:
    """Call a private method; numbers have to be Java's.

    :raises StateRefused: if there is none of that name.
    :raises RuntimeError: as jpy does, with the method's own exception first.
    """
    import jpy

    key = str(target.getClass().getName()), name
    if key not in _methods:
        _methods[key] = _method(target, name)
    try:
        return _methods[key].invoke(target, jpy.array(OBJECT, list(values)))
    except RuntimeError as error:
        raise RuntimeError(_unwrapped(str(error))) from None


def elements(collection: Any) -> list[Any]:
    """What a Java collection holds."""
    found = []
    iterator = collection.iterator()
    while iterator.hasNext():
        found.append(iterator.next())
    return found


def _method(target: Any, name: str) -> Any:
    holder = target.getClass()
    while holder is not None:
        for method in holder.getDeclaredMethods():
            if method.getName() == name:
                return _accessible(method)
        holder = holder.getSuperclass()
    raise _is_gone(name)


def _accessible(member: Any) -> Any:
    import jpy

    jpy.get_type(ACCESS).checkAndFixAccess(member, True)
    return member


def _unwrapped(text: str) -> str:
    """The text of an exception from behind the one that brought it."""
    head, found, rest = text.partition(CAUSE)
    return rest if found and WRAPPED in head else text


def _is_gone(name: str) -> StateRefused:
    return StateRefused(f"drools_jpy has no {name} any more")
