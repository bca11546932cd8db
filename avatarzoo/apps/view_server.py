"""The viewer's web server: a page for every browser that comes, from viser."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

from avatarzoo.apps.view_page import Page
from avatarzoo.apps.view_stage import DISTANCE, Studio, View
from avatarzoo.errors import OutputError
from avatarzoo.optional import require

BRAND = (43, 108, 176)
LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")


def check_address(host: str, port: int) -> None:
    """viser would go on to the next port, or wait for ever.

    Raises:
        OutputError: the address is not this machine's, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise OutputError(
            f"{host} port {port} cannot be listened on ({error.strerror}); choose another --port or --host."
        ) from error


def welcome(origin: str | None, asked: str, host: str) -> bool:
    """Whether a browser is let in: only the viewer's own page is.

    Another web page that the same browser has open could connect here as well, and would see the avatars.

    Args:
        origin: of the page that connects; programs have none. asked: the Host header. host: that the server listens on.
    """
    name = urlsplit(f"//{asked}").hostname
    if host in LOCAL_NAMES and name not in LOCAL_NAMES:
        return False
    return origin is None or urlsplit(origin).netloc == asked


class ViewServer:
    """Serves the avatars until closed.

    Args:
        host: address to listen on. port: 0 takes a free one. size: of pictures at first. fps: of the driver's motion.

    Raises:
        MissingExtraError: viser is not installed.
    """

    def __init__(self, studio: Studio, host: str, port: int, size: int, fps: float) -> None:
        self.studio, self.host, self.size, self.fps = studio, host, size, fps
        self.pages: dict[int, Page] = {}
        self.lock = threading.Lock()
        studio.warm_up(size)
        with contextlib.redirect_stdout(io.StringIO()):  # the address is told by the command
            self.server = require("viser", "view").ViserServer(host, port, label="avatarzoo", verbose=False)
        self.port = self.server.get_port()
        self.server.request_share_url = lambda *_, **__: (
            None
        )  # nobody may send avatars through a stranger's server
        self.furnish()
        self.server.on_client_connect(self.opened)
        self.server.on_client_disconnect(self.gone)

    def furnish(self) -> None:
        server, start = self.server, View.home(self.studio.fov)
        server.scene.set_up_direction("+y")
        server.gui.configure_theme(show_logo=False, show_share_button=False, brand_color=BRAND)
        server.gui.main_panel.dock_right()
        camera = server.initial_camera
        camera.position, camera.look_at, camera.up = (0.0, 0.0, DISTANCE), (0.0, 0.0, 0.0), (0.0, 1.0, 0.0)
        camera.fov, camera.near, camera.far = start.fov, 0.01 * DISTANCE, 20 * DISTANCE

    def opened(self, client: Any) -> None:
        """A browser has opened the page."""
        if not self.let_in(client):
            return
        page = Page(client, self.studio, self.size, self.fps)
        with self.lock:
            self.pages[client.client_id] = page
        if client.client_id not in self.server.get_clients():  # it has gone meanwhile
            self.gone(client)

    def let_in(self, client: Any) -> bool:
        connection = self.server._websock_server._live_connections.get(client.client_id)
        if connection is None:
            return False
        headers = connection.request.headers
        return welcome(headers.get("Origin"), headers.get("Host", ""), self.host)

    def gone(self, client: Any) -> None:
        """A browser has closed the page, or died."""
        with self.lock:
            page = self.pages.pop(client.client_id, None)
        if page is not None:
            page.close()

    def close(self) -> None:
        with self.lock:
            pages, self.pages = list(self.pages.values()), {}
        for page in pages:
            page.close()
        self.server.stop()
