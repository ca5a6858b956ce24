"""`python -m audio_acdnet` is the command `audio-acdnet`."""

import sys

from .cli import main

sys.exit(main())
