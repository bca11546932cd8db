"""The page of one browser: its sliders and buttons, and the thread that draws for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from avatarzoo.apps.view_controls import Control, Key
from avatarzoo.apps.view_loop import Playback, Rate, Renderer
from avatarzoo.apps.view_record import Recording, file_name, video
from avatarzoo.apps.view_splats import Splats
from avatarzoo.apps.view_stage import DISTANCE, Request, Studio, View, padded, side_by_side
from avatarzoo.data.video import picture_bytes
from avatarzoo.geometry.rotations import quaternion_to_matrix

SIZES = (128, 192, 256, 384, 512, 768, 1024, 2048)
QUALITY = 90
UPDATE_SECONDS = 0.4
"""The line with the rate, and the slider of the playback, are renewed so often."""
QUIET = "gray"
PICTURES, SPLATS = "Pictures", "Splats in the browser"


class Page:
    """What one browser sees.

    Args:
        client: viser's handle. size: of each avatar's picture at first. fps: of the driver's motion.
    """

    def __init__(self, client: Any, studio: Studio, size: int, fps: float) -> None:
        self.client, self.studio, self.fps = client, studio, fps
        self.rate, self.renewed = Rate(), 0.0
        self.recording: Recording | None = None
        self.sliders: dict[Key, Any] = {}
        self.splats, self.splats_of = Splats(client.scene), None
        everybody = tuple(range(len(studio.sitters)))
        request = Request(self.view(), {}, None, everybody, studio.has_source, size)
        self.playback = Playback(studio.frames, fps) if studio.frames else None
        self.renderer = Renderer(self.drawn, self.show, self.fail, request, self.playback)
        self.build(size)
        self.watch_camera()
        self.renderer.start()

    def close(self) -> None:
        """The browser has gone."""
        self.renderer.close()
        if self.recording is not None:
            self.recording.abandon()

    # ---- the panel -------------------------------------------------------------------------------------------------

    def build(self, size: int) -> None:
        gui = self.client.gui
        self.line = gui.add_markdown("Drawing the first picture…")
        self.button("Save picture", "camera", self.save_picture, "What you see, as PNG")
        self.record = self.button(
            "Record video", "video", self.toggle_recording, "What you see from now on, as mp4"
        )
        tabs = gui.add_tab_group()
        with tabs.add_tab("Face", None):
            self.build_sliders()
        if self.playback is not None:
            with tabs.add_tab("Play", None):
                self.build_playback(self.playback)
        with tabs.add_tab("Picture", None):
            self.build_picture(size)

    def button(
        self, label: str, icon: str, act: Callable[[], None], hint: str | None = None, color: Any = None
    ) -> Any:
        made = self.client.gui.add_button(label, icon=icon, hint=hint, color=color)
        made.on_click(lambda _: self.guarded(act))
        return made

    def guarded(self, act: Callable[[], None]) -> None:
        """What goes wrong on a click is said on the page."""
        try:
            act()
        except Exception as error:
            self.fail(error)

    def build_sliders(self) -> None:
        gui, folders = self.client.gui, {}
        controls: dict[Key, Control] = {}
        for sitter in self.studio.sitters:
            controls |= {c.key: c for c in sitter.controls if c.key not in controls}
        self.button("Reset face", "refresh", self.reset_face, color=QUIET)
        for control in sorted(controls.values(), key=lambda c: c.folder != ""):
            if not control.folder:
                self.add_slider(control)
                continue
            if control.folder not in folders:
                folders[control.folder] = gui.add_folder(control.folder, expand_by_default=False)
            with folders[control.folder]:
                self.add_slider(control)

    def add_slider(self, control: Control) -> None:
        slider = self.client.gui.add_slider(
            control.label, control.low, control.high, control.step, 0.0, hint=control.hint
        )
        self.sliders[control.key] = slider

        @slider.on_update
        async def _(event: Any) -> None:
            self.renderer.ask(values=self.values())

    def values(self) -> dict[Key, float]:
        return {key: float(slider.value) for key, slider in self.sliders.items() if slider.value}

    def reset_face(self) -> None:
        for slider in self.sliders.values():
            slider.value = 0.0

    def build_playback(self, playback: Playback) -> None:
        gui = self.client.gui
        self.play = self.button("Play", "player-play", self.toggle_playing)
        self.place = gui.add_slider("Frame", 0, max(1, playback.frames - 1), 1, 0)
        self.button(
            "Save all of it as video",
            "movie",
            self.save_motion,
            "Every frame, with this camera and these sliders, and the driver's sound",
        )

        @self.place.on_update
        async def _(event: Any) -> None:
            if event.client is not None:  # a person's hand, not the playback
                playback.seek(int(event.target.value), self.renderer.clock())
                self.renderer.ask()

    def build_picture(self, size: int) -> None:
        gui, studio = self.client.gui, self.studio
        self.button("Front view", "focus-centered", self.front, color=QUIET)
        if any(s.is_gaussians for s in studio.sitters):
            kind = gui.add_dropdown(
                "Show as", (PICTURES, SPLATS), initial_value=PICTURES,
                hint="Splats are drawn by the browser's own graphics card; only avatars made of Gaussians have them.",
            )  # fmt: skip
            kind.on_update(lambda event: self.renderer.ask(splats=event.target.value == SPLATS))
        if studio.has_source:
            beside = gui.add_checkbox("Source beside it", True, hint="The photo, or the driver's pictures")
            beside.on_update(lambda event: self.renderer.ask(source=event.target.value))
        options = tuple(str(n) for n in sorted({*SIZES, size}))
        chosen = gui.add_dropdown(
            "Size of a picture", options, initial_value=str(size), hint="Pixels; smaller is faster"
        )
        chosen.on_update(lambda event: self.renderer.ask(size=int(event.target.value)))
        if len(studio.sitters) > 1:
            self.shown = [gui.add_checkbox(s.name, True) for s in studio.sitters]
            for box in self.shown:
                box.on_update(lambda _: self.choose())

    def choose(self) -> None:
        """Show the ticked avatars; the last one cannot be unticked."""
        ticked = tuple(n for n, box in enumerate(self.shown) if box.value)
        if ticked:
            self.renderer.ask(shown=ticked)
        else:
            self.shown[self.renderer.request.shown[0]].value = True

    # ---- the camera ------------------------------------------------------------------------------------------------

    def view(self) -> View:
        camera = self.client.camera
        rotation = quaternion_to_matrix(torch.from_numpy(camera.wxyz)).numpy()
        return View.of_pose(rotation, camera.position, camera.fov)

    def watch_camera(self) -> None:
        camera = self.client.camera
        camera.min_orbit_distance, camera.max_orbit_distance = 0.2 * DISTANCE, 5 * DISTANCE

        @camera.on_update
        async def _(_: Any) -> None:
            self.renderer.ask(view=self.view())

    def front(self) -> None:
        """Back to where the camera stood at first."""
        with self.client.atomic():
            self.client.camera.up_direction = (0.0, 1.0, 0.0)
            self.client.camera.position = (0.0, 0.0, DISTANCE)
            self.client.camera.look_at = (0.0, 0.0, 0.0)
            self.client.camera.fov = self.studio.fov
        self.renderer.ask(view=View.home(self.studio.fov))

    # ---- drawing ---------------------------------------------------------------------------------------------------

    def drawn(self, request: Request) -> Any:
        """The renderer's work: one picture, or Gaussians."""
        if not request.splats:
            return self.picture(request)
        asked = (request.values, request.frame, request.shown)
        if asked == self.splats_of:
            return None  # only the camera moved, which is the browser's business
        self.splats_of = asked
        return self.studio.gaussians(request)

    def picture(self, request: Request) -> np.ndarray:
        camera = self.client.camera
        return side_by_side(self.studio.draw(request), camera.aspect, self.studio.ground(request.shown))

    def show(self, request: Request, drawing: Any, spent: float) -> None:
        """Called by the renderer with what was drawn."""
        ground = self.studio.ground(request.shown)
        if not request.splats:
            self.splats.show({})
            self.splats_of = None
            whole = padded(drawing, self.client.camera.aspect, ground)
            self.client.scene.set_background_image(whole, format="jpeg", jpeg_quality=QUALITY)
            if (recording := self.recording) is not None:
                recording.add(drawing)
        elif drawing is not None:
            self.client.scene.set_background_image(np.full((4, 4, 3), ground, np.uint8), format="png")
            self.splats.show(drawing)
        self.rate.add(self.renderer.clock(), spent)
        self.renew(request)

    def renew(self, request: Request) -> None:
        """The line on top, and the playback's slider."""
        now = self.renderer.clock()
        if now - self.renewed < UPDATE_SECONDS and self.rate.per_second:
            return
        self.renewed = now
        speed = f"**{self.rate.per_second:.0f} frames/s** · " if self.rate.per_second else ""
        what = "splats" if request.splats else f"{request.size} px"
        unsigned = "" if self.studio.credentials else " · kept without content credentials"
        self.line.content = f"{speed}{self.rate.milliseconds:.0f} ms a picture · {what}{unsigned}"
        if self.playback is not None and self.playback.playing and request.frame is not None:
            self.place.value = request.frame
        if self.recording is not None and self.recording.full:
            self.toggle_recording()

    def fail(self, error: Exception) -> None:
        self.client.add_notification("That did not work", str(error) or type(error).__name__, color="red")

    # ---- files and playback ----------------------------------------------------------------------------------------

    def name(self, suffix: str) -> str:
        names = (self.studio.sitters[n].name for n in self.renderer.request.shown)
        return file_name(names, suffix, self.studio.credentials is not None)

    def send(self, name: str, content: bytes) -> None:
        self.client.send_file_download(name, content, save_immediately=True)

    def save_picture(self) -> None:
        name = self.name(".png")
        drawn = self.picture(self.renderer.current())
        self.send(name, picture_bytes(drawn, name, self.studio.credentials))

    def toggle_recording(self) -> None:
        recording, self.recording = self.recording, None
        if recording is None:
            self.recording = Recording(self.name(".mp4"), self.studio.credentials)
            self.recording.add(self.picture(self.renderer.current()))
            self.record.label, self.record.icon = "Stop and save", "player-stop"
        else:
            self.record.label, self.record.icon = "Record video", "video"
            self.send(recording.name, recording.finish())

    def toggle_playing(self) -> None:
        playback, now = self.playback, self.renderer.clock()
        assert playback is not None
        if playback.playing:
            playback.pause(now)
            self.place.value = playback.at(now)
        else:
            playback.play(now)
        self.play.label, self.play.icon = (
            ("Pause", "player-pause") if playback.playing else ("Play", "player-play")
        )
        self.renderer.ask()

    def save_motion(self) -> None:
        """Every frame of the motion, drawn while the page goes on."""
        request, count = self.renderer.current(), self.studio.frames
        note = self.client.add_notification("Drawing the video", f"0 of {count}", loading=True)
        told = time.monotonic()

        def frames() -> Iterator[np.ndarray]:
            nonlocal told
            for frame in range(count):
                if self.renderer.closed:
                    return
                if time.monotonic() - told > UPDATE_SECONDS:
                    told, note.body = time.monotonic(), f"{frame} of {count}"
                yield self.picture(request._replace(frame=frame))

        name = self.name(".mp4")
        try:
            content = video(frames(), self.fps, name, self.studio.credentials, self.studio.sound)
        finally:
            note.remove()
        if not self.renderer.closed:
            self.send(name, content)
