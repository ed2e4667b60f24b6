"""Calls as values: what is sent and what is made of the answers, written once for blocking and asyncio clients.

A method under `asked`, `listed`, `followed` or `exchanged` only describes a call. On a blocking client it then gives
the result; on an asyncio client, something to await or to iterate over with `async for`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    Self,
    TypeAlias,
    TypeVar,
    overload,
)

from panelhue.errors import Disagreement

if TYPE_CHECKING:
    from panelhue._aio import AsyncConnection
    from panelhue._exchange import Exchange
    from panelhue._sync import Connection

P = ParamSpec("P")
T = TypeVar("T")
Out = TypeVar("Out", covariant=True)
Message: TypeAlias = Any  # the stubs' messages share no useful type


class Receiver(Protocol[Out]):
    """Makes one value of a stream of answers."""

    def feed(self, message: Message, /) -> None:
        """Takes the next answer."""

    def finish(self) -> Out:
        """The value, at the stream's end."""


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, one answer."""

    method: str  # the RPC's name
    request: Message
    decode: Callable[[Message], T]
    timeout: float | None = None  # seconds
    own_timeout: bool = False  # whether None means no deadline, rather than the client's
    repeatable: bool = True  # whether making it twice is the same as making it once


@dataclass(frozen=True)
class Gathered(Generic[T]):
    """A stream of answers that becomes one value; always repeatable."""

    method: str
    request: Message | Callable[[], Iterable[Message]]  # a function where requests are a stream
    receiver: Callable[[], Receiver[T]]
    timeout: float | None


@dataclass(frozen=True)
class Several(Generic[T]):
    """Calls made one after the other, whose answers become one."""

    calls: Callable[[], Iterable[Call[T]]]
    join: Callable[[list[T]], T]


@dataclass(frozen=True)
class Listing(Generic[T]):
    """All entries of a list that comes in pages."""

    page: Callable[[str], Call[tuple[Sequence[T], str]]]  # by token; gives entries and the next token


@dataclass(frozen=True)
class Followed(Generic[T]):
    """A stream of answers to one request, each told as it comes. Made again only if none has come."""

    method: str
    request: Message
    decode: Callable[[Message], T]
    is_last: Callable[[Message], bool]  # without such an answer at its end the stream was cut off
    what: str  # for the message about that
    timeout: float | None
    repeatable: bool


def check_ended(call: Followed[T], last: Message | None) -> None:
    """Refuses a stream that has ended too early.

    Raises:
        Disagreement: its last answer was none.
    """
    if last is None or not call.is_last(last):
        raise Disagreement(f"the server ended {call.what} without saying that it is complete")


class _Described:
    """What all four have in common: at run time each is a method of the client that it is looked up on."""

    _PERFORM: ClassVar[str]  # the client's own method that makes such a call
    _GIVES: ClassVar[str]  # what the method gives, for help()

    def __init__(self, describe: Callable[..., Any]) -> None:
        functools.update_wrapper(self, describe)
        self._describe = describe
        signature = inspect.signature(describe)
        kind, _, given = str(signature.return_annotation)[:-1].partition("[")  # such as Call[t.Series]
        given = given.rpartition(", ")[2] if kind == "Exchange" else given
        self.__signature__ = signature.replace(return_annotation=self._GIVES.format(given))

    def __call__(self, client: Any, *args: Any, **kwargs: Any) -> Any:
        """As a function that takes the client first, like any method looked up on its class."""
        return getattr(client, self._PERFORM)(self._describe(client, *args, **kwargs))

    def _bound(self, client: Any) -> Callable[..., Any]:
        @functools.wraps(self._describe)
        def call(*args: Any, **kwargs: Any) -> Any:
            return self(client, *args, **kwargs)

        parameters = list(self.__signature__.parameters.values())[1:]
        call.__signature__ = self.__signature__.replace(parameters=parameters)  # type: ignore[attr-defined]  # it may
        return call


class asked(_Described, Generic[P, T]):  # noqa: N801 - used as a decorator
    """A method that gives one value."""

    _PERFORM, _GIVES = "_ask", "{}"

    def __init__(self, describe: Callable[Concatenate[Any, P], Call[T] | Gathered[T] | Several[T]]) -> None:
        super().__init__(describe)

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: Connection, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncConnection, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        return self if client is None else self._bound(client)


class listed(_Described, Generic[P, T]):  # noqa: N801 - used as a decorator
    """A method that gives the entries of a list, fetched as they are read."""

    _PERFORM, _GIVES = "_list", "Iterator[{}]"

    def __init__(self, describe: Callable[Concatenate[Any, P], Listing[T]]) -> None:
        super().__init__(describe)

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: Connection, owner: type) -> Callable[P, Generator[T, None, None]]: ...
    @overload
    def __get__(self, client: AsyncConnection, owner: type) -> Callable[P, AsyncGenerator[T, None]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        return self if client is None else self._bound(client)


class followed(_Described, Generic[P, T]):  # noqa: N801 - used as a decorator
    """A method that tells what a long call does."""

    _PERFORM, _GIVES = "_follow", "Iterator[{}]"

    def __init__(self, describe: Callable[Concatenate[Any, P], Followed[T]]) -> None:
        super().__init__(describe)

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: Connection, owner: type) -> Callable[P, Generator[T, None, None]]: ...
    @overload
    def __get__(self, client: AsyncConnection, owner: type) -> Callable[P, AsyncGenerator[T, None]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        return self if client is None else self._bound(client)


class exchanged(_Described, Generic[P, T]):  # noqa: N801 - used as a decorator
    """A method that sends pictures and tells what becomes of each."""

    _PERFORM, _GIVES = "_exchange", "Iterator[{}]"

    def __init__(self, describe: Callable[Concatenate[Any, P], Exchange[Any, T]]) -> None:
        super().__init__(describe)

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: Connection, owner: type) -> Callable[P, Generator[T, None, None]]: ...
    @overload
    def __get__(self, client: AsyncConnection, owner: type) -> Callable[P, AsyncGenerator[T, None]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        return self if client is None else self._bound(client)
