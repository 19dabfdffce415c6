"""Dependencies of handlers."""

from collections.abc import Callable
from typing import Any, Literal


class Depends:
    """Marks a handler's parameter as a dependency: `Annotated[Session, Depends(get_session)]`.

    Not supported by this version: a handler that has one is refused.
    """

    def __init__(self, dependency: Callable[..., Any], *, lifetime: Literal["message", "app"] = "message") -> None:
        self.dependency = dependency
        self.lifetime = lifetime
