"""`python -m audio_soundstream` is the command `audio-soundstream`."""

import sys

from .cli import main

sys.exit(main())
