"""Serves pages of tiny models until its input ends, one for everybody and one with a password.

It prints their addresses and the fields of pages. It runs in a process of its own, since gradio leaves sockets and
event loops open. A prompt `defect` raises an error.
"""

import json
import sys

LOCAL = ("127.0.0.1", "localhost", None, "")


def note_strangers(event, args):
    """Say whom this process asks for anything, besides this machine."""
    host = {"socket.getaddrinfo": lambda: args[0], "socket.connect": lambda: args[1]}.get(event, lambda: None)()
    host = host[0] if isinstance(host, tuple) else host
    if host not in LOCAL:
        print(f"stranger: {host}", file=sys.stderr)


PASSWORD = "secret"


def failing(perform):
    def changed(model, asked, callback):
        if asked.item.get("prompt") == "defect":
            raise ZeroDivisionError("on purpose")
        return perform(model, asked, callback)

    return changed


def fields_of(built):
    return [block.elem_id for block in built.blocks.values() if getattr(block, "elem_id", None)]


def main():
    sys.addaudithook(note_strangers)
    import audio_core.codec
    from audio_gen.ui import actions, page
    from audio_gen.ui.serve import serving

    from . import ui_toys

    audio_core.codec.find = lambda name: ui_toys.Codec
    actions.perform = failing(actions.perform)
    models = {
        "inpainting": ui_toys.diffusion(inpaints=True),
        "unconditional": ui_toys.diffusion(conditioned=False),
        "language": ui_toys.language(),
    }
    pages = {name: page.build(model, "tiny") for name, model in models.items()}
    with (
        serving(pages["inpainting"], "127.0.0.1", None) as addresses,
        serving(pages["language"], "127.0.0.1", None, ("audio", PASSWORD)) as others,
    ):
        fields = {name: fields_of(each) for name, each in pages.items()}
        print(json.dumps({"open": addresses[0], "closed": others[0], "fields": fields}), flush=True)
        sys.stdin.read()  # until the test closes it


if __name__ == "__main__":
    main()
