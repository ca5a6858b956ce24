"""`python -m audio_gen` is the command `audio-gen`."""

import sys

from .cli import main

sys.exit(main())
