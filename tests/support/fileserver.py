"""An HTTP server of files, with the faults that servers have."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What the server serves, how it misbehaves, and what it was asked for.

    A client first looks at the first 512 bytes of a file, then downloads it.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    # File name -> statuses of the answers, one for each request; 200 is no fault.
    statuses: dict[str, list[int]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)  # of answers with another status
    cuts: list[int] = field(default_factory=list)  # for each download, bytes until it breaks off
    ranges: bool = True  # honour Range
    tags: bool = True  # send ETag
    weak: bool = False  # the tag is a weak one
    lengths: bool = True  # send Content-Length
    version: str = "1"  # in the ETag
    free: threading.Event = field(default_factory=threading.Event)  # downloads wait for it
    asked: list[tuple[str, str]] = field(default_factory=list)  # path and Range of each download
    looks: list[str] = field(default_factory=list)  # path of each look
    url: str = ""

    def __post_init__(self) -> None:
        self.free.set()

    def hold(self) -> Callable[[], None]:
        """Make downloads wait; call the function that this returns to let them go on."""
        self.free.clear()
        return self.free.set


@contextmanager
def serving() -> Iterator[FileServer]:
    state = FileServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            answer(self, state)

    class Server(ThreadingHTTPServer):
        def handle_error(self, *arguments: object) -> None:
            """Print nothing where a client hangs up."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(request: BaseHTTPRequestHandler, state: FileServer) -> None:
    """Answer a GET request."""
    name = request.path.rpartition("/")[2]
    span = request.headers["Range"] or ""
    look = span == "bytes=0-511"
    if look:
        state.looks.append(request.path)
    else:
        state.asked.append((request.path, span))
        state.free.wait(10)
    statuses = state.statuses.get(name, [])
    status = statuses.pop(0) if statuses else 200
    request.close_connection = True
    if name not in state.files or status != 200:
        request.send_response(status if status != 200 else 404)
        for key, value in state.headers.items():
            request.send_header(key, value)
        request.send_header("Content-Length", "0")
        request.send_header("Connection", "close")
        request.end_headers()
        return
    content = state.files[name]
    tag = f'"{state.version}"' if not state.weak else f'W/"{state.version}"'
    start, end = 0, len(content)
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", span)
    same = request.headers["If-Range"] in (None, tag)
    partial = bool(wanted and state.ranges and same)
    if wanted and partial:
        start = int(wanted[1])
        end = min(end, int(wanted[2]) + 1) if wanted[2] else end
        if start >= len(content):
            request.send_response(416)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
    request.send_response(206 if partial else 200)
    if partial:
        request.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
    if state.tags:
        request.send_header("ETag", tag)
    if state.lengths:
        request.send_header("Content-Length", str(end - start))
    page = content.lstrip().startswith(b"<")
    request.send_header("Content-Type", "text/html" if page else "application/octet-stream")
    request.end_headers()
    if state.cuts and not look:
        end = min(end, start + state.cuts.pop(0))
    request.wfile.write(content[start:end])
