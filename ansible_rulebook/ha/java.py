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

_members: dict[tuple[str, str], Any] = {}


def peek(target: Any, name: str) -> Any:
    """The value of an object's private field.

    :raises StateRefused: if there is none of that name.
    """
    return field(target, name).get(target)


def field(target: Any, name: str) -> Any:
    """A private field of an object's class.

    :raises StateRefused: if there is none of that name.
    """
    return _member(target, name, "getDeclaredFields")


def method(target: Any, name: str) -> Any:
    """A private method of an object's class, where only one has that name.

    :raises StateRefused: if there is none of that name.
    """
    return _member(target, name, "getDeclaredMethods")


def call(target: Any, name: str, *values: Any) -> Any:
    """Call a private method; numbers have to be Java's.

    :raises StateRefused: if there is none of that name.
    :raises RuntimeError: as jpy does, with the method's own exception first.
    """
    import jpy

    found = method(target, name)
    try:
        return found.invoke(target, jpy.array(OBJECT, list(values)))
    except RuntimeError as error:
        raise RuntimeError(_unwrapped(str(error))) from None


def elements(collection: Any) -> list[Any]:
    """What a Java collection holds."""
    found = []
    iterator = collection.iterator()
    while iterator.hasNext():
        found.append(iterator.next())
    return found


def _member(target: Any, name: str, declared: str) -> Any:
    import jpy

    holder = target.getClass()
    key = str(holder.getName()), name
    while holder is not None and key not in _members:
        for each in getattr(holder, declared)():
            if each.getName() == name:
                jpy.get_type(ACCESS).checkAndFixAccess(each, True)
                _members[key] = each
        holder = holder.getSuperclass()
    if key not in _members:
        raise StateRefused(f"drools_jpy has no {name} any more")
    return _members[key]


def _unwrapped(text: str) -> str:
    """The text of an exception from behind the one that brought it."""
    head, found, rest = text.partition(CAUSE)
    return rest if found and WRAPPED in head else text
