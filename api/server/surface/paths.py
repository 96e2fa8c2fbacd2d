"""The path that a request is routed by."""

from starlette.types import Scope


def route_path(scope: Scope) -> str:
    """A request's path without the root path that the server was told, as routes see it.

    >>> route_path({"path": "/llm/v1/models", "root_path": "/llm"})
    '/v1/models'
    """
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if root and (path == root or path.startswith(f"{root}/")) else path
