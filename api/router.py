"""Find the route of a request: literal segments win, prefixes of old clients are stripped.

Segments are split before they are percent-decoded, so that `%2F` stays inside its segment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from aiohttp import web

from lading.api.routing import Route
from lading.toolkit.errors import BadInput, LadingError, NotFound


class MethodNotAllowed(LadingError):
    """The path exists, the method does not; `allowed` goes into the Allow header."""

    code = "method_not_allowed"

    def __init__(self, message: str, allowed: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allowed = allowed


@dataclass(slots=True)
class _Node:
    literals: dict[str, _Node] = field(default_factory=dict)
    parameter: _Node | None = None
    routes: dict[str, tuple[Route, tuple[str, ...]]] = field(default_factory=dict)
    """Method -> the route and the names of its parameters, in order of appearance."""


class Router:
    """All routes of the server, as a tree of segments."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._root = _Node()
        for route in self.routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node = self._root
        names = []
        for segment in route.path.strip("/").split("/"):
            if segment.startswith("{"):
                names.append(segment[1:-1])
                node.parameter = node = node.parameter or _Node()
            else:
                node = node.literals.setdefault(segment, _Node())
        if route.method in node.routes:
            raise ValueError(f"{route.method} {route.path} is declared twice.")
        node.routes[route.method] = (route, tuple(names))

    def resolve(self, method: str, target: str) -> tuple[Route, Mapping[str, str]]:
        """Return the route of a request target and its path parameters.

        Raises NotFound, MethodNotAllowed, or BadInput for a segment that is no text.
        """
        path = _path_of(target)
        segments = self._without_prefix(path.strip("/").split("/"))
        # Only the first: a literal segment wins over a parameter, whatever the method is.
        node, values = next(_walk(self._root, segments, 0, ()), (None, ()))
        if node is None:
            raise NotFound(f"no such path: {path}")
        # HEAD is GET without the body; the transport leaves the body out.
        found = node.routes.get(method) or (node.routes.get("GET") if method == "HEAD" else None)
        if found is not None:
            route, names = found
            return route, {name: _decode(name, value) for name, value in zip(names, values, strict=True)}
        allowed = sorted(node.routes)
        raise MethodNotAllowed(
            f"{method} is not possible on {path}; accepted: {', '.join(allowed)}.", tuple(allowed)
        )

    def _without_prefix(self, segments: list[str]) -> list[str]:
        known = self._root.literals
        if segments[0] in known:
            return segments
        # Clients of torc have /_db/DATABASE/SERVICE in their URLs, whatever the database is called.
        if segments[0] == "_db" and len(segments) > 3:
            return self._without_prefix(segments[3:])
        for index, segment in enumerate(segments):
            if segment in known:
                return segments[index:]
        return segments


ROUTER: web.AppKey[Router] = web.AppKey("router", Router)


def _walk(
    node: _Node, segments: list[str], index: int, values: tuple[str, ...]
) -> Iterator[tuple[_Node, tuple[str, ...]]]:
    """Yield every node that a path reaches, the one with more literals on its left first."""
    if index == len(segments):
        if node.routes:
            yield node, values
        return
    segment = segments[index]
    literal = node.literals.get(segment)
    if literal is not None:
        yield from _walk(literal, segments, index + 1, values)
    if node.parameter is not None and segment:
        yield from _walk(node.parameter, segments, index + 1, (*values, segment))


def _path_of(target: str) -> str:
    path = target.partition("?")[0].partition("#")[0]
    if not path.startswith("/"):
        # The absolute form, as a proxy sends it: http://host/path.
        path = "/" + path.partition("://")[2].partition("/")[2]
    return path


def _decode(name: str, segment: str) -> str:
    if "%" not in segment:
        return segment
    try:
        value = unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise BadInput(f"{name}: {segment} in the path is not percent-encoded UTF-8.") from None
    if "\0" in value:
        raise BadInput(f"{name}: {segment} in the path contains a NUL character, which is not accepted.")
    return value
