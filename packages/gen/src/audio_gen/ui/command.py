"""The verb `ui`: who may reach the page, and how long it runs."""

from __future__ import annotations

import argparse
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from audio_core import command
from audio_core.files import InputError, note

from .. import PACKAGE

LOCAL = ("127.0.0.1", "localhost", "::1")
USER = "audio"


def add(verbs_list: Any) -> None:
    parser = command.verb(verbs_list, "ui", _run, "Show a web page that generates, on this machine only.", alone=True)
    what = "the model: a bundle's or a run's folder, a Hub id, or `default` from the package (default: %(default)s)"
    parser.add_argument("bundle", nargs="?", default="default", help=what)
    where = "the address to listen at; others than this machine's own need --password (default: %(default)s)"
    parser.add_argument("--host", default=LOCAL[0], help=where)
    parser.add_argument("--port", type=int, metavar="N", help="default: the first free one from 7860 on")
    parser.add_argument("--share", action="store_true", help="a public address through gradio.live; needs --password")
    parser.add_argument("--user", metavar="NAME", help=f"who signs in with the password (default: {USER})")
    parser.add_argument(
        "--password",
        metavar="TEXT",
        help="ask for it before the page is shown; or AUDIO_GEN_PASSWORD in the environment, which no other user sees",
    )
    command.add_device(parser)


def credentials(host: str, share: bool, user: str | None, password: str | None) -> tuple[str, str] | None:
    """Who may see the page; None: everybody who can reach it, which is this machine alone."""
    if password is None:
        if share or host not in LOCAL:
            given = "--share" if share else f"--host {host}"
            raise InputError(f"{given}: others than you could reach the page; give a --password too")
        if user is not None:
            raise InputError("--user: has no meaning without --password")
        return None
    if not password or user == "":
        raise InputError(f"--{'user' if password else 'password'}: is empty")
    return user or USER, password


def _run(args: argparse.Namespace) -> int:
    auth = credentials(args.host, args.share, args.user, args.password or os.environ.get("AUDIO_GEN_PASSWORD"))
    if args.port is not None and not 0 < args.port < 65536:
        raise InputError(f"--port: expected a number from 1 to 65535, got {args.port}")
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise InputError(f'ui: needs gradio ({error}); try: pip install "audio-gen[ui]"') from None
    from . import page
    from .serve import serving

    model = PACKAGE.model(args.bundle).to(command.device(args.device)).eval()
    model.load_codec()  # what is wrong with it is told before the page is there
    name = Path(args.bundle).resolve().name if Path(args.bundle).is_dir() else args.bundle
    with serving(page.build(model, name), args.host, args.port, auth, args.share) as addresses:
        for address in addresses:
            print(address, flush=True)
        note("Ctrl-C ends it")
        with suppress(KeyboardInterrupt):
            addresses.wait()
    return 0
