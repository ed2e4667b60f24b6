"""The two servers as the studio sees them: clients for every tab, and whether they answer."""

from __future__ import annotations

from contextlib import ExitStack
from html import escape
from types import TracebackType
from typing import Self

from panelhue import types as t
from panelhue.colorizer_client import ColorizerClient
from panelhue.errors import PanelhueError
from panelhue.maintenance_client import MaintenanceClient
from panelhue.retrieval_client import RetrievalClient

PATIENCE = 10.0  # seconds until a short call is given up


class Servers:
    """Clients of both servers. A context manager; safe to use from several threads.

    Args:
        retrieval: address of the retrieval server.
        colorizer: address of the colouriser server.
        token: what the colouriser asks for; "": nothing.
    """

    def __init__(self, retrieval: str, colorizer: str, token: str = "") -> None:
        self.token = token
        self.retrieval = RetrievalClient(retrieval, timeout=PATIENCE)
        self.maintenance = MaintenanceClient(retrieval, timeout=PATIENCE)
        self.colorizer = ColorizerClient(colorizer, timeout=PATIENCE, token=token)
        self._stack = ExitStack()
        for client in (self.retrieval, self.maintenance, self.colorizer):
            self._stack.callback(client.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def series(self) -> list[tuple[str, str]]:
        """All series, as names for people and ids, by name.

        Raises:
            ServerError: the retrieval server does not answer.
        """
        found = [(one.display_name or one.id, one.id) for one in self.retrieval.list_series()]
        counts: dict[str, int] = {}
        for name, _ in found:
            counts[name] = counts.get(name, 0) + 1
        return sorted((name if counts[name] == 1 else f"{name} ({key})", key) for name, key in found)

    def backends(self) -> tuple[t.Backend, ...]:
        """The cards of the back-ends that can be used now.

        Raises:
            ServerError: the colouriser server does not answer.
        """
        return tuple(card for card in self.colorizer.backends() if card.available)

    def head(self, retrieval: PanelhueError | None, colorizer: PanelhueError | None) -> str:
        """The page's head, with both addresses and whether they answer, as HTML."""
        items = "".join(
            f'<li class="{"ph-off" if error else "ph-well"}" data-server="{name}">{name} {escape(target)}'
            f"{' does not answer' if error else ''}</li>"
            for name, target, error in (
                ("retrieval", self.retrieval.target, retrieval),
                ("colouriser", self.colorizer.target, colorizer),
            )
        )
        return (
            '<div class="ph-head"><h1><img src="ph-studio/assets/icon.svg" alt="">Panelhue Studio</h1>'
            f'<ul aria-label="Servers">{items}</ul></div>'
        )
