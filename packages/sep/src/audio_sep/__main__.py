"""`python -m audio_sep` is the command `audio-sep`."""

import sys

from .cli import main

sys.exit(main())
