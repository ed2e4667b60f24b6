"""A small reverse proxy that calls what is behind it by a name of its own, as nginx does unless told otherwise."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OWN = {"connection", "keep-alive", "transfer-encoding", "host"}  # headers of one connection alone


@dataclass
class Behind:
    """What is behind the proxy."""

    host: str = "backend:7860"  # what it is called, whatever the browser has called the proxy
    prefix: str = ""  # of the paths that are its own
    stripped: bool = False  # whether the prefix is taken off
    port: int = 0  # where it is
    served: int = 0  # answers so far


@contextmanager
def proxied(behind: Behind) -> Iterator[int]:
    """A proxy on 127.0.0.1; gives its port. Answers are handed on as they come, piece by piece."""

    class Handler(BaseHTTPRequestHandler):
        def _pass(self) -> None:
            path = self.path
            if not path.startswith(f"{behind.prefix}/") and path != behind.prefix:
                self.send_error(404)
                return
            if behind.stripped:
                path = path[len(behind.prefix) :] or "/"
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            inner = HTTPConnection("127.0.0.1", behind.port)
            try:
                kept = {name: value for name, value in self.headers.items() if name.lower() not in OWN}
                inner.request(self.command, path, body or None, {**kept, "Host": behind.host})
                answer = inner.getresponse()
                self.send_response_only(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in OWN:
                        self.send_header(name, value)
                self.end_headers()
                behind.served += 1
                while piece := answer.read1(65536):
                    self.wfile.write(piece)
            except OSError:  # the browser, or what is behind, has gone
                pass
            finally:
                inner.close()

        def log_message(self, *_: object) -> None:
            pass

    for method in ("GET", "POST", "HEAD", "OPTIONS"):
        setattr(Handler, f"do_{method}", Handler._pass)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
