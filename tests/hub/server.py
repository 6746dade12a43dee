"""The Hub as an HTTP server of this process."""

import socket
import sys
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from . import endpoints  # noqa: F401  (registers the routes)
from .repos import Hub, Request


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet per answer: small ones wait 40 ms for each other
    disable_nagle_algorithm = True

    def handle_request(self):
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.command, unquote(url.path), parse_qs(url.query), self.headers, body)
        answer, whole = self.server.hub.answer(request, url.path)
        self.close_connection = self.close_connection or not whole
        if answer:
            request.status = answer.status
            self.send(answer, whole)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_request

    def send(self, answer, whole):
        self.send_response(answer.status)
        for name, value in ({"Content-Type": "application/json"} | answer.headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body if whole else answer.body[: len(answer.body) // 2])

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for every thread
    request_queue_size = 64

    def __init__(self, hub):
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub, self.connections = hub, set()

    def process_request(self, connection, address):
        self.connections.add(connection)
        super().process_request(connection, address)

    def shutdown_request(self, connection):
        self.connections.discard(connection)
        super().shutdown_request(connection)

    def handle_error(self, connection, address):
        if not isinstance(sys.exception(), ConnectionError):  # a client may hang up
            self.hub.crashes.append(sys.exception())


@contextmanager
def serve():
    """Run a Hub until the block ends; a mistake in answering fails the test then."""
    hub = Hub()
    server = Server(hub)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        for connection in list(server.connections):  # clients keep them open for more
            with suppress(OSError):  # gone meanwhile
                connection.shutdown(socket.SHUT_RDWR)
        server.server_close()
        thread.join()
    if hub.crashes:
        raise hub.crashes[0]
