"""`python -m audio_semamba` is the command `audio-semamba`."""

import sys

from .cli import main

sys.exit(main())
