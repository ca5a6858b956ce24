"""A page while it can be reached."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr
from audio_core.files import InputError, reason

from . import style

WAITING = 20
"""Requests that may wait for the model; it does one at a time."""
SESSIONS = 64
"""Whose results are kept in memory."""
LARGEST = 512 << 20
"""Bytes of a file that is sent to the page."""


class Addresses(list[str]):
    def wait(self) -> None:
        """For ever; Ctrl-C and SIGTERM end it."""
        threading.Event().wait()


@contextmanager
def serving(
    page: gr.Blocks, host: str, port: int | None, auth: tuple[str, str] | None = None, share: bool = False
) -> Iterator[Addresses]:
    """Nothing of it asks the network for anything but what is shared when that is wanted: fonts are the system's."""
    hue, font = gr.themes.colors.blue, ["system-ui", "sans-serif"]
    mono = ["ui-monospace", "monospace"]
    theme = gr.themes.Default(
        primary_hue=hue, secondary_hue=hue, neutral_hue=gr.themes.colors.slate, font=font, font_mono=mono
    )
    try:
        _, local, shared = page.queue(max_size=WAITING, default_concurrency_limit=None).launch(
            server_name=host,
            server_port=port,
            auth=auth,
            share=share,
            theme=theme,
            css=style.CSS,
            prevent_thread_lock=True,
            quiet=True,
            footer_links=[],
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            max_file_size=LARGEST,
            state_session_capacity=SESSIONS,
        )
    except OSError as error:
        raise InputError(f"--host {host}{'' if port is None else f' --port {port}'}: {reason(error)}") from None
    try:
        yield Addresses([local, *([shared] if shared else [])])
    finally:
        page.close(verbose=False)
