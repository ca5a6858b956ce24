"""`python -m audio_core` is the command `audio-core`."""

import sys

from .cli import main

sys.exit(main())
