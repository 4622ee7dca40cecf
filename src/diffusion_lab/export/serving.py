"""A folder handed out to the browsers of this machine."""

import contextlib
import http.server
import webbrowser
from functools import partial
from pathlib import Path

FIRST_PORT = 8000


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Says nothing of each file."""

    def log_message(self, *_) -> None:
        pass


def server(folder: Path) -> http.server.ThreadingHTTPServer:
    """A server of `folder` on the first free port from FIRST_PORT on, not yet serving."""
    handler = partial(Quiet, directory=folder)
    for port in range(FIRST_PORT, FIRST_PORT + 20):
        with contextlib.suppress(OSError):  # taken
            return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    return http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)


def serve(folder: Path) -> None:
    """Serve `folder`, print its address and open it in a browser where there is one; until ctrl-C."""
    with server(folder) as serving:
        address = f"http://localhost:{serving.server_port}/"
        print(f"the page: {address} (ctrl-C ends this)", flush=True)
        webbrowser.open(address)
        serving.serve_forever()
