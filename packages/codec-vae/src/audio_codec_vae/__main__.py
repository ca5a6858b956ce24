"""`python -m audio_codec_vae` is the command `audio-codec-vae`."""

import sys

from .cli import main

sys.exit(main())
